//! Incremental maintenance of standing statements over lists of the server: series, label pairs,
//! alerts, targets, rules, uploaded tables. A change costs in proportion to the rows that it
//! touches, and not to the size of the lists.
//!
//! [`lower`] makes a [`Rel`](rel::Rel), a relational expression, of DataFusion's optimised plan, or
//! says why a dataflow cannot compute it. Scalar expressions stay DataFusion's and run over batches
//! ([`program`]). Statements that join become operators of differential-dataflow ([`render`]); the
//! others call their operators directly ([`pipeline`]). [`aggregate`], [`top`] and [`stateful`] are
//! operators of our own, for both. One thread runs all dataflows ([`host`], [`flows`]). Statements
//! that group or join a list in the same way share that operator's state. [`input`] finds what
//! changed in a list, a [`delta`] is a change. [`standing`] is the handle of one statement.
//!
//! What a dataflow cannot compute is run again after each change ([`crate::standing`]). Read
//! [`lower`] next, then [`host`].

mod aggregate;
mod delta;
mod flows;
mod host;
mod input;
mod lower;
mod pipeline;
mod program;
mod rel;
mod render;
mod row;
pub(crate) mod standing;
mod stateful;
mod table_input;
mod top;

pub use host::{DataflowStats, DataflowWork};
pub(crate) use lower::{NoDataflow, flow_plan, of_plan};
pub(crate) use standing::{Dataflows, StandingDataflow};
pub(crate) use table_input::no_table;
