//! `gce_sd_configs`: the instances of a zone of Google Compute Engine.

use super::labels::{Labels, list, pairs, separated, text, texts};
use super::lister::{
    ApiClient, ApiError, BlockError, Lister, ListerConfig, Pages, StartError, path_segment, with_query,
};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::api_client::{AnswerError, form};
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::config::units::ConfigDuration;
use crate::config_block;
use crate::http_client::HttpConfig;
use crate::jwt::{RsaHash, RsaKey};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

config_block! {
    /// One entry of `gce_sd_configs`.
    pub struct GceSdConfig as "gce.SDConfig" {
        /// The project.
        project: String = String::new(),
        /// The zone.
        zone: String = String::new(),
        /// Which instances, in the filter language of the Compute Engine API: `labels.env = prod`.
        filter: String = String::new(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
        /// What separates the tags in `__meta_gce_tags`.
        tag_separator: String = ",".to_owned(),
    }
}

impl ListerConfig for GceSdConfig {
    fn interval(&self) -> ConfigDuration {
        self.refresh_interval
    }
}

const SCOPE: &str = "https://www.googleapis.com/auth/compute.readonly";
/// A token is replaced this long before it expires, so that it is valid for a whole refresh.
const TOKEN_RENEWAL_MARGIN: Duration = Duration::from_secs(60);

/// Where tokens come from.
enum TokenSource {
    /// A service account's key.
    ServiceAccount { email: String, key_id: String, url: String, key: Box<RsaKey> },
    /// The credentials that `gcloud auth application-default login` wrote to a file.
    User { url: String, fields: Vec<(&'static str, Secret)> },
    /// The machine's service account.
    Machine,
}

/// An access token.
struct Token {
    text: Secret,
    /// When it expires.
    until: SystemTime,
}

/// GCE SD: lists the instances of a zone.
pub struct GceSd {
    api: ApiClient,
    config: GceSdConfig,
    source: TokenSource,
    token: Option<Token>,
}

impl Lister for GceSd {
    const NAME: &'static str = "gce";
    type Config = GceSdConfig;

    fn check(config: &GceSdConfig) -> Result<(), BlockError> {
        for (given, name) in [(&config.project, "project"), (&config.zone, "zone")] {
            if given.is_empty() {
                return Err(format!("GCE SD configuration requires a {name}").into());
            }
        }
        Ok(())
    }

    fn create(config: &GceSdConfig, context: &DiscoveryContext<'_>) -> Result<GceSd, StartError> {
        let source = default_source();
        let source = source
            .map_err(|e| StartError::from(e).doing("error setting up communication with GCE service"))?;
        let api = ApiClient::new(&HttpConfig::default(), config.refresh_interval, context)?;
        Ok(GceSd { api, config: config.clone(), source, token: None })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let listed = self.instances().await;
        listed.map_err(|e| e.doing("error retrieving refresh targets from gce"))
    }
}

/// The credentials of the process, as Google's libraries look for them.
fn default_source() -> Result<TokenSource, CredentialError> {
    if let Ok(path) = std::env::var("GOOGLE_APPLICATION_CREDENTIALS")
        && !path.is_empty()
    {
        // A file that was named must be good: to fall back to the account of the machine would hide
        // the mistake and list another project.
        return source_of(&read_credential(&path)?);
    }
    let home = std::env::var("HOME").unwrap_or_default();
    let path = format!("{home}/.config/gcloud/application_default_credentials.json");
    match read_credential(&path) {
        Ok(text) => source_of(&text),
        // That there is no such file is the usual case on a machine of Google.
        Err(_) => Ok(TokenSource::Machine),
    }
}

/// The source that a file of credentials describes.
fn source_of(file: &str) -> Result<TokenSource, CredentialError> {
    let file: Value = serde_json::from_str(file).map_err(|_| CredentialError::Malformed {
        what: "the file of credentials".to_owned(),
        form: "JSON",
    })?;
    let url = Some(text(&file, "token_uri")).filter(|url| !url.is_empty());
    let url = url.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned());
    match text(&file, "type").as_str() {
        "service_account" => Ok(TokenSource::ServiceAccount {
            email: text(&file, "client_email"),
            key_id: text(&file, "private_key_id"),
            url,
            key: Box::new(RsaKey::from_pem(&text(&file, "private_key"))?),
        }),
        "authorized_user" => {
            let fields = ["client_id", "client_secret", "refresh_token"];
            Ok(TokenSource::User {
                url,
                fields: fields.map(|name| (name, Secret::new(text(&file, name)))).to_vec(),
            })
        }
        other => Err(CredentialError::Unsupported(format!(
            "credentials of the type {other:?} are not supported by this build"
        ))),
    }
}

impl GceSd {
    async fn token(&mut self) -> Result<String, ApiError> {
        let now = SystemTime::now();
        if let Some(token) = self.token.as_ref().filter(|token| token.until > now + TOKEN_RENEWAL_MARGIN) {
            return Ok(token.text.expose().to_owned());
        }
        let answer = match &self.source {
            TokenSource::ServiceAccount { email, key_id, url, key } => {
                let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                let claims =
                    // The longest life that Google grants.
                    json!({"iss": email, "scope": SCOPE, "aud": url, "iat": seconds, "exp": seconds + 3_600});
                let assertion = key.token(RsaHash::Sha256, key_id, &claims)?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                self.grant(url, form([("grant_type", grant), ("assertion", &assertion)])).await?
            }
            TokenSource::User { url, fields } => {
                let fields = fields.iter().map(|(name, value)| (*name, value.expose()));
                let fields = std::iter::once(("grant_type", "refresh_token")).chain(fields);
                self.grant(url, form(fields)).await?
            }
            TokenSource::Machine => {
                let host = std::env::var("GCE_METADATA_HOST").ok().filter(|host| !host.is_empty());
                let host = host.unwrap_or_else(|| "metadata.google.internal".to_owned());
                let path = "computeMetadata/v1/instance/service-accounts/default/token";
                let url = with_query(&format!("http://{host}/{path}"), &[("scopes", SCOPE)]);
                // The server of metadata refuses requests without it, which other programs could be
                // led to make.
                let request = self.api.request(Method::GET, &url)?.header("Metadata-Flavor", "Google");
                self.api.json(request).await?
            }
        };
        let token = Some(text(&answer, "access_token")).filter(|token| !token.is_empty());
        let token = token.ok_or(AnswerError::Missing("the answer has no access_token"))?;
        let until = now + Duration::from_secs(answer["expires_in"].as_u64().unwrap_or(0));
        self.token = Some(Token { text: Secret::new(&*token), until });
        Ok(token)
    }

    async fn grant(&self, url: &str, body: String) -> Result<Value, ApiError> {
        let request = self.api.request(Method::POST, url)?;
        self.api.json(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)).await
    }

    async fn instances(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let token = self.token().await?;
        let GceSdConfig { project, zone, filter, .. } = &self.config;
        let url = format!(
            "https://compute.googleapis.com/compute/v1/projects/{}/zones/{}/instances",
            path_segment(project),
            path_segment(zone)
        );
        let mut targets = Vec::new();
        let mut pages = Pages::default();
        let mut page = String::new();
        loop {
            pages.count()?;
            let query =
                [("alt", "json"), ("prettyPrint", "false"), ("filter", filter), ("pageToken", page.as_str())];
            let request = self.api.request(Method::GET, &with_query(&url, &query))?.bearer_auth(&token);
            let answer = self.api.json(request.header(ACCEPT, "application/json")).await?;
            for instance in list(&answer, "items")? {
                targets.extend(self.target(instance)?);
            }
            page = text(&answer, "nextPageToken");
            if page.is_empty() {
                return Ok(targets);
            }
        }
    }

    /// The target of an instance; none without a network interface.
    fn target(&self, instance: &Value) -> Result<Option<DiscoveredTarget>, ApiError> {
        let interfaces = list(instance, "networkInterfaces")?;
        // Nothing to connect to.
        let Some(first) = interfaces.first() else { return Ok(None) };
        let mut labels = Labels::new("__meta_gce_");
        labels.set("project", &self.config.project).copy(
            instance,
            &[
                ("zone", "zone"),
                ("instance_id", "id"),
                ("instance_name", "name"),
                ("instance_status", "status"),
                ("machine_type", "machineType"),
            ],
        );
        labels.copy(
            first,
            &[("network", "network"), ("subnetwork", "subnetwork"), ("private_ip", "networkIP")],
        );
        labels.set_all("interface_ipv4_", interfaces.iter().map(|i| (text(i, "name"), text(i, "networkIP"))));
        labels.set("tags", separated(&texts(instance, "tags.items"), &self.config.tag_separator));
        let metadata = list(instance, "metadata.items")?.iter();
        labels.set_all("metadata_", metadata.map(|item| (text(item, "key"), text(item, "value"))));
        labels.set_all("label_", pairs(instance, "labels"));
        let access = list(first, "accessConfigs")?.first();
        // Only this kind has an address that others can reach.
        if let Some(access) = access.filter(|access| text(access, "type") == "ONE_TO_ONE_NAT") {
            labels.set("public_ip", text(access, "natIP"));
        }
        Ok(Some(labels.target(format!("{}:{}", text(first, "networkIP"), self.config.port))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{Recorded, answer, assert_refused, lister, targets};
    use super::*;

    const INSTANCES: &str = "GET https://compute.googleapis.com/compute/v1/projects/p/zones/z/instances?alt=json&prettyPrint=false&filter=labels.a%3Ab";

    /// With each kind of credentials: the token is got once, and the list has two pages.
    #[tokio::test]
    async fn instances_have_the_labels_of_prometheus() {
        let data: Value = serde_json::from_str(include_str!("../../tests/data/discovery/gce.json")).unwrap();
        let token = r#"{"access_token": "T", "expires_in": 3600}"#;
        let account = json!({"type": "service_account", "client_email": "me@p", "private_key_id": "k", "private_key": crate::jwt::tests::PEM, "token_uri": "https://token/sa"});
        let user = json!({"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r", "token_uri": "https://token/user"});
        let metadata = "GET http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcompute.readonly metadata-flavor:";
        for (source, request) in [
            (source_of(&account.to_string()).unwrap(), "POST https://token/sa assertion=eyJ jwt-bearer"),
            (
                source_of(&user.to_string()).unwrap(),
                "POST https://token/user grant_type=refresh_token&client_id=i&client_secret=s&refresh_token=r",
            ),
            (TokenSource::Machine, metadata),
        ] {
            let server = Recorded::new(vec![
                answer(request, token),
                answer(&format!("{INSTANCES} Bearer T"), data["first"].to_string()),
                answer(&format!("{INSTANCES}&pageToken=next Bearer T"), data["second"].to_string()),
            ]);
            let mut gce =
                lister::<GceSd>("{project: p, zone: z, filter: 'labels.a:b', port: 9100}", &server).unwrap();
            gce.source = source;
            assert_eq!(gce.list().await.unwrap(), targets(&data["targets"].to_string()));
            gce.list().await.unwrap();
            assert_eq!(server.seen().len(), 5);
        }
    }

    #[test]
    fn errors_are_those_of_prometheus() {
        assert_refused::<GceSd>(&[
            ("{}", "GCE SD configuration requires a project"),
            ("{project: p}", "GCE SD configuration requires a zone"),
        ]);
        assert!(
            source_of("{\"type\": \"external_account\"}")
                .err()
                .unwrap()
                .to_string()
                .contains("external_account")
        );
        assert!(source_of("CANARY").err().is_some_and(|error| !error.to_string().contains("CANARY")));
    }
}
