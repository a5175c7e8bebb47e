//! What travels through the dataflow. Messages are columnar batches, so that a row costs no message.

use super::{TapId, ViewId, ViewSpec};
use serde::{Deserialize, Serialize};
use storage::model::{Labels, TimeMs};
use storage::store::FeedItem;

/// The sequenced control stream: every worker sees the same messages in the same order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Control {
    /// A view from this tick on.
    Install(ViewId, ViewSpec),
    /// No view any more.
    Remove(ViewId),
    /// A consumer; its sink waits in the process' tap table.
    Tap(ViewId, TapId),
    /// No consumer any more.
    Untap(TapId),
    /// Build the state of all views anew, from the store: ended series have piled up, or samples were not queued.
    Rebuild,
    /// Evaluate at this time. `due` views are those whose slot it is, continuous ones always.
    Tick(TimeMs),
}

/// Samples on their way to a shard's owner.
pub type Samples = FeedItem;

/// What changed in one port of one shard, for one owner.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PortDelta {
    /// The worker that gathers.
    pub owner: u64,
    /// The local step.
    pub port: u64,
    /// The shard.
    pub shard: u16,
    /// Labels of rows that the owner does not know yet; they follow those it knows.
    pub labels: Vec<Labels>,
    /// Rows that changed.
    pub rows: Vec<u32>,
    /// Their values, lane by lane.
    pub lanes: Vec<Vec<f64>>,
    /// The step failed.
    pub error: Option<String>,
}
