//! `ovhcloud_sd_configs`: targets are the dedicated or virtual private servers of an account of
//! OVHcloud. [`super::lister`] calls it at each refresh.

use super::labels::{Labels, text, texts};
use super::lister::{ApiClient, ApiError, BlockError, Lister, ListerConfig, StartError};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::secret::{CredentialError, Secret};
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::config_block;
use reqwest::Method;
use reqwest::header::HeaderValue;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

config_block! {
    /// One entry of `ovhcloud_sd_configs`.
    pub struct OvhcloudSdConfig as "ovhcloud.SDConfig" {
        /// The API: `ovh-eu`, `ovh-ca`, `ovh-us`, `kimsufi-eu`, `kimsufi-ca`, `soyoustart-eu`,
        /// `soyoustart-ca`, or a URL.
        endpoint: ConfigUrl = "ovh-eu".into(),
        /// The key of the application.
        application_key: String = String::new(),
        /// The secret of the application.
        application_secret: Secret = Secret::default(),
        /// The key of the account that has allowed the application.
        consumer_key: Secret = Secret::default(),
        /// Time between refreshes.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// What is listed: `vps` or `dedicated_server`.
        service: String = String::new(),
    }
}

impl ListerConfig for OvhcloudSdConfig {
    fn interval(&self) -> ConfigDuration {
        self.refresh_interval
    }
}

/// The named APIs and their URLs.
const ENDPOINTS: &[(&str, &str)] = &[
    ("ovh-eu", "https://eu.api.ovh.com/1.0"),
    ("ovh-ca", "https://ca.api.ovh.com/1.0"),
    ("ovh-us", "https://api.us.ovhcloud.com/1.0"),
    ("kimsufi-eu", "https://eu.api.kimsufi.com/1.0"),
    ("kimsufi-ca", "https://ca.api.kimsufi.com/1.0"),
    ("soyoustart-eu", "https://eu.api.soyoustart.com/1.0"),
    ("soyoustart-ca", "https://ca.api.soyoustart.com/1.0"),
];

/// The longest request, as in OVH's own client.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(180);

/// What a label is made of.
#[derive(Copy, Clone)]
enum Kind {
    Text,
    /// A number or flag, and what is written if the answer has none.
    Other(&'static str),
    /// A list, as Go prints one.
    List,
}

/// A label.
struct Field {
    label: &'static str,
    /// Where its value stands in the answer.
    path: &'static str,
    kind: Kind,
}

/// A field of a service as a label.
const fn field(label: &'static str, path: &'static str, kind: Kind) -> Field {
    Field { label, path, kind }
}

/// A service: its path, and the labels of its servers.
struct Service {
    path: &'static str,
    prefix: &'static str,
    fields: &'static [Field],
}

const NUMBER: Kind = Kind::Other("0");

const VPS: Service = Service {
    path: "/vps",
    prefix: "__meta_ovhcloud_vps_",
    fields: &[
        field("offer", "model.offer", Kind::Text),
        field("datacenter", "model.datacenter", Kind::List),
        field("model_vcore", "model.vcore", NUMBER),
        field("maximum_additional_ip", "model.maximumAdditionnalIp", NUMBER),
        field("version", "model.version", Kind::Text),
        field("model_name", "model.name", Kind::Text),
        field("disk", "model.disk", NUMBER),
        field("memory", "model.memory", NUMBER),
        field("zone", "zone", Kind::Text),
        field("display_name", "displayName", Kind::Text),
        field("cluster", "cluster", Kind::Text),
        field("state", "state", Kind::Text),
        field("name", "name", Kind::Text),
        field("netboot_mode", "netbootMode", Kind::Text),
        field("memory_limit", "memoryLimit", NUMBER),
        field("offer_type", "offerType", Kind::Text),
        field("vcore", "vcore", NUMBER),
    ],
};

const DEDICATED_SERVER: Service = Service {
    path: "/dedicated/server",
    prefix: "__meta_ovhcloud_dedicated_server_",
    fields: &[
        field("state", "state", Kind::Text),
        field("commercial_range", "commercialRange", Kind::Text),
        field("link_speed", "linkSpeed", NUMBER),
        field("rack", "rack", Kind::Text),
        field("no_intervention", "noIntervention", Kind::Other("false")),
        field("os", "os", Kind::Text),
        field("support_level", "supportLevel", Kind::Text),
        field("server_id", "serverId", NUMBER),
        field("reverse", "reverse", Kind::Text),
        field("datacenter", "datacenter", Kind::Text),
        field("name", "name", Kind::Text),
    ],
};

/// OVHcloud SD: lists virtual or dedicated servers.
pub struct OvhcloudSd {
    api: ApiClient,
    config: OvhcloudSdConfig,
    service: &'static Service,
}

impl Lister for OvhcloudSd {
    const NAME: &'static str = "ovhcloud";
    type Config = OvhcloudSdConfig;

