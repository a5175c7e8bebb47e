//! Statements over relations of which little changes, as dataflows: series, label pairs, alerts,
//! targets, rules, tables that people bring. A change costs what it touches, whatever the size of the relations.
//!
//! [`lower`] makes a [`Rel`](rel::Rel) of DataFusion's optimised plan, or says why it cannot;
//! expressions stay DataFusion's and run over batches ([`program`]). [`render`] makes operators of
//! differential-dataflow of it, with two of our own ([`aggregate`], [`top`]). A thread of its own
//! has them all ([`host`], [`flows`]): views that group a relation or join it in the same way share
//! that. [`input`] finds what changed in a relation. [`standing`] is what a view holds.
//!
//! What a dataflow cannot say runs again instead ([`crate::standing`]).

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
