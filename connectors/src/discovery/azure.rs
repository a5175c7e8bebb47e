//! `azure_sd_configs`: targets are virtual machines of Azure, standalone or in scale sets (groups
//! of equal machines).
//!
//! Each refresh gets a token ([`AzureSd::authenticate`]), lists the machines, and requests the
//! network interfaces of each. The interfaces are cached for some refreshes. [`super::lister`]
//! calls it.

use super::labels::{Labels, host_port, list, pairs, text};
use super::lister::{
    ApiClient, ApiError, BlockError, Lister, Pages, StartError, lister_config, path_segment,
};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::cloud_auth::azure::{AzureLogin, AzureTokens};
use crate::config::secret::{CredentialError, Secret};
use crate::config::units::ConfigDuration;
use crate::limits::{AZURE_INTERFACES_REMEMBERED, DISCOVERY_REQUESTS};
use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use storage::metrics::Counter;
use tokio::time::Instant;

lister_config! {
    /// One entry of `azure_sd_configs`.
    pub AzureSdConfig as "azure.SDConfig", AzureSdKeys {
        /// Which of Azure's clouds.
        environment: String = "AzurePublicCloud".to_owned(),
        /// The port of all targets.
        port: i64 = 80,
        /// The subscription.
        subscription_id: String = String::new(),
        /// The tenant, for `OAuth`.
        tenant_id: String = String::new(),
        /// The application, or the managed identity.
        client_id: String = String::new(),
        /// Its secret.
        client_secret: Secret = Secret::default(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(300_000),
        /// How a token is got: `OAuth`, `ManagedIdentity`, `SDK` or `WorkloadIdentity`.
        authentication_method: String = "OAuth".to_owned(),
        /// The resource group; empty: all.
        resource_group: String = String::new(),
    }
}

/// The hosts of one of Azure's clouds.
struct Cloud {
    /// Values of `environment` that mean it, in upper case.
    names: &'static [&'static str],
    /// Where tokens come from.
    login: &'static str,
    /// Azure Resource Manager, which lists machines.
    manager: &'static str,
    /// For whom a token is.
    audience: &'static str,
}

const CLOUDS: &[Cloud] = &[
    Cloud {
        names: &["AZURECLOUD", "AZUREPUBLICCLOUD", "AZUREGERMANCLOUD"],
        login: "https://login.microsoftonline.com",
        manager: "https://management.azure.com",
        audience: "https://management.core.windows.net/",
    },
    Cloud {
        names: &["AZURECHINACLOUD"],
        login: "https://login.chinacloudapi.cn",
        manager: "https://management.chinacloudapi.cn",
        audience: "https://management.core.chinacloudapi.cn/",
    },
    Cloud {
        names: &["AZUREUSGOVERNMENT", "AZUREUSGOVERNMENTCLOUD"],
        login: "https://login.microsoftonline.us",
        manager: "https://management.usgovcloudapi.net",
        audience: "https://management.core.usgovcloudapi.net/",
    },
];

/// Versions of the APIs: machines, network interfaces, and those of machines in scale sets.
const COMPUTE_API_VERSION: &str = "2024-03-01";
const NETWORK_API_VERSION: &str = "2023-05-01";
const SCALE_SET_NETWORK_API_VERSION: &str = "2018-10-01";

/// Azure SD: lists the virtual machines of a subscription.
pub struct AzureSd {
    api: ApiClient,
    /// Tokens are asked for without the options of the block.
    login: ApiClient,
    keys: AzureSdKeys,
    /// Counts refreshes that failed.
    failures: Arc<Counter>,
    /// Counts network interfaces that were remembered.
    hits: Arc<Counter>,
    /// By id.
    interfaces: Mutex<HashMap<String, RememberedInterface>>,
}

/// A network interface as it was, and until when that is good enough.
struct RememberedInterface {
    /// As the API gave it.
    interface: Value,
    /// After this it is asked for again.
    until: Instant,
}

/// Azure Resource Manager: its URL and a bearer token, for one refresh.
struct ArmSession {
    /// The URL without a slash at its end.
    manager: &'static str,
    /// The value of the header `Authorization`.
    token: HeaderValue,
}

impl Lister for AzureSd {
    const NAME: &'static str = "azure";
    type Config = AzureSdConfig;