    fn check(config: &OvhcloudSdConfig) -> Result<(), BlockError> {
        for (given, what) in [
            (config.endpoint.expose(), "endpoint"),
            (config.application_key.as_str(), "application key"),
            (config.application_secret.expose(), "application secret"),
            (config.consumer_key.expose(), "consumer key"),
        ] {
            if given.is_empty() {
                return Err(format!("{what} can not be empty").into());
            }
        }
        service(config).map(|_| ())
    }

    fn create(config: &OvhcloudSdConfig, context: &DiscoveryContext<'_>) -> Result<OvhcloudSd, StartError> {
        let api = ApiClient::without_options(REQUEST_TIMEOUT, context)?;
        Ok(OvhcloudSd { api, config: config.clone(), service: service(config)? })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let endpoint = self.config.endpoint.expose();
        let known = ENDPOINTS.iter().find(|(name, _)| *name == endpoint).map(|(_, url)| *url);
        let base = if endpoint.contains('/') { Some(endpoint) } else { known };
        let Some(base) = base else {
            let why =
                format!("unknown endpoint '{endpoint}', consider checking 'Endpoints' list or using an URL");
            return Err(ApiError::Request(why));
        };
        let calls = self.open(base).await?;
        let names = calls.get(self.service.path).await?;
        let mut targets = Vec::new();
        for name in texts(&names, "") {
            match self.target(&calls, &name).await {
                Ok(target) => targets.push(target),
                // As in Prometheus: one server that cannot be looked at hides no others.
                Err(error) => tracing::warn!(
                    target: "discovery", mechanism = "ovhcloud", server = name, %error,
                    "cannot get the details of a server, which is left out until the next refresh"
                ),
            }
        }
        Ok(targets)
    }
}

/// The service that is configured.
fn service(config: &OvhcloudSdConfig) -> Result<&'static Service, BlockError> {
    match config.service.as_str() {
        "vps" => Ok(&VPS),
        "dedicated_server" => Ok(&DEDICATED_SERVER),
        other => Err(format!("unknown service: {other}").into()),
    }
}

/// The calls of one refresh.
struct Calls<'a> {
    api: &'a ApiClient,
    config: &'a OvhcloudSdConfig,
    base: &'a str,
    /// How far the server's clock is ahead of this machine's, s. Signatures hold the server's time.
    ahead: i64,
}

/// The seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl OvhcloudSd {
    /// Asks the server what time it is.
    async fn open<'a>(&'a self, base: &'a str) -> Result<Calls<'a>, ApiError> {
        let request = self.api.request(Method::GET, &format!("{base}/auth/time"))?;
        let time = answered(&self.api, request).await?;
        let time = time.as_i64().ok_or_else(|| ApiError::unexpected("the time of the API is no number"))?;
        Ok(Calls { api: &self.api, config: &self.config, base, ahead: time - now() })
    }

    /// The target of one server.
    async fn target(&self, calls: &Calls<'_>, name: &str) -> Result<DiscoveredTarget, ApiError> {
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let path = format!("{}/{name}", self.service.path);
        let server = calls.get(&path).await?;
        let addresses = calls.get(&format!("{path}/ips")).await?;
        let Addresses { ipv4, ipv6 } = addresses_of(&texts(&addresses, ""))?;
        let mut labels = Labels::new(self.service.prefix);
        for Field { label, path, kind } in self.service.fields {
            let value = text(&server, path);
            match kind {
                Kind::Text => labels.set(label, value),
                Kind::Other(missing) if value.is_empty() => labels.set(label, *missing),
                Kind::Other(_) => labels.set(label, value),
                Kind::List => labels.set(label, format!("[{}]", texts(&server, path).join(" "))),
            };
        }
        labels.set("ipv4", &ipv4).set("ipv6", &ipv6);
        // No port and no brackets, as in Prometheus: rules of the job add what is missing.
        let mut target = labels.target(if ipv4.is_empty() { ipv6 } else { ipv4 });
        target.insert("instance".to_owned(), text(&server, "name"));
        Ok(target)
    }
}

