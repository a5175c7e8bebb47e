//! [`TrustAnchors`]: the certificate authorities that are trusted: of a file, or of the operating
//! system.

use crate::TlsError;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use std::sync::{Arc, OnceLock};

/// Trusted certificates: those that sign others, and those that are trusted themselves.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    /// The authorities.
    pub(crate) roots: Arc<RootCertStore>,
    /// The certificates as they are.
    pub(crate) certificates: Arc<Vec<CertificateDer<'static>>>,
}

impl TrustAnchors {
    /// Those of a text in PEM form. Certificates that cannot be read are passed over, as in Go.
    ///
    /// # Errors
    ///
    /// If none can be read.
    pub fn from_pem(text: &[u8]) -> Result<TrustAnchors, TlsError> {
        let certificates = crate::pem::certificates(text)?;
        let anchors = TrustAnchors::new(certificates);
        // Not silently: a client that trusts nobody fails at every request, with a text that does
        // not name the file.
        if anchors.roots.is_empty() { Err(TlsError::NoCertificate) } else { Ok(anchors) }
    }

    /// Those of the operating system, read once per process. `SSL_CERT_FILE` and `SSL_CERT_DIR`
    /// name others.
    pub fn from_system() -> TrustAnchors {
        // Once: a hundred clients would otherwise hold a hundred copies of the same certificates.
        static SYSTEM: OnceLock<TrustAnchors> = OnceLock::new();
        SYSTEM.get_or_init(|| TrustAnchors::new(rustls_native_certs::load_native_certs().certs)).clone()
    }

    fn new(certificates: Vec<CertificateDer<'static>>) -> TrustAnchors {
        let mut roots = RootCertStore::empty();
        // Certificates that are no authorities stay in the other list, where only they themselves
        // are trusted.
        roots.add_parsable_certificates(certificates.iter().cloned());
        TrustAnchors { roots: Arc::new(roots), certificates: Arc::new(certificates) }
    }

    /// Whether this very certificate is trusted.
    pub(crate) fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|trusted| trusted.as_ref() == certificate.as_ref())
    }
}
