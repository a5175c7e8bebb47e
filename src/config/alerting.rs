//! The `alerting` block: where alerts go, and how their labels are rewritten before.

use connectors::discovery::DiscoveryConfig;
use connectors::http_client::HttpConfig;
use connectors::scrape::relabel::{RelabelConfig, Relabeler};
use connectors::units::Millis;
use connectors::section::Section;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// `alerting`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerting {
    /// Rules for alerts, applied after the external labels.
    pub alert_relabel_configs: Vec<RelabelConfig>,
    /// The Alertmanagers.
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

/// One entry of `alertmanagers`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertmanagerConfig {
    /// `http` or `https`.
    pub scheme: String,
    /// Before `/api/v2/alerts`.
    pub path_prefix: String,
    /// Longest request.
    pub timeout: Millis,
    /// Only `v2` exists.
    pub api_version: String,
    /// How they are reached.
    pub http: HttpConfig,
    /// Where they are found.
    pub discovery: DiscoveryConfig,
    /// Rules for their addresses.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules for alerts to these.
    pub alert_relabel_configs: Vec<RelabelConfig>,
}

impl Default for AlertmanagerConfig {
    fn default() -> Self {
        AlertmanagerConfig {
            scheme: "http".to_owned(),
            path_prefix: String::new(),
            timeout: Millis(10_000),
            api_version: "v2".to_owned(),
            http: HttpConfig::default(),
            discovery: DiscoveryConfig::default(),
            relabel_configs: Vec::new(),
            alert_relabel_configs: Vec::new(),
        }
    }
}

/// The keys of an entry that are neither HTTP nor discovery.
pub(super) const KEYS: &[&str] =
    &["scheme", "path_prefix", "timeout", "api_version", "relabel_configs", "alert_relabel_configs"];

impl AlertmanagerConfig {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "scheme" => self.scheme = map.next_value()?,
            "path_prefix" => self.path_prefix = map.next_value()?,
            "timeout" => self.timeout = map.next_value()?,
            "api_version" => self.api_version = map.next_value()?,
            "relabel_configs" => self.relabel_configs = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "alert_relabel_configs" => {
                self.alert_relabel_configs = map.next_value::<Option<_>>()?.unwrap_or_default();
            }
            _ => return Ok(self.http.take(key, map)? || self.discovery.take(key, map)?),
        }
        Ok(true)
    }

    fn validate(&self) -> Result<(), String> {
        if !matches!(self.scheme.as_str(), "http" | "https") {
            return Err(format!("scheme {:?} is neither http nor https", self.scheme));
        }
        if self.api_version != "v2" {
            return Err(format!("expected Alertmanager api version to be one of [v2] but got {}", self.api_version));
        }
        if self.timeout.0 <= 0 {
            return Err("timeout must be greater than 0".into());
        }
        self.http.validate()?;
        self.discovery.validate()?;
        Relabeler::new(&self.relabel_configs).map_err(|e| format!("relabel_configs: {e}"))?;
        Relabeler::new(&self.alert_relabel_configs).map_err(|e| format!("alert_relabel_configs: {e}"))?;
        Ok(())
    }
}

impl Alerting {
    /// Checks what the parser cannot; the text of the first problem.
    pub fn validate(&self) -> Result<(), String> {
        Relabeler::new(&self.alert_relabel_configs).map_err(|e| format!("alert_relabel_configs: {e}"))?;
        self.alertmanagers.iter().try_for_each(AlertmanagerConfig::validate)
    }

    /// What was accepted but will not work in this build.
    pub fn warnings(&self) -> Vec<String> {
        self.alertmanagers.iter().flat_map(|a| a.discovery.warnings("alertmanagers")).collect()
    }
}

impl<'de> Deserialize<'de> for AlertmanagerConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = AlertmanagerConfig;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping for an Alertmanager")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AlertmanagerConfig, A::Error> {
                let mut out = AlertmanagerConfig::default();
                while let Some(key) = map.next_key::<String>()? {
                    if !out.take(&key, &mut map)? {
                        return Err(A::Error::custom(format_args!(
                            "field {key} not found in type config.AlertmanagerConfig"
                        )));
                    }
                }
                Ok(out)
            }
        }
        d.deserialize_map(Entry)
    }
}
