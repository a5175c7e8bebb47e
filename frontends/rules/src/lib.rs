//! Rules: from rule files to views (queries that the engine keeps current) and alerts.
//!
//! [`manager`] runs everything in one thread; [`mod@file`] reads Prometheus' rule files.
//! [`template`] expands labels and annotations ([`alert_annotations`]). [`alert_states`] is the
//! state machine of one alerting rule, without I/O; [`alert_series`] writes its `ALERTS` samples,
//! and [`alert_persistence`] saves its states over a restart. [`alert_history`] keeps every change
//! of a state, with its cause ([`causes`]). [`trial`] runs a rule over the past, and [`console`]
//! makes pages of templates. [`rule_matching`] decides which rule continues which after a change.
//! [`yaml`] explains errors in YAML files, for rule files and for the configuration.

#![warn(unreachable_pub)]

mod active_rule;
pub mod active_rules;
pub mod alert;
pub mod alert_annotations;
pub mod alert_history;
pub mod alert_persistence;
pub mod alert_series;
pub mod alert_states;
mod alerting_rule;
mod budget;
mod builtins;
mod causes;
pub mod console;
mod counting;
pub mod defined_alerts;
mod error;
mod evaluation_grid;
pub mod event_queue;
mod fields;
pub mod file;
mod function_error;
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
pub mod source;
pub mod state_change;
pub mod template;
mod times;
pub mod trial;
pub mod yaml;

pub use error::{EvaluationError, RulesError, TemplateQueryError};

#[cfg(test)]
mod tests;
