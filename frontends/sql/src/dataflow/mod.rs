//! Incremental maintenance of standing statements over lists of the server: series, label pairs,
//! alerts, targets, rules, uploaded tables. It uses differential-dataflow: a change costs in
//! proportion to the rows that it touches, and not to the size of the lists.
//!
//! [`lower`] makes a [`Rel`](rel::Rel), a relational expression, of DataFusion's optimised plan, or
//! says why a dataflow cannot compute it. Scalar expressions stay DataFusion's and run over batches
//! ([`program`]). [`render`] builds the operators; [`aggregate`] and [`top`] are operators of our
//! own. One thread runs all dataflows ([`host`], [`flows`]). Statements that group or join a list
//! in the same way share that operator's state. [`input`] finds what changed in a list.
//! [`standing`] is the handle of one statement.
//!
//! What a dataflow cannot compute is run again after each change ([`crate::standing`]). Read
//! [`lower`] next, then [`host`].

mod aggregate;
mod flows;
mod host;
mod input;
mod lower;
mod program;
mod rel;
mod render;
mod row;
pub(crate) mod standing;
mod table_input;
mod top;

pub use host::DataflowStats;
pub(crate) use lower::{NoDataflow, flow_plan, of_plan};
pub(crate) use standing::{Dataflows, StandingDataflow};
pub(crate) use table_input::no_table;
