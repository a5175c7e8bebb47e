//! TLS for clients and for the web server, with the names and rules of Prometheus' `tls_config`.
//!
//! [`pem`] reads certificates and keys, [`version`] and [`names`] Go's names of versions, suites
//! and curves. [`ServerVerifier`] and [`ClientVerifier`] decide which certificates are trusted.
//! They accept what Go accepts and rustls alone refuses: a certificate that is itself among the
//! trusted ones, whatever its extensions say, and one of X.509 version 1.

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
pub use x509::subject_values;

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