    fn check(config: &AzureSdConfig) -> Result<(), BlockError> {
        let keys = &config.keys;
        let required = |value: &str, name: &str| {
            let is_missing = value.is_empty();
            if is_missing {
                return Err(BlockError::new(format!("azure SD configuration requires a {name}")));
            }
            Ok(())
        };
        required(&keys.subscription_id, "subscription_id")?;
        match keys.authentication_method.as_str() {
            "OAuth" => {
                required(&keys.tenant_id, "tenant_id")?;
                required(&keys.client_id, "client_id")?;
                required(keys.client_secret.expose(), "client_secret")
            }
            "ManagedIdentity" | "SDK" | "WorkloadIdentity" => Ok(()),
            other => Err(BlockError::new(format!(
                "unknown authentication_type {other:?}. Supported types are \"OAuth\", \"ManagedIdentity\", \
                 \"SDK\" or \"WorkloadIdentity\""
            ))),
        }
    }

    fn create(config: &AzureSdConfig, context: &DiscoveryContext<'_>) -> Result<AzureSd, StartError> {
        let keys = config.keys.clone();
        let counter = |name, help| context.metrics.counter(name, help, &[]);
        Ok(AzureSd {
            api: ApiClient::new(&config.http, keys.refresh_interval, context)?,
            login: ApiClient::without_options(keys.refresh_interval.std(), context)?,
            keys,
            failures: counter(
                "prometheus_sd_azure_failures_total",
                "Number of Azure service discovery refresh failures.",
            ),
            hits: counter("prometheus_sd_azure_cache_hit_total", "Number of cache hit during refresh."),
            interfaces: Mutex::default(),
        })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        self.list_all().await.inspect_err(|_| self.failures.inc())
    }
}

impl AzureSd {
    async fn list_all(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let session = self.authenticate().await.map_err(|e| e.doing("could not create Azure client"))?;
        let machines = self.machines(&session, "virtualMachines").await;
        let machines = machines.map_err(|e| e.doing("could not get virtual machines"))?;
        let mut all: Vec<Machine> = machines.into_iter().map(Machine::standalone).collect();
        let sets = self.machines(&session, "virtualMachineScaleSets").await;
        for set in sets.map_err(|e| e.doing("could not get virtual machine scale sets"))? {
            let name = text(&set, "name");
            let group = segment_after(&text(&set, "id"), "resourceGroups");
            let path = format!(
                "resourceGroups/{}/providers/Microsoft.Compute/virtualMachineScaleSets/{}/virtualMachines",
                path_segment(&group),
                path_segment(&name)
            );
            // The machines of a scale set are not among the machines of the subscription.
            let found = self.pages(&session, &path).await;
            let found = found.map_err(|e| e.doing("could not get virtual machine scale set vms"))?;
            all.extend(found.into_iter().map(|value| Machine { value, scale_set: name.clone() }));
        }
        let targets: Vec<_> = all.iter().map(|machine| self.target(&session, machine)).collect();
        let targets: Result<Vec<_>, ApiError> =
            // One request for each interface: in a row, a thousand machines would take longer than
            // the interval. More at once, and Azure throttles the subscription.
            stream::iter(targets).buffered(DISCOVERY_REQUESTS).try_collect().await;
        let targets = targets.map_err(|e| e.doing("unable to complete Azure service discovery"))?;
        Ok(targets.into_iter().flatten().collect())
    }

    /// The items of a kind of `Microsoft.Compute`, of the group or of the whole subscription.
    async fn machines(&self, session: &ArmSession, kind: &str) -> Result<Vec<Value>, ApiError> {
        let group = match self.keys.resource_group.as_str() {
            "" => String::new(),
            group => format!("resourceGroups/{}/", path_segment(group)),
        };
        self.pages(session, &format!("{group}providers/Microsoft.Compute/{kind}")).await
    }

    async fn pages(&self, session: &ArmSession, path: &str) -> Result<Vec<Value>, ApiError> {
        let subscription = path_segment(&self.keys.subscription_id);
        let manager = session.manager;
        let mut url =
            format!("{manager}/subscriptions/{subscription}/{path}?api-version={COMPUTE_API_VERSION}");
        let mut items = Vec::new();
        let mut pages = Pages::default();
        loop {
            pages.count()?;
            let answer = self.get(session, &url).await?;
            // A group that does not exist is an error: no machines would end all targets.
            let answer = answer.ok_or_else(not_found)?;
            items.extend_from_slice(list(&answer, "value")?);
            url = text(&answer, "nextLink");
            if url.is_empty() {
                return Ok(items);
            }
            // The token goes nowhere else.
            if !url.starts_with(&format!("{manager}/")) && !url.starts_with(&format!("{manager}:443/")) {
                return Err(ApiError::unexpected("the next page is not at the resource manager"));
            }
        }
    }

