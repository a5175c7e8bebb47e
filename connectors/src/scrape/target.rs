//! [`Target`]: a scrape target, made from discovered labels by relabelling: URL, parameters, and
//! the labels of its series. [`super::pool`] builds targets, [`super::scrape_loop`] scrapes one.

use crate::config::units::ConfigDuration;
use crate::discovery::{ADDRESS, DiscoveredTarget};
use crate::scrape::appender::HistogramPolicy;
use crate::scrape::config::ScrapeJob;
use crate::scrape::metadata::MetadataMap;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use storage::model::time::parse_duration;
use storage::model::{Labels, LabelsBuilder, TimeMs};
use url::Url;

/// A target to be scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The labels that its series get.
    pub labels: Labels,
    /// The URL of the scrape, with parameters.
    pub url: ScrapeUrl,
    /// The socket of this machine that it is reached at; empty: the host of the URL.
    pub socket: String,
    /// The scrape interval.
    pub interval: ConfigDuration,
    /// The scrape timeout.
    pub timeout: ConfigDuration,
    /// How native histograms are handled.
    pub native: HistogramPolicy,
}

/// Why a target cannot be requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Its scheme is neither `http` nor `https`.
    #[error("Get {url:?}: unsupported protocol scheme {scheme:?}")]
    Scheme {
        /// The URL.
        url: String,
        /// The scheme.
        scheme: String,
    },
    /// It is not a URL.
    #[error("parse {url:?}: {reason}")]
    Syntax {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why the labels after relabelling make no target. The texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is no `__address__`.
    #[error("no address")]
    NoAddress,
    /// The address has a path.
    #[error("{0:?} is not a valid hostname")]
    BadAddress(String),
    /// A label that should be a duration is zero; the text names it.
    #[error("{0} cannot be 0")]
    Zero(&'static str),
    /// A label that should be a duration or a boolean is not.
    #[error("error parsing {what}: {reason}")]
    Unreadable {
        /// What the label means.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A scrape could take longer than the time to the next one.
    #[error("scrape timeout cannot be greater than scrape interval ({timeout} > {interval})")]
    TimeoutTooLong {
        /// The timeout.
        timeout: ConfigDuration,
        /// The interval.
        interval: ConfigDuration,
    },
}

/// The URL of a target, possibly invalid. A target with an invalid URL is listed, and is down.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeUrl {
    text: String,
    url: Result<Url, UrlError>,
}

impl ScrapeUrl {
    fn new(text: String, params: &BTreeMap<&str, Vec<&str>>) -> ScrapeUrl {
        let url = match Url::parse(&text) {
            // Such a target is listed, with its error, and is down: if it were left out, `up` could
            // not say that it is wrong.
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
            Ok(url) => {
                let scheme = url.scheme().to_owned();
                Err(UrlError::Scheme { url: text.clone(), scheme })
            }
            Err(error) => Err(UrlError::Syntax { url: text.clone(), reason: error.to_string() }),
        };
        let Ok(mut url) = url else { return ScrapeUrl { text, url } };
        if !params.is_empty() {
            let pairs = params.iter().flat_map(|(name, values)| values.iter().map(move |v| (*name, *v)));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        ScrapeUrl { text: url.to_string(), url: Ok(url) }
    }

    /// The URL as shown to users.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL for the request, or what is wrong with it.
    pub fn get(&self) -> Result<&Url, &UrlError> {
        self.url.as_ref()
    }
}

impl fmt::Display for ScrapeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The socket of this machine that a target is reached at.
const UNIX_SOCKET: &str = "__unix_socket__";
const METRICS_PATH: &str = "__metrics_path__";
const SCHEME: &str = "__scheme__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PARAM: &str = "__param_";
const NATIVE: &str = "__scrape_native_histograms__";
const CLASSIC: &str = "__always_scrape_classic_histograms__";
const CONVERT: &str = "__convert_classic_histograms_to_nhcb__";

/// The labels that relabelling starts from: the discovered ones and those that the job adds. The
/// API shows them, too.
pub fn discovered_labels(discovered: &DiscoveredTarget, job: &ScrapeJob) -> BTreeMap<String, String> {
    // A label with an empty value is the same as no label.
    let given = discovered.iter().filter(|(_, value)| !value.is_empty());
    let mut labels: BTreeMap<String, String> = given.map(|(n, v)| (n.clone(), v.clone())).collect();
    let keys = &job.config.keys;
    let defaults = [
        ("job", keys.job_name.clone()),
        (INTERVAL, job.interval.to_string()),
        (TIMEOUT, job.timeout.to_string()),
        (METRICS_PATH, keys.metrics_path.clone()),
        (SCHEME, keys.scheme.clone()),
        (CONVERT, job.native.convert.to_string()),
        (CLASSIC, job.native.classic_too.to_string()),
        (NATIVE, job.native.scrape.to_string()),
    ];
    for (name, value) in defaults {
        // A discovered label wins over the default of the job: so a mechanism can set the path or
        // the interval of each of its targets.
        labels.entry(name.to_owned()).or_insert(value);
    }
    for (name, values) in &keys.params {
        // As in Prometheus only the first value of a parameter is a label; the others are sent all
        // the same.
        if let Some(first) = values.first().filter(|first| !first.is_empty()) {
            labels.entry(format!("{PARAM}{name}")).or_insert_with(|| first.clone());
        }
    }
    labels
}

/// Makes a target of labels from [`discovered_labels`]; `None` if the rules drop it. The error says
/// what is wrong with the target.
pub fn build_target(
    discovered: &BTreeMap<String, String>,
    job: &ScrapeJob,
) -> Result<Option<Target>, TargetError> {
    let mut labels = LabelsBuilder::default();
    for (name, value) in discovered {
        labels.set(name, value);
    }
    if !job.relabel.apply(&mut labels) {
        return Ok(None);
    }
    let address = labels.get(ADDRESS).to_owned();
    if address.is_empty() {
        return Err(TargetError::NoAddress);
    }
    // A frequent mistake is a whole URL in `targets`. It would be scraped at a path that nobody
    // meant.
    if address.contains('/') {
        return Err(TargetError::BadAddress(address));
    }
    let (interval, timeout) = times(&labels)?;
    let native = native(&labels, job.native)?;
    let url = url(&labels, &address, job);
    let socket = labels.get(UNIX_SOCKET).to_owned();
    // After relabelling, from the address as the rules left it, and only if they did not set it.
    if labels.get("instance").is_empty() {
        labels.set("instance", address);
    }
    // Labels that begin with `__` are for relabelling. Stored, each would be a part of every series
    // of the target.
    let labels = labels.build().filter(|name| !name.starts_with("__"));
    Ok(Some(Target { labels, url, socket, interval, timeout, native }))
}

/// The job's policy for native histograms, overridden by labels of the target.
fn native(labels: &LabelsBuilder, job: HistogramPolicy) -> Result<HistogramPolicy, TargetError> {
    let says = |name: &str, what: &'static str, otherwise: bool| match labels.get(name) {
        "" => Ok(otherwise),
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        text => {
            let reason = format!("{text:?} is neither true nor false");
            Err(TargetError::Unreadable { what, reason })
        }
    };
    Ok(HistogramPolicy {
        convert: says(CONVERT, "convert classic histograms to nhcb", job.convert)?,
        classic_too: says(CLASSIC, "always scrape classic histograms", job.classic_too)?,
        scrape: says(NATIVE, "scrape native histograms", job.scrape)?,
        ..job
    })
}

fn times(labels: &LabelsBuilder) -> Result<(ConfigDuration, ConfigDuration), TargetError> {
    let read = |name: &str, what: &'static str| match parse_duration(labels.get(name)) {
        Ok(0) => Err(TargetError::Zero(what)),
        Ok(ms) => Ok(ConfigDuration(ms)),
        Err(error) => Err(TargetError::Unreadable { what, reason: error.to_string() }),
    };
    let interval = read(INTERVAL, "scrape interval")?;
    let timeout = read(TIMEOUT, "scrape timeout")?;
    if timeout > interval {
        return Err(TargetError::TimeoutTooLong { timeout, interval });
    }
    Ok((interval, timeout))
}

