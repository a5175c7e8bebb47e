//! Carrying alerts to Alertmanagers: `alerting` of `prometheus.yml`.
//!
//! [`config`] is what the file says, [`notifier`] takes alerts and never waits, [`send_queue`] holds what one
//! Alertmanager has still to get and sends it, [`api_v2`] is its JSON.

pub mod api_v2;
pub mod config;
pub mod notifier;
pub mod send_queue;

pub use api_v2::{AlertmanagerAlert, QueuedAlert};
pub use config::AlertingConfig;
pub use notifier::{Notifier, QueueLimits};
