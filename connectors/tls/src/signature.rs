//! The signature of a handshake, also with the key of a certificate of version 1.

use crate::x509::X509;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};

/// How rustls verifies the signature of a handshake of one version of TLS.
type VerifyHandshake = fn(
    &[u8],
    &CertificateDer<'_>,
    &DigitallySignedStruct,
    &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error>;

/// Verifies the signature of a handshake by `rustls`, which is that of its version, or by the key
/// alone if rustls does not read the certificate.
pub(crate) fn verify(
    rustls: VerifyHandshake,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return rustls(message, certificate, signed, algorithms);
    }
    verify_by_key(message, certificate, signed, algorithms)
}

/// Verifies a signature with the key of a certificate that rustls does not read.
fn verify_by_key(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let read = X509::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let (_, candidates) = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let fits = |algorithm: &dyn rustls::pki_types::SignatureVerificationAlgorithm| {
        algorithm.public_key_alg_id().as_ref() == read.key_algorithm
            && algorithm.verify_signature(read.key, message, signed.signature()).is_ok()
    };
    if candidates.iter().any(|algorithm| fits(*algorithm)) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}