/// The parameters are those of the job; a `__param_` label replaces the first value of its
/// parameter. Sorted by name.
fn url(labels: &LabelsBuilder, address: &str, job: &ScrapeJob) -> ScrapeUrl {
    let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, values) in &job.config.keys.params {
        params.insert(name, values.iter().map(String::as_str).collect());
    }
    for (name, value) in labels.pairs() {
        let Some(name) = name.strip_prefix(PARAM) else { continue };
        let values = params.entry(name).or_default();
        match values.first_mut() {
            Some(first) => *first = value,
            None => values.push(value),
        }
    }
    let path = labels.get(METRICS_PATH);
    // Prometheus adds the slash, so `metrics_path: metrics` works.
    let slash = if path.starts_with('/') { "" } else { "/" };
    ScrapeUrl::new(format!("{}://{address}{slash}{path}", labels.get(SCHEME)), &params)
}

impl Target {
    /// The identity of a target across reloads and refreshes.
    pub fn key(&self) -> TargetKey {
        (self.labels.clone(), self.url.to_string())
    }

    /// The offset of scrapes in each interval, ms: constant for a target, spread over targets, and
    /// different on servers with different `seed`s.
    pub fn offset(&self, seed: u64) -> i64 {
        // From labels and URL, so that a target keeps its place in the interval over restarts; the
        // seed makes two servers of one configuration scrape at different times.
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(self.url.as_str().as_bytes(), self.labels.hash64());
        ((hash ^ seed) % self.interval.0.max(1) as u64) as i64
    }
}

/// See [`Target::key`].
pub type TargetKey = (Labels, String);

/// Whether the last scrape of a target succeeded.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetHealth {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
}

impl TargetHealth {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetHealth::Unknown => "unknown",
            TargetHealth::Up => "up",
            TargetHealth::Down => "down",
        }
    }
}

