//! `--web.config.file`: TLS, passwords and headers of the web server, in the form of Prometheus'
//! exporter toolkit.
//!
//! Whoever names such a file expects a protected server: a file that cannot be used stops the
//! start.

use super::ConfigError;
use super::limits::WEB_CERTIFICATE_BYTES;
use api::confinement::Confinement;
use api::protection::{PasswordHash, RateLimit, ScramVerifier, WebSettings};
use axum::http::{HeaderName, HeaderValue};
use connectors::config::block::ConfigKeys;
use connectors::config::error::BlockError;
use connectors::config::path::ConfigPath;
use connectors::config::schema::{self, BlockSchema, ValueKind};
use connectors::config::secret::Secret;
use connectors::config_block;
use rules::yaml;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tls::{ClientAuth, ServerOptions};

config_block! {
    /// The whole file.
    pub struct WebFile as "web.Config" {
        /// Certificates and versions.
        tls_server_config: TlsServerKeys = TlsServerKeys::default(),
        /// HTTP/2 and headers.
        http_server_config: HttpServerKeys = HttpServerKeys::default(),
        /// How many requests are answered.
        rate_limit: RateLimitKeys = RateLimitKeys::default(),
        /// Users and bcrypt hashes of their passwords.
        basic_auth_users: BTreeMap<String, Secret> = BTreeMap::new(),
        /// Labels that some of these users are confined to. Not in Prometheus.
        basic_auth_user_labels: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new(),
        /// Users of the PostgreSQL wire and verifiers of their passwords, for SCRAM. Not in
        /// Prometheus.
        sql_users: BTreeMap<String, Secret> = BTreeMap::new(),
    }
}

config_block! {
    /// `tls_server_config`.
    pub struct TlsServerKeys as "web.TLSConfig" {
        /// Certificate and those that lead to its root, PEM text.
        cert: String = String::new(),
        /// Key, PEM text.
        key: Secret = Secret::default(),
        /// Authorities of clients' certificates, PEM text.
        client_ca: String = String::new(),
        /// Certificate, PEM file.
        cert_file: ConfigPath = ConfigPath::default(),
        /// Key, PEM file.
        key_file: ConfigPath = ConfigPath::default(),
        /// What clients have to show.
        client_auth_type: String = String::new(),
        /// Authorities of clients' certificates, PEM file.
        client_ca_file: ConfigPath = ConfigPath::default(),
        /// Cipher suites of TLS 1.2.
        cipher_suites: Vec<String> = Vec::new(),
        /// Curves.
        curve_preferences: Vec<String> = Vec::new(),
        /// Lowest version.
        min_version: String = String::new(),
        /// Highest version.
        max_version: String = String::new(),
        /// No effect, as in Go.
        prefer_server_cipher_suites: bool = true,
        /// Names of which clients' certificates must have one.
        client_allowed_sans: Option<Vec<String>> = None,
    }
}

config_block! {
    /// `http_server_config`.
    pub struct HttpServerKeys as "web.HTTPConfig" {
        /// Whether HTTP/2 is spoken over TLS.
        http2: bool = true,
        /// Headers of all answers.
        headers: BTreeMap<String, String> = BTreeMap::new(),
    }
}

config_block! {
    /// `rate_limit`.
    pub(super) struct RateLimitKeys as "web.RateLimiterConfig" {
        /// A request more is allowed each time this has passed; 0: there is no limit.
        interval: GoDuration = GoDuration::default(),
        /// How many requests may come together.
        burst: u64 = 0,
    }
}

/// A duration in Go's syntax: `1s`, `100ms`, `1h30m`.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(super) struct GoDuration(Duration);

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        go_duration(&text).map(GoDuration).ok_or_else(|| {
            serde::de::Error::custom(format!("time: invalid duration {text:?}; write e.g. 1s or 100ms"))
        })
    }
}

impl schema::ConfigValue for GoDuration {
    const KIND: ValueKind = ValueKind::Text;
}

fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &rest[..unit_end])?;
        seconds += number * factor;
        rest = &rest[unit_end..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// Headers whose values are chosen from a list; the others may have any value.
const CHOSEN_HEADERS: [(&str, &[&str]); 2] =
    [("X-Content-Type-Options", &["nosniff"]), ("X-Frame-Options", &["deny", "sameorigin"])];
const FREE_HEADERS: [&str; 3] = ["Strict-Transport-Security", "X-XSS-Protection", "Content-Security-Policy"];

/// Reads the file and those that it names.
///
/// # Errors
///
/// If one of them cannot be read or used.
pub fn read_web_file(path: &Path) -> Result<WebSettings, ConfigError> {
    let name = path.display().to_string();
    let mut file: WebFile = yaml::parse_with(&name, &yaml::read_text(path)?, &known_keys)?;
    file.resolve_paths(path.parent().unwrap_or(Path::new("")));
    file.settings(path).map_err(|what| {
        ConfigError::whole(&name, format!("--web.config.file: {what}"), "correct the file, or what it names")
    })
}

fn known_keys(block: &str) -> Vec<&'static str> {
    let schema: BlockSchema = WebFile::schema();
    schema.keys_of(block).unwrap_or_default()
}

impl WebFile {
    fn settings(self, path: &Path) -> Result<WebSettings, BlockError> {
        let mut files = vec![path.to_path_buf()];
        let tls = self.tls_server_config.options(self.http_server_config.http2, &mut files)?;
        let certificate = tls.as_ref().map(|options| options.certificate.clone()).unwrap_or_default();
        let tls = tls.map(|options| options.build()).transpose().map_err(|e| match e {
            tls::TlsError::Pair(_) | tls::TlsError::NoKey => format!("failed to load X509KeyPair: {e}"),
            e => e.to_string(),
        })?;
        let mut users = BTreeMap::new();
        for (user, hash) in &self.basic_auth_users {
            let hash = PasswordHash::parse(hash.expose());
            users.insert(user.clone(), hash.map_err(|e| format!("basic_auth_users: {user}: {e}"))?);
        }
        let mut confinements = BTreeMap::new();
        for (user, labels) in &self.basic_auth_user_labels {
            // Else a name with a slip would leave the user whom it means unconfined.
            if !users.contains_key(user) {
                return Err(format!("basic_auth_user_labels: {user} is not among basic_auth_users").into());
            }
            let confinement = Confinement::new(labels);
            let confinement = confinement.map_err(|e| format!("basic_auth_user_labels: {user}: {e}"))?;
            confinements.insert(user.clone(), Arc::new(confinement));
        }
        let mut sql_users = BTreeMap::new();
        for (user, verifier) in &self.sql_users {
            let verifier = ScramVerifier::parse(verifier.expose());
            sql_users.insert(user.clone(), verifier.map_err(|e| format!("sql_users: {user}: {e}"))?);
        }
        let interval = self.rate_limit.interval.0;
        let limit = RateLimit { interval, burst: self.rate_limit.burst };
        Ok(WebSettings {
            notes: tls.as_ref().map(|tls| tls.notes.clone()).unwrap_or_default(),
            tls: tls.map(|tls| tls.config),
            http2: self.http_server_config.http2,
            headers: self.http_server_config.headers()?,
            users,
            confinements,
            sql_users,
            certificate,
            rate_limit: (!interval.is_zero()).then_some(limit),
            files,
        })
    }
}

impl HttpServerKeys {
    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, BlockError> {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let chosen = CHOSEN_HEADERS.iter().find(|(known, _)| known == name);
            if let Some((_, values)) = chosen
                && !value.is_empty()
                && !values.contains(&value.as_str())
            {
                return Err(BlockError::new(format!(
                    "invalid value for {name}. Expected one of: {values:?}, but got: {value:?}"
                )));
            }
            if chosen.is_none() && !FREE_HEADERS.contains(&name.as_str()) {
                return Err(format!("HTTP header {name:?} can not be configured").into());
            }
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
            let value = HeaderValue::from_str(value).map_err(|_| format!("invalid value for {name}"))?;
            headers.push((header, value));
        }
        Ok(headers)
    }
}

