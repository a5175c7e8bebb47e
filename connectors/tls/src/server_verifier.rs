//! [`ServerVerifier`]: whether a client trusts the certificate of a server (`ca_file`,
//! `server_name`, `insecure_skip_verify` of `tls_config`).

use crate::trust::TrustAnchors;
use crate::x509::{Usage, X509};
use crate::{TlsError, signature};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Decides whether a server is the one that was meant.
#[derive(Debug)]
pub struct ServerVerifier {
    /// `None`: every certificate is accepted.
    trusted: Option<TrustAnchors>,
    /// The name to verify instead of the host of the URL.
    name: Option<ServerName<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    /// Trusts what `trusted` signs or contains, and compares the names of certificates with
    /// `server_name`; if that is empty, with the host of the URL.
    ///
    /// # Errors
    ///
    /// If `server_name` is neither a host name nor an address.
    pub fn new(trusted: TrustAnchors, server_name: &str) -> Result<ServerVerifier, TlsError> {
        let parsed = (!server_name.is_empty()).then(|| ServerName::try_from(server_name.to_owned()));
        let name = parsed.transpose().map_err(|_| TlsError::ServerName(server_name.to_owned()))?;
        Ok(ServerVerifier { trusted: Some(trusted), name, algorithms: algorithms() })
    }

    /// Accepts every certificate (`insecure_skip_verify`). That the server has its key is verified.
    pub fn accepting_all() -> ServerVerifier {
        ServerVerifier { trusted: None, name: None, algorithms: algorithms() }
    }
}

/// The algorithms of signatures.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    crate::provider().signature_verification_algorithms
}

/// Checks a certificate that is itself trusted: whether it is valid now, and for this.
pub(crate) fn check_trusted(
    certificate: &CertificateDer<'_>,
    usage: Usage,
    now: UnixTime,
) -> Result<(), Error> {
    let read = X509::read(certificate).ok_or(CertificateError::BadEncoding)?;
    if !read.is_valid_at(now) {
        return Err(CertificateError::Expired.into());
    }
    if !read.allows(usage) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    Ok(())
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Skips only the trust in the certificate; rustls still verifies the signatures of the
        // handshake with its key.
        let Some(trusted) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        // A certificate that is itself in `ca_file` is trusted without a chain, as in Go; webpki
        // knows only authorities. Validity and purpose are checked all the same.
        if trusted.has(end_entity) {
            check_trusted(end_entity, Usage::Server, now)?;
        } else {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &trusted.roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        // The name is verified for both kinds: trust in a certificate is no trust in every host.
        verify_server_name(&parsed, self.name.as_ref().unwrap_or(server_name))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::verify_tls12(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::verify_tls13(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
