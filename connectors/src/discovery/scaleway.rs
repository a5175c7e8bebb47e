//! `scaleway_sd_configs`: targets are the instances or bare metal servers of a zone of Scaleway.
//! [`super::lister`] calls it at each refresh.

use super::labels::{Labels, host_port, list, separated, text, texts};
use super::lister::{
    ApiClient, ApiError, BlockError, Lister, Pages, StartError, check_secret_key, lister_config, secret_key,
    with_query,
};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::api_client::{ApiAnswer, form};
use crate::config::path::ConfigPath;
use crate::config::secret::{CredentialError, HIDDEN, Secret};
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use regex::Regex;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

lister_config! {
    /// One entry of `scaleway_sd_configs`.
    pub ScalewaySdConfig as "scaleway.SDConfig", ScalewaySdKeys {
        /// The project. As in Prometheus it is checked and not sent: the key decides what is seen.
        project_id: String = String::new(),
        /// Another URL of the API.
        api_url: ConfigUrl = "https://api.scaleway.com".into(),
        /// The zone.
        zone: String = "fr-par-1".to_owned(),
        /// The public part of an API key.
        access_key: String = String::new(),
        /// The secret part.
        secret_key: Secret = Secret::default(),
        /// A file with it.
        secret_key_file: ConfigPath = ConfigPath::default(),
        /// Which servers are listed, by their names.
        name_filter: String = String::new(),
        /// Which servers are listed, by their tags.
        tags_filter: Vec<String> = Vec::new(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
        /// What is listed: `instance` or `baremetal`.
        role: String = String::new(),
    }
}

static UUID: LazyLock<Regex> =
    LazyLock::new(|| regex("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"));
static ACCESS_KEY: LazyLock<Regex> = LazyLock::new(|| regex("^SCW[A-Z0-9]{17}$"));
static ZONE: LazyLock<Regex> = LazyLock::new(|| regex("^[a-z]{2}-[a-z]{3}-[1-9]$"));

/// A pattern of this file.
fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file")
}

/// Scaleway SD: lists instances or Elastic Metal servers.
pub struct ScalewaySd {
    api: ApiClient,
    keys: ScalewaySdKeys,
    base: String,
}

impl Lister for ScalewaySd {
    const NAME: &'static str = "scaleway";
    type Config = ScalewaySdConfig;

    fn check(config: &ScalewaySdConfig) -> Result<(), BlockError> {
        let keys = &config.keys;
        match keys.role.as_str() {
            "instance" | "baremetal" => {}
            "" => return Err("role missing (one of: instance, baremetal)".into()),
            other => return Err(format!("unknown role {other:?}").into()),
        }
        if keys.project_id.is_empty() {
            return Err("project_id is mandatory".into());
        }
        check_secret_key(&keys.secret_key, &keys.secret_key_file)?;
        if keys.access_key.is_empty() {
            return Err("access_key is mandatory".into());
        }
        check_forms(keys)
    }

    fn create(config: &ScalewaySdConfig, context: &DiscoveryContext<'_>) -> Result<ScalewaySd, StartError> {
        let keys = config.keys.clone();
        // Read once, so that a file that is missing is found now; its text is read for each
        // request.
        secret_key(&keys.secret_key, &keys.secret_key_file)?;
        let base = keys.api_url.expose().to_owned();
        Ok(ScalewaySd { api: ApiClient::new(&config.http, keys.refresh_interval, context)?, keys, base })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        if self.keys.role == "instance" { self.instances().await } else { self.baremetal().await }
    }
}

