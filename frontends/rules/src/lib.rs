//! Rules: rule files in, standing plans and alerts out.
//!
//! [`mod@file`] reads Prometheus' rule files, [`template`] expands labels and annotations
//! ([`alert_annotations`]), [`alert_states`] is the state machine of one alerting rule (pure),
//! [`alert_series`] writes `ALERTS` samples, [`alert_persistence`] keeps states over a restart,
//! [`rule_matching`] knows which rule goes on from which, [`manager`] keeps all of it standing.
//! [`yaml`] explains what is wrong with a YAML file, for rule files and for the configuration.

mod active_rule;
pub mod active_rules;
pub mod alert;
pub mod alert_annotations;
pub mod alert_persistence;
pub mod alert_series;
pub mod alert_states;
mod alerting_rule;
mod budget;
mod builtins;
mod counting;
mod evaluation_grid;
pub mod event_queue;
mod fields;
pub mod file;
mod functions;
mod group_metrics;
pub mod limits;
pub mod lint;
pub mod manager;
mod printing;
mod restore;
mod rewriting;
pub mod rule_matching;
pub mod services;
pub mod snapshot;
pub mod template;
mod times;
pub mod yaml;

#[cfg(test)]
mod tests;
