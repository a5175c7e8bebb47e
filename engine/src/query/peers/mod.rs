//! Distributed queries: in a cluster each process has its own series. The local stage runs where
//! the series are, and the process that was asked gathers the results like those of its own shards.
//!
//! The asking side ([`client`]) sends the plan, the times and the scalar parameters. The answering
//! side ([`server`]) makes the same physical plan, replies with the number of its series, receives
//! the number of steps per block, and sends block after block. Subqueries are separate tasks of the
//! asking side. The transport is behind [`PeerChannel`].

pub(super) mod client;
pub mod server;

use super::guard::{QueryGuard, RemoteUsage};
use super::query_run::TimeGrid;
use super::scalar_params::ScalarParam;
use super::shard_evaluator::PortBlock;
use super::{QueryError, QueryOptions, Series};
use crate::annotations::AnnotationSet;
use crate::limits::MESSAGE_BYTES;
use crate::plan::{Plan, Selector};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storage::codec;
use storage::model::TimeMs;

/// The processes of a cluster whose series are part of answers.
///
/// # Contract
/// 1. [`QueryPeers::channels`] returns one new channel to each other process, or an error. An
///    answer without one of the stores would be partial, and nobody would notice.
/// 2. Dropping a channel ends the task at the other side.
/// 3. The sequence of messages is: task; number of selected series; if there are any, the size of a
///    block, and the parts of each block; then the end. A failure may come at any point.
/// 4. The other side sends the end only when its log has what it has shown: that must survive a
///    crash.
pub trait QueryPeers: Send + Sync {
    /// Number of this process.
    fn process(&self) -> usize;
    /// A channel to each of the others, for one task.
    fn channels(&self, guard: &QueryGuard) -> Result<PeerChannels, QueryError>;
}

/// Channels to other processes, with their numbers.
pub type PeerChannels = Vec<(usize, Box<dyn PeerChannel>)>;

/// A channel for messages to and from one other process. Dropping it ends the task, answered or
/// not; the other side stops working on it.
///
/// # Contract
/// 1. Messages keep their order and their boundaries, and have at most
///    [`MESSAGE_BYTES`].
/// 2. [`PeerChannel::send`] may buffer until [`PeerChannel::flush`].
/// 3. [`PeerChannel::receive`] checks the guard while it waits. Otherwise a query outlives its
///    timeout.
pub trait PeerChannel: Send {
    /// Name of the other process, for error messages.
    fn name(&self) -> String;
    /// Sends a message, perhaps only at the next [`PeerChannel::flush`].
    fn send(&mut self, message: &[u8], guard: &QueryGuard) -> Result<(), QueryError>;
    /// Sends the buffered messages.
    fn flush(&mut self, guard: &QueryGuard) -> Result<(), QueryError>;
    /// Waits for the next message, as long as the query's limits allow.
    fn receive(&mut self, guard: &QueryGuard) -> Result<Vec<u8>, QueryError>;
}

/// A task and the query's options.
#[derive(Serialize, Deserialize)]
struct PeerRequest {
    task: PeerTask,
    options: QueryOptions,
}

#[derive(Serialize, Deserialize)]
pub(super) enum PeerTask {
    /// The local stage of a plan; `inner`: it is the input of a subquery.
    Steps { plan: Plan, inner: bool, grid: TimeGrid, scalar_params: Vec<ScalarParam> },
    /// The samples of a range selector without a function.
    Samples { selector: Selector, range: i64, t: TimeMs },
}

/// The replies. To `Steps`: `Selected`; then, after the size of blocks was received, for each block
/// its `Part`s and `Block`. To `Samples`: `Series`. At the end `Done`.
#[derive(Serialize, Deserialize)]
enum PeerReply {
    /// The number of selected series; with 0 there are no blocks.
    Selected(usize),
    Part(PeerPorts),
    /// A block of steps is complete.
    Block(RemoteUsage),
    Series(Vec<Series>, RemoteUsage),
    Done(PeerSummary),
    Failed(QueryError),
}

