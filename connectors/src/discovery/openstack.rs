//! `openstack_sd_configs`: targets are the instances, hypervisors or load balancers of a region of
//! OpenStack. [`identity`] gets a token and the URLs of the services for each refresh.

mod identity;

use super::labels::{Labels, host_port, label_name, list, pairs, text, texts};
use super::lister::{ApiClient, ApiError, BlockError, Lister, ListerConfig, Pages, StartError};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::secret::Secret;
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::config_block;
use crate::http_client::{HttpConfig, TlsConfig};
use identity::{Identity, Session};
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

config_block! {
    /// One entry of `openstack_sd_configs`.
    pub struct OpenStackSdConfig as "openstack.SDConfig" {
        /// The identity service. Without it the variables `OS_…` of the environment say who asks.
        identity_endpoint: ConfigUrl = ConfigUrl::default(),
        /// The user, by name.
        username: String = String::new(),
        /// The user, by id.
        userid: String = String::new(),
        /// The password.
        password: Secret = Secret::default(),
        /// The project, by name.
        project_name: String = String::new(),
        /// The project, by id.
        project_id: String = String::new(),
        /// The domain of user and project, by name.
        domain_name: String = String::new(),
        /// The domain of user and project, by id.
        domain_id: String = String::new(),
        /// An application credential, by name; it needs a user.
        application_credential_name: String = String::new(),
        /// An application credential, by id.
        application_credential_id: String = String::new(),
        /// The secret of the application credential.
        application_credential_secret: Secret = Secret::default(),
        /// What is listed: `instance`, `hypervisor` or `loadbalancer`.
        role: String = String::new(),
        /// The region.
        region: String = String::new(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of instances and hypervisors.
        port: i64 = 80,
        /// Whether the instances of all projects are listed, which is for administrators.
        all_tenants: bool = false,
        /// Certificates.
        tls_config: TlsConfig = TlsConfig::default(),
        /// Which URLs of the services are used: `public`, `internal` or `admin`.
        availability: String = "public".to_owned(),
    }
}

impl ListerConfig for OpenStackSdConfig {
    fn interval(&self) -> ConfigDuration {
        self.refresh_interval
    }
}

impl OpenStackSdConfig {
    /// The options of the HTTP client: this block has only certificates.
    fn http(&self) -> HttpConfig {
        HttpConfig { tls_config: self.tls_config.clone(), ..HttpConfig::default() }
    }
}

/// OpenStack SD: lists instances, hypervisors or load balancers.
pub struct OpenStackSd {
    api: ApiClient,
    config: OpenStackSdConfig,
    identity: Identity,
}

impl Lister for OpenStackSd {
    const NAME: &'static str = "openstack";
    type Config = OpenStackSdConfig;

    fn check(config: &OpenStackSdConfig) -> Result<(), BlockError> {
        match config.role.as_str() {
            "instance" | "hypervisor" | "loadbalancer" | "" => {}
            other => return Err(format!("unknown OpenStack SD role {other:?}").into()),
        }
        let availability = &config.availability;
        if !matches!(availability.as_str(), "public" | "internal" | "admin") {
            let text =
                format!("unknown availability {availability}, must be one of admin, internal or public");
            return Err(text.into());
        }
        if config.role.is_empty() {
            return Err("role missing (one of: instance, hypervisor, loadbalancer)".into());
        }
        if config.region.is_empty() {
            return Err("openstack SD configuration requires a region".into());
        }
        config.http().validate()
    }

    fn create(config: &OpenStackSdConfig, context: &DiscoveryContext<'_>) -> Result<OpenStackSd, StartError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let identity = Identity::new(config, &variable)?;
        let api = ApiClient::new(&config.http(), config.refresh_interval, context)?;
        Ok(OpenStackSd { api, config: config.clone(), identity })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let session = self.identity.session(&self.api).await;
        let session = session.map_err(|e| e.doing("could not authenticate to OpenStack"))?;
        match self.config.role.as_str() {
            "hypervisor" => self.hypervisors(&session).await,
            "instance" => self.instances(&session).await,
            _ => self.load_balancers(&session).await,
        }
    }
}

const PREFIX: &str = "__meta_openstack_";

impl OpenStackSd {
    /// The URL of a service; `name` is what errors call it.
    fn endpoint(&self, session: &Session, service: &str, name: &str) -> Result<String, ApiError> {
        let OpenStackSdConfig { region, availability, .. } = &self.config;
        session
            .endpoint(service, region, availability)
            .map_err(|e| ApiError::from(e).doing(format!("could not create OpenStack {name} session")))
    }

    /// The URL of the network service's API.
    fn network(&self, session: &Session) -> Result<String, ApiError> {
        let endpoint = self.endpoint(session, "network", "network")?;
        Ok(with_version(&endpoint))
    }

    /// All pages of a list; `key` is that of the list in the answer.
    async fn pages(&self, session: &Session, url: String, key: &str) -> Result<Vec<Value>, ApiError> {
        let mut items = Vec::new();
        let mut pages = Pages::default();
        let mut url = url;
        loop {
            pages.count()?;
            let request = self.api.request(Method::GET, &url)?.header(ACCEPT, "application/json");
            let answer = self.api.json(request.header("X-Auth-Token", session.token())).await?;
            let found = list(&answer, key)?;
            items.extend_from_slice(found);
            let links = list(&answer, &format!("{key}_links"))?;
            let next = links.iter().find(|link| text(link, "rel") == "next");
            match next.map(|link| text(link, "href")) {
                Some(next) if !next.is_empty() && !found.is_empty() => url = next,
                _ => return Ok(items),
            }
        }
    }

    /// The targets of the role `hypervisor`.
    async fn hypervisors(&self, session: &Session) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let compute = self.endpoint(session, "compute", "compute")?;
        let url = format!("{compute}os-hypervisors/detail");
        let hypervisors = self.pages(session, url, "hypervisors").await?;
        let target = |hypervisor: &Value| {
            let mut labels = Labels::new(PREFIX);
            labels.copy(
                hypervisor,
                &[
                    ("hypervisor_id", "id"),
                    ("hypervisor_hostname", "hypervisor_hostname"),
                    ("hypervisor_host_ip", "host_ip"),
                    ("hypervisor_status", "status"),
                    ("hypervisor_state", "state"),
                    ("hypervisor_type", "hypervisor_type"),
                ],
            );
            labels.target(host_port(&text(hypervisor, "host_ip"), self.config.port))
        };
        Ok(hypervisors.iter().map(target).collect())
    }

    /// The targets of the role `instance`.
    async fn instances(&self, session: &Session) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let compute = self.endpoint(session, "compute", "compute")?;
        let network = self.network(session)?;
        let ports = self.pages(session, format!("{network}ports"), "ports").await;
        let ports = ports.map_err(|e| e.doing("failed to list all ports"))?;
        let devices = ports.iter().map(|port| (text(port, "id"), text(port, "device_id")));
        let devices: HashMap<String, String> = devices.collect();
        let floating = self.pages(session, format!("{network}floatingips"), "floatingips").await?;
        let floating = FloatingAddresses::new(&floating, &devices);
        let all = if self.config.all_tenants { "?all_tenants=true" } else { "" };
        let servers = self.pages(session, format!("{compute}servers/detail{all}"), "servers").await?;
        let mut targets = Vec::new();
        for server in &servers {
            self.add_instance(server, &floating, &mut targets);
        }
        Ok(targets)
    }

    /// Adds a target for each address of a server that is not a floating one.
    fn add_instance(
        &self,
        server: &Value,
        floating: &FloatingAddresses,
        targets: &mut Vec<DiscoveredTarget>,
    ) {
        let flavor = server["flavor"]["original_name"].as_str().or_else(|| server["flavor"]["id"].as_str());
        // As in Prometheus: a server without a flavor is not one that it knows how to read.
        let Some(flavor) = flavor else { return };
        let id = text(server, "id");
        let mut labels = Labels::new(PREFIX);
        labels.set("instance_id", &id).set("instance_flavor", flavor).copy(
            server,
            &[
                ("instance_status", "status"),
                ("instance_name", "name"),
                ("instance_image", "image.id"),
                ("project_id", "tenant_id"),
                ("user_id", "user_id"),
            ],
        );
        for (name, value) in pairs(server, "metadata") {
            labels.set(&format!("tag_{}", label_name(&name)), value);
        }
        for (pool, addresses) in server["addresses"].as_object().into_iter().flatten() {
            for address in addresses.as_array().into_iter().flatten() {
                let Some(address) = address["addr"].as_str() else { continue };
                if floating.are.contains(address) {
                    continue;
                }
                let mut labels = labels.clone();
                labels.set("address_pool", pool).set("private_ip", address);
                let public = floating.of_server.get(&id).and_then(|of_server| of_server.get(address));
                labels.set("public_ip", public.cloned().unwrap_or_default());
                targets.push(labels.target(host_port(address, self.config.port)));
            }
        }
    }

    /// The targets of the role `loadbalancer`.
    async fn load_balancers(&self, session: &Session) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let endpoint = self.endpoint(session, "load-balancer", "load balancer")?;
        let base = with_version(&endpoint.replace("v2.0/", ""));
        let network = self.network(session)?;
        let balancers = self.pages(session, format!("{base}lbaas/loadbalancers"), "loadbalancers").await;
        let balancers = balancers.map_err(|e| e.doing("failed to list load balancers"))?;
        let listeners = self.pages(session, format!("{base}lbaas/listeners"), "listeners").await;
        let listeners = listeners.map_err(|e| e.doing("failed to list all listeners"))?;
        let floating = self.pages(session, format!("{network}floatingips"), "floatingips").await;
        let floating = floating.map_err(|e| e.doing("failed to list floating IPs"))?;
        let floating = floating.iter().map(|ip| (text(ip, "port_id"), text(ip, "floating_ip_address")));
        let floating: HashMap<String, String> = floating.filter(|(port, _)| !port.is_empty()).collect();
        let mut ports: HashMap<String, String> = HashMap::new();
        for listener in listeners.iter().filter(|listener| text(listener, "protocol") == "PROMETHEUS") {
            for balancer in list(listener, "loadbalancers")? {
                // The first listener gives the port.
                ports.entry(text(balancer, "id")).or_insert_with(|| text(listener, "protocol_port"));
            }
        }
        Ok(balancers.iter().filter_map(|balancer| load_balancer(balancer, &ports, &floating)).collect())
    }
}

