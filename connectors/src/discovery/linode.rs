//! `linode_sd_configs`: targets are the instances of Linode. After the first list, the log of
//! events says whether a new list is needed. [`super::lister`] calls it at each refresh.

use super::labels::{Labels, host_port, list, separated, text, texts};
use super::lister::{ApiClient, ApiError, BlockError, Lister, Pages, StartError, lister_config, with_query};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::units::ConfigDuration;
use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use std::time::SystemTime;
use storage::metrics::Counter;

lister_config! {
    /// One entry of `linode_sd_configs`.
    pub LinodeSdConfig as "linode.SDConfig", LinodeSdKeys {
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
        /// What stands between the items of lists.
        tag_separator: String = ",".to_owned(),
        /// The region; empty: all.
        region: String = String::new(),
    }
}

const API: &str = "https://api.linode.com/v4";
/// Refreshes without an event after which everything is listed again: what happens inside a
/// machine makes no event.
const QUIET_REFRESHES: u32 = 10;

/// Linode SD: lists the instances of an account.
pub struct LinodeSd {
    api: ApiClient,
    keys: LinodeSdKeys,
    failures: Arc<Counter>,
    last: Option<LastList>,
    /// Whether the token may read events, as far as is known.
    reads_events: bool,
    quiet: u32,
}

/// The targets of the last refresh.
struct LastList {
    at: SystemTime,
    targets: Vec<DiscoveredTarget>,
}

impl Lister for LinodeSd {
    const NAME: &'static str = "linode";
    type Config = LinodeSdConfig;

    fn check(_config: &LinodeSdConfig) -> Result<(), BlockError> {
        Ok(())
    }

    fn create(config: &LinodeSdConfig, context: &DiscoveryContext<'_>) -> Result<LinodeSd, StartError> {
        let keys = config.keys.clone();
        let api = ApiClient::new(&config.http, keys.refresh_interval, context)?;
        let name = "prometheus_sd_linode_failures_total";
        let help = "Number of Linode service discovery refresh failures.";
        let failures = context.metrics.counter(name, help, &[]);
        Ok(LinodeSd { api, keys, failures, last: None, reads_events: true, quiet: 0 })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let now = SystemTime::now();
        if let Some(since) = self.last.as_ref().map(|last| last.at)
            // Three lists of pages are many requests for each refresh; one page of events says
            // whether they are needed.
            && self.is_quiet(since).await?
            && let Some(last) = &mut self.last
        {
            last.at = now;
            return Ok(last.targets.clone());
        }
        let listed = self.list_all().await;
        let targets = listed.inspect_err(|_| self.failures.inc())?;
        self.quiet = 0;
        self.last = Some(LastList { at: now, targets: targets.clone() });
        Ok(targets)
    }
}