/// The results of a target's scrapes.
#[derive(Clone, Debug, Default)]
pub struct TargetState {
    /// Whether the last scrape succeeded.
    pub health: TargetHealth,
    /// Why the last scrape failed; empty if it succeeded.
    pub last_error: String,
    /// A warning about a scrape that succeeded.
    pub warning: Option<String>,
    /// The start of the last scrape, ms; 0: none yet.
    pub last_scrape: TimeMs,
    /// The duration of the last scrape, seconds.
    pub last_duration: f64,
    /// The metadata of its metrics.
    pub metadata: Arc<MetadataMap>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::config::GlobalConfig;

    fn target(yaml: &str, discovered: &[(&str, &str)]) -> Result<Option<Target>, TargetError> {
        let job = ScrapeJob::new(serde_saphyr::from_str(yaml).unwrap(), &GlobalConfig::default()).unwrap();
        let discovered = discovered.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        build_target(&discovered_labels(&discovered, &job), &job)
    }

    #[test]
    fn labels_and_url() {
        let yaml = "{job_name: j, params: {'match[]': ['{a=\"b\"}', up], x: [y]}, metrics_path: /federate}";
        let t = target(yaml, &[(ADDRESS, "h:9090"), ("env", "prod"), ("__meta_x", "1"), ("__param_x", "z")])
            .unwrap()
            .unwrap();
        assert_eq!(t.labels.to_string(), r#"{env="prod", instance="h:9090", job="j"}"#);
        assert_eq!(t.url.as_str(), "http://h:9090/federate?match%5B%5D=%7Ba%3D%22b%22%7D&match%5B%5D=up&x=z");
        assert_eq!((t.interval, t.timeout), (ConfigDuration(60_000), ConfigDuration(10_000)));
        assert_eq!(t.offset(7), t.offset(7));
        assert!((0..60_000).contains(&t.offset(7)));
    }

    #[test]
    fn rules_see_what_the_job_says_of_histograms_and_no_empty_labels() {
        let yaml = "{job_name: j, scrape_native_histograms: true, params: {a: ['']}, static_configs: [{targets: ['h:1']}], \
                    relabel_configs: [{source_labels: [__scrape_native_histograms__, __convert_classic_histograms_to_nhcb__, \
                    __always_scrape_classic_histograms__], regex: 'true;false;false', action: keep}]}";
        let job = ScrapeJob::new(serde_saphyr::from_str(yaml).unwrap(), &GlobalConfig::default()).unwrap();
        let given = [(ADDRESS, "h:1"), ("env", ""), ("__meta_a", ""), ("job", "")];
        let discovered = given.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let labels = discovered_labels(&discovered, &job);
        let names: Vec<&str> = labels.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [ADDRESS, CLASSIC, CONVERT, METRICS_PATH, SCHEME, INTERVAL, NATIVE, TIMEOUT, "job"]
        );
        assert_eq!(labels["job"], "j");
        assert!(build_target(&labels, &job).unwrap().is_some());
    }

    #[test]
    fn a_target_that_cannot_be_asked_is_there() {
        for (address, scheme, reason) in [
            ("h:port", "http", "parse \"http://h:port/metrics\": "),
            ("h:1", "ftp", "unsupported protocol scheme \"ftp\""),
            ("[::1", "http", "parse"),
        ] {
            let given = [(ADDRESS, address), ("__scheme__", scheme)];
            let t = target("{job_name: j}", &given).unwrap().unwrap();
            assert_eq!(t.url.as_str(), format!("{scheme}://{address}/metrics"));
            assert!(t.url.get().unwrap_err().to_string().contains(reason), "{:?}", t.url);
            assert_eq!(t.labels.get("instance"), Some(address));
        }
    }

    #[test]
    fn relabelling_can_drop_move_and_break() {
        let rule = |rule: &str| format!("{{job_name: j, relabel_configs: [{rule}]}}");
        let run = |r: &str| target(&rule(r), &[(ADDRESS, "h:1")]);
        assert_eq!(run("{source_labels: [__address__], action: drop}"), Ok(None));
        assert_eq!(
            run("{target_label: __address__, replacement: 'o:2'}").unwrap().unwrap().url.as_str(),
            "http://o:2/metrics"
        );
        assert_eq!(run("{target_label: __address__, replacement: ''}"), Err(TargetError::NoAddress));
        assert_eq!(
            run("{target_label: __scrape_interval__, replacement: 30s}").unwrap().unwrap().interval,
            ConfigDuration(30_000)
        );
        assert!(
            run("{target_label: __scrape_timeout__, replacement: 5m}")
                .unwrap_err()
                .to_string()
                .contains("greater than scrape interval")
        );
        let native =
            run("{target_label: __scrape_native_histograms__, replacement: 'true'}").unwrap().unwrap().native;
        assert!(native.scrape && !native.convert);
        let odd = run("{target_label: __convert_classic_histograms_to_nhcb__, replacement: maybe}")
            .unwrap_err()
            .to_string();
        assert!(odd.contains("neither true nor false"), "{odd}");
        assert_eq!(
            run("{target_label: instance, replacement: me}").unwrap().unwrap().labels.get("instance"),
            Some("me")
        );
    }
}
