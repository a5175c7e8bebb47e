//! `proxy_url`, `no_proxy`, `proxy_from_environment` and `proxy_connect_header`: which requests go
//! through a proxy. The rules are those of Go's `httpproxy`.

use super::socks::is_socks;
use super::{HttpConfig, RequestError, secret_header};
use crate::config::error::BlockError;
use crate::config::url::ConfigUrl;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{ClientBuilder, Proxy};
use std::net::IpAddr;
use std::sync::Arc;
use url::{Host, Url};

/// The proxies of the two schemes, and the hosts that they are not for. Their URLs may have
/// passwords.
#[derive(Clone, Default)]
pub(super) struct ProxyRules {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Option<Exceptions>,
}

/// The hosts that are reached without a proxy.
#[derive(Clone, Debug, Default)]
struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq)]
enum Exception {
    /// `*`.
    All,
    /// The addresses whose first bits are these.
    Network(IpAddr, u8),
    /// An address, at one port if one is given.
    Address(IpAddr, Option<u16>),
    /// A domain and those below it, at one port if one is given; `.domain` is only those below.
    Domain { suffix: String, itself: bool, port: Option<u16> },
}

/// The rules of a configuration and of the environment; `None`: nothing goes through a proxy.
pub(super) fn rules(config: &HttpConfig) -> Result<Option<Arc<ProxyRules>>, RequestError> {
    if !is_supported(config) {
        return Err(BlockError::new(UNSUPPORTED).into());
    }
    let environment = |name: &str| std::env::var(name).ok();
    Ok(ProxyRules::from_config(config, &environment)?.map(Arc::new))
}

/// What is said of other proxies.
pub(super) const UNSUPPORTED: &str = "proxy_url: only proxies that speak HTTP or SOCKS 5 are supported";

/// Adds the proxies of a configuration that speak HTTP to a client.
pub(super) fn with_proxies(
    config: &HttpConfig,
    builder: ClientBuilder,
) -> Result<ClientBuilder, RequestError> {
    let Some(rules) = rules(config)? else { return Ok(builder.no_proxy()) };
    let plain = rules.clone();
    let secure = rules;
    // The headers are for the request that opens a tunnel, not for those that a proxy forwards.
    let headers = connect_headers(config)?;
    Ok(builder
        .proxy(Proxy::custom(move |url| plain.http_proxy(url).filter(|_| url.scheme() == "http")))
        .proxy(
            Proxy::custom(move |url| secure.http_proxy(url).filter(|_| url.scheme() == "https"))
                .headers(headers),
        ))
}

/// Checks what needs no environment.
pub(super) fn check(config: &HttpConfig) -> Result<(), BlockError> {
    ProxyRules::from_config(config, &|_| None)?;
    connect_headers(config).map(|_| ())
}

fn connect_headers(config: &HttpConfig) -> Result<HeaderMap, BlockError> {
    let mut headers = HeaderMap::new();
    for (name, values) in &config.proxy_connect_header {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| BlockError::new(format!("proxy_connect_header: bad header name {name:?}")))?;
        for value in values {
            let value = secret_header(value.expose()).map_err(|e| BlockError::new(e.to_string()))?;
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

impl std::fmt::Debug for ProxyRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProxyRules")
    }
}

