//! SQL, the second query language of the server, next to PromQL.
//!
//! The way of a statement: the [`guard`] refuses a text that could harm the process. [`planner`]
//! makes DataFusion's logical plan of it, over the tables that [`relations`] provides. [`bind`]
//! finds the parts of that plan that PromQL could also express, and makes plans of the engine of
//! them, which cost the same as in PromQL. DataFusion computes the rest in [`session`]. [`output`]
//! writes the rows as JSON, CSV, NDJSON or Arrow.
//!
//! Besides queries: [`standing`] keeps the result of a statement current, for rules and
//! subscriptions. [`statement`] parses statements that define something. [`tables`] has the tables
//! that users upload, [`views`] the queries of `CREATE VIEW`. This crate opens no file and no
//! connection.
//!
//! Read [`session`] next, and `docs/sql.md` for what users see.

#![warn(unreachable_pub)]

mod batch_watch;
mod bind;
pub mod catalog;
mod codes;
mod dataflow;
mod deadline;
mod engine;
mod error;
mod error_texts;
mod exact_aggregates;
mod exact_sum;
mod functions;
pub mod guard;
pub mod limits;
pub mod lists;
mod measure;
mod names;
mod no_data;
pub mod output;
mod parameters;
mod planner;
pub mod relations;
mod rewrite;
mod session;
pub mod standing;
pub mod statement;
pub mod tables;
mod values;
mod views;

pub use self::engine::{SqlEngine, SqlSources};
pub use bind::Grid;
pub use dataflow::{DataflowStats, DataflowWork};
pub use error::{SqlError, SqlErrorKind};
pub use session::{RowSink, SqlDescription, SqlRequest, SqlSummary, on_large_stack};