/// Checks what Scaleway's own client refuses. The text shows no secret.
fn check_forms(keys: &ScalewaySdKeys) -> Result<(), BlockError> {
    let refused = |why: String| Err(BlockError::new(format!("scaleway-sdk-go: {why}")));
    let uuid = "expected a UUID: xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    let ScalewaySdKeys { access_key, secret_key, project_id, zone, .. } = keys;
    if !ACCESS_KEY.is_match(access_key) {
        return refused(format!(
            "invalid access key format '{access_key}', expected SCWXXXXXXXXXXXXXXXXX format"
        ));
    }
    // What the page of the configuration shows in the place of a secret is no fault: the page
    // loads.
    let is_hidden = secret_key.expose() == HIDDEN;
    if keys.secret_key_file.is_empty() && !is_hidden && !UUID.is_match(secret_key.expose()) {
        return refused(format!("invalid secret key format '{secret_key}', {uuid}"));
    }
    if !UUID.is_match(project_id) {
        return refused(format!("invalid project ID format '{project_id}', {uuid}"));
    }
    if !ZONE.is_match(zone) {
        return refused(format!("invalid default zone format '{zone}', expected a zone such as fr-par-1"));
    }
    if keys.api_url.expose().ends_with('/') {
        return refused(format!("invalid url {} it should not have a trailing slash", keys.api_url));
    }
    Ok(())
}

/// Where an answer says how many items there are on all pages.
#[derive(Copy, Clone)]
enum Total {
    /// In the header `x-total-count`.
    Header,
    /// In the field `total_count`.
    Body,
}

impl Total {
    /// The number of items on all pages; 0: the answer does not say it.
    fn read(self, answer: &ApiAnswer, json: &Value) -> usize {
        let text = match self {
            Total::Header => answer.header("x-total-count").unwrap_or_default().to_owned(),
            Total::Body => text(json, "total_count"),
        };
        text.parse().unwrap_or(0)
    }
}

/// One list of an API.
struct List<'a> {
    /// The path, with the query except the page.
    path: String,
    /// The key of the list in the answer.
    key: &'a str,
    total: Total,
}

impl ScalewaySd {
    /// All pages of a list.
    async fn pages(&self, wanted: List<'_>) -> Result<Vec<Value>, ApiError> {
        let mut items = Vec::new();
        let mut pages = Pages::default();
        let mut page: usize = 1;
        loop {
            pages.count()?;
            let url = with_query(&format!("{}{}", self.base, wanted.path), &[("page", &page.to_string())]);
            let token = secret_key(&self.keys.secret_key, &self.keys.secret_key_file)?;
            let mut token = HeaderValue::from_str(token.expose())
                .map_err(|_| CredentialError::NoHeader("secret_key holds characters no header may"))?;
            token.set_sensitive(true);
            let request = self.api.request(Method::GET, &url)?.header("X-Auth-Token", token);
            let answer = self.api.send(request).await?.success()?;
            let json = answer.json()?;
            let found = list(&json, wanted.key)?;
            items.extend_from_slice(found);
            // An empty page ends the list, too: servers may go while it is read.
            if found.is_empty() || items.len() >= wanted.total.read(&answer, &json) {
                return Ok(items);
            }
            page += 1;
        }
    }

    /// The targets of the role `instance`.
    async fn instances(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let keys = &self.keys;
        let tags = keys.tags_filter.join(",");
        let query = [("name", keys.name_filter.as_str()), ("order", "creation_date_desc"), ("tags", &tags)];
        let path = with_query(&format!("/instance/v1/zones/{}/servers", keys.zone), &query);
        let servers = self.pages(List { path, key: "servers", total: Total::Header }).await?;
        let private = self.private_addresses(&servers).await?;
        Ok(servers.iter().filter_map(|server| self.instance(server, &private)).collect())
    }

    /// The addresses of network interfaces in private networks, by the interfaces' ids, of the
    /// servers that have no other address.
    async fn private_addresses(&self, servers: &[Value]) -> Result<HashMap<String, String>, ApiError> {
        let mut interfaces: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let has_none =
            |server: &&Value| ["private_ip", "public_ip", "ipv6"].iter().all(|key| server[*key].is_null());
        for server in servers.iter().filter(has_none) {
            let ids = list(server, "private_nics")?.iter().map(|interface| text(interface, "id"));
            let ids = ids.filter(|id| !id.is_empty());
            interfaces.entry(region(&text(server, "zone"))).or_default().extend(ids);
        }
        let mut addresses = HashMap::new();
        for (region, ids) in interfaces.iter().filter(|(_, ids)| !ids.is_empty()) {
            let ids = ids.iter().map(|id| ("resource_ids", id.as_str()));
            let kinds =
                [("resource_type", "unknown_type"), ("resource_types", "instance_private_nic")].into_iter();
            let query = form([("order_by", "created_at_desc")].into_iter().chain(ids).chain(kinds));
            let path = format!("/ipam/v1/regions/{region}/ips?{query}");
            for ip in self.pages(List { path, key: "ips", total: Total::Body }).await? {
                // With the length of its network: `172.16.0.2/22`.
                let address = text(&ip, "address");
                let address = address.split('/').next().unwrap_or_default();
                if ip["is_ipv6"] != Value::Bool(true) && !address.is_empty() {
                    addresses.insert(text(&ip, "resource.id"), address.to_owned());
                }
            }
        }
        Ok(addresses)
    }

