//! What travels through the dataflow. Messages are columnar batches, so that a row costs no message.

use super::describe::DescribeRequest;
use super::views::ViewRequest;
use super::{TapId, ViewId};
use crate::annotations::StepAnnotation;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use storage::model::{Labels, Matcher, NativeHistogram, TimeMs};

/// The sequenced control stream: every worker sees the same messages in the same order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Control {
    /// A view is coming, in a cohort of views that begin together; or, for one that stands, another
    /// question under its id.
    Install(ViewId, ViewRequest, InstallBatchId),
    /// A cohort stands from the next tick on: all workers have read its past.
    Begin(InstallBatchId),
    /// Whatever is coming stands from this tick on, which waits until its past has been read.
    BeginAll,
    /// No view any more.
    Remove(ViewId),
    /// A consumer; its sink waits in the process' tap table.
    Tap(ViewId, TapId),
    /// No consumer any more.
    Untap(TapId),
    /// Somebody wants to know what views are made of; answered at the end of the tick.
    Describe(DescribeRequest),
    /// Build the state of all views that read a selector anew, from the store: ended series have
    /// piled up in it.
    Renew(Vec<Matcher>, InstallBatchId),
    /// The same of all selectors: samples were not queued.
    RenewAll(InstallBatchId),
    /// Evaluate at this time. `due` views are those whose slot it is, continuous ones always.
    Tick(TimeMs),
    /// No tick: what is coming is worked on, as of the tick before. Series that end have their
    /// stale markers at this time.
    Prepare(TimeMs),
}

/// Number of a set of views that begin together.
pub type InstallBatchId = u64;

/// What changed in one port of one shard, for one owner.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PortDelta {
    /// The worker that gathers.
    pub owner: u64,
    /// The local step.
    pub port: u64,
    /// The shard, by its number among those of all processes.
    pub shard: u16,
    /// Labels of rows that the owner does not know yet; they follow those it knows.
    pub labels: Vec<Labels>,
    /// Whether these rows lose their names in the end; shorter than `labels` where the rest does not.
    pub drops: Vec<bool>,
    /// Rows that changed.
    pub rows: Vec<u32>,
    /// Their values, lane by lane.
    pub lanes: Vec<Vec<f64>>,
    /// Histograms of these rows; empty if none has one.
    pub histograms: Vec<Option<Arc<NativeHistogram>>>,
    /// Compensations of these rows, for partial aggregates; empty if none has one.
    pub compensations: Vec<Option<Arc<NativeHistogram>>>,
    /// What the port and the local steps below it remark, by step; `None`: as before.
    pub notes: Option<Vec<(u64, StepAnnotation)>>,
    /// The step failed.
    pub error: Option<String>,
    /// What the worker that sends this has come to; in a message without a port, for worker 0.
    pub verdicts: Vec<WorkerVote>,
}

/// What a worker, and then all together, have come to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WorkerVote {
    /// A cohort may begin: its past has been read.
    Ready(InstallBatchId),
    /// Ended series have piled up in a selector. One worker is enough to say so.
    Garbage(Vec<Matcher>),
}
