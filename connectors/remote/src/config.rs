//! The configuration blocks `remote_write` and `remote_read`, with Prometheus' keys, defaults and
//! errors. [`super::write`] and [`super::read`] use them.

use connectors::cloud_auth::{AzureAdConfig, CloudAuth, GoogleIamConfig, SigV4Config};
use connectors::config::error::BlockError;
use connectors::config::schema::ConfigValue;
use connectors::config::units::ConfigDuration;
use connectors::config::url::ConfigUrl;
use connectors::http_client::{HttpConfig, check_header_names};
use connectors::names::NameScheme;
use connectors::relabel::{RelabelConfig, Relabeler, set_names};
use connectors::{compose_block, config_block, config_keys};
use md5::{Digest, Md5};
use std::collections::{BTreeMap, BTreeSet};

/// The message of remote write 1.0.
pub const MESSAGE_V1: &str = "prometheus.WriteRequest";
/// The message of remote write 2.0.
pub const MESSAGE_V2: &str = "io.prometheus.write.v2.Request";

config_keys! {
    /// The keys of an entry of `remote_write` that Prometheus prints before those for HTTP.
    pub struct RemoteWriteKeys {
        /// Where samples are sent.
        url: ConfigUrl = ConfigUrl::default(),
        /// The timeout of one request.
        remote_timeout: ConfigDuration = ConfigDuration(30_000),
        /// Further headers of each request.
        headers: BTreeMap<String, String> = BTreeMap::new(),
        /// Rules for each series, after the external labels were added.
        write_relabel_configs: Vec<RelabelConfig> = Vec::new(),
        /// The name of the queue in metrics and logs.
        name: String = String::new(),
        /// Whether exemplars are sent.
        send_exemplars: bool = false,
        /// Whether native histograms are sent.
        send_native_histograms: bool = false,
        /// Whether each connection goes to one of the addresses of the host at random.
        round_robin_dns: bool = false,
        /// The message: that of remote write 1.0 or of 2.0.
        protobuf_message: String = MESSAGE_V1.to_owned(),
    }
}

config_keys! {
    /// The keys of an entry of `remote_write` that Prometheus prints after those for HTTP.
    pub struct RemoteWriteQueueKeys {
        /// How samples wait and are sent again.
        queue_config: QueueConfig = QueueConfig::default(),
        /// How metadata are sent.
        metadata_config: MetadataConfig = MetadataConfig::default(),
        /// Requests are signed for AWS.
        sigv4: Option<SigV4Config> = None,
        /// Requests carry tokens of Azure.
        azuread: Option<AzureAdConfig> = None,
        /// Requests carry tokens of Google Cloud.
        google_iam: Option<GoogleIamConfig> = None,
    }
}

config_block! {
    /// `queue_config`.
    pub struct QueueConfig as "config.QueueConfig" {
        /// Samples that wait in memory per shard. More wait in the log.
        capacity: i64 = 10_000,
        /// Maximum number of requests at a time.
        max_shards: i64 = 50,
        /// Minimum number of requests at a time.
        min_shards: i64 = 1,
        /// Maximum number of samples in a request.
        max_samples_per_send: i64 = 2_000,
        /// How long a sample waits for others.
        batch_send_deadline: ConfigDuration = ConfigDuration(5_000),
        /// The first pause before a request is sent again.
        min_backoff: ConfigDuration = ConfigDuration(30),
        /// The longest pause before a request is sent again.
        max_backoff: ConfigDuration = ConfigDuration(5_000),
        /// Whether a request is sent again after status 429.
        retry_on_http_429: bool = false,
        /// Samples that are older are not sent; 0: all are.
        sample_age_limit: ConfigDuration = ConfigDuration(0),
    }
}

config_block! {
    /// `metadata_config`.
    pub struct MetadataConfig as "config.MetadataConfig" {
        /// Whether metadata are sent (remote write 1.0).
        send: bool = true => printed,
        /// How often.
        send_interval: ConfigDuration = ConfigDuration(60_000),
        /// Maximum number of metadata in a request.
        max_samples_per_send: i64 = 2_000,
    }
}

/// An entry of `remote_write`.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteWriteConfig {
    /// The keys before those for HTTP.
    pub keys: RemoteWriteKeys,
    /// The HTTP options.
    pub http: HttpConfig,
    /// The keys after those for HTTP.
    pub queue: RemoteWriteQueueKeys,
}

impl Default for RemoteWriteConfig {
    fn default() -> RemoteWriteConfig {
        RemoteWriteConfig {
            keys: RemoteWriteKeys::default(),
            // One connection per shard, as in Prometheus: HTTP/2 would send all over one.
            http: HttpConfig { enable_http2: false, ..HttpConfig::default() },
            queue: RemoteWriteQueueKeys::default(),
        }
    }
}