impl Calls<'_> {
    /// The answer to a signed `GET`.
    async fn get(&self, path: &str) -> Result<Value, ApiError> {
        let OvhcloudSdConfig { application_key, application_secret, consumer_key, .. } = self.config;
        let url = format!("{}{path}", self.base);
        let time = now() + self.ahead;
        let consumer = consumer_key.expose();
        let signed = format!("{}+{consumer}+GET+{url}++{time}", application_secret.expose());
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let request = self.api.request(Method::GET, &url)?;
        let request = request
            .header("X-Ovh-Application", header(application_key)?)
            .header("X-Ovh-Consumer", header(consumer)?)
            .header("X-Ovh-Timestamp", time)
            .header("X-Ovh-Signature", header(&format!("$1${hash}"))?);
        answered(self.api, request).await
    }
}

/// A header with a secret.
fn header(text: &str) -> Result<HeaderValue, CredentialError> {
    let bad = CredentialError::NoHeader("the keys of OVHcloud hold characters no header may");
    let mut value = HeaderValue::from_str(text).map_err(|_| bad)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The JSON of an answer; the error of another status is what OVH's own client says.
async fn answered(api: &ApiClient, request: reqwest::RequestBuilder) -> Result<Value, ApiError> {
    let answer = api.send(request).await?;
    if answer.status.is_success() {
        return Ok(answer.json()?);
    }
    let status = answer.status.as_u16();
    let body = answer.json().unwrap_or_default();
    let class = text(&body, "class");
    let message = text(&body, "message");
    Err(answer.refused(if class.is_empty() {
        format!("HTTP Error {status}: {message:?}")
    } else {
        let id = answer.header("x-ovh-query-id").unwrap_or_default();
        format!("HTTP Error {status}: {class}: {message:?} (X-OVH-Query-Id: {id})")
    }))
}

/// The last address of each kind; empty without one.
struct Addresses {
    ipv4: String,
    ipv6: String,
}

/// The addresses of a server. Networks are left out; single addresses may be written as one.
fn addresses_of(ips: &[String]) -> Result<Addresses, ApiError> {
    let bad = || ApiError::unexpected("could not parse IP addresses from list");
    let mut found = Addresses { ipv4: String::new(), ipv6: String::new() };
    for ip in ips {
        let address = match ip.split_once('/') {
            Some((address, length)) => {
                let address: IpAddr = address.parse().map_err(|_| bad())?;
                let length: u8 = length.parse().map_err(|_| bad())?;
                // 32 also of IPv6, where it is a large network: as in Prometheus.
                if length != 32 {
                    continue;
                }
                address
            }
            None => ip.parse().map_err(|_| bad())?,
        };
        match address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {}
            IpAddr::V4(address) => found.ipv4 = address.to_string(),
            IpAddr::V6(address) => found.ipv6 = address.to_string(),
        }
    }
    if found.ipv4.is_empty() && found.ipv6.is_empty() { Err(bad()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{RecordedServer, answer, assert_cases, assert_refused, listed};
    use super::*;

    #[tokio::test]
    async fn servers_have_the_labels_of_prometheus() {
        assert_cases::<OvhcloudSd>(include_str!("../../tests/data/discovery/ovhcloud.json")).await;
    }

    /// The signature of OVH's documentation: the hash of secret, consumer, method, URL, body and
    /// time, with `+` between them.
    #[tokio::test]
    async fn requests_are_signed_at_the_time_of_the_server() {
        let server = RecordedServer::new(vec![
            answer("GET http://o/1.0/auth/time", "1000000000"),
            answer("GET http://o/1.0/vps", "[]"),
        ]);
        let config = "{endpoint: 'http://o/1.0', application_key: AK, application_secret: AS, consumer_key: CK, service: vps}";
        assert_eq!(listed::<OvhcloudSd>(config, &server).await, Ok(Vec::new()));
        let seen = server.seen();
        let of = |name: &str| {
            let line = seen[1].lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name}: {seen:?}")).to_owned()
        };
        let time = of("x-ovh-timestamp: ");
        assert!(time.starts_with("100000000"), "{time}");
        let signed = format!("AS+CK+GET+http://o/1.0/vps++{time}");
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(of("x-ovh-signature: "), format!("$1${hash}"));
        assert!(!seen[0].contains("x-ovh-"), "{}", seen[0]);
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<OvhcloudSd>(&[
            ("{endpoint: ''}", "endpoint can not be empty"),
            ("{}", "application key can not be empty"),
            ("{application_key: a}", "application secret can not be empty"),
            ("{application_key: a, application_secret: b}", "consumer key can not be empty"),
            (
                "{application_key: a, application_secret: b, consumer_key: c, service: x}",
                "unknown service: x",
            ),
        ]);
    }
}