impl TlsServerKeys {
    /// The options; `None`: the server speaks plain HTTP. Adds the files that were read.
    fn options(&self, http2: bool, files: &mut Vec<PathBuf>) -> Result<Option<ServerOptions>, BlockError> {
        let given = [&self.cert, &self.client_ca, &self.client_auth_type];
        let paths = [&self.cert_file, &self.key_file, &self.client_ca_file];
        let key = self.key.expose();
        let is_on = given.iter().any(|text| !text.is_empty())
            || paths.iter().any(|path| !path.is_empty())
            || !key.is_empty();
        if !is_on {
            return self.without_tls();
        }
        if self.cert.is_empty() && self.cert_file.is_empty() {
            return Err("missing one of cert or cert_file".into());
        }
        if key.is_empty() && self.key_file.is_empty() {
            return Err("missing one of key or key_file".into());
        }
        let mut read = |what: &str, path: &str, text: &str| -> Result<Vec<u8>, BlockError> {
            if path.is_empty() {
                return Ok(text.as_bytes().to_vec());
            }
            files.push(PathBuf::from(path));
            read_file(path).map_err(|e| format!("failed to read {what} ({path}): {e}").into())
        };
        let certificate = read("cert_file", &self.cert_file, &self.cert)?;
        let key = read("key_file", &self.key_file, key)?;
        let has_ca = !self.client_ca.is_empty() || !self.client_ca_file.is_empty();
        let client_ca =
            has_ca.then(|| read("client_ca_file", &self.client_ca_file, &self.client_ca)).transpose()?;
        let client_auth = ClientAuth::named(&self.client_auth_type)
            .ok_or_else(|| format!("invalid ClientAuth: {}", self.client_auth_type))?;
        if has_ca && client_auth == ClientAuth::NoClientCert {
            return Err("client CA's have been configured without a Client Auth Policy".into());
        }
        if self.client_allowed_sans.as_ref().is_some_and(Vec::is_empty) {
            return Err("client_allowed_sans is an empty list: no client could connect".into());
        }
        Ok(Some(ServerOptions {
            certificate,
            key,
            min_version: self.min_version.clone(),
            max_version: self.max_version.clone(),
            cipher_suites: self.cipher_suites.clone(),
            curves: self.curve_preferences.clone(),
            client_auth,
            client_ca,
            client_names: self.client_allowed_sans.clone().unwrap_or_default(),
            http2,
        }))
    }

    /// Names that stand in a block without TLS are checked as well, as in Go.
    fn without_tls(&self) -> Result<Option<ServerOptions>, BlockError> {
        tls::version::between(&self.min_version, &self.max_version).map_err(|e| e.to_string())?;
        for name in &self.cipher_suites {
            tls::cipher_suite(name).map_err(|e| e.to_string())?;
        }
        for name in &self.curve_preferences {
            tls::key_exchange(name).map_err(|e| e.to_string())?;
        }
        if self.client_allowed_sans.is_some() {
            return Err("client_allowed_sans has no effect without a certificate".into());
        }
        Ok(None)
    }
}

fn read_file(path: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(WEB_CERTIFICATE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > WEB_CERTIFICATE_BYTES {
        return Err(std::io::Error::other("the file is larger than such a file is"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let cases = [
            ("0", Some(0)),
            ("1s", Some(1_000)),
            ("100ms", Some(100)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("", None),
            ("1", None),
            ("s", None),
            ("1d", None),
            ("-1s", None),
        ];
        for (text, want) in cases {
            assert_eq!(go_duration(text), want.map(Duration::from_millis), "{text:?}");
        }
    }
}