compose_block!(RemoteWriteConfig as "config.RemoteWriteConfig" {
    keys: RemoteWriteKeys,
    http: HttpConfig,
    queue: RemoteWriteQueueKeys,
});

config_keys! {
    /// The keys of an entry of `remote_read`, but for HTTP.
    pub struct RemoteReadKeys {
        /// Where samples are read.
        url: ConfigUrl = ConfigUrl::default(),
        /// The timeout of one request, including its answer.
        remote_timeout: ConfigDuration = ConfigDuration(60_000),
        /// The largest frame that is accepted, bytes.
        chunked_read_limit: u64 = 50_000_000,
        /// Further headers of each request.
        headers: BTreeMap<String, String> = BTreeMap::new(),
        /// Whether times are asked for that the store itself has.
        read_recent: bool = false => printed,
        /// The name in metrics and logs.
        name: String = String::new(),
        /// Equality matchers that a selector must have to be asked.
        required_matchers: BTreeMap<String, String> = BTreeMap::new(),
        /// Whether the external labels are added to the matchers and removed from the answer.
        filter_external_labels: bool = true => printed,
    }
}

/// An entry of `remote_read`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemoteReadConfig {
    /// The keys of the block itself.
    pub keys: RemoteReadKeys,
    /// The HTTP options.
    pub http: HttpConfig,
}

compose_block!(RemoteReadConfig as "config.RemoteReadConfig" {
    keys: RemoteReadKeys,
    http: HttpConfig,
});

/// The name of an entry in metrics and logs: the configured one, or six digits that depend on the
/// configuration.
pub(crate) fn short_name(configured: &str, entry: &impl ConfigValue) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let digest = Md5::digest(format!("{:?}", entry.node()).as_bytes());
    digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

/// What is said of an `authorization` among `headers`.
const NO_AUTHORIZATION: &str = "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter";

/// Checks that no two entries have the same name.
fn check_names<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Result<(), BlockError> {
    let mut seen = BTreeSet::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !seen.insert(name) {
            return Err(format!("found multiple {kind} configs with job name {name:?}").into());
        }
    }
    Ok(())
}

/// Checks that no two entries are the same.
fn check_duplicates<T: PartialEq>(
    kind: &str,
    configs: &[T],
    url: impl Fn(&T) -> &ConfigUrl,
) -> Result<(), BlockError> {
    for (n, config) in configs.iter().enumerate() {
        if configs[..n].contains(config) {
            let url = url(config);
            let what =
                format!("duplicate remote {kind} configs are not allowed, found duplicate for URL: {url}");
            return Err(what.into());
        }
    }
    Ok(())
}

impl RemoteWriteConfig {
    /// Checks all entries of a file.
    ///
    /// # Errors
    /// The first problem, in the words of Prometheus.
    pub fn check_all(configs: &[RemoteWriteConfig]) -> Result<(), BlockError> {
        configs.iter().try_for_each(RemoteWriteConfig::check)?;
        check_names("remote write", configs.iter().map(|config| config.keys.name.as_str()))?;
        check_duplicates("write", configs, |config| &config.keys.url)
    }

    fn check(&self) -> Result<(), BlockError> {
        let keys = &self.keys;
        // First of all, as in Prometheus: these blocks are checked while they are read.
        for auth in self.cloud_auths() {
            auth.validate()?;
        }
        // An empty text fails at each request, as in Prometheus.
        if !keys.url.is_given() {
            return Err("url for remote_write is empty; add `url: http://…`".into());
        }
        check_header_names(keys.headers.keys(), NO_AUTHORIZATION)?;
        if ![MESSAGE_V1, MESSAGE_V2].contains(&keys.protobuf_message.as_str()) {
            return Err(format!(
                "invalid protobuf_message value: unknown type for remote write protobuf message {}, supported: {MESSAGE_V1}, {MESSAGE_V2}",
                keys.protobuf_message
            )
            .into());
        }
        self.http.validate()?;
        self.queue.queue_config.check()?;
        self.check_one_login()?;
        Relabeler::new(&keys.write_relabel_configs)?;
        Ok(())
    }

