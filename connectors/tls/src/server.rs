//! [`ServerOptions`]: the TLS options of the web configuration file, with Go's names of versions,
//! cipher suites and curves, and the rustls configuration that is built from them ([`ServerTls`]).

use crate::{CipherSuites, ClientAuth, ClientVerifier, TlsError, TrustAnchors, key_exchange, version};
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use std::sync::Arc;

/// The TLS options of a server.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// The certificate and the intermediate ones of its chain, PEM.
    pub certificate: Vec<u8>,
    /// The private key of the certificate, PEM.
    pub key: Vec<u8>,
    /// The lowest version; empty: 1.2.
    pub min_version: String,
    /// The highest version; empty: 1.3.
    pub max_version: String,
    /// The cipher suites of TLS 1.2; empty: all.
    pub cipher_suites: Vec<String>,
    /// The curves; empty: all.
    pub curves: Vec<String>,
    /// Whether clients need a certificate.
    pub client_auth: ClientAuth,
    /// The authorities that sign the certificates of clients, PEM; `None`: those of the system.
    pub client_ca: Option<Vec<u8>>,
    /// The names that certificates of clients may have; empty: any.
    pub client_names: Vec<String>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// The options in rustls' form.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The configuration of rustls.
    pub config: Arc<ServerConfig>,
    /// The options that have no effect, one line each, for the log.
    pub notes: Vec<String>,
}

impl ServerOptions {
    /// The options in rustls' form.
    ///
    /// # Errors
    ///
    /// If a name is unknown, a certificate or key cannot be used, or no version or suite is left.
    pub fn build(&self) -> Result<ServerTls, TlsError> {
        let mut notes = Vec::new();
        let versions = version::between(&self.min_version, &self.max_version)?;
        if versions.names_old {
            notes.push("min_version: versions of TLS below 1.2 are not spoken".to_owned());
        }
        let mut allowed = versions.allowed;
        let mut provider = rustls::crypto::CryptoProvider::clone(&crate::provider());
        if !self.cipher_suites.is_empty() {
            let suites = CipherSuites::from_names(&self.cipher_suites)?;
            for name in &suites.with_cbc {
                notes.push(format!("cipher_suites: {name} is not spoken: it uses CBC"));
            }
            // The list is about TLS 1.2 only: with 1.3 alone, HTTP/2 has its suites.
            let speaks_12 = allowed.iter().any(|version| version.version == rustls::ProtocolVersion::TLSv1_2);
            if self.http2 && speaks_12 && !suites.suffice_for_http2() {
                return Err(TlsError::NothingLeft(
                    "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one of TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)",
                ));
            }
            // Nothing of the list can be spoken with 1.2. Version 1.3 goes on: its suites are not
            // from the list.
            if suites.usable.is_empty() {
                allowed.retain(|version| version.version != rustls::ProtocolVersion::TLSv1_2);
            }
            // Those of 1.3 stay; of 1.2 only what the list names.
            provider.cipher_suites.retain(|suite| suite.tls13().is_some());
            provider.cipher_suites.extend(suites.usable);
        }
        if allowed.is_empty() {
            return Err(TlsError::NothingLeft("cipher_suites: none of them can be used with TLS 1.2"));
        }
        self.restrict_curves(&mut provider, &mut notes)?;
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&allowed)
            .map_err(|e| TlsError::Pair(e.to_string()))?;
        let pair = crate::pem::key_pair(&self.certificate, &self.key)?;
        let config = match self.client_auth {
            ClientAuth::NoClientCert => config.with_no_client_auth(),
            auth => {
                let trusted = match &self.client_ca {
                    Some(text) => TrustAnchors::from_pem(text)?,
                    // As in Go: without `client_ca_file`, the authorities of the system sign
                    // certificates of clients.
                    None => TrustAnchors::from_system(),
                };
                let verifier = ClientVerifier::new(auth, trusted, self.client_names.clone());
                config.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        if self.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        // After h2: the order is that of preference.
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(ServerTls { config: Arc::new(config), notes })
    }

    fn restrict_curves(
        &self,
        provider: &mut rustls::crypto::CryptoProvider,
        notes: &mut Vec<String>,
    ) -> Result<(), TlsError> {
        if self.curves.is_empty() {
            return Ok(());
        }
        // In the order of the list, which is that of preference.
        provider.kx_groups.clear();
        for name in &self.curves {
            match key_exchange(name)? {
                Some(group) => provider.kx_groups.push(group),
                None => notes.push(format!("curve_preferences: {name} is not spoken")),
            }
        }
        if provider.kx_groups.is_empty() {
            return Err(TlsError::NothingLeft(
                "curve_preferences: none of them is spoken here; CurveP256, CurveP384 and X25519 are",
            ));
        }
        Ok(())
    }
}
