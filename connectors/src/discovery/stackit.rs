//! `stackit_sd_configs`: targets are the servers of a project of STACKIT. [`super::lister`] calls
//! it at each refresh.

use super::labels::{Labels, host_port, list, text};
use super::lister::{ApiClient, ApiError, BlockError, Lister, StartError, lister_config, path_segment};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::api_client::form;
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::config::units::ConfigDuration;
use crate::jwt::{RsaHash, RsaKey};
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use url::Url;

lister_config! {
    /// One entry of `stackit_sd_configs`.
    pub StackitSdConfig as "stackit.SDConfig", StackitSdKeys {
        /// The project.
        project: String = String::new(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
        /// The region.
        region: String = "eu01".to_owned(),
        /// Another URL of the API.
        endpoint: String = String::new(),
        /// The key of a service account, in JSON.
        service_account_key: Secret = Secret::default(),
        /// Its private key, if it is not in there.
        private_key: Secret = Secret::default(),
        /// A file with the key of a service account.
        service_account_key_path: String = String::new(),
        /// A file with the private key.
        private_key_path: String = String::new(),
        /// A file that names these files or holds these keys.
        credentials_file_path: String = String::new(),
    }
}

const TOKEN_URL: &str = "https://service-account.api.stackit.cloud/token";

/// A service account that tokens are got for.
struct ServiceAccount {
    id: String,
    issuer: String,
    subject: String,
    audience: String,
    key: RsaKey,
}

/// STACKIT SD: lists the servers of a project.
pub struct StackitSd {
    api: ApiClient,
    keys: StackitSdKeys,
    endpoint: String,
    account: Option<ServiceAccount>,
    /// The token, and until when it is good.
    token: Option<(HeaderValue, SystemTime)>,
}

impl Lister for StackitSd {
    const NAME: &'static str = "stackit";
    type Config = StackitSdConfig;

    fn check(config: &StackitSdConfig) -> Result<(), BlockError> {
        let StackitSdKeys { endpoint, region, .. } = &config.keys;
        if endpoint.is_empty() && region.is_empty() {
            return Err("stackit_sd: endpoint and region missing".into());
        }
        if !endpoint.is_empty() {
            Url::parse(endpoint)
                .map_err(|e| BlockError::new(format!("stackit_sd: invalid endpoint {endpoint:?}: {e}")))?;
        }
        Ok(())
    }

    fn create(config: &StackitSdConfig, context: &DiscoveryContext<'_>) -> Result<StackitSd, StartError> {
        let keys = config.keys.clone();
        let account = account(&keys).map_err(|e| StartError::from(e).doing("setting up authentication"))?;
        let endpoint = match keys.endpoint.trim_end_matches('/') {
            "" => format!("https://iaas.api.{}.stackit.cloud", keys.region),
            endpoint => endpoint.to_owned(),
        };
        let api = ApiClient::new(&config.http, keys.refresh_interval, context)?;
        Ok(StackitSd { api, keys, endpoint, account, token: None })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let token = self.token().await?;
        let project = path_segment(&self.keys.project);
        let url = format!("{}/v1/projects/{project}/servers?details=true", self.endpoint);
        let request = self.api.request(Method::GET, &url)?.header(ACCEPT, "application/json");
        let answer = self.api.send_changed(request, |request| {
            if let Some(token) = token {
                request.headers_mut().insert(AUTHORIZATION, token);
            }
            Ok(())
        });
        let answer = answer.await?;
        if answer.status.as_u16() != 200 {
            let code = answer.status.as_u16();
            return Err(answer.refused(format!("unexpected status code {code}: {}", answer.quote())));
        }
        let servers = answer.json()?;
        let mut targets = Vec::new();
        for server in list(&servers, "items")? {
            targets.extend(self.target(server)?);
        }
        Ok(targets)
    }
}

fn not_json(what: &str) -> CredentialError {
    CredentialError::Malformed { what: what.to_owned(), form: "JSON" }
}

/// The service account of an entry: of the key in it, in its file, or in the file of credentials.
fn account(keys: &StackitSdKeys) -> Result<Option<ServiceAccount>, CredentialError> {
    let file = |path: &str| if path.is_empty() { Ok(String::new()) } else { read_credential(path) };
    let named: Value = match keys.credentials_file_path.as_str() {
        "" => Value::Null,
        path => serde_json::from_str(&read_credential(path)?).map_err(|_| not_json(path))?,
    };
    let first = |texts: [String; 4]| texts.into_iter().find(|text| !text.is_empty());
    // The order of STACKIT's own client: the configuration, then the file of credentials.
    let key = first([
        keys.service_account_key.expose().to_owned(),
        file(&keys.service_account_key_path)?,
        text(&named, "STACKIT_SERVICE_ACCOUNT_KEY"),
        file(&text(&named, "STACKIT_SERVICE_ACCOUNT_KEY_PATH"))?,
    ]);
    let Some(key) = key else { return Ok(None) };
    let key: Value = serde_json::from_str(&key).map_err(|_| not_json("the service account key"))?;
    let private = first([
        keys.private_key.expose().to_owned(),
        file(&keys.private_key_path)?,
        text(&named, "STACKIT_PRIVATE_KEY"),
        file(&text(&named, "STACKIT_PRIVATE_KEY_PATH"))?,
    ]);
    // Newer keys contain their private part.
    let private = private.unwrap_or_else(|| text(&key, "credentials.privateKey"));
    Ok(Some(ServiceAccount {
        id: text(&key, "credentials.kid"),
        issuer: text(&key, "credentials.iss"),
        subject: text(&key, "credentials.sub"),
        audience: text(&key, "credentials.aud"),
        key: RsaKey::from_pem(&private)?,
    }))
}

impl StackitSd {
    /// The token of the service account; none without one.
    async fn token(&mut self) -> Result<Option<HeaderValue>, ApiError> {
        let Some(account) = &self.account else { return Ok(None) };
        let now = SystemTime::now();
        if let Some((token, until)) = &self.token
            // Some seconds early: the server of the API has a clock of its own.
            && *until > now + Duration::from_secs(30)
        {
            return Ok(Some(token.clone()));
        }
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let claims = json!({
            "iss": account.issuer, "sub": account.subject, "aud": account.audience,
            // An id of its own for each assertion, by which the server sees one that is sent twice.
            "jti": format!("{:x}", seconds.as_nanos()), "iat": seconds.as_secs(), "exp": seconds.as_secs() + 600,
        });
        let assertion = account.key.token(RsaHash::Sha512, &account.id, &claims)?;
        let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        let request = self.api.request(Method::POST, TOKEN_URL)?;
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = form([("grant_type", grant), ("assertion", &assertion)]);
        let answer = self.api.json(request.body(body)).await?;
        let mut token = HeaderValue::from_str(&format!("Bearer {}", text(&answer, "access_token")))
            .map_err(|_| CredentialError::NoHeader("bad access_token"))?;
        token.set_sensitive(true);
        let until = now + Duration::from_secs(answer["expires_in"].as_u64().unwrap_or(0));
        self.token = Some((token.clone(), until));
        Ok(Some(token))
    }

    /// The target of a server; none without an address.
    fn target(&self, server: &Value) -> Result<Option<DiscoveredTarget>, ApiError> {
        let mut labels = Labels::new("__meta_stackit_");
        let mut private = String::new();
        let mut public = String::new();
        for card in list(server, "nics")? {
            let ip = text(card, "ipv4");
            labels.set_all("private_ipv4_", [(text(card, "networkName"), ip.clone())]);
            let of_card = text(card, "publicIp");
            if public.is_empty() {
                public = of_card;
            }
            if private.is_empty() {
                private = ip;
            }
        }
        // As in Prometheus: the public address if there is one.
        let host = [&public, &private].into_iter().find(|host| !host.is_empty());
        let Some(host) = host else { return Ok(None) };
        labels.set("project", &self.keys.project).set("public_ipv4", &public).copy(
            server,
            &[
                ("id", "id"),
                ("name", "name"),
                ("availability_zone", "availabilityZone"),
                ("status", "status"),
                ("power_status", "powerStatus"),
                ("type", "machineType"),
            ],
        );
        for (name, value) in server["labels"].as_object().into_iter().flatten() {
            // Labels of other types have no text that Prometheus would show.
            let Some(value) = value.as_str() else { continue };
            labels.set_all("labelpresent_", [(name.clone(), "true".to_owned())]);
            labels.set_all("label_", [(name.clone(), value.to_owned())]);
        }
        Ok(Some(labels.target(host_port(host, self.keys.port))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{
        RecordedServer, answer, assert_cases, assert_port, assert_refused, listed, lister,
    };
    use super::*;

    #[tokio::test]
    async fn servers_have_the_labels_of_prometheus() {
        let cases = include_str!("../../tests/data/discovery/stackit.json");
        assert_cases::<StackitSd>(cases).await;
        assert_port::<StackitSd>(cases).await;
    }

    #[tokio::test]
    async fn a_token_of_a_service_account_is_used_until_its_end() {
        let key = json!({"credentials": {"kid": "k", "iss": "i", "sub": "s", "aud": "a", "privateKey": crate::jwt::tests::PEM}});
        let server = RecordedServer::new(vec![
            answer(
                "POST https://service-account.api.stackit.cloud/token jwt-bearer&assertion=eyJhbGciOiJSUzUxMiI",
                r#"{"access_token": "T", "expires_in": 3600}"#,
            ),
            answer(
                "GET https://iaas.api.eu01.stackit.cloud/v1/projects/p/servers?details=true Bearer T",
                "{}",
            ),
        ]);
        let mut stackit = lister::<StackitSd>("{project: p}", &server).unwrap();
        let keys =
            StackitSdKeys { service_account_key: Secret::new(key.to_string()), ..StackitSdKeys::default() };
        stackit.account = account(&keys).unwrap();
        stackit.list().await.unwrap();
        stackit.list().await.unwrap();
        assert_eq!(server.seen().len(), 3);
    }

    #[tokio::test]
    async fn the_region_or_the_endpoint_is_asked() {
        for (keys, start) in [
            ("region: eu02", "GET https://iaas.api.eu02.stackit.cloud/v1/projects/p/servers"),
            ("endpoint: 'http://e:1/'", "GET http://e:1/v1/projects/p/servers"),
        ] {
            let server = RecordedServer::new(Vec::new());
            listed::<StackitSd>(&format!("{{project: p, {keys}}}"), &server).await.unwrap_err();
            assert!(server.seen()[0].starts_with(start), "{:?}", server.seen());
        }
    }

    /// Each key of a block wins over those after it; the last place is the file of credentials.
    #[test]
    fn the_key_comes_from_the_first_place_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name).display().to_string()
        };
        let pem = crate::jwt::tests::PEM;
        let public = |kid: &str| json!({"credentials": {"kid": kid}}).to_string();
        let private = file("private.pem", pem);
        let key = file("key.json", &public("path"));
        let credentials =
            json!({"STACKIT_SERVICE_ACCOUNT_KEY": public("file"), "STACKIT_PRIVATE_KEY_PATH": private});
        let credentials = file("credentials.json", &credentials.to_string());
        let keys = |value: serde_json::Value| {
            serde_saphyr::from_str::<StackitSdConfig>(&value.to_string()).unwrap().keys
        };
        let all = keys(json!({
            "service_account_key": public("inline"), "service_account_key_path": key, "private_key": pem,
            "private_key_path": private, "credentials_file_path": credentials,
        }));
        // Each key by itself, with what it needs besides.
        for (one, kid) in [
            (json!({"service_account_key": public("inline"), "private_key": pem}), "inline"),
            (json!({"service_account_key": public("inline"), "private_key_path": private}), "inline"),
            (json!({"service_account_key_path": key, "private_key": pem}), "path"),
            (json!({"credentials_file_path": credentials}), "file"),
        ] {
            assert_eq!(account(&keys(one.clone())).unwrap().unwrap().id, kid, "{one}");
        }
        let none = Secret::default();
        let path =
            StackitSdKeys { service_account_key: none.clone(), private_key: none.clone(), ..all.clone() };
        let credentials = StackitSdKeys {
            credentials_file_path: all.credentials_file_path.clone(),
            ..StackitSdKeys::default()
        };
        for (keys, kid) in [(&all, "inline"), (&path, "path"), (&credentials, "file")] {
            assert_eq!(account(keys).unwrap().unwrap().id, kid);
        }
        // Without the private part, in any of its places, there is no account.
        let bare =
            StackitSdKeys { service_account_key: Secret::new(public("x")), ..StackitSdKeys::default() };
        assert!(account(&bare).is_err());
        for good in [
            StackitSdKeys { private_key: Secret::new(pem), ..bare.clone() },
            StackitSdKeys { private_key_path: private.as_str().into(), ..bare.clone() },
        ] {
            assert!(account(&good).is_ok_and(|account| account.is_some()));
        }
        assert!(account(&StackitSdKeys { private_key_path: "/none".into(), ..bare }).is_err());
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<StackitSd>(&[
            ("{region: ''}", "stackit_sd: endpoint and region missing"),
            ("{endpoint: 'http://[x'}", "stackit_sd: invalid endpoint \"http://[x\": invalid IPv6 address"),
        ]);
    }
}
