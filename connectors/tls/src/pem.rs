//! Reads certificates and private keys in PEM form.

use crate::TlsError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// All certificates of a text, in its order; other sections are passed over.
///
/// # Errors
///
/// If there is none.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).filter_map(Result::ok).collect();
    if found.is_empty() { Err(TlsError::NoCertificate) } else { Ok(found) }
}

/// The first private key of a text.
///
/// # Errors
///
/// If there is none.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| TlsError::NoKey)
}

/// A certificate, those that lead to its root, and its key.
///
/// # Errors
///
/// If one is missing, or if they do not belong together.
pub fn key_pair(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    let key = private_key(key)?;
    let provider = crate::provider();
    let key = provider.key_provider.load_private_key(key).map_err(|e| TlsError::Pair(e.to_string()))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        // A certificate of version 1 cannot be read here; its key is compared by hand.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
        Err(_) if crate::x509::has_key_of(&pair) => Ok(pair),
        Err(_) => Err(TlsError::Pair("private key does not match public key".to_owned())),
    }
}