impl ProxyRules {
    /// The rules of a configuration; `None`: nothing goes through a proxy.
    fn from_config(
        config: &HttpConfig,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<ProxyRules>, BlockError> {
        if config.proxy_from_environment {
            return ProxyRules::from_environment(environment).map(Some);
        }
        let Some(url) = config.proxy_url.as_ref().map(ConfigUrl::expose).filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let url = proxy_url(url).ok_or("proxy_url is not a URL of a proxy")?;
        let no_proxy = config.no_proxy.as_deref().filter(|list| !list.is_empty());
        let exceptions = no_proxy.map(Exceptions::parse);
        Ok(Some(ProxyRules { http: Some(url.clone()), https: Some(url), exceptions }))
    }

    fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<ProxyRules, BlockError> {
        let variable = |name: &str| {
            let value = environment(name).filter(|value| !value.is_empty());
            value.or_else(|| environment(&name.to_ascii_lowercase())).filter(|value| !value.is_empty())
        };
        let url = |name: &str| match variable(name) {
            Some(text) => {
                let fault = || BlockError::new(format!("{name} is not a URL of a proxy"));
                proxy_url(&text).map(Some).ok_or_else(fault)
            }
            None => Ok(None),
        };
        Ok(ProxyRules {
            http: url("HTTP_PROXY")?,
            https: url("HTTPS_PROXY")?,
            exceptions: Some(Exceptions::parse(&variable("NO_PROXY").unwrap_or_default())),
        })
    }

    /// The proxy for a request to `url`, if it speaks HTTP.
    fn http_proxy(&self, url: &Url) -> Option<Url> {
        self.proxy(url).filter(|proxy| !is_socks(proxy))
    }

    /// The proxy for a request to `url`, if it speaks SOCKS.
    pub(super) fn socks_proxy(&self, url: &Url) -> Option<Url> {
        self.proxy(url).filter(is_socks)
    }

    /// Whether a request to `url` goes through a proxy that speaks HTTP.
    pub(super) fn have_http(&self, url: &Url) -> bool {
        self.http_proxy(url).is_some()
    }

    /// Whether there is a proxy that speaks SOCKS.
    pub(super) fn have_socks(&self) -> bool {
        [&self.http, &self.https].into_iter().flatten().any(is_socks)
    }

    /// The proxy for a request to `url`.
    fn proxy(&self, url: &Url) -> Option<Url> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        let proxy = proxy.as_ref()?;
        let direct = self.exceptions.as_ref().is_some_and(|exceptions| exceptions.have(url));
        (!direct).then(|| proxy.clone())
    }
}

/// The URL of a proxy; without a scheme it is one of HTTP.
fn proxy_url(text: &str) -> Option<Url> {
    let scheme = if text.contains("://") { "" } else { "http://" };
    Url::parse(&format!("{scheme}{text}")).ok().filter(Url::has_host)
}

/// Whether this build can talk to such a proxy.
pub(super) fn is_supported(config: &HttpConfig) -> bool {
    let url = config.proxy_url.as_ref().and_then(|url| proxy_url(url.expose()));
    url.is_none_or(|url| matches!(url.scheme(), "http" | "https") || is_socks(&url))
}

impl Exceptions {
    fn parse(list: &str) -> Exceptions {
        let entries = list.split(',').map(|entry| entry.trim().to_ascii_lowercase());
        Exceptions(entries.filter(|entry| !entry.is_empty()).filter_map(|entry| exception(&entry)).collect())
    }

    fn have(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        match url.host() {
            None => false,
            Some(Host::Ipv4(address)) => self.have_address(IpAddr::V4(address), port),
            Some(Host::Ipv6(address)) => self.have_address(IpAddr::V6(address), port),
            Some(Host::Domain(name)) => self.have_name(&name.to_ascii_lowercase(), port),
        }
    }

    fn have_address(&self, address: IpAddr, port: Option<u16>) -> bool {
        let has = |exception: &Exception| match exception {
            Exception::All => true,
            Exception::Network(network, bits) => is_within(address, *network, *bits),
            Exception::Address(one, at) => *one == address && (at.is_none() || *at == port),
            Exception::Domain { .. } => false,
        };
        address.is_loopback() || self.0.iter().any(has)
    }

    fn have_name(&self, name: &str, port: Option<u16>) -> bool {
        let has = |exception: &Exception| match exception {
            Exception::All => true,
            Exception::Domain { suffix, itself, port: at } => {
                let is_it = *itself && name == &suffix[1..];
                (is_it || name.ends_with(suffix.as_str())) && (at.is_none() || *at == port)
            }
            _ => false,
        };
        name == "localhost" || self.0.iter().any(has)
    }
}

