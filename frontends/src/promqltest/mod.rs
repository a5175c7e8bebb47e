//! Prometheus' test language for PromQL: samples, queries, and the answers they must have.
//!
//! [`script`] reads a file into commands, [`run`] executes them over a fresh store, [`compare`] says whether an
//! answer is the expected one. What this build cannot answer yet is counted as skipped, with the reason.

mod compare;
mod modes;
mod report;
mod runner;
mod script;

pub use report::{Failure, Report, Skip};
pub use runner::run;