    /// The JSON at a URL; `None` if nothing is there.
    async fn get(&self, session: &ArmSession, url: &str) -> Result<Option<Value>, ApiError> {
        let request = self.api.request(Method::GET, url)?.header(ACCEPT, "application/json");
        let token = session.token.clone();
        let with_token = |request: &mut reqwest::Request| {
            request.headers_mut().insert(AUTHORIZATION, token);
            Ok(())
        };
        let answer = self.api.send_changed(request, with_token).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(answer.success()?.json()?))
    }

    /// The target of a machine; `None` for one without a primary interface.
    async fn target(
        &self,
        session: &ArmSession,
        machine: &Machine,
    ) -> Result<Option<DiscoveredTarget>, ApiError> {
        let value = &machine.value;
        let mut labels = Labels::new("__meta_azure_");
        labels.set("subscription_id", &self.keys.subscription_id).set("tenant_id", &self.keys.tenant_id);
        labels.copy(
            value,
            &[
                ("machine_id", "id"),
                ("machine_name", "name"),
                ("machine_computer_name", "properties.osProfile.computerName"),
                ("machine_os_type", "properties.storageProfile.osDisk.osType"),
                ("machine_location", "location"),
                ("machine_size", "properties.hardwareProfile.vmSize"),
            ],
        );
        // Machines have no field for it; it is a part of their id.
        labels.set("machine_resource_group", segment_after(&text(value, "id"), "resourceGroups"));
        labels.set("machine_scale_set", &machine.scale_set).set_all("machine_tag_", pairs(value, "tags"));
        for interface in list(value, "properties.networkProfile.networkInterfaces")? {
            let interface_id = text(interface, "id");
            let Some(interface) = self.interface(session, machine, &interface_id).await? else {
                tracing::warn!(
                    target: "discovery", name = interface_id,
                    "a network interface of a machine does not exist, so the machine is no target"
                );
                return Ok(None);
            };
            match interface["properties"]["primary"].as_bool() {
                // A machine that is not allocated.
                None => return Ok(None),
                // Prometheus takes the primary interface only.
                Some(false) => continue,
                Some(true) => {}
            }
            let Some(ip_configuration) = list(&interface, "properties.ipConfigurations")?.first() else {
                continue;
            };
            let private_ip = text(ip_configuration, "properties.privateIPAddress");
            // As in Prometheus, it fails the whole refresh: the targets of the last one stay.
            if private_ip.is_empty() {
                let name = text(value, "name");
                return Err(ApiError::unexpected(format!("unable to find a private IP for VM {name}")));
            }
            let public_ip = text(ip_configuration, "properties.publicIPAddress.properties.ipAddress");
            labels.set("machine_public_ip", public_ip).set("machine_private_ip", &private_ip);
            return Ok(Some(labels.target(host_port(&private_ip, self.keys.port))));
        }
        Ok(None)
    }

    /// A network interface, remembered for some refreshes; `None` if it is not there.
    async fn interface(
        &self,
        session: &ArmSession,
        machine: &Machine,
        id: &str,
    ) -> Result<Option<Value>, ApiError> {
        if let Some(known) = self.interfaces.lock().get(id).filter(|known| known.until > Instant::now()) {
            self.hits.inc();
            return Ok(Some(known.interface.clone()));
        }
        let group = path_segment(&segment_after(id, "resourceGroups"));
        let name = path_segment(id.rsplit('/').next().unwrap_or_default());
        // The interface of a machine in a scale set has another path and another version of the
        // API.
        let (provider, version) = match machine.scale_set.as_str() {
            "" => ("Microsoft.Network".to_owned(), NETWORK_API_VERSION),
            set => {
                let set = path_segment(set);
                let instance = path_segment(&text(&machine.value, "instanceId"));
                let path =
                    format!("microsoft.Compute/virtualMachineScaleSets/{set}/virtualMachines/{instance}");
                (path, SCALE_SET_NETWORK_API_VERSION)
            }
        };
        let subscription = path_segment(&self.keys.subscription_id);
        let url = format!(
            "{}/subscriptions/{subscription}/resourceGroups/{group}/providers/{provider}/networkInterfaces/{name}\
             ?api-version={version}&$expand=IPConfigurations/PublicIPAddress",
            session.manager
        );
        let found = self.get(session, &url).await;
        let found = found.map_err(|e| e.doing(format!("failed to retrieve Interface {id} with error")))?;
        if let Some(interface) = &found {
            self.remember(id, interface);
        }
        Ok(found)
    }

    /// Remembers a network interface for ten to thirteen refreshes, depending on its id, so that
    /// not all are asked for again in the same one.
    fn remember(&self, id: &str, interface: &Value) {
        let mut interfaces = self.interfaces.lock();
        let now = Instant::now();
        if interfaces.len() >= AZURE_INTERFACES_REMEMBERED {
            interfaces.retain(|_, known| known.until > now);
        }
        if interfaces.len() < AZURE_INTERFACES_REMEMBERED {
            let jitter_percent = (xxhash_rust::xxh3::xxh3_64(id.as_bytes()) % 300) as u32;
            let until = now + self.keys.refresh_interval.std() / 100 * (1_000 + jitter_percent);
            interfaces.insert(id.to_owned(), RememberedInterface { interface: interface.clone(), until });
        }
    }

    /// Gets a token for the requests of one refresh.
    async fn authenticate(&self) -> Result<ArmSession, ApiError> {
        // Azure's libraries take any case, so configurations have any.
        let name = self.keys.environment.to_uppercase();
        let cloud = CLOUDS.iter().find(|cloud| cloud.names.contains(&name.as_str()));
        let unknown = || format!("there is no cloud configuration matching the name {name:?}");
        let cloud = cloud.ok_or_else(|| ApiError::Request(unknown()))?;
        let scope = format!("{}/.default", cloud.audience);
        let tokens = AzureTokens { api: self.login.clone(), host: cloud.login, scope };
        let token = tokens.token(&self.login_method()).await?;
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.text.expose()))
            .map_err(|_| CredentialError::NoHeader("bad access_token"))?;
        token.set_sensitive(true);
        Ok(ArmSession { manager: cloud.manager, token })
    }

    fn login_method(&self) -> AzureLogin {
        let tenant = self.keys.tenant_id.clone();
        let client = self.keys.client_id.clone();
        match self.keys.authentication_method.as_str() {
            "OAuth" => AzureLogin::ClientSecret { tenant, client, secret: self.keys.client_secret.clone() },
            "WorkloadIdentity" => AzureLogin::Workload { tenant, client, token_file: String::new() },
            "ManagedIdentity" => AzureLogin::Managed { client },
            _ => AzureLogin::Environment { tenant, client },
        }
    }
}

