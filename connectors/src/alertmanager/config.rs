//! The configuration block `alerting`: where the Alertmanagers are, how they are reached, and
//! relabelling of alerts. [`super::notifier`] follows it.

use crate::cloud_auth::{CloudAuth, SigV4Config};
use crate::config::error::BlockError;
use crate::config::units::ConfigDuration;
use crate::config::url::is_http_scheme;
use crate::discovery::{ADDRESS, DiscoveredTarget, DiscoveryConfigs};
use crate::http_client::HttpConfig;
use crate::names::NameScheme;
use crate::relabel::{RelabelConfig, Relabeler, set_names};
use crate::{compose_block, config_block, config_keys};
use std::time::Duration;
use storage::model::LabelsBuilder;
use url::Url;

config_block! {
    /// The `alerting` block.
    pub struct AlertingConfig as "config.AlertingConfig" {
        /// Relabelling rules for all alerts, applied after the external labels were added.
        alert_relabel_configs: Vec<RelabelConfig> = Vec::new() => null "empty or null alert relabeling rule",
        /// The Alertmanagers.
        alertmanagers: Vec<AlertmanagerConfig> = Vec::new(),
    }
}

config_keys! {
    /// The keys of an Alertmanager block, but for HTTP and discovery.
    pub struct AlertmanagerKeys {
        /// `http` or `https`; empty: `http`.
        scheme: String = "http".to_owned(),
        /// The path before `/api/v2/alerts`, such as `/alertmanager`.
        path_prefix: String = "/".to_owned(),
        /// The timeout of a POST; zero: the default.
        timeout: ConfigDuration = DEFAULT_TIMEOUT,
        /// The API version; only `v2` is supported.
        api_version: Option<String> = Some("v2".to_owned()),
        /// Signing requests for AWS.
        sigv4: Option<SigV4Config> = None,
        /// Relabelling rules for the discovered Alertmanagers.
        relabel_configs: Vec<RelabelConfig> = Vec::new()
            => null "empty or null Alertmanager target relabeling rule",
        /// Relabelling rules for alerts to these Alertmanagers.
        alert_relabel_configs: Vec<RelabelConfig> = Vec::new()
            => null "empty or null Alertmanager alert relabeling rule",
    }
}

/// One entry of `alertmanagers`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertmanagerConfig {
    /// The keys of the block itself.
    pub keys: AlertmanagerKeys,
    /// The HTTP options.
    pub http: HttpConfig,
    /// The discovery mechanisms.
    pub discovery: DiscoveryConfigs,
}

compose_block!(AlertmanagerConfig as "config.AlertmanagerConfig" {
    keys: AlertmanagerKeys,
    http: HttpConfig,
    discovery: DiscoveryConfigs,
});

/// The timeout of a POST if none is given.
const DEFAULT_TIMEOUT: ConfigDuration = ConfigDuration(10_000);
/// The label with the scheme of the URL.
const SCHEME: &str = "__scheme__";
/// The label with the path of the URL.
const PATH: &str = "__alerts_path__";

impl AlertingConfig {
    /// Sets, for all rules, which names labels may have.
    pub fn set_names(&mut self, names: NameScheme) {
        set_names(&mut self.alert_relabel_configs, names);
        for entry in &mut self.alertmanagers {
            set_names(&mut entry.keys.relabel_configs, names);
            set_names(&mut entry.keys.alert_relabel_configs, names);
        }
    }

    /// Checks everything that can be checked without running. The error is the first problem.
    pub fn validate(&self) -> Result<(), BlockError> {
        Relabeler::new(&self.alert_relabel_configs)
            .map_err(|e| BlockError::from(e).within("alert_relabel_configs"))?;
        self.alertmanagers.iter().try_for_each(AlertmanagerConfig::check)
    }
}

impl AlertmanagerConfig {
    /// The timeout of a POST.
    pub fn timeout(&self) -> Duration {
        let ConfigDuration(ms) = self.keys.timeout;
        if ms == 0 { DEFAULT_TIMEOUT.std() } else { self.keys.timeout.std() }
    }

