//! Verifies the signature of a TLS handshake, also by the key of an X.509 version 1 certificate,
//! which rustls does not read and Go does. [`super::server_verifier`] and
//! [`super::client_verifier`] use it.

use crate::x509::X509;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};

/// Verifies the signature of a handshake of TLS 1.2.
///
/// # Errors
/// The signature is not one of the certificate's key, or of no offered scheme.
pub(crate) fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return crypto::verify_tls12_signature(message, certificate, signed, algorithms);
    }
    verify_by_key(message, certificate, signed, algorithms)
}

/// Verifies the signature of a handshake of TLS 1.3.
///
/// # Errors
/// As of [`verify_tls12`]; or TLS 1.3 forbids the scheme.
pub(crate) fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return crypto::verify_tls13_signature(message, certificate, signed, algorithms);
    }
    // The offer is the same for both versions, so the peer may choose what only 1.2 allows.
    if is_forbidden_in_tls13(signed.scheme) {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    verify_by_key(message, certificate, signed, algorithms)
}

/// Whether the scheme is for certificates and TLS 1.2 only (RFC 8446, section 4.2.3): RSA with the
/// padding of PKCS #1 version 1.5, and everything with SHA-1.
fn is_forbidden_in_tls13(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::ECDSA_SHA1_Legacy
    )
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
    let is_valid = candidates.iter().any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == read.key_algorithm
            && algorithm.verify_signature(read.key, message, signed.signature()).is_ok()
    });
    if is_valid {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_verifier::algorithms;
    use rustls::internal::msgs::codec::{Codec, Reader};

    /// A certificate of version 1 with an RSA key, as far as it is read here.
    const VERSION_1: &[u8] = &[
        0x30, 0x44, 0x30, 0x42, // The certificate, and what of it is signed.
        0x02, 0x01, 0x01, // The serial number.
        0x30, 0x00, // The algorithm of its signature.
        0x30, 0x00, // The issuer.
        0x30, 0x1e, 0x17, 0x0d, b'7', b'0', b'0', b'1', b'0', b'1', b'0', b'0', b'0', b'0', b'0', b'0', b'Z',
        0x17, 0x0d, b'4', b'9', b'1', b'2', b'3', b'1', b'2', b'3', b'5', b'9', b'5', b'9',
        b'Z', // Its validity.
        0x30, 0x00, // The subject.
        0x30, 0x17, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
        0x03, 0x06, 0x00, 0x30, 0x03, 0x02, 0x01, 0x03, // The public key.
    ];

    fn signed(scheme: SignatureScheme) -> DigitallySignedStruct {
        let mut bytes = Vec::new();
        scheme.encode(&mut bytes);
        bytes.extend([0, 1, 7]);
        DigitallySignedStruct::read(&mut Reader::init(&bytes)).unwrap()
    }

    #[test]
    fn version_1_does_not_allow_in_tls_1_3_what_that_forbids() {
        let certificate = CertificateDer::from(VERSION_1);
        assert!(X509::read(&certificate).is_some() && ParsedCertificate::try_from(&certificate).is_err());
        let bad_signature = Error::from(CertificateError::BadSignature);
        let not_offered = Error::from(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme);
        let cases = [
            (SignatureScheme::RSA_PKCS1_SHA256, &bad_signature, &not_offered),
            (SignatureScheme::RSA_PKCS1_SHA384, &bad_signature, &not_offered),
            (SignatureScheme::RSA_PKCS1_SHA512, &bad_signature, &not_offered),
            (SignatureScheme::RSA_PKCS1_SHA1, &not_offered, &not_offered),
            (SignatureScheme::RSA_PSS_SHA256, &bad_signature, &bad_signature),
            (SignatureScheme::ED25519, &bad_signature, &bad_signature),
        ];
        for (scheme, in_tls12, in_tls13) in cases {
            let signed = signed(scheme);
            let tls12 = verify_tls12(b"message", &certificate, &signed, &algorithms());
            let tls13 = verify_tls13(b"message", &certificate, &signed, &algorithms());
            assert_eq!(
                (tls12.err().as_ref(), tls13.err().as_ref()),
                (Some(in_tls12), Some(in_tls13)),
                "{scheme:?}"
            );
        }
    }
}
