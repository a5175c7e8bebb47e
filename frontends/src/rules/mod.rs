//! Rules: rule files in, standing plans and alerts out.
//!
//! [`file`] reads Prometheus' rule files, [`template`] expands labels and annotations ([`texts`]), [`states`] is the state
//! machine of one alerting rule (pure), [`record`] writes `ALERTS` samples, [`memory`] keeps states over a restart,
//! [`lineage`] knows which rule goes on from which, [`manager`] keeps all of it standing. [`yaml`] explains what is wrong with a YAML file, for rule files and for the configuration.

pub mod alert;
mod alerting;
mod budget;
mod builtins;
pub mod core;
mod counters;
mod counting;
mod fields;
pub mod file;
mod functions;
pub mod inbox;
pub mod limits;
pub mod lineage;
pub mod lint;
pub mod manager;
pub mod memory;
pub mod ports;
mod printing;
pub mod record;
mod restore;
mod rewriting;
mod running;
mod slots;
pub mod snapshot;
pub mod state_selectors;
pub mod states;
pub mod template;
pub mod texts;
mod times;
pub mod yaml;

#[cfg(test)]
mod tests;