impl LinodeSd {
    /// Whether the last list is still good: there was no event since, and not too many refreshes.
    async fn is_quiet(&mut self, since: SystemTime) -> Result<bool, ApiError> {
        if !self.reads_events {
            return Ok(false);
        }
        let since = DateTime::<Utc>::from(since).format("%Y-%m-%dT%H:%M:%S");
        let filter = format!(r#"{{"created": {{"+gte": "{since}"}}}}"#);
        let url = with_query(&format!("{API}/account/events"), &[("page", "1"), ("page_size", "25")]);
        let answer = self.api.send(self.api.request(Method::GET, &url)?.header("X-Filter", filter)).await?;
        // A token may be allowed to list and not to read events. Asked once: the answer does not
        // change while the token stays.
        if answer.status == StatusCode::UNAUTHORIZED {
            self.reads_events = false;
            return Ok(false);
        }
        let events = answer.success()?.json()?;
        self.quiet += 1;
        // Not for ever: the API does not promise an event for each change.
        Ok(list(&events, "data")?.is_empty() && self.quiet < QUIET_REFRESHES)
    }

    async fn pages(&self, path: &str) -> Result<Vec<Value>, ApiError> {
        let mut items = Vec::new();
        let mut pages = Pages::default();
        for page in 1.. {
            pages.count()?;
            let number = page.to_string();
            let query = [("page", number.as_str()), ("page_size", "500")];
            let mut request = self.api.request(Method::GET, &with_query(&format!("{API}/{path}"), &query))?;
            if !self.keys.region.is_empty() {
                request = request.header("X-Filter", format!(r#"{{"region": "{}"}}"#, self.keys.region));
            }
            let answer = self.api.json(request).await?;
            items.extend_from_slice(list(&answer, "data")?);
            if answer["pages"].as_u64().is_none_or(|all| page >= all) {
                break;
            }
        }
        Ok(items)
    }

    async fn list_all(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let instances = self.pages("linode/instances").await?;
        let addresses = self.pages("networking/ips").await?;
        let ranges = self.pages("networking/ipv6/ranges").await?;
        // Without an address there is nothing to scrape.
        let with_addresses = instances.iter().filter(|instance| !texts(instance, "ipv4").is_empty());
        Ok(with_addresses.map(|instance| self.target(instance, &addresses, &ranges)).collect())
    }

    fn target(&self, instance: &Value, addresses: &[Value], ranges: &[Value]) -> DiscoveredTarget {
        let mut labels = Labels::new("__meta_linode_");
        labels.copy(
            instance,
            &[
                ("instance_id", "id"),
                ("instance_label", "label"),
                ("image", "image"),
                ("region", "region"),
                ("type", "type"),
                ("status", "status"),
                ("group", "group"),
                ("hypervisor", "hypervisor"),
            ],
        );
        let number = |name: &str| instance["specs"][name].as_i64().unwrap_or(0);
        labels.set("gpus", number("gpus").to_string()).set("specs_vcpus", number("vcpus").to_string());
        for (name, key) in [
            ("specs_disk_bytes", "disk"),
            ("specs_memory_bytes", "memory"),
            ("specs_transfer_bytes", "transfer"),
        ] {
            // The API says MiB.
            labels.set(name, number(key).wrapping_shl(20).to_string());
        }
        let has_backups = instance["backups"]["enabled"].as_bool().unwrap_or(false);
        labels.set("backups", if has_backups { "enabled" } else { "disabled" });
        let separator = &self.keys.tag_separator;
        labels.set("tags", separated(&texts(instance, "tags"), separator));
        let public = ipv4_labels(instance, addresses, separator, &mut labels);
        ipv6_labels(instance, addresses, ranges, separator, &mut labels);
        labels.target(host_port(&public, self.keys.port))
    }
}

/// The name that an address has in the DNS; empty without one.
fn reverse_name(address: &Value) -> String {
    // The API has a text "null" at some addresses.
    Some(text(address, "rdns")).filter(|name| name != "null").unwrap_or_default()
}

/// Sets the labels of the first public and the first private address, and of all further ones;
/// returns the public one.
fn ipv4_labels(instance: &Value, addresses: &[Value], separator: &str, labels: &mut Labels) -> String {
    let mut public = String::new();
    let mut has_private = false;
    let mut others = Vec::new();
    for ip in texts(instance, "ipv4") {
        for address in addresses.iter().filter(|address| text(address, "address") == ip) {
            let is_public = address["public"].as_bool().unwrap_or(false);
            if is_public && public.is_empty() {
                public.clone_from(&ip);
                labels.set("public_ipv4", &ip).set("public_ipv4_rdns", reverse_name(address));
            } else if !is_public && !has_private {
                has_private = true;
                labels.set("private_ipv4", &ip).set("private_ipv4_rdns", reverse_name(address));
            } else {
                others.push(ip.clone());
            }
        }
    }
    labels.set("extra_ips", separated(&others, separator));
    public
}

fn ipv6_labels(
    instance: &Value,
    addresses: &[Value],
    ranges: &[Value],
    separator: &str,
    labels: &mut Labels,
) {
    let ipv6 = text(instance, "ipv6");
    // The list of addresses has it without the length of its prefix.
    let own = ipv6.split('/').next().unwrap_or_default();
    if own.is_empty() {
        return;
    }
    for address in addresses.iter().filter(|address| text(address, "address") == own) {
        labels.set("public_ipv6", own).set("public_ipv6_rdns", reverse_name(address));
    }
    let routed = ranges.iter().filter(|range| text(range, "route_target") == own);
    let routed: Vec<String> =
        routed.map(|range| format!("{}/{}", text(range, "range"), text(range, "prefix"))).collect();
    labels.set("ipv6_ranges", separated(&routed, separator));
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{
        RecordedServer, answer, assert_cases, assert_port, assert_tag_separator, lister,
    };
    use super::*;

    #[tokio::test]
    async fn instances_have_the_labels_of_prometheus() {
        let cases = include_str!("../../tests/data/discovery/linode.json");
        assert_cases::<LinodeSd>(cases).await;
        assert_port::<LinodeSd>(cases).await;
        assert_tag_separator::<LinodeSd>(cases).await;
    }

    /// After the first list only events are asked for; an event, or a token that may not read
    /// them, brings a new list.
    #[tokio::test]
    async fn quiet_refreshes_list_nothing() {
        let lists = || {
            let empty = r#"{"data": [], "page": 1, "pages": 1}"#;
            let first = |path: &str| answer(&format!("GET {API}/{path}?page=1&page_size=500"), empty);
            vec![first("linode/instances"), first("networking/ips"), first("networking/ipv6/ranges")]
        };
        let events = format!("GET {API}/account/events?page=1&page_size=25 x-filter: +gte");
        let server = RecordedServer::new(lists());
        let mut linode = lister::<LinodeSd>("{}", &server).unwrap();
        linode.list().await.unwrap();
        assert_eq!(server.seen().len(), 3);
        server.replace(vec![answer(&events, r#"{"data": []}"#)]);
        linode.list().await.unwrap();
        assert_eq!(server.seen().len(), 4);
        let mut answers = lists();
        answers.push(answer(&events, r#"{"data": [{"id": 1}]}"#));
        server.replace(answers);
        linode.list().await.unwrap();
        assert_eq!(server.seen().len(), 8);
        let mut answers = lists();
        answers.push(answer(&events, "").status(401));
        server.replace(answers);
        linode.list().await.unwrap();
        linode.list().await.unwrap();
        assert_eq!(server.seen().len(), 8 + 4 + 3);
        server.replace(Vec::new());
        linode.list().await.unwrap_err();
        assert_eq!(linode.failures.get(), 1);
    }
}