    /// Checks that there is one way of authentication at most.
    fn check_one_login(&self) -> Result<(), BlockError> {
        let http = &self.http;
        let given = [
            ("basic_auth", http.basic_auth.is_some()),
            ("authorization", http.authorization.is_some()),
            ("oauth2", http.oauth2.is_some()),
            ("sigv4", self.queue.sigv4.is_some()),
            ("azuread", self.queue.azuread.is_some()),
            ("google_iam", self.queue.google_iam.is_some()),
        ];
        let names: Vec<&str> =
            given.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name).collect();
        if names.len() > 1 {
            return Err(format!(
                "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. Currently configured: [{}]",
                names.join(" ")
            )
            .into());
        }
        Ok(())
    }

    /// Sets which names labels may have.
    pub fn set_names(&mut self, names: NameScheme) {
        set_names(&mut self.keys.write_relabel_configs, names);
    }

    /// The credentials of a cloud for its requests.
    pub fn cloud_auth(&self) -> Option<CloudAuth> {
        // At most one: that is checked.
        self.cloud_auths().into_iter().next()
    }

    fn cloud_auths(&self) -> Vec<CloudAuth> {
        let RemoteWriteQueueKeys { sigv4, azuread, google_iam, .. } = &self.queue;
        let sigv4 = sigv4.clone().map(CloudAuth::SigV4);
        let azuread = azuread.clone().map(CloudAuth::AzureAd);
        let google_iam = google_iam.clone().map(CloudAuth::GoogleIam);
        sigv4.into_iter().chain(azuread).chain(google_iam).collect()
    }
}

impl QueueConfig {
    fn check(&self) -> Result<(), BlockError> {
        let positive = [("max_shards", self.max_shards), ("min_shards", self.min_shards)];
        for (name, value) in positive {
            if value <= 0 {
                return Err(format!("remote write queue {name} must be positive").into());
            }
        }
        if self.min_shards > self.max_shards {
            return Err("remote write queue min_shards must not be greater than max_shards".into());
        }
        if self.max_samples_per_send <= 0 {
            return Err("remote write queue max_samples_per_send must be positive".into());
        }
        if self.capacity <= 0 {
            return Err("remote write queue capacity must be positive".into());
        }
        if self.max_backoff < self.min_backoff {
            return Err("remote write queue max_backoff must not be less than min_backoff".into());
        }
        Ok(())
    }
}

impl RemoteReadConfig {
    /// Checks all entries of a file.
    ///
    /// # Errors
    /// The first problem, in the words of Prometheus.
    pub fn check_all(configs: &[RemoteReadConfig]) -> Result<(), BlockError> {
        for config in configs {
            if !config.keys.url.is_given() {
                return Err("url for remote_read is empty; add `url: http://…`".into());
            }
            check_header_names(config.keys.headers.keys(), NO_AUTHORIZATION)?;
            config.http.validate()?;
        }
        check_names("remote read", configs.iter().map(|config| config.keys.name.as_str()))?;
        check_duplicates("read", configs, |config| &config.keys.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(yaml: &str) -> String {
        let configs: Vec<RemoteWriteConfig> = serde_saphyr::from_str(yaml).unwrap();
        RemoteWriteConfig::check_all(&configs).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn mistakes_are_told_as_prometheus_tells_them() {
        let cases = [
            ("[{url: 'http://h'}]", ""),
            ("[{url: 'http://h'}, {url: 'http://h', name: x}]", ""),
            ("[{remote_timeout: 1s}]", "url for remote_write is empty; add `url: http://…`"),
            (
                "[{url: 'http://h'}, {url: 'http://h'}]",
                "duplicate remote write configs are not allowed, found duplicate for URL: http://h",
            ),
            (
                "[{url: a, name: x}, {url: b, name: x}]",
                "found multiple remote write configs with job name \"x\"",
            ),
            ("[{url: a, headers: {Host: x}}]", "Host is a reserved header. It must not be changed"),
            ("[{url: a, queue_config: {max_shards: 0}}]", "remote write queue max_shards must be positive"),
            (
                "[{url: a, queue_config: {min_shards: 60}}]",
                "remote write queue min_shards must not be greater than max_shards",
            ),
            (
                "[{url: a, queue_config: {max_backoff: 1ms}}]",
                "remote write queue max_backoff must not be less than min_backoff",
            ),
            (
                "[{url: a, sigv4: {region: x}, basic_auth: {username: u}}]",
                "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. Currently configured: [basic_auth sigv4]",
            ),
            (
                "[{url: a, google_iam: {}, azuread: {sdk: {}}}]",
                "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. Currently configured: [azuread google_iam]",
            ),
            ("[{sigv4: {external_id: e}}]", "external_id can only be used with role_arn"),
            (
                "[{url: a, azuread: {sdk: {}, oauth: {}}}]",
                "cannot provide multiple authentication methods in the Azure AD config",
            ),
            ("[{url: a, google_iam: {}}]", ""),
        ];
        for (yaml, expected) in cases {
            assert_eq!(error(yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn partial_blocks_keep_the_other_defaults() {
        let config: RemoteWriteConfig =
            serde_saphyr::from_str("url: http://h\nqueue_config: {capacity: 5}").unwrap();
        assert_eq!(config.queue.queue_config, QueueConfig { capacity: 5, ..QueueConfig::default() });
        assert!(!config.http.enable_http2);
        assert!(config.queue.metadata_config.send);
    }
}