    /// The target of an instance; none without an address.
    fn instance(&self, server: &Value, private: &HashMap<String, String>) -> Option<DiscoveredTarget> {
        let mut labels = Labels::new("__meta_scaleway_instance_");
        labels.copy(
            server,
            &[
                ("boot_type", "boot_type"),
                ("hostname", "hostname"),
                ("id", "id"),
                ("name", "name"),
                ("organization_id", "organization"),
                ("project_id", "project"),
                ("status", "state"),
                ("type", "commercial_type"),
                ("zone", "zone"),
                ("image_arch", "image.arch"),
                ("image_id", "image.id"),
                ("image_name", "image.name"),
                ("location_cluster_id", "location.cluster_id"),
                ("location_hypervisor_id", "location.hypervisor_id"),
                ("location_node_id", "location.node_id"),
                ("security_group_id", "security_group.id"),
                ("security_group_name", "security_group.name"),
                ("public_ipv6", "ipv6.address"),
                ("private_ipv4", "private_ip"),
            ],
        );
        labels.set("region", region(&text(server, "zone")));
        labels.set("tags", separated(&texts(server, "tags"), ","));
        for (family, label) in [("inet", "public_ipv4_addresses"), ("inet6", "public_ipv6_addresses")] {
            let all = list(server, "public_ips").unwrap_or_default().iter();
            let of_family = all.filter(|ip| text(ip, "family") == family);
            let addresses: Vec<String> = of_family.map(|ip| text(ip, "address")).collect();
            labels.set(label, separated(&addresses, ","));
        }
        let public = text(server, "public_ip.address");
        if text(server, "public_ip.family") != "inet6" {
            labels.set("public_ipv4", &public);
        }
        let given = [text(server, "private_ip"), public, text(server, "ipv6.address")];
        let mut host = given.into_iter().find(|address| !address.is_empty());
        if host.is_none() {
            let interfaces = list(server, "private_nics").unwrap_or_default().iter();
            host = interfaces.filter_map(|interface| private.get(&text(interface, "id"))).next().cloned();
            labels.set("private_ipv4", host.clone().unwrap_or_default());
        }
        Some(labels.target(host_port(&host?, self.keys.port)))
    }

    /// The targets of the role `baremetal`.
    async fn baremetal(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let keys = &self.keys;
        let zone = format!("/baremetal/v1/zones/{}", keys.zone);
        let tags = keys.tags_filter.iter().map(|tag| ("tags", tag.as_str()));
        let name = [("name", keys.name_filter.as_str())].into_iter().filter(|(_, name)| !name.is_empty());
        let query = form(name.chain([("order_by", "created_at_asc")]).chain(tags));
        let path = format!("{zone}/servers?{query}");
        let servers = self.pages(List { path, key: "servers", total: Total::Body }).await?;
        let path = format!("{zone}/offers?subscription_period=unknown_subscription_period");
        let offers = self.pages(List { path, key: "offers", total: Total::Body }).await?;
        let path = format!("{zone}/os");
        let systems = self.pages(List { path, key: "os", total: Total::Body }).await?;
        servers.iter().map(|server| self.baremetal_target(server, &offers, &systems)).collect()
    }