    fn check(&self) -> Result<(), BlockError> {
        let keys = &self.keys;
        // Version 1 was removed from Alertmanager; to accept it would send alerts to a path that
        // answers 404.
        if let Some(version) = keys.api_version.as_ref().filter(|version| *version != "v2") {
            let text = format!("expected Alertmanager api version to be one of [v2] but got {version}");
            return Err(BlockError::new(text));
        }
        if !keys.scheme.is_empty() && !is_http_scheme(&keys.scheme) {
            let text = format!("alertmanagers: scheme {:?} is neither http nor https", keys.scheme);
            return Err(BlockError::new(text));
        }
        if keys.timeout.0 < 0 {
            return Err("alertmanagers: timeout must be greater than 0".into());
        }
        self.http.validate()?;
        self.check_login()?;
        self.discovery.validate()?;
        if keys.relabel_configs.is_empty() {
            self.discovery.validate_addresses()?;
        }
        Relabeler::new(&keys.relabel_configs)?;
        Relabeler::new(&keys.alert_relabel_configs)?;
        Ok(())
    }

    /// Checks that there is one way to log in at most.
    fn check_login(&self) -> Result<(), BlockError> {
        let Some(auth) = self.cloud_auth() else { return Ok(()) };
        auth.validate()?;
        let HttpConfig { basic_auth, authorization, oauth2, bearer_token, bearer_token_file, .. } =
            &self.http;
        let has_bearer = bearer_token.is_some() || bearer_token_file.is_some();
        if basic_auth.is_some() || authorization.is_some() || oauth2.is_some() || has_bearer {
            return Err("at most one of basic_auth, authorization, oauth2, & sigv4 must be configured".into());
        }
        Ok(())
    }

    /// The credentials of a cloud for its requests.
    pub fn cloud_auth(&self) -> Option<CloudAuth> {
        self.keys.sigv4.clone().map(CloudAuth::SigV4)
    }

    /// The URL for alerts to a discovered Alertmanager; `None` if the rules drop it or its labels
    /// make no valid URL.
    pub fn url(&self, discovered: &DiscoveredTarget, relabel: &Relabeler) -> Option<Url> {
        let mut labels = LabelsBuilder::default();
        let scheme = &self.keys.scheme;
        labels.set(SCHEME, if scheme.is_empty() { "http" } else { scheme });
        labels.set(
            PATH,
            format!("/{}/api/v2/alerts", self.keys.path_prefix.trim_matches('/')).replace("//", "/"),
        );
        for (name, value) in discovered {
            labels.set(name, value);
        }
        // Without an address there is nobody to send to; such an Alertmanager is shown as dropped.
        if !relabel.apply(&mut labels) || labels.get(ADDRESS).is_empty() {
            return None;
        }
        let text = format!("{}://{}{}", labels.get(SCHEME), labels.get(ADDRESS), labels.get(PATH));
        match Url::parse(&text) {
            Ok(url) => Some(url),
            Err(error) => {
                tracing::error!(
                    target: "alertmanager", url = text, %error,
                    "a discovered Alertmanager has no valid URL and gets no alerts; check its labels and relabel_configs"
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |yaml: &str| {
            let config: AlertmanagerConfig = serde_saphyr::from_str(yaml).unwrap();
            config.check().unwrap();
            let relabel = Relabeler::new(&config.keys.relabel_configs).unwrap();
            let target = crate::discovery::expand(&config.discovery.static_configs[0], &[]).remove(0);
            config.url(&target, &relabel).map(String::from)
        };
        let targets = "static_configs: [{targets: ['alertmanager:9093']}]";
        assert_eq!(url(targets).unwrap(), "http://alertmanager:9093/api/v2/alerts");
        assert_eq!(
            url(&format!("scheme: https\npath_prefix: /am/\n{targets}")).unwrap(),
            "https://alertmanager:9093/am/api/v2/alerts"
        );
        assert_eq!(
            url(&format!("relabel_configs: [{{source_labels: [__address__], action: drop}}]\n{targets}")),
            None
        );
        let old: AlertingConfig = serde_saphyr::from_str("alertmanagers: [{api_version: v1}]").unwrap();
        assert!(old.validate().unwrap_err().to_string().contains("one of [v2] but got v1"));
        assert!(serde_saphyr::from_str::<AlertingConfig>("alertmanagers: [{pathprefix: x}]").is_err());
    }
}