fn exception(entry: &str) -> Option<Exception> {
    if entry == "*" {
        return Some(Exception::All);
    }
    if let Some((address, bits)) = entry.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.parse().ok().filter(|bits| *bits <= most)?;
        return Some(Exception::Network(address, bits));
    }
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    if let Some(address) = bare(entry) {
        return Some(Exception::Address(address, None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (entry, None),
    };
    if let Some(address) = bare(host) {
        return Some(Exception::Address(address, port));
    }
    let host = host.strip_prefix('*').unwrap_or(host);
    let below = host.starts_with('.');
    let suffix = if below { host.to_owned() } else { format!(".{host}") };
    (suffix.len() > 1).then_some(Exception::Domain { suffix, itself: !below, port })
}

/// Whether the first `bits` of two addresses are the same.
fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let rest = width - u32::from(bits);
    address.checked_shr(rest).unwrap_or(0) == network.checked_shr(rest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(proxy: &str, no_proxy: &str) -> ProxyRules {
        let config = HttpConfig {
            proxy_url: Some(proxy.into()),
            no_proxy: Some(no_proxy.to_owned()),
            ..HttpConfig::default()
        };
        ProxyRules::from_config(&config, &|_| None).unwrap().unwrap()
    }

    #[test]
    fn exceptions_are_those_of_go() {
        let list = "10.0.0.0/8, example.com, .below.org, *.star.net, h.test:8080, 192.0.2.7, 192.0.2.8:9100, fd00::/8";
        let some = rules("http://proxy:3128", list);
        let cases = [
            ("http://10.1.2.3/", true),
            ("http://11.1.2.3/", false),
            ("http://example.com/", true),
            ("https://a.EXAMPLE.com:9/", true),
            ("http://notexample.com/", false),
            ("http://below.org/", false),
            ("http://a.below.org/", true),
            ("http://star.net/", false),
            ("http://b.star.net/", true),
            ("http://h.test:8080/", true),
            ("http://h.test/", false),
            ("http://192.0.2.7:1/", true),
            ("http://192.0.2.8:9100/", true),
            ("http://192.0.2.8:9101/", false),
            ("http://[fd00::1]/", true),
            ("http://[fe80::1]/", false),
            ("http://localhost:9090/", true),
            ("http://127.0.0.9/", true),
        ];
        for (url, direct) in cases {
            assert_eq!(some.proxy(&Url::parse(url).unwrap()).is_none(), direct, "{url}");
        }
    }

    #[test]
    fn without_exceptions_everything_goes_through_the_proxy() {
        let all = rules("proxy:3128", "");
        let proxy = all.proxy(&Url::parse("http://localhost/").unwrap()).unwrap();
        assert_eq!(proxy.as_str(), "http://proxy:3128/");
        let star = rules("http://p", "*");
        assert!(star.proxy(&Url::parse("http://a/").unwrap()).is_none());
    }

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let variables = |name: &str| match name {
            "HTTP_PROXY" => Some("plain:1".to_owned()),
            "https_proxy" => Some("http://u:p@secure:2".to_owned()),
            "no_proxy" => Some("x.org".to_owned()),
            _ => None,
        };
        let config = HttpConfig { proxy_from_environment: true, ..HttpConfig::default() };
        let rules = ProxyRules::from_config(&config, &variables).unwrap().unwrap();
        let proxy = |url: &str| rules.proxy(&Url::parse(url).unwrap()).map(String::from);
        assert_eq!(proxy("http://a/").as_deref(), Some("http://plain:1/"));
        assert_eq!(proxy("https://a/").as_deref(), Some("http://u:p@secure:2/"));
        assert_eq!(proxy("https://x.org/"), None);
    }
}
