//! Prometheus' test language for PromQL: samples, queries, and the answers they must have.
//!
//! [`script`] reads a file into commands, what stands behind them is read by [`load`] and [`expect`]. [`run`] executes
//! them over fresh stores, in one of two modes: [`history`] asks the query runtime, [`live`] keeps every query
//! standing while the samples arrive. [`verdict`] says whether an answer is the expected one.

mod answer;
mod compare;
mod expect;
mod history;
mod live;
mod load;
mod nhcb;
mod report;
mod runner;
mod scratch;
mod script;
mod starts;
mod variants;
mod verdict;

pub use report::{Failure, Report, Skip};
pub use runner::{Mode, RunOptions, queries, run};
