//! `uyuni_sd_configs`: targets are the monitored systems of a Uyuni or SUSE Manager server, by its
//! XML-RPC API. [`super::lister`] calls it at each refresh.

use super::labels::{Labels, list, text};
use super::lister::{ApiClient, ApiError, BlockError, Lister, StartError, lister_config};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::secret::Secret;
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::xml::Element;
use quick_xml::escape::escape;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use url::{ParseError, Url};

lister_config! {
    /// One entry of `uyuni_sd_configs`.
    pub UyuniSdConfig as "uyuni.SDConfig", UyuniSdKeys {
        /// The server.
        server: ConfigUrl = ConfigUrl::default(),
        /// The user name at the API.
        username: String = String::new(),
        /// The password at the API.
        password: Secret = Secret::default(),
        /// Which systems are listed: those with this entitlement.
        entitlement: String = "monitoring_entitled".to_owned(),
        /// What stands between the names of groups.
        separator: String = ",".to_owned(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
    }
}

/// How long the server keeps a session, s.
const SESSION_SECONDS: u64 = 600;

/// Uyuni SD: lists the monitoring endpoints of systems.
pub struct UyuniSd {
    api: ApiClient,
    url: String,
    keys: UyuniSdKeys,
    session: Option<Session>,
}

/// A login.
struct Session {
    token: Secret,
    /// When it is replaced; the server ends it later.
    until: Instant,
}

impl Lister for UyuniSd {
    const NAME: &'static str = "uyuni";
    type Config = UyuniSdConfig;

    fn check(config: &UyuniSdConfig) -> Result<(), BlockError> {
        let keys = &config.keys;
        if keys.server.expose().is_empty() {
            return Err("Uyuni SD configuration requires server host".into());
        }
        match Url::parse(keys.server.expose()) {
            // Go takes a host alone for a URL; the requests to it fail.
            Ok(_) | Err(ParseError::RelativeUrlWithoutBase) => {}
            Err(error) => return Err(format!("Uyuni Server URL is not valid: {error}").into()),
        }
        if keys.username.is_empty() {
            return Err("Uyuni SD configuration requires a username".into());
        }
        let has_password = !keys.password.expose().is_empty();
        if has_password { Ok(()) } else { Err("Uyuni SD configuration requires a password".into()) }
    }

    fn create(config: &UyuniSdConfig, context: &DiscoveryContext<'_>) -> Result<UyuniSd, StartError> {
        let keys = config.keys.clone();
        let api = ApiClient::new(&config.http, keys.refresh_interval, context)?;
        let url = format!("{}/rpc/api", keys.server.expose().trim_end_matches('/'));
        Ok(UyuniSd { api, url, keys, session: None })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let token = self.token().await?;
        let targets = self.targets(&token).await;
        if targets.is_err() {
            // The session may be what is wrong.
            self.session = None;
        }
        targets
    }
}

/// An argument of an XML-RPC call.
enum XmlRpcValue<'a> {
    Text(&'a str),
    Number(u64),
    Numbers(&'a [i64]),
}

impl UyuniSd {
    /// The token of a session.
    async fn token(&mut self) -> Result<Secret, ApiError> {
        if let Some(session) = &self.session
            && session.until > Instant::now()
        {
            return Ok(session.token.clone());
        }
        let UyuniSdKeys { username, password, .. } = &self.keys;
        let login = [
            XmlRpcValue::Text(username),
            XmlRpcValue::Text(password.expose()),
            XmlRpcValue::Number(SESSION_SECONDS),
        ];
        let token = self.call("auth.login", &login).await;
        let token = token.map_err(|e| e.doing("unable to login to Uyuni API"))?;
        let token = Secret::new(text(&token, ""));
        let until = Instant::now() + Duration::from_secs(SESSION_SECONDS / 2);
        self.session = Some(Session { token: token.clone(), until });
        Ok(token)
    }

    /// The targets of a session.
    async fn targets(&self, token: &Secret) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let token = token.expose();
        let entitled = [XmlRpcValue::Text(token), XmlRpcValue::Text(&self.keys.entitlement)];
        let doing = "unable to get the managed system groups information of monitored clients";
        let systems = self.call("system.listSystemGroupsForSystemsWithEntitlement", &entitled).await;
        let systems = systems.map_err(|e| e.doing(doing))?;
        let mut groups = HashMap::new();
        for system in list(&systems, "")? {
            let names = list(system, "system_groups")?.iter().map(|group| text(group, "name"));
            let names: Vec<String> = names.collect();
            groups.insert(id(system, "id"), names.join(&self.keys.separator));
        }
        let mut ids: Vec<i64> = groups.keys().copied().collect();
        ids.sort_unstable();
        let of_systems = [XmlRpcValue::Text(token), XmlRpcValue::Numbers(&ids)];
        let endpoints = self.call("system.monitoring.listEndpoints", &of_systems).await;
        let endpoints = endpoints.map_err(|e| e.doing("unable to get endpoints information"))?;
        let networks = self.call("system.getNetworkForSystems", &of_systems).await;
        let networks = networks.map_err(|e| e.doing("unable to get the systems network information"))?;
        let networks = list(&networks, "")?.iter().map(|network| (id(network, "system_id"), network));
        let networks: HashMap<i64, &Value> = networks.collect();
        let endpoints = list(&endpoints, "")?.iter();
        Ok(endpoints.map(|endpoint| target(endpoint, &groups, &networks)).collect())
    }

    /// The result of a call.
    async fn call(&self, method: &str, arguments: &[XmlRpcValue<'_>]) -> Result<Value, ApiError> {
        let request = self.api.request(Method::POST, &self.url)?.header(CONTENT_TYPE, "text/xml");
        let answer = self.api.send(request.body(call_text(method, arguments))).await?;
        if !answer.status.is_success() {
            let status = answer.status.as_u16();
            return Err(answer.refused(format!("request error: bad status code - {status}")));
        }
        let root = Element::parse(&answer.text())?;
        if let Some(fault) = root.at("fault.value") {
            let fault = value_of(fault);
            let why = format!("Fault({}): {}", text(&fault, "faultCode"), text(&fault, "faultString"));
            return Err(ApiError::unexpected(why));
        }
        let value = root.at("params.param.value");
        value.map(value_of).ok_or_else(|| ApiError::unexpected("the answer has no value"))
    }
}

/// A number of an answer; 0 without one.
fn id(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or(0)
}

/// The body of a call.
fn call_text(method: &str, arguments: &[XmlRpcValue<'_>]) -> String {
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><methodCall><methodName>{method}</methodName><params>"
    );
    for argument in arguments {
        let value = match argument {
            XmlRpcValue::Text(text) => format!("<string>{}</string>", escape(*text)),
            XmlRpcValue::Number(number) => format!("<int>{number}</int>"),
            XmlRpcValue::Numbers(numbers) => {
                let values = numbers.iter().map(|number| format!("<value><int>{number}</int></value>"));
                format!("<array><data>{}</data></array>", values.collect::<String>())
            }
        };
        body.push_str(&format!("<param><value>{value}</value></param>"));
    }
    body.push_str("</params></methodCall>");
    body
}

/// What an element `value` of XML-RPC says, as JSON.
fn value_of(value: &Element) -> Value {
    // A value without a type is a text.
    let Some(typed) = value.children.first() else { return Value::from(value.text.clone()) };
    let text = typed.text.as_str();
    match typed.name.as_str() {
        "int" | "i4" | "i8" => text.parse::<i64>().map_or(Value::Null, Value::from),
        "boolean" => Value::Bool(text == "1"),
        "array" => Value::Array(typed.items("data").iter().map(value_of).collect()),
        "struct" => {
            let members = typed.children.iter();
            let pairs = members.filter_map(|one| Some((one.text("name"), value_of(one.at("value")?))));
            Value::Object(pairs.collect::<Map<String, Value>>())
        }
        _ => Value::from(text),
    }
}

/// The target of a system.
fn target(
    endpoint: &Value,
    groups: &HashMap<i64, String>,
    networks: &HashMap<i64, &Value>,
) -> DiscoveredTarget {
    let system = id(endpoint, "system_id");
    let network = networks.get(&system).copied().unwrap_or(&Value::Null);
    let hostname = text(network, "hostname");
    let mut labels = Labels::new("__meta_uyuni_");
    labels.set("minion_hostname", &hostname).set("system_id", system.to_string());
    labels.set("groups", groups.get(&system).cloned().unwrap_or_default());
    labels.copy(network, &[("primary_fqdn", "primary_fqdn")]).copy(
        endpoint,
        &[
            ("endpoint_name", "endpoint_name"),
            ("exporter", "exporter_name"),
            ("proxy_module", "module"),
            ("metrics_path", "path"),
        ],
    );
    let is_secure = endpoint["tls_enabled"] == Value::Bool(true);
    labels.set("scheme", if is_secure { "https" } else { "http" });
    // Without brackets also around IPv6, as in Prometheus.
    labels.target(format!("{hostname}:{}", id(endpoint, "port")))
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{RecordedServer, answer, assert_cases, assert_refused, lister};
    use super::*;

    #[tokio::test]
    async fn endpoints_have_the_labels_of_prometheus() {
        assert_cases::<UyuniSd>(include_str!("../../tests/data/discovery/uyuni.json")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_used_for_five_minutes_and_not_after_an_error() {
        let value = |text: &str| {
            format!("<methodResponse><params><param><value>{text}</value></param></params></methodResponse>")
        };
        let login = answer("POST http://u/rpc/api auth.login <string>p&amp;w</string>", value("T"));
        let good = answer("POST http://u/rpc/api <string>T</string>", value("<array><data/></array>"));
        let bad = answer("POST http://u/rpc/api <string>T</string>", "").status(500);
        let server = RecordedServer::new(vec![login.clone(), good]);
        let mut uyuni =
            lister::<UyuniSd>("{server: 'http://u/', username: u, password: 'p&w'}", &server).unwrap();
        let logins = || server.seen().iter().filter(|request| request.contains("auth.login")).count();
        uyuni.list().await.unwrap();
        uyuni.list().await.unwrap();
        assert_eq!(logins(), 1);
        tokio::time::advance(Duration::from_secs(SESSION_SECONDS / 2)).await;
        uyuni.list().await.unwrap();
        assert_eq!(logins(), 2);
        server.replace(vec![login, bad]);
        uyuni.list().await.unwrap_err();
        uyuni.list().await.unwrap_err();
        assert_eq!(logins(), 3);
    }

    #[tokio::test]
    async fn systems_with_another_entitlement_may_be_listed() {
        let cases = include_str!("../../tests/data/discovery/uyuni.json");
        let cases = cases.replace("separator: ';'", "separator: ';', entitlement: virtual_host");
        assert_cases::<UyuniSd>(&cases.replace("monitoring_entitled", "virtual_host")).await;
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<UyuniSd>(&[
            ("{}", "Uyuni SD configuration requires server host"),
            ("{server: 'http://[x'}", "Uyuni Server URL is not valid: invalid IPv6 address"),
            ("{server: 'http://u'}", "Uyuni SD configuration requires a username"),
            ("{server: 'http://u', username: u}", "Uyuni SD configuration requires a password"),
            (
                "{server: 'http://u', username: u, password: p, bearer_token: a, bearer_token_file: b}",
                "at most one of bearer_token & bearer_token_file must be configured",
            ),
        ]);
    }
}
