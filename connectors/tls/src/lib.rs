//! TLS as Prometheus' configuration asks for it, for clients and for the web server.
//!
//! [`pem`] reads certificates and keys, [`version`] the names of versions. [`ServerVerifier`] and
//! [`ClientVerifier`] decide whom to trust. They differ from rustls' own where Go is more lenient: a
//! certificate that is itself among the trusted ones is trusted whatever its extensions say, and a
//! certificate of version 1 is accepted where nothing has to be read from its extensions.

#![warn(unreachable_pub)]

mod client_verifier;
mod error;
mod names;
pub mod pem;
mod server;
mod server_verifier;
mod signature;
mod stamp;
mod trust;
pub mod version;
mod x509;

pub use client_verifier::{ClientAuth, ClientVerifier};
pub use error::TlsError;
pub use names::{CipherSuites, cipher_suite, key_exchange};
pub use server::{ServerOptions, ServerTls};
pub use server_verifier::ServerVerifier;
pub use stamp::FileStamp;
pub use trust::TrustAnchors;

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// The one cryptography provider of the process. Two could be linked: this selects ring.
pub fn provider() -> Arc<CryptoProvider> {
    // Only the first installation has an effect; later ones fail without harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match CryptoProvider::get_default() {
        Some(provider) => provider.clone(),
        None => Arc::new(rustls::crypto::ring::default_provider()),
    }
}
