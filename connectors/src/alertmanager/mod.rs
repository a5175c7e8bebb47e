//! Carrying alerts to Alertmanagers: `alerting` of `prometheus.yml`.
//!
//! [`config`] is what the file says, [`notifier`] takes alerts and never waits, [`queue`] holds what one
//! Alertmanager has still to get and sends it, [`wire`] is its JSON.

pub mod config;
pub mod notifier;
pub mod queue;
pub mod wire;

pub use config::AlertingConfig;
pub use notifier::{Limits, Notifier};
pub use wire::{Alert, Outgoing};
