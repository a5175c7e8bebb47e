//! Runs test files in Prometheus' test language for PromQL: samples, queries, and the expected
//! answers.
//!
//! [`script`] splits a file into commands; [`load`] and [`expectation`] parse the lines that belong
//! to them. [`runner`] executes the commands over new stores: [`history`] uses the query runtime,
//! [`live`] installs every query as a view while the samples arrive. [`check`] compares answers
//! with the expected ones. [`errors`] has what can be wrong with a file, a run and a query.

mod answer;
mod check;
mod compare;
mod errors;
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
