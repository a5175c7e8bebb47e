//! `oci_sd_configs`: targets are the instances of a tenancy of Oracle Cloud Infrastructure.
//! Requests are signed with a private key ([`signature`]), which is a user's, or one that the
//! machine gets a token for ([`instance_principal`]). [`super::lister`] calls it at each refresh.

mod instance_principal;
mod regions;
mod signature;

use super::labels::{Labels, host_port, label_name, list, pairs, separated, text, texts};
use super::lister::{
    ApiClient, ApiError, BlockError, Lister, Pages, StartError, lister_config, path_segment, with_query,
};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::api_client::{ApiAnswer, ApiRemedy};
use crate::config::path::ConfigPath;
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::config::units::ConfigDuration;
use crate::jwt::RsaKey;
use crate::limits::{OCI_ATTEMPTS, OCI_BURST, OCI_INTERVAL_MS, OCI_RETRY_MS};
use instance_principal::InstancePrincipal;
use regions::{host, region_name};
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::Value;
use signature::{OF_GET, RequestKey};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

lister_config! {
    /// One entry of `oci_sd_configs`.
    pub OciSdConfig as "oci.SDConfig", OciSdKeys {
        /// How requests are authenticated: `api_key`, or `instance_principal`, which asks as the
        /// machine that this server runs on.
        auth: String = "api_key".to_owned(),
        /// The OCID of the tenancy.
        tenancy: String = String::new(),
        /// The OCID of the user.
        user: String = String::new(),
        /// The fingerprint of the key.
        fingerprint: String = String::new(),
        /// A file with the private key, PEM.
        key_file: ConfigPath = ConfigPath::default(),
        /// The passphrase of the key.
        key_passphrase: Secret = Secret::default(),
        /// A file with the passphrase.
        key_passphrase_file: ConfigPath = ConfigPath::default(),
        /// The region. With `instance_principal` it is that of the machine, whatever stands here.
        region: String = String::new(),
        /// The OCIDs of the compartments; by default all below the tenancy.
        compartments: Vec<String> = Vec::new(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
    }
}

/// The version of the API, which its paths begin with.
const VERSION: &str = "20160918";
/// What Prometheus does when it looks for credentials, in errors.
const BUILDING: &str = "oci_sd: failed to build configuration provider";

/// OCI SD: lists the instances of Oracle Cloud.
pub struct OciSd {
    api: ApiClient,
    keys: OciSdKeys,
    credentials: OciCredentials,
    /// When the next requests may be sent.
    spacing: Mutex<RequestSpacing>,
}

/// What is listed.
#[derive(Clone)]
struct OciPlace {
    /// The name of the region.
    region: String,
    /// The OCID of the tenancy.
    tenancy: String,
}

impl OciPlace {
    /// The URL of a service: `identity` or `iaas`.
    fn base(&self, service: &str) -> String {
        format!("https://{}/{VERSION}", host(service, &self.region))
    }
}

/// As whom it asks.
enum OciCredentials {
    /// A user, with a key of the configuration.
    ApiKey(Arc<RequestKey>),
    /// The machine. Held while a token is got, so that it is got once.
    Machine(Box<Mutex<InstancePrincipal>>),
}

impl Lister for OciSd {
    const NAME: &'static str = "oci";
    type Config = OciSdConfig;

    fn check(config: &OciSdConfig) -> Result<(), BlockError> {
        let keys = &config.keys;
        if keys.region.is_empty() {
            return Err("oci_sd: region is required".into());
        }
        let given = [
            (keys.tenancy.is_empty(), "tenancy"),
            (keys.user.is_empty(), "user"),
            (keys.fingerprint.is_empty(), "fingerprint"),
            (keys.key_file.is_empty(), "key_file"),
        ];
        let has_passphrase = !keys.key_passphrase.expose().is_empty();
        let has_passphrase_file = !keys.key_passphrase_file.is_empty();
        match keys.auth.as_str() {
            "api_key" => {
                if let Some((_, key)) = given.iter().find(|(is_missing, _)| *is_missing) {
                    return Err(format!("oci_sd: api_key auth requires {key}").into());
                }
                if has_passphrase && has_passphrase_file {
                    let text =
                        "oci_sd: at most one of key_passphrase and key_passphrase_file must be configured";
                    return Err(text.into());
                }
            }
            "instance_principal" => {
                let has_any = given.iter().any(|(is_missing, _)| !is_missing);
                if has_any || has_passphrase || has_passphrase_file {
                    let text = "oci_sd: instance_principal auth must not have tenancy, user, fingerprint, \
                                key_file, key_passphrase, or key_passphrase_file set";
                    return Err(text.into());
                }
            }
            other => {
                let text = format!(
                    "oci_sd: unknown auth method {other:?}, expected \"api_key\" or \"instance_principal\""
                );
                return Err(text.into());
            }
        }
        if let Some(at) = keys.compartments.iter().position(String::is_empty) {
            return Err(format!("oci_sd: compartments[{at}] must not be empty").into());
        }
        if keys.refresh_interval.0 <= 0 {
            let text = format!("oci_sd: refresh_interval must be positive, got {}", keys.refresh_interval);
            return Err(text.into());
        }
        Ok(())
    }

    fn create(config: &OciSdConfig, context: &DiscoveryContext<'_>) -> Result<OciSd, StartError> {
        let keys = config.keys.clone();
        let api = ApiClient::new(&config.http, keys.refresh_interval, context)?;
        let credentials = if keys.auth == "instance_principal" {
            OciCredentials::Machine(Box::new(Mutex::new(InstancePrincipal::new(api.clone()))))
        } else {
            let key = private_key(&keys);
            let key = key.map_err(|e| StartError::from(e).doing(BUILDING))?;
            let id = Secret::new(format!("{}/{}/{}", keys.tenancy, keys.user, keys.fingerprint));
            OciCredentials::ApiKey(Arc::new(RequestKey { id, key }))
        };
        Ok(OciSd { api, keys, credentials, spacing: Mutex::default() })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let place = self.place().await.map_err(|e| e.doing(BUILDING))?;
        // Before the first request: without credentials no list would have any targets.
        self.key().await.map_err(|e| e.doing(BUILDING))?;
        let mut targets = Vec::new();
        for compartment in self.compartments(&place).await? {
            let instances = self.pages(&place, "instances", &[("compartmentId", &compartment)]).await;
            let doing = || format!("listing OCI instances in compartment {compartment}");
            for instance in instances.map_err(|e| e.doing(doing()))? {
                let id = text(&instance, "id");
                if id.is_empty() || text(&instance, "compartmentId").is_empty() {
                    continue;
                }
                match self.primary_interface(&place, &instance).await {
                    Ok(interface) => targets.extend(self.target(&place, &instance, &interface)),
                    // As in Prometheus: one instance that cannot be looked at hides no others.
                    Err(error) => {
                        // But none could be looked at if the token has ended and there is no other.
                        self.key().await.map_err(|e| e.doing(BUILDING))?;
                        tracing::warn!(
                            target: "discovery", mechanism = "oci", instance = id, %error,
                            "cannot get the addresses of an instance, which is left out until the next refresh"
                        );
                    }
                }
            }
        }
        Ok(targets)
    }
}

/// The key that requests are signed with.
fn private_key(keys: &OciSdKeys) -> Result<RsaKey, CredentialError> {
    let passphrase = if keys.key_passphrase_file.is_empty() {
        keys.key_passphrase.clone()
    } else {
        Secret::new(read_credential(&keys.key_passphrase_file)?)
    };
    RsaKey::from_encrypted_pem(&read_credential(&keys.key_file)?, &passphrase)
}

/// The pace of requests: bursts, and then one after the other.
struct RequestSpacing {
    /// When all requests so far would have been sent one after the other.
    next: Instant,
}

impl Default for RequestSpacing {
    fn default() -> RequestSpacing {
        RequestSpacing { next: Instant::now() }
    }
}

impl RequestSpacing {
    /// When the next request may be sent.
    fn turn(&mut self) -> Instant {
        let interval = Duration::from_millis(OCI_INTERVAL_MS);
        let now = Instant::now();
        self.next = self.next.max(now) + interval;
        // A burst is what may be sent ahead of the pace.
        self.next.checked_sub(interval * OCI_BURST).unwrap_or(now)
    }
}

impl OciSd {
    /// The region and the tenancy that are listed.
    async fn place(&self) -> Result<OciPlace, ApiError> {
        match &self.credentials {
            OciCredentials::ApiKey(_) => {
                Ok(OciPlace { region: region_name(&self.keys.region), tenancy: self.keys.tenancy.clone() })
            }
            OciCredentials::Machine(principal) => principal.lock().await.place().await,
        }
    }

    /// The key that the next request is signed with.
    async fn key(&self) -> Result<Arc<RequestKey>, ApiError> {
        match &self.credentials {
            OciCredentials::ApiKey(key) => Ok(key.clone()),
            OciCredentials::Machine(principal) => principal.lock().await.key().await,
        }
    }

    /// The compartments that are asked: the configured ones, or all that are active from the root
    /// on.
    async fn compartments(&self, place: &OciPlace) -> Result<Vec<String>, ApiError> {
        if !self.keys.compartments.is_empty() {
            return Ok(self.keys.compartments.clone());
        }
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        let mut waiting = VecDeque::from([place.tenancy.clone()]);
        while let Some(parent) = waiting.pop_front() {
            if !seen.insert(parent.clone()) {
                continue;
            }
            let query = [
                ("compartmentId", parent.as_str()),
                ("accessLevel", "ACCESSIBLE"),
                ("compartmentIdInSubtree", "false"),
            ];
            match self.pages(place, "compartments", &query).await {
                Ok(children) => {
                    let active = children.iter().filter(|child| text(child, "lifecycleState") == "ACTIVE");
                    waiting.extend(active.map(|child| text(child, "id")).filter(|id| !id.is_empty()));
                }
                // Rights end somewhere below: what is above is listed.
                Err(error) => tracing::warn!(
                    target: "discovery", mechanism = "oci", compartment = parent, %error,
                    "cannot list the compartments in a compartment, which are left out"
                ),
            }
            all.push(parent);
        }
        Ok(all)
    }

    /// The interface of an instance that is its own; null without one.
    async fn primary_interface(&self, place: &OciPlace, instance: &Value) -> Result<Value, ApiError> {
        let compartment = text(instance, "compartmentId");
        let id = text(instance, "id");
        let query = [("compartmentId", compartment.as_str()), ("instanceId", &id)];
        let attachments = self.pages(place, "vnicAttachments", &query).await;
        let attachments =
            attachments.map_err(|e| e.doing(format!("listing VNIC attachments for instance {id}")))?;
        for attachment in attachments {
            let interface = text(&attachment, "vnicId");
            if interface.is_empty() || text(&attachment, "lifecycleState") != "ATTACHED" {
                continue;
            }
            let url = format!("{}/vnics/{}", place.base("iaas"), path_segment(&interface));
            let found = self.get(&url).await.map_err(|e| e.doing(format!("fetching VNIC {interface}")))?;
            let found = found.json()?;
            if found["isPrimary"] == Value::Bool(true) {
                return Ok(found);
            }
        }
        Ok(Value::Null)
    }

    /// All pages of a list.
    async fn pages(
        &self,
        place: &OciPlace,
        what: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<Value>, ApiError> {
        let service = if what == "compartments" { "identity" } else { "iaas" };
        let base = with_query(&format!("{}/{what}", place.base(service)), query);
        let base = with_query(&base, &[("limit", "100")]);
        let mut items = Vec::new();
        let mut pages = Pages::default();
        let mut page = String::new();
        loop {
            pages.count()?;
            let answer = self.get(&with_query(&base, &[("page", &page)])).await?;
            items.extend_from_slice(list(&answer.json()?, "")?);
            page = answer.header("opc-next-page").unwrap_or_default().to_owned();
            if page.is_empty() {
                return Ok(items);
            }
        }
    }

    /// The answer to a signed `GET`, which is sent again while the server has too much to do.
    async fn get(&self, url: &str) -> Result<ApiAnswer, ApiError> {
        let mut attempt = 1;
        loop {
            let turn = self.spacing.lock().await.turn();
            tokio::time::sleep_until(turn).await;
            let request = self.api.request(Method::GET, url)?.header(ACCEPT, "application/json");
            let key = self.key().await?;
            let answer = self.api.send_changed(request, |request| Ok(key.sign(request, OF_GET)?)).await;
            let outcome = answer.and_then(ApiAnswer::success);
            match outcome {
                Err(error) if error.remedy() == ApiRemedy::Wait && attempt < OCI_ATTEMPTS => {
                    tokio::time::sleep(Duration::from_millis(OCI_RETRY_MS << attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// The target of an instance; none without an address.
    fn target(&self, place: &OciPlace, instance: &Value, interface: &Value) -> Option<DiscoveredTarget> {
        let mut ipv6 = texts(interface, "ipv6Addresses");
        // The API promises no order.
        ipv6.sort();
        let ip = |key| Some(text(interface, key)).filter(|address| !address.is_empty());
        let host = ip("privateIp").or_else(|| ip("publicIp")).or_else(|| ipv6.first().cloned())?;
        let mut labels = Labels::new("__meta_oci_");
        labels.set("tenancy_id", &place.tenancy).copy(
            instance,
            &[
                ("instance_id", "id"),
                ("instance_name", "displayName"),
                ("instance_state", "lifecycleState"),
                ("instance_shape", "shape"),
                ("availability_domain", "availabilityDomain"),
                ("fault_domain", "faultDomain"),
                ("region", "region"),
                ("compartment_id", "compartmentId"),
                ("image_id", "imageId"),
            ],
        );
        labels.set("ipv6_addresses", separated(&ipv6, ",")).copy(
            interface,
            &[
                ("vnic_id", "id"),
                ("private_ip", "privateIp"),
                ("public_ip", "publicIp"),
                ("hostname_label", "hostnameLabel"),
            ],
        );
        labels.set_all("tag_", pairs(instance, "freeformTags"));
        for (space, tags) in instance["definedTags"].as_object().into_iter().flatten() {
            let start = format!("defined_tag_{}_", label_name(space));
            let tags = tags.as_object().into_iter().flatten();
            labels.set_all(&start, tags.map(|(name, value)| (name.clone(), tag_text(value))));
        }
        Some(labels.target(host_port(&host, self.keys.port)))
    }
}

/// The text of a tag that may be a number: as Go writes it, without an exponent. Lists and objects
/// have none.
fn tag_text(value: &Value) -> String {
    let fraction = value.as_f64().filter(|_| value.is_f64());
    fraction.map_or_else(|| text(value, ""), |number| number.to_string())
}

#[cfg(test)]
mod tests;
