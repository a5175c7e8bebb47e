//! `gce_sd_configs`: targets are the instances of a zone of Google Compute Engine.
//! [`super::lister`] calls it at each refresh.

use super::labels::{Labels, list, pairs, separated, text, texts};
use super::lister::{
    ApiClient, ApiError, BlockError, Lister, ListerConfig, Pages, StartError, path_segment, with_query,
};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::cloud_auth::google::GoogleTokens;
use crate::config::units::ConfigDuration;
use crate::config_block;
use crate::http_client::HttpConfig;
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::Value;

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

/// What a token permits: to list instances.
const SCOPE: &str = "https://www.googleapis.com/auth/compute.readonly";

/// GCE SD: lists the instances of a zone.
pub struct GceSd {
    api: ApiClient,
    config: GceSdConfig,
    tokens: GoogleTokens,
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
        let api = ApiClient::without_options(config.refresh_interval.std(), context)?;
        let direct = ApiClient::new(&HttpConfig::default(), config.refresh_interval, context)?;
        let tokens = GoogleTokens::from_environment(api.clone(), direct, SCOPE);
        let tokens = tokens
            .map_err(|e| StartError::from(e).doing("error setting up communication with GCE service"))?;
        Ok(GceSd { api, config: config.clone(), tokens })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let listed = self.instances().await;
        listed.map_err(|e| e.doing("error retrieving refresh targets from gce"))
    }
}

impl GceSd {
    async fn instances(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let token = self.tokens.token().await?;
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
            let request =
                self.api.request(Method::GET, &with_query(&url, &query))?.bearer_auth(token.expose());
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
    use super::super::recorded_server::{RecordedServer, answer, assert_refused, lister, targets};
    use super::*;
    use crate::cloud_auth::google::{TokenSource, source_of};
    use serde_json::json;

    const INSTANCES: &str = "GET https://compute.googleapis.com/compute/v1/projects/p/zones/z/instances?alt=json&prettyPrint=false&filter=labels.a%3Ab";

    /// With each kind of credentials: the token is got once, and the list has two pages.
    #[tokio::test]
    async fn instances_have_the_labels_of_prometheus() {
        let data: Value = serde_json::from_str(include_str!("../../tests/data/discovery/gce.json")).unwrap();
        let token = r#"{"access_token": "T", "expires_in": 3600}"#;
        let account = json!({"type": "service_account", "client_email": "me@p", "private_key_id": "k", "private_key": crate::jwt::tests::PEM, "token_uri": "https://token/sa"});
        let user = json!({"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r", "token_uri": "https://token/user"});
        let metadata = "GET http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcompute.readonly metadata-flavor:";
        for (source, request, separator) in [
            (source_of(&account.to_string()).unwrap(), "POST https://token/sa assertion=eyJ jwt-bearer", ","),
            (
                source_of(&user.to_string()).unwrap(),
                "POST https://token/user grant_type=refresh_token&client_id=i&client_secret=s&refresh_token=r",
                ";",
            ),
            (TokenSource::Machine, metadata, " "),
        ] {
            let server = RecordedServer::new(vec![
                answer(request, token),
                answer(&format!("{INSTANCES} Bearer T"), data["first"].to_string()),
                answer(&format!("{INSTANCES}&pageToken=next Bearer T"), data["second"].to_string()),
            ]);
            let mut gce =
                lister::<GceSd>("{project: p, zone: z, filter: 'labels.a:b', port: 9100}", &server).unwrap();
            gce.tokens.source = source;
            gce.config.tag_separator = separator.to_owned();
            let expected = data["targets"].to_string().replace(",t,u,", &["", "t", "u", ""].join(separator));
            assert_eq!(gce.list().await.unwrap(), targets(&expected));
            gce.list().await.unwrap();
            assert_eq!(server.seen().len(), 5);
        }
        let keys = "{project: p, zone: z, tag_separator: ';', refresh_interval: 7m}";
        let keys: GceSdConfig = serde_saphyr::from_str(keys).unwrap();
        assert_eq!((keys.tag_separator.as_str(), keys.interval().std().as_secs()), (";", 420));
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
