//! `marathon_sd_configs`: targets are the tasks of apps that run under Marathon. [`super::lister`]
//! calls it at each refresh.

use super::labels::{Labels, host_port, label_name, list, pairs, text};
use super::lister::{ApiClient, ApiError, BlockError, Lister, StartError, lister_config};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::path::ConfigPath;
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};

lister_config! {
    /// One entry of `marathon_sd_configs`.
    pub MarathonSdConfig as "marathon.SDConfig", MarathonSdKeys {
        /// The URLs of the servers, one of which is asked.
        servers: Vec<ConfigUrl> = Vec::new(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(30_000),
        /// A token of DC/OS.
        auth_token: Option<Secret> = None,
        /// A file with that token.
        auth_token_file: ConfigPath = ConfigPath::default(),
    }
}

/// Marathon SD: lists the tasks of all apps.
pub struct MarathonSd {
    api: ApiClient,
    keys: MarathonSdKeys,
}

impl Lister for MarathonSd {
    const NAME: &'static str = "marathon";
    type Config = MarathonSdConfig;

    fn check(config: &MarathonSdConfig) -> Result<(), BlockError> {
        let keys = &config.keys;
        let http = &config.http;
        let has_text = keys.auth_token.as_ref().is_some_and(|token| !token.expose().is_empty());
        let has_file = !keys.auth_token_file.is_empty();
        let has_token = has_text || has_file;
        let has_bearer = http.bearer_token.is_some() || http.bearer_token_file.is_some();
        let problem = if keys.servers.is_empty() {
            "must contain at least one Marathon server"
        } else if has_text && has_file {
            "at most one of auth_token & auth_token_file must be configured"
        } else if has_token && http.basic_auth.is_some() {
            "at most one of basic_auth, auth_token & auth_token_file must be configured"
        } else if has_token && has_bearer {
            "at most one of bearer_token, bearer_token_file, auth_token & auth_token_file must be configured"
        } else if has_token && http.authorization.is_some() {
            "at most one of auth_token, auth_token_file & authorization must be configured"
        } else {
            return Ok(());
        };
        Err(format!("marathon_sd: {problem}").into())
    }

    fn create(config: &MarathonSdConfig, context: &DiscoveryContext<'_>) -> Result<MarathonSd, StartError> {
        let keys = config.keys.clone();
        if !keys.auth_token_file.is_empty() {
            // Only to fail at the start of the discovery and not at each refresh.
            read_credential(&keys.auth_token_file)?;
        }
        Ok(MarathonSd { api: ApiClient::new(&config.http, keys.refresh_interval, context)?, keys })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        // Another server at each refresh, so that one that is down is not asked for ever.
        let at = RandomState::new().hash_one(0) as usize % self.keys.servers.len();
        let url =
            format!("{}/v2/apps/?embed=apps.tasks", self.keys.servers[at].expose().trim_end_matches('/'));
        let mut request = self.api.request(Method::GET, &url)?;
        if let Some(token) = self.token()? {
            request = request.header(AUTHORIZATION, token);
        }
        let answer = self.api.send(request).await?;
        if !answer.status.is_success() {
            let status = answer.status.as_u16();
            return Err(answer
                .refused(format!("non 2xx status '{status}' response during marathon service discovery")));
        }
        let body = answer.json()?;
        Ok(list(&body, "apps")?.iter().flat_map(app_targets).collect())
    }
}

impl MarathonSd {
    /// The header with the token, which is read for each request.
    fn token(&self) -> Result<Option<HeaderValue>, CredentialError> {
        let token = match &self.keys.auth_token {
            Some(token) if !token.expose().is_empty() => token.expose().to_owned(),
            _ if self.keys.auth_token_file.is_empty() => return Ok(None),
            _ => read_credential(&self.keys.auth_token_file)?,
        };
        let mut header = HeaderValue::from_str(&format!("token={token}"))
            .map_err(|_| CredentialError::NoHeader("the token holds characters that no header may"))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

/// A port of an app: 0 for one that each task gets.
struct AppPort<'a> {
    number: u64,
    prefix: &'static str,
    labels: &'a Value,
}

/// The ports of an app, from the first place that has any.
fn app_ports(app: &Value, in_container: bool) -> Vec<AppPort<'_>> {
    // Marathon 1.5 moved the mappings; the older place is read for servers before it.
    for path in ["container.portMappings", "container.docker.portMappings"] {
        let mappings = list(app, path).unwrap_or_default();
        if !mappings.is_empty() {
            // In a network of containers the host has no port of the task.
            let number = if in_container { "containerPort" } else { "hostPort" };
            let port = |mapping: &'_ Value| mapping[number].as_u64().unwrap_or(0);
            let all = mappings.iter();
            return all
                .map(|mapping| AppPort {
                    number: port(mapping),
                    prefix: "port_mapping_label_",
                    labels: &mapping["labels"],
                })
                .collect();
        }
    }
    let is_fixed = app["requirePorts"].as_bool().unwrap_or(false);
    let definitions = list(app, "portDefinitions").unwrap_or_default();
    if !definitions.is_empty() {
        // Without `requirePorts` the number is a wish, and each task has its own.
        let number = |definition: &Value| if is_fixed { definition["port"].as_u64().unwrap_or(0) } else { 0 };
        let all = definitions.iter();
        return all
            .map(|definition| AppPort {
                number: number(definition),
                prefix: "port_definition_label_",
                labels: &definition["labels"],
            })
            .collect();
    }
    // Old apps declare none; the ports of a task say then how many there are.
    let first = list(app, "tasks").unwrap_or_default().first();
    let ports = first.map(|task| list(task, "ports").unwrap_or_default()).unwrap_or_default();
    ports
        .iter()
        .map(|port| AppPort { number: port.as_u64().unwrap_or(0), prefix: "", labels: &Value::Null })
        .collect()
}

/// The targets of an app: one for each task and port.
fn app_targets(app: &Value) -> Vec<DiscoveredTarget> {
    let first_network = list(app, "networks").unwrap_or_default().first();
    let in_container = first_network.is_some_and(|network| network["mode"] == "container");
    let mut shared = Labels::new("__meta_marathon_");
    shared.set("app", text(app, "id")).set("image", text(app, "container.docker.image"));
    shared.set_all("app_label_", pairs(app, "labels"));
    let ports = app_ports(app, in_container);
    let mut targets = Vec::new();
    for task in list(app, "tasks").unwrap_or_default() {
        let own = list(task, "ports").unwrap_or_default();
        // Otherwise which port is which cannot be said; Prometheus takes 0 then.
        let has_own = own.len() == ports.len();
        let ip = list(task, "ipAddresses").unwrap_or_default().first().map(|ip| text(ip, "ipAddress"));
        let host = ip.filter(|_| in_container).unwrap_or_else(|| text(task, "host"));
        for (index, port) in ports.iter().enumerate() {
            let own = own.get(index).filter(|_| has_own).and_then(Value::as_u64);
            let number = if port.number == 0 { own.unwrap_or(0) } else { port.number };
            let mut labels = shared.clone();
            labels.set("task", text(task, "id")).set("port_index", index.to_string());
            for (name, value) in port.labels.as_object().into_iter().flatten() {
                labels.set(&format!("{}{}", port.prefix, label_name(name)), text(value, ""));
            }
            targets.push(labels.target(host_port(&host, number)));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{RecordedServer, assert_cases, assert_refused, listed};
    use super::*;

    #[tokio::test]
    async fn tasks_have_the_labels_of_prometheus() {
        assert_cases::<MarathonSd>(include_str!("../../tests/data/discovery/marathon.json")).await;
    }

    #[tokio::test]
    async fn the_token_of_a_file_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "t0k\n").unwrap();
        let server = RecordedServer::new(Vec::new());
        let yaml = format!("{{servers: ['http://m'], auth_token_file: '{}'}}", file.display());
        listed::<MarathonSd>(&yaml, &server).await.unwrap_err();
        let seen = server.seen().remove(0);
        assert!(seen.contains("authorization: token=t0k"), "{seen}");
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        let servers = "servers: ['http://m']";
        let refused = |keys: &str, error: &str| {
            let yaml = format!("{{{servers}, {keys}}}");
            assert_refused::<MarathonSd>(&[(&yaml, &format!("marathon_sd: {error}"))]);
        };
        assert_refused::<MarathonSd>(&[("{}", "marathon_sd: must contain at least one Marathon server")]);
        refused(
            "auth_token: t, auth_token_file: f",
            "at most one of auth_token & auth_token_file must be configured",
        );
        refused(
            "auth_token: t, basic_auth: {username: u}",
            "at most one of basic_auth, auth_token & auth_token_file must be configured",
        );
        refused(
            "auth_token: t, bearer_token: b",
            "at most one of bearer_token, bearer_token_file, auth_token & auth_token_file must be configured",
        );
        refused(
            "auth_token: t, authorization: {credentials: c}",
            "at most one of auth_token, auth_token_file & authorization must be configured",
        );
    }
}
