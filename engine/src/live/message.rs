//! The messages of the dataflow: what workers send each other, within a process and between the
//! processes of a cluster. [`Control`] goes to all workers; [`PortDelta`] goes from a shard to the
//! owner of a view. They are batches in columns, because a message per row would cost more than the
//! row. The words (install batch, port, owner, tick, preparation) are explained in [`crate::live`].

use super::check::WorkerCheck;
use super::describe::DescribeRequest;
use super::views::ViewRequest;
use super::{TapId, ViewId};
use crate::annotations::StepAnnotation;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use storage::model::{Labels, Matcher, NativeHistogram, TimeMs};

/// A message of the control stream: every worker sees the same messages in the same order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Control {
    /// Adds a view to an install batch; or, for an existing view, replaces its plan once the batch
    /// begins.
    Install(ViewId, ViewRequest, InstallBatchId),
    /// An install batch begins at the next tick: all workers have read its history.
    Begin(InstallBatchId),
    /// All views that are being installed begin at this tick, which waits until their history is
    /// read.
    BeginAll,
    /// Removes a view.
    Remove(ViewId),
    /// Attaches a consumer; its sink waits in the process' table of sinks.
    Tap(ViewId, TapId),
    /// Detaches a consumer.
    Untap(TapId),
    /// Asks for a description of views, which is sent at the end of the tick.
    Describe(DescribeRequest),
    /// Builds the state of all views that read a selector again from the store, because too many
    /// ended series have accumulated in it.
    Rebuild(Vec<Matcher>, InstallBatchId),
    /// The same for all selectors, because samples were dropped.
    RebuildAll(InstallBatchId),
    /// Evaluates all continuous views, and the recorded ones whose evaluation time it is.
    Tick(TimeMs),
    /// Not a tick: works on views that are being installed, as of the previous tick. Series that
    /// end get their stale markers at this time.
    Prepare(TimeMs),
}

/// Number of an install batch: views that begin together.
pub type InstallBatchId = u64;

/// What changed in one port of one shard, for one owner.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PortDelta {
    /// The worker that runs the gather stage.
    pub owner: u64,
    /// The local step.
    pub port: u64,
    /// The shard, by its number among those of all processes.
    pub shard: u16,
    /// Labels of rows that the owner does not know yet; their row numbers follow those it knows.
    pub labels: Vec<Labels>,
    /// Whether these rows lose the metric name in the end. Shorter than `labels` if the remaining
    /// rows do not.
    pub drops: Vec<bool>,
    /// Numbers of the rows that changed.
    pub rows: Vec<u32>,
    /// From when on the change holds, if that is before the tick.
    pub since: Option<TimeMs>,
    /// Their values; one vector for each column of the port.
    pub columns: Vec<Vec<f64>>,
    /// Their histograms; empty if no row has one.
    pub histograms: Vec<Option<Arc<NativeHistogram>>>,
    /// Their compensations (Kahan summation), for partial aggregates; empty if no row has one.
    pub compensations: Vec<Option<Arc<NativeHistogram>>>,
    /// All annotations of the port and of the local steps below it, by step; `None`: unchanged.
    pub annotations: Option<Vec<(u64, StepAnnotation)>>,
    /// The error, if the step failed.
    pub error: Option<String>,
    /// Votes of the sending worker. They are for worker 0, in a message without a port.
    pub votes: Vec<WorkerVote>,
    /// The parts of the sending worker in checks of views, in messages without a port.
    pub checks: Vec<WorkerCheck>,
}

impl PortDelta {
    /// A message to the worker `owner` that changes no port.
    pub fn without_port(owner: u64) -> PortDelta {
        PortDelta { owner, port: u64::MAX, ..PortDelta::default() }
    }
}

/// What a worker, and then all workers together, have found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WorkerVote {
    /// An install batch may begin: its history has been read.
    Ready(InstallBatchId),
    /// Too many ended series have accumulated in a selector. One worker is enough to report it.
    Garbage(Vec<Matcher>),
}
