//! What `--web.config.file` configures: TLS, users with passwords, a limit of requests, response
//! headers.
//!
//! The files are read again when they change, and are then in force for the next connection or
//! request. A file that cannot be used changes nothing, so a server that asked for passwords does
//! not stop asking. [`super::connection`] calls it for each request. `src/config/web_file.rs` reads
//! the file.

mod attempts;
mod basic_auth;
mod logins;
mod password_hash;
mod rate_limit;
mod scram_verifier;

pub use logins::{Login, LoginUser};
pub use password_hash::{PasswordError, PasswordHash};
pub use scram_verifier::{ScramVerifier, VerifierError};

use super::confinement::Confinement;
use super::limits::WEB_FILE_LOOK;
use super::response::text_error;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use basic_auth::{BasicAuth, Verdict};
use parking_lot::Mutex;
use rate_limit::TokenBucket;
use rustls::ServerConfig;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::metrics::{Counter, Gauge, Metrics};
use tls::FileStamp;

/// What the files say.
#[derive(Clone, Debug, Default)]
pub struct WebSettings {
    /// TLS for new connections; `None`: they are plain.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether HTTP/2 is spoken over TLS.
    pub http2: bool,
    /// Headers of all answers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Users and the hashes of their passwords; empty: nobody has to say who he is.
    pub users: BTreeMap<String, PasswordHash>,
    /// The labels that some of these users are confined to; the others see everything.
    pub confinements: BTreeMap<String, Arc<Confinement>>,
    /// Users who prove by SCRAM that they know their passwords, over the PostgreSQL wire.
    pub sql_users: BTreeMap<String, ScramVerifier>,
    /// The certificate of the server, PEM; empty without TLS.
    pub certificate: Vec<u8>,
    /// How many requests are answered; `None`: all.
    pub rate_limit: Option<RateLimit>,
    /// What has no effect here, a line each.
    pub notes: Vec<String>,
    /// All files that were read.
    pub files: Vec<PathBuf>,
}

/// A limit of the requests of all clients together.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// One more request is allowed each time this has passed.
    pub interval: Duration,
    /// How many may come together; 0: none is ever answered.
    pub burst: u64,
}

/// Why a web server cannot be protected as its files ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtectionError {
    /// The files cannot be used; the first problem. A person has to correct them.
    #[error("{0}")]
    Files(String),
    /// Passwords cannot be remembered: the operating system is at fault.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}

/// Reads the files.
type ReadFiles = Box<dyn Fn() -> Result<WebSettings, ProtectionError> + Send + Sync>;

/// The protection of a web server.
pub struct Protection {
    read: ReadFiles,
    current: Mutex<Current>,
    basic_auth: BasicAuth,
    bucket: Mutex<TokenBucket>,
    metrics: ProtectionMetrics,
}

/// The settings in force, and what the files looked like when they were last read.
struct Current {
    settings: Arc<WebSettings>,
    stamps: Vec<FileStamp>,
    looked: Instant,
}

struct ProtectionMetrics {
    refused: [Arc<Counter>; 3],
    limited: Arc<Counter>,
    readable: Arc<Gauge>,
}

impl ProtectionMetrics {
    fn new(metrics: &Metrics) -> ProtectionMetrics {
        let refused = |reason| {
            metrics.counter(
                "perennial_http_unauthorized_total",
                "HTTP requests without the name and password of a user.",
                &[("reason", reason)],
            )
        };
        ProtectionMetrics {
            refused: ["missing", "wrong", "too_many"].map(refused),
            limited: metrics.counter(
                "perennial_http_rate_limited_total",
                "HTTP requests beyond the rate_limit of the web configuration.",
                &[],
            ),
            readable: metrics.gauge(
                "perennial_web_config_last_reload_successful",
                "Whether the files of --web.config.file could be used when they were last read.",
                &[],
            ),
        }
    }
}

fn stamps(settings: &WebSettings) -> Vec<FileStamp> {
    settings.files.iter().map(|path| FileStamp::read(path)).collect()
}

impl Protection {
    /// The protection that the files ask for.
    ///
    /// # Errors
    ///
    /// If the files cannot be used: then the server must not start.
    pub fn new(
        read: impl Fn() -> Result<WebSettings, ProtectionError> + Send + Sync + 'static,
        metrics: &Metrics,
    ) -> Result<Arc<Protection>, ProtectionError> {
        let settings = read()?;
        for note in &settings.notes {
            tracing::warn!("--web.config.file: {note}");
        }
        let now = Instant::now();
        // These stamps are younger than what was read: the first look reads once more.
        let unknown = Vec::new();
        let counters = ProtectionMetrics::new(metrics);
        counters.readable.set(1.0);
        Ok(Arc::new(Protection {
            read: Box::new(read),
            basic_auth: BasicAuth::new(metrics)?,
            bucket: Mutex::new(TokenBucket::new(now)),
            current: Mutex::new(Current { settings: Arc::new(settings), stamps: unknown, looked: now }),
            metrics: counters,
        }))
    }

    /// Whether connections begin with TLS.
    pub fn is_encrypted(&self) -> bool {
        self.current.lock().settings.tls.is_some()
    }

