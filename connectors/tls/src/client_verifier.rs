//! [`ClientVerifier`]: whether the web server trusts the certificate of a client
//! (`client_auth_type`, `client_ca_file`, `client_allowed_sans` of the web configuration file).

use crate::server_verifier::{algorithms, check_trusted};
use crate::signature;
use crate::trust::TrustAnchors;
use crate::x509::{Usage, X509};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use std::sync::Arc;

/// `client_auth_type`: what is asked of clients.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    #[default]
    NoClientCert,
    /// A certificate, which they need not have, and which is not verified.
    RequestClientCert,
    /// A certificate, which is not verified.
    RequireAnyClientCert,
    /// A certificate, which they need not have, and which is verified.
    VerifyClientCertIfGiven,
    /// A certificate, which is verified.
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    /// The one with this name; `None` if it is unknown.
    pub fn named(name: &str) -> Option<ClientAuth> {
        match name {
            "" | "NoClientCert" => Some(ClientAuth::NoClientCert),
            "RequestClientCert" => Some(ClientAuth::RequestClientCert),
            // The second name is Go's old one.
            "RequireAnyClientCert" | "RequireClientCert" => Some(ClientAuth::RequireAnyClientCert),
            "VerifyClientCertIfGiven" => Some(ClientAuth::VerifyClientCertIfGiven),
            "RequireAndVerifyClientCert" => Some(ClientAuth::RequireAndVerifyClientCert),
            _ => None,
        }
    }

    fn is_required(self) -> bool {
        matches!(self, ClientAuth::RequireAnyClientCert | ClientAuth::RequireAndVerifyClientCert)
    }

    fn verifies(self) -> bool {
        matches!(self, ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert)
    }
}

/// None of the names of a client's certificate is allowed.
#[derive(Debug, thiserror::Error)]
#[error("could not find allowed SANs in client cert, allowed: {0:?}")]
struct NameNotAllowed(Vec<String>);

/// Decides which clients may connect.
#[derive(Debug)]
pub struct ClientVerifier {
    auth: ClientAuth,
    trusted: TrustAnchors,
    /// Verifies signatures up to an authority; `None` if there is no authority.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    allowed_names: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    /// Asks clients for what `auth` says. Certificates that are verified must be signed by
    /// `trusted`, or be among them. With `allowed_names`, one of the names of a certificate must
    /// be among these, and clients without a certificate are refused.
    pub fn new(auth: ClientAuth, trusted: TrustAnchors, allowed_names: Vec<String>) -> ClientVerifier {
        // It fails only without an authority; then no chain leads to one.
        let chains = WebPkiClientVerifier::builder_with_provider(trusted.roots.clone(), crate::provider())
            .build()
            .ok();
        ClientVerifier { auth, trusted, chains, allowed_names, algorithms: algorithms() }
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.trusted.has(end_entity) {
            return check_trusted(end_entity, Usage::Client, now);
        }
        let chains = self.chains.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        chains.verify_client_cert(end_entity, intermediates, now).map(|_| ())
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.auth != ClientAuth::NoClientCert
    }

    fn client_auth_mandatory(&self) -> bool {
        // A certificate that may be missing cannot have one of the names: with names, it is
        // required, as in Prometheus' toolkit.
        self.auth.is_required() || (self.offer_client_auth() && !self.allowed_names.is_empty())
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Clients choose a certificate by these names: only if it is verified must it be one of
        // them.
        match &self.chains {
            Some(chains) if self.auth.verifies() => chains.root_hint_subjects(),
            _ => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Not verified otherwise, as the names of the other kinds say: the certificate is only
        // asked for.
        if self.auth.verifies() {
            self.verify_chain(end_entity, intermediates, now)?;
        }
        if !self.allowed_names.is_empty() {
            let read = X509::read(end_entity).ok_or(CertificateError::BadEncoding)?;
            if !read.names.iter().any(|name| self.allowed_names.contains(name)) {
                let refused = NameNotAllowed(self.allowed_names.clone());
                return Err(CertificateError::Other(OtherError(Arc::new(refused))).into());
            }
        }
        Ok(ClientCertVerified::assertion())
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
