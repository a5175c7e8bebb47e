//! SQL: the second query language.
//!
//! A statement passes the [`guard`] first, then DataFusion's planner over the relations of
//! [`relations`]. What a plan of the engine can say is bound to one ([`bind`]) and answered like
//! PromQL; the rest runs in DataFusion over rows of plans, raw samples and lists of the server
//! ([`session`]). [`output`] writes the answer. A statement may also stand ([`standing`]), read tables
//! that people bring ([`tables`]) and other queries by name ([`views`]). Nothing here opens a file or a
//! connection.

#![warn(unreachable_pub)]

mod batch_watch;
mod bind;
pub mod catalog;
mod dataflow;
mod deadline;
mod engine;
mod error;
mod exact_aggregates;
mod exact_sum;
mod functions;
pub mod guard;
pub mod limits;
mod measure;
mod names;
mod no_data;
pub mod output;
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
pub use dataflow::DataflowStats;
pub use error::{SqlError, SqlErrorKind};
pub use session::{RowSink, SqlDescription, SqlRequest, SqlSummary, on_large_stack};
