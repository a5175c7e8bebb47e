//! Sends alerts to Alertmanagers: `alerting` of `prometheus.yml`.
//!
//! [`config`] is the configuration block. [`notifier`] accepts alerts without ever waiting.
//! [`send_queue`] holds the alerts for one Alertmanager and sends them. [`api_v2`] is the JSON
//! format. [`silences`] asks which alerts people have silenced.

pub mod api_v2;
pub mod config;
pub mod notifier;
pub mod send_queue;
pub mod silences;

pub use api_v2::{AlertmanagerAlert, DeliveryReport, QueuedAlert};
pub use config::AlertingConfig;
pub use notifier::{Notifier, QueueLimits};
pub use silences::{AlertmanagerSilences, Silence, SilenceMatcher};
