//! The configuration block `tls_config`: which servers a client trusts, and its own certificate.
//! [`tls`] checks certificates.

use super::RequestError;
use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::secret::{Secret, read_file};
use crate::config_block;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use std::sync::Arc;
use tls::{ServerVerifier, TrustAnchors, version};

config_block! {
    /// `tls_config`.
    pub struct TlsConfig as "config.TLSConfig" {
        /// Certificate authority, PEM text.
        ca: Option<String> = None,
        /// Client certificate, PEM text.
        cert: Option<String> = None,
        /// Client key, PEM text.
        key: Option<Secret> = None,
        /// Certificate authority, PEM file.
        ca_file: Option<ConfigPath> = None,
        /// Client certificate, PEM file.
        cert_file: Option<ConfigPath> = None,
        /// Client key, PEM file.
        key_file: Option<ConfigPath> = None,
        /// Name to verify instead of the host's.
        server_name: Option<String> = None,
        /// Whether to skip the verification of the server's certificate.
        insecure_skip_verify: bool = false,
        /// Minimum TLS version: `TLS12` or `TLS13`; older ones are never spoken.
        min_version: Option<String> = None,
        /// Maximum TLS version: `TLS12` or `TLS13`; with an older one nothing is spoken.
        max_version: Option<String> = None,
    }
}

/// Whether a text or path is given.
pub(super) fn is_given(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

impl TlsConfig {
    /// Checks what can be checked without reading files. The error is the first problem.
    pub fn validate(&self) -> Result<(), BlockError> {
        let inline_key = is_given(self.key.as_ref().map(Secret::expose));
        let ca = [is_given(self.ca.as_deref()), is_given(self.ca_file.as_deref())];
        let cert = [is_given(self.cert.as_deref()), is_given(self.cert_file.as_deref())];
        let key = [inline_key, is_given(self.key_file.as_deref())];
        let both = |given: [bool; 2]| given == [true, true];
        let any = |given: [bool; 2]| given != [false, false];
        let fault = if both(ca) {
            "at most one of ca, ca_file & ca_ref must be configured"
        } else if both(cert) {
            "at most one of cert, cert_file & cert_ref must be configured"
        } else if both(key) {
            "at most one of key and key_file must be configured"
        } else if any(cert) && !any(key) {
            "exactly one of key or key_file must be configured when a client certificate is configured"
        } else if any(key) && !any(cert) {
            "exactly one of cert or cert_file must be configured when a client key is configured"
        } else {
            return self.validate_versions();
        };
        Err(fault.into())
    }

    fn validate_versions(&self) -> Result<(), BlockError> {
        if [&self.min_version, &self.max_version].iter().any(|version| version.as_deref() == Some("")) {
            return Err("unknown TLS version: ".into());
        }
        match version::between(self.lowest(), self.highest()) {
            Ok(_) | Err(tls::TlsError::OldVersions) => Ok(()),
            Err(e) => Err(e.to_string().into()),
        }
    }

    fn lowest(&self) -> &str {
        self.min_version.as_deref().unwrap_or("")
    }

    fn highest(&self) -> &str {
        self.max_version.as_deref().unwrap_or("")
    }

    /// What of these options has another effect than in Prometheus; `None`: nothing.
    pub fn note(&self) -> Option<String> {
        match version::between(self.lowest(), self.highest()) {
            Ok(versions) if versions.names_old => {
                Some("tls_config.min_version: versions of TLS below 1.2 are not spoken".to_owned())
            }
            Err(e) => Some(format!("tls_config.max_version: {e}")),
            Ok(_) => None,
        }
    }

    /// The files that are read for connections.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let all = [self.ca_file.as_deref(), self.cert_file.as_deref(), self.key_file.as_deref()];
        all.into_iter().flatten().filter(|path| !path.is_empty())
    }

    /// Checks the texts in the configuration itself, without reading files.
    pub(super) fn check_inline(&self) -> Result<(), BlockError> {
        let inline = TlsConfig { ca_file: None, ..self.clone() };
        if self.cert_file.is_some() || self.key_file.is_some() {
            return TlsConfig { cert: None, key: None, cert_file: None, key_file: None, ..inline }
                .check_texts();
        }
        inline.check_texts()
    }

    fn check_texts(&self) -> Result<(), BlockError> {
        let fault = |e: RequestError| BlockError::new(e.to_string());
        self.trusted().map_err(fault)?;
        self.pair().map_err(fault)?;
        Ok(())
    }

    /// The name that a client says it wants to talk to, and that the certificate must have;
    /// `None`: the host of the URL.
    pub(super) fn name(&self) -> Result<Option<ServerName<'static>>, RequestError> {
        let Some(name) = self.server_name.as_ref().filter(|name| !name.is_empty()) else { return Ok(None) };
        let parsed = ServerName::try_from(name.clone());
        parsed.map(Some).map_err(|_| tls::TlsError::ServerName(name.clone()).into())
    }

    /// The options in rustls' form. Reads the files.
    pub(super) fn rustls(&self, http2: bool) -> Result<ClientConfig, RequestError> {
        let versions = version::between(self.lowest(), self.highest())?;
        let server_name = self.server_name.as_deref().unwrap_or("");
        let verifier = if self.insecure_skip_verify {
            // Also then a file that cannot be read is an error, as in Prometheus.
            self.trusted()?;
            ServerVerifier::accepting_all()
        } else {
            let trusted = self.trusted()?.unwrap_or_else(TrustAnchors::from_system);
            ServerVerifier::new(trusted, server_name)?
        };
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&versions.allowed)
            .map_err(|e| RequestError::Library(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.pair()? {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(pair)),
            None => builder.with_no_client_auth(),
        };
        if http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(config)
    }

    /// The configured authorities; `None`: those of the system.
    fn trusted(&self) -> Result<Option<TrustAnchors>, RequestError> {
        let text = read("CA cert", self.ca.as_deref(), &self.ca_file)?;
        let from = source(&self.ca_file);
        text.map(|text| TrustAnchors::from_pem(&text))
            .transpose()
            .map_err(|error| RequestError::Certificate { what: format!("CA cert {from}"), error })
    }

    /// The client's certificate and key.
    fn pair(&self) -> Result<Option<SingleCertAndKey>, RequestError> {
        let cert = read("specified client cert", self.cert.as_deref(), &self.cert_file)?;
        let inline_key = self.key.as_ref().map(Secret::expose);
        let key = read("specified client key", inline_key, &self.key_file)?;
        let (Some(cert), Some(key)) = (cert, key) else { return Ok(None) };
        let pair = tls::pem::key_pair(&cert, &key).map_err(|error| {
            let [cert, key] = [&self.cert_file, &self.key_file].map(source);
            RequestError::Certificate { what: format!("client cert ({cert}) & key ({key})"), error }
        })?;
        Ok(Some(SingleCertAndKey::from(pair)))
    }
}

/// Where a text comes from, for errors.
fn source(file: &Option<ConfigPath>) -> String {
    match file.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => format!("file {path}"),
        None => "inline".to_owned(),
    }
}

/// The text that is given, or that of the file; `None`: neither is given.
fn read(what: &str, text: Option<&str>, file: &Option<ConfigPath>) -> Result<Option<Vec<u8>>, RequestError> {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    match file.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => read_file(path)
            .map(Some)
            .map_err(|error| RequestError::Unreadable { what: what.to_owned(), error }),
        None => Ok(None),
    }
}