    /// The target of a bare metal server.
    fn baremetal_target(
        &self,
        server: &Value,
        offers: &[Value],
        systems: &[Value],
    ) -> Result<DiscoveredTarget, ApiError> {
        let mut labels = Labels::new("__meta_scaleway_baremetal_");
        labels.copy(
            server,
            &[
                ("id", "id"),
                ("name", "name"),
                ("zone", "zone"),
                ("status", "status"),
                ("project_id", "project_id"),
            ],
        );
        if let Some(offer) = offers.iter().find(|offer| offer["id"] == server["offer_id"]) {
            labels.set("type", text(offer, "name"));
        }
        let is_installed = |system: &&Value| system["id"] == server["install"]["os_id"];
        if let Some(system) = systems.iter().find(is_installed) {
            labels.copy(system, &[("os_name", "name"), ("os_version", "version")]);
        }
        labels.set("tags", separated(&texts(server, "tags"), ","));
        let mut ipv4 = String::new();
        let mut ipv6 = String::new();
        for ip in list(server, "ips")? {
            let first = match text(ip, "version").as_str() {
                "IPv4" => &mut ipv4,
                "IPv6" => &mut ipv6,
                other => return Err(ApiError::unexpected(format!("unknown IP version: {other}"))),
            };
            if first.is_empty() {
                *first = text(ip, "address");
            }
        }
        labels.set("public_ipv4", &ipv4).set("public_ipv6", &ipv6);
        let host = [ipv4, ipv6].into_iter().find(|address| !address.is_empty());
        Ok(match host {
            Some(host) => labels.target(host_port(&host, self.keys.port)),
            None => labels.without_address(),
        })
    }
}

/// The region of a zone: `fr-par` of `fr-par-1`.
fn region(zone: &str) -> String {
    zone.rsplit_once('-').map(|(region, _)| region.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{RecordedServer, assert_cases, assert_refused, listed};
    use super::*;

    #[tokio::test]
    async fn servers_have_the_labels_of_prometheus() {
        assert_cases::<ScalewaySd>(include_str!("../../tests/data/discovery/scaleway.json")).await;
    }

    #[tokio::test]
    async fn the_key_of_a_file_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let key = "11111111-1111-1111-1111-111111111119";
        std::fs::write(&file, format!("{key}\n")).unwrap();
        let server = RecordedServer::new(Vec::new());
        let yaml = format!(
            "{{role: instance, project_id: 11111111-1111-1111-1111-111111111112, access_key: SCWAAAAAAAAAAAAAAAAA, \
             secret_key_file: '{}'}}",
            file.display()
        );
        listed::<ScalewaySd>(&yaml, &server).await.unwrap_err();
        let seen = server.seen().remove(0);
        assert!(seen.to_lowercase().contains(&format!("x-auth-token: {key}")), "{seen}");
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        let keys = "project_id: 11111111-1111-1111-1111-111111111112, access_key: SCWAAAAAAAAAAAAAAAAA";
        let secret = "secret_key: 11111111-1111-1111-1111-111111111111";
        let all = format!("{{role: instance, {keys}, {secret}");
        assert_refused::<ScalewaySd>(&[
            ("{}", "role missing (one of: instance, baremetal)"),
            ("{role: x}", "unknown role \"x\""),
            ("{role: baremetal}", "project_id is mandatory"),
            ("{role: instance, project_id: p}", "one of secret_key & secret_key_file must be configured"),
            (
                "{role: instance, project_id: p, secret_key: a, secret_key_file: b}",
                "at most one of secret_key & secret_key_file must be configured",
            ),
            ("{role: instance, project_id: p, secret_key: a}", "access_key is mandatory"),
            (
                "{role: instance, project_id: p, secret_key: a, access_key: k}",
                "scaleway-sdk-go: invalid access key format 'k', expected SCWXXXXXXXXXXXXXXXXX format",
            ),
            (
                &format!("{{role: instance, {keys}, secret_key: hunter2}}"),
                "scaleway-sdk-go: invalid secret key format '<secret>', expected a UUID: \
                 xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
            ),
            (
                &format!("{all}, zone: paris}}"),
                "scaleway-sdk-go: invalid default zone format 'paris', expected a zone such as fr-par-1",
            ),
            (
                &format!("{all}, api_url: 'http://s/'}}"),
                "scaleway-sdk-go: invalid url http://s/ it should not have a trailing slash",
            ),
        ]);
    }
}