/// A virtual machine, and the scale set that it belongs to, if any.
struct Machine {
    value: Value,
    scale_set: String,
}

impl Machine {
    fn standalone(value: Value) -> Machine {
        Machine { value, scale_set: String::new() }
    }
}

/// The error of a list that is not there: a subscription or group of the configuration does not
/// exist.
fn not_found() -> ApiError {
    ApiError::Status {
        status: StatusCode::NOT_FOUND,
        code: String::new(),
        text: "HTTP status 404 Not Found".to_owned(),
    }
}

/// The segment of an id after the one with this name, in any case.
fn segment_after(id: &str, name: &str) -> String {
    let mut segments = id.split('/').skip_while(|segment| !segment.eq_ignore_ascii_case(name));
    segments.nth(1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_port, assert_refused};
    use super::*;

    #[tokio::test]
    async fn machines_have_the_labels_of_prometheus() {
        let cases = include_str!("../../tests/data/discovery/azure.json");
        assert_cases::<AzureSd>(cases).await;
        assert_port::<AzureSd>(cases).await;
    }

    #[tokio::test]
    async fn interfaces_are_remembered() {
        let cases: Value =
            serde_json::from_str(include_str!("../../tests/data/discovery/azure.json")).unwrap();
        let answers = cases[0]["answers"].as_array().unwrap().iter();
        let recordings = answers
            .map(|a| super::super::recorded_server::answer(&text(a, "request"), a["body"].to_string()));
        let server = super::super::recorded_server::RecordedServer::new(recordings.collect());
        let config = cases[0]["config"].as_str().unwrap();
        let mut azure = super::super::recorded_server::lister::<AzureSd>(config, &server).unwrap();
        let first = azure.list().await.unwrap();
        assert_eq!((azure.list().await.unwrap(), azure.hits.get()), (first, 3));
        let interfaces =
            server.seen().iter().filter(|request| request.contains("networkInterfaces/")).count();
        assert_eq!((interfaces, azure.failures.get()), (3, 0));
        server.replace(Vec::new());
        azure.list().await.unwrap_err();
        assert_eq!(azure.failures.get(), 1);
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<AzureSd>(&[
            ("{}", "azure SD configuration requires a subscription_id"),
            ("{subscription_id: s}", "azure SD configuration requires a tenant_id"),
            ("{subscription_id: s, tenant_id: t}", "azure SD configuration requires a client_id"),
            (
                "{subscription_id: s, tenant_id: t, client_id: c}",
                "azure SD configuration requires a client_secret",
            ),
            (
                "{subscription_id: s, authentication_method: oauth}",
                "unknown authentication_type \"oauth\". Supported types are \"OAuth\", \"ManagedIdentity\", \"SDK\" or \"WorkloadIdentity\"",
            ),
        ]);
    }
}
