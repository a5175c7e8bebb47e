//! Rules: rule files in, standing plans and alerts out.
//!
//! [`file`] reads Prometheus' rule files, [`template`] expands labels and annotations, [`alert`] is the state
//! machine of one alerting rule (pure), [`record`] writes `ALERTS` samples, [`manager`] keeps all of it
//! standing. [`yaml`] explains what is wrong with a YAML file, for rule files and for the configuration.

pub mod alert;
pub mod core;
pub mod file;
mod functions;
pub mod inbox;
pub mod limits;
pub mod lint;
pub mod manager;
pub mod ports;
pub mod record;
mod running;
pub mod snapshot;
pub mod template;
pub mod yaml;

#[cfg(test)]
mod tests;