/// The URL of version 2.0 of an API.
fn with_version(endpoint: &str) -> String {
    let version = if endpoint.ends_with("/v2.0/") { "" } else { "v2.0/" };
    format!("{endpoint}{version}")
}

/// The addresses that are reached from outside.
struct FloatingAddresses {
    /// By the server and the address that they lead to.
    of_server: HashMap<String, HashMap<String, String>>,
    are: HashSet<String>,
}

impl FloatingAddresses {
    /// `devices` says which server a port belongs to.
    fn new(all: &[Value], devices: &HashMap<String, String>) -> FloatingAddresses {
        let mut found = FloatingAddresses { of_server: HashMap::new(), are: HashSet::new() };
        for ip in all {
            let fixed = text(ip, "fixed_ip_address");
            let port = text(ip, "port_id");
            // One that leads nowhere, or to a port that is not in the list.
            let Some(device) = devices.get(&port).filter(|_| !fixed.is_empty()) else { continue };
            let floating = text(ip, "floating_ip_address");
            found.are.insert(floating.clone());
            found.of_server.entry(device.clone()).or_default().insert(fixed, floating);
        }
        found
    }
}

/// The target of a load balancer; none without a listener for Prometheus.
fn load_balancer(
    balancer: &Value,
    ports: &HashMap<String, String>,
    floating: &HashMap<String, String>,
) -> Option<DiscoveredTarget> {
    let port = ports.get(&text(balancer, "id"))?;
    let mut labels = Labels::new(PREFIX);
    labels.copy(
        balancer,
        &[
            ("loadbalancer_id", "id"),
            ("loadbalancer_name", "name"),
            ("loadbalancer_operating_status", "operating_status"),
            ("loadbalancer_provisioning_status", "provisioning_status"),
            ("loadbalancer_availability_zone", "availability_zone"),
            ("loadbalancer_vip", "vip_address"),
            ("loadbalancer_provider", "provider"),
            ("project_id", "project_id"),
        ],
    );
    labels.set("loadbalancer_tags", texts(balancer, "tags").join(","));
    let address = floating.get(&text(balancer, "vip_port_id"));
    labels.set("loadbalancer_floating_ip", address.cloned().unwrap_or_default());
    Some(labels.target(host_port(&text(balancer, "vip_address"), port)))
}

#[cfg(test)]
mod tests;
