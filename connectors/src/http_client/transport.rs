//! [`Transport`]: the connections of an HTTP client. They are replaced when a file with its
//! certificates changes.

use super::hyper_client::{HyperClient, Route};
use super::{HttpConfig, RequestError, USER_AGENT, error_chain};
use crate::limits;
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tls::FileStamp;
use url::Url;
use xxhash_rust::xxh3::Xxh3;

/// The connections of a client; all clones share them.
#[derive(Clone, Debug)]
pub(super) struct Transport(Arc<TransportState>);

#[derive(Debug)]
struct TransportState {
    /// The socket of this machine that all connections lead to, if there is one.
    socket: Option<PathBuf>,
    /// Whether each connection goes to one of the addresses of a host at random.
    at_random: bool,
    current: Mutex<Option<Connections>>,
}

/// The connections with one version of the files.
#[derive(Debug)]
struct Connections {
    stamps: Vec<FileStamp>,
    contents: u64,
    client: Result<reqwest::Client, RequestError>,
    /// What sends the requests that the HTTP library cannot send; `None`: there are none.
    hyper: Option<HyperClient>,
}

impl Transport {
    /// Connects to the hosts of URLs, or always to `socket`.
    pub(super) fn new(socket: Option<&Path>) -> Transport {
        let socket = socket.map(Path::to_path_buf);
        Transport(Arc::new(TransportState { socket, at_random: false, current: Mutex::default() }))
    }

    /// Connects to one of the addresses of a host, at random for each connection.
    pub(super) fn to_random_address() -> Transport {
        Transport(Arc::new(TransportState { socket: None, at_random: true, current: Mutex::default() }))
    }

    /// The client for the files as they are now.
    ///
    /// # Errors
    ///
    /// Why there is none: a file cannot be read or used. The next call tries again.
    pub(super) fn client(&self, config: &HttpConfig) -> Result<reqwest::Client, RequestError> {
        // Taken before the files are read: a change in between is seen by the next call.
        let stamps: Vec<FileStamp> =
            config.tls_config.files().map(|path| FileStamp::read(Path::new(path))).collect();
        let mut current = self.0.current.lock();
        if let Some(known) = current.as_ref()
            && stamps.iter().zip(&known.stamps).all(|(now, before)| now.is_that_of(before))
        {
            return known.client.clone();
        }
        let contents = contents(config);
        if let Some(known) = current.as_mut().filter(|known| known.contents == contents) {
            known.stamps = stamps;
            return known.client.clone();
        }
        let client = build(config, &self.0);
        let over_network = self.0.socket.is_none() && client.is_ok();
        let hyper = if over_network { hyper_client(config, &self.0)? } else { None };
        *current = Some(Connections { stamps, contents, client: client.clone(), hyper });
        client
    }

    /// What sends a request to `url` if the HTTP library cannot. The client was asked for before.
    pub(super) fn hyper(&self, url: &Url) -> Option<HyperClient> {
        let hyper = self.0.current.lock().as_ref()?.hyper.clone()?;
        hyper.takes(url).then_some(hyper)
    }
}

/// A hash of the contents of all files of the certificates; one that cannot be read has none.
fn contents(config: &HttpConfig) -> u64 {
    let mut hash = Xxh3::new();
    for path in config.tls_config.files() {
        let read = crate::config::secret::read_file(path);
        hash.update(&[u8::from(read.is_ok())]);
        hash.update(&read.unwrap_or_default());
    }
    hash.digest()
}

/// Resolves a host to one of its addresses.
struct RandomAddress;

impl Resolve for RandomAddress {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is that of the URL; this one is not used.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let found = random_address(found);
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// One of some addresses, at random.
pub(super) fn random_address(found: Vec<SocketAddr>) -> Option<SocketAddr> {
    // Each hasher has other keys.
    let chosen = RandomState::new().hash_one(0) % found.len().max(1) as u64;
    found.get(chosen as usize).copied()
}

/// The client for what the HTTP library cannot send, if that may be needed.
fn hyper_client(config: &HttpConfig, shared: &TransportState) -> Result<Option<HyperClient>, RequestError> {
    let rules = super::proxy::rules(config)?;
    let server_name = config.tls_config.name()?;
    if server_name.is_none() && !rules.as_ref().is_some_and(|rules| rules.have_socks()) {
        return Ok(None);
    }
    let tls = config.tls_config.rustls(config.enable_http2)?;
    let route = Route { rules, at_random: shared.at_random, server_name };
    Ok(Some(HyperClient::new(route, tls, config.follow_redirects)))
}

fn build(config: &HttpConfig, shared: &TransportState) -> Result<reqwest::Client, RequestError> {
    let redirects = if config.follow_redirects {
        reqwest::redirect::Policy::limited(limits::REDIRECTS)
    } else {
        reqwest::redirect::Policy::none()
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirects)
        .referer(false)
        .connect_timeout(Duration::from_secs(limits::CONNECT_SECONDS))
        .pool_idle_timeout(Duration::from_secs(limits::IDLE_CONNECTION_SECONDS))
        .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
        .tcp_nodelay(true)
        .tls_backend_preconfigured(config.tls_config.rustls(config.enable_http2)?);
    if !config.enable_http2 {
        builder = builder.http1_only();
    }
    builder = super::proxy::with_proxies(config, builder)?;
    if shared.at_random {
        builder = builder.dns_resolver(Arc::new(RandomAddress));
    }
    if let Some(socket) = shared.socket.as_deref() {
        builder = builder.unix_socket(socket);
    }
    builder.build().map_err(|e| RequestError::Library(error_chain(&e)))
}
