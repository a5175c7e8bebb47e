//! Prometheus' test language for PromQL: samples, queries, and the answers they must have.
//!
//! [`script`] reads a file into commands, what stands behind them is read by [`load`] and
//! [`expectation`]. [`run`] executes them over fresh stores, in one of two modes: [`history`] asks
//! the query runtime, [`live`] keeps every query standing while the samples arrive. [`check`] says
//! whether an answer is the expected one.

mod answer;
mod check;
mod compare;
mod expectation;
mod history;
mod live;
mod load;
mod nhcb;
mod report;
mod runner;
mod script;
mod start_timestamps;
mod test_store;
mod variants;

pub use report::{SkippedTest, TestFailure, TestReport};
pub use runner::{Mode, RunOptions, queries, run};