    /// The settings in force, after a look at the files.
    pub(crate) fn settings(&self) -> Arc<WebSettings> {
        let mut current = self.current.lock();
        if current.looked.elapsed() >= WEB_FILE_LOOK {
            current.looked = Instant::now();
            self.look(&mut current);
        }
        current.settings.clone()
    }

    /// Reads the files if they have changed.
    fn look(&self, current: &mut Current) {
        // Taken before the files are read: a change in between is seen by the next look.
        let stamps = stamps(&current.settings);
        let unchanged = stamps.len() == current.stamps.len()
            && stamps.iter().zip(&current.stamps).all(|(now, before)| now.is_that_of(before));
        if unchanged {
            return;
        }
        let is_new = stamps != current.stamps;
        current.stamps = stamps;
        let is_encrypted = current.settings.tls.is_some();
        let read = (self.read)().and_then(|settings| {
            if settings.tls.is_some() == is_encrypted {
                Ok(settings)
            } else {
                Err(ProtectionError::Files("TLS can only be switched on or off by a restart".to_owned()))
            }
        });
        match read {
            Ok(settings) => {
                self.metrics.readable.set(1.0);
                current.settings = Arc::new(settings);
            }
            Err(why) => {
                self.metrics.readable.set(0.0);
                if is_new {
                    tracing::error!(
                        "the web configuration has changed and cannot be used; the one before stays: {why}"
                    );
                }
            }
        }
    }

    /// Whether a request may be answered, and what its user is confined to; the error is the
    /// response to send instead.
    pub(crate) async fn admit(
        &self,
        request: &Request<impl Sized>,
        peer: IpAddr,
    ) -> Result<Option<Arc<Confinement>>, Response> {
        let settings = self.settings();
        if let Some(limit) = settings.rate_limit
            && !self.bucket.lock().take(limit, Instant::now())
        {
            self.metrics.limited.inc();
            return Err(text_error(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"));
        }
        if settings.users.is_empty() {
            return Ok(None);
        }
        let given = request.headers().get(header::AUTHORIZATION);
        let [missing, wrong, too_many] = &self.metrics.refused;
        match self.basic_auth.check(&settings.users, given, peer).await {
            Verdict::Known => {
                let user = given.and_then(basic_auth::user_of);
                Ok(user.and_then(|user| settings.confinements.get(&user).cloned()))
            }
            Verdict::Missing => Err(unauthorized(missing)),
            Verdict::Wrong => Err(unauthorized(wrong)),
            Verdict::TooMany(wait) => {
                too_many.inc();
                let why = "too many attempts with a wrong name or password from your address";
                let mut response = text_error(StatusCode::TOO_MANY_REQUESTS, why);
                response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
                Err(response)
            }
        }
    }

    /// Adds the configured headers to a response.
    pub(crate) fn add_headers<B>(&self, response: &mut Response<B>) {
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            return;
        }
        for (name, value) in &self.settings().headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
}

fn unauthorized(counter: &Counter) -> Response {
    counter.inc();
    let mut response = text_error(StatusCode::UNAUTHORIZED, "Unauthorized");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

    /// A hash of `test`.
    const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a";

    fn users(names: &[&str]) -> BTreeMap<String, PasswordHash> {
        names.iter().map(|name| ((*name).to_owned(), PasswordHash::parse(HASH).unwrap())).collect()
    }

    /// Files that say nothing, then ask for users, then cannot be read.
    #[test]
    fn files_that_cannot_be_used_change_nothing() {
        static VERSION: AtomicU8 = AtomicU8::new(1);
        let path = std::env::temp_dir().join(format!("perennial-web-{}", std::process::id()));
        std::fs::write(&path, "1").unwrap();
        let file = path.clone();
        let read = move || match VERSION.load(SeqCst) {
            1 => {
                Ok(WebSettings { users: users(&["a"]), files: vec![file.clone()], ..WebSettings::default() })
            }
            2 => Ok(WebSettings {
                users: users(&["a", "b"]),
                files: vec![file.clone()],
                ..WebSettings::default()
            }),
            _ => Err(ProtectionError::Files("unreadable".to_owned())),
        };
        let metrics = Metrics::default();
        let protection = Protection::new(read, &metrics).unwrap();
        let names = || {
            std::thread::sleep(WEB_FILE_LOOK);
            protection.settings().users.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(), ["a"]);
        VERSION.store(2, SeqCst);
        std::fs::write(&path, "22").unwrap();
        assert_eq!(names(), ["a", "b"]);
        VERSION.store(3, SeqCst);
        std::fs::write(&path, "333").unwrap();
        assert_eq!(names(), ["a", "b"], "the last good ones");
        assert!(metrics.render().contains("perennial_web_config_last_reload_successful 0"));
        VERSION.store(1, SeqCst);
        assert_eq!(names(), ["a"]);
        assert!(metrics.render().contains("perennial_web_config_last_reload_successful 1"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_server_that_cannot_read_its_files_does_not_start() {
        assert!(
            Protection::new(|| Err(ProtectionError::Files("unreadable".to_owned())), &Metrics::default())
                .is_err()
        );
    }
}