/// The ports of a shard over a block of steps, with the labels that were not sent before.
#[derive(Serialize, Deserialize)]
struct PeerPorts {
    shard: u16,
    ports: Vec<PortBlock>,
}

/// The final reply.
#[derive(Default, Serialize, Deserialize)]
struct PeerSummary {
    annotations: AnnotationSet,
    /// Most samples in memory at one time.
    peak: usize,
    /// The samples read by step, if requested.
    steps: Vec<(TimeMs, usize, usize)>,
}

impl QueryError {
    /// The error of the process `name`, as the process that sent it the request reports it. An
    /// error of the query itself would be the same here, so its text is unchanged.
    pub fn with_peer_name(self, name: &str) -> QueryError {
        let named = |text: String| format!("{name}: {text}");
        match self {
            QueryError::Timeout(text) => QueryError::Timeout(named(text)),
            QueryError::Canceled(text) => QueryError::Canceled(named(text)),
            QueryError::Internal(text) => QueryError::Internal(named(text)),
            QueryError::Unavailable(text) => QueryError::Unavailable(named(text)),
            error @ (QueryError::BadData(_) | QueryError::Execution(_) | QueryError::LimitReached(_)) => {
                error
            }
        }
    }
}

fn send_message<T: Serialize>(
    channel: &mut dyn PeerChannel,
    message: &T,
    guard: &QueryGuard,
) -> Result<(), QueryError> {
    let bytes = codec::encode_within(MESSAGE_BYTES, message).map_err(|e| {
        QueryError::Internal(format!(
            "a message of more than {MESSAGE_BYTES} bytes to {}: {e}",
            channel.name()
        ))
    })?;
    channel.send(&bytes, guard)
}

fn receive_message<T: DeserializeOwned>(
    channel: &mut dyn PeerChannel,
    guard: &QueryGuard,
) -> Result<T, QueryError> {
    let bytes = channel.receive(guard)?;
    codec::decode_within(MESSAGE_BYTES, &bytes).map_err(|e| {
        QueryError::Internal(format!("{} sent a message that cannot be read: {e}", channel.name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::{Labels, Matcher};

    fn message<T: Serialize>(message: &T) -> Vec<u8> {
        codec::encode_within(MESSAGE_BYTES, message).expect("small enough")
    }

    fn read<T: DeserializeOwned>(bytes: &[u8]) -> T {
        codec::decode_within(MESSAGE_BYTES, bytes).expect("a message")
    }

    /// Every process of a cluster can send these messages.
    #[test]
    fn twice_the_message_costs_at_most_a_little_more_than_twice() {
        let question = |n: usize| {
            let matchers = (0..n).map(|i| Matcher::equal(format!("l{i}"), "v")).collect();
            let selector = Selector { matchers, offset: 0, at: None, extension: None };
            let task = PeerTask::Samples { selector, range: 1, t: 2 };
            message(&PeerRequest { task, options: QueryOptions::default() })
        };
        testing::assert_proportional("matchers", 1_000, question, |bytes| read::<PeerRequest>(bytes).options);
        let series = |i: usize| {
            let labels = Labels::from_pairs([("instance", i.to_string())]);
            Series { labels, points: vec![(1, 1.0); 3], histograms: Vec::new(), drops: false }
        };
        let answer =
            |n: usize| message(&PeerReply::Series((0..n).map(series).collect(), RemoteUsage::default()));
        testing::assert_proportional("series", 1_000, answer, |bytes| {
            assert!(matches!(read::<PeerReply>(bytes), PeerReply::Series(..)));
        });
        let labels = |n: usize| (0..n).map(|i| (format!("l{i}"), "v".to_owned()));
        let wide = |n: usize| {
            let series = Series { labels: Labels::from_pairs(labels(n)), ..series(0) };
            message(&PeerReply::Series(vec![series], RemoteUsage::default()))
        };
        testing::assert_proportional("labels", 2_000, wide, |bytes| {
            assert!(matches!(read::<PeerReply>(bytes), PeerReply::Series(..)));
        });
    }
}
