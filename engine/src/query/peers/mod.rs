//! The other processes of a cluster, as a query sees them. Each has series of its own; its local
//! stage runs there, and the answer is gathered from all of them as from shards.
//!
//! Who asks ([`client`]) sends the plan, the times and the scalars that windows are given. Who is
//! asked ([`server`]) cuts the plan as the asker did, says how many series it has, hears how many
//! steps a block has, and sends block after block. Subqueries are asked by the asker alone, one
//! question each. How messages travel is not known here: [`PeerChannel`].

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

/// The processes of a cluster whose series take part in answers.
pub trait QueryPeers: Send + Sync {
    /// This process' own number.
    fn process(&self) -> usize;
    /// A line to each of the others, for one question.
    fn lines(&self, guard: &QueryGuard) -> Result<PeerChannels, QueryError>;
}

/// Lines to other processes, with their numbers.
pub type PeerChannels = Vec<(usize, Box<dyn PeerChannel>)>;

/// A way for messages to and from one other process. Who drops it is through with the question,
/// answered or not; the other side stops working at it.
pub trait PeerChannel: Send {
    /// Who is at the other end, for people.
    fn name(&self) -> String;
    /// Sends a message, perhaps not before the next [`PeerChannel::flush`].
    fn say(&mut self, message: &[u8], guard: &QueryGuard) -> Result<(), QueryError>;
    /// Sends what was said.
    fn flush(&mut self, guard: &QueryGuard) -> Result<(), QueryError>;
    /// Waits for the next message, as long as the query may wait.
    fn hear(&mut self, guard: &QueryGuard) -> Result<Vec<u8>, QueryError>;
}

/// What is asked.
#[derive(Serialize, Deserialize)]
struct PeerRequest {
    what: PeerTask,
    options: QueryOptions,
}

#[derive(Serialize, Deserialize)]
pub(super) enum PeerTask {
    /// The local stage of a plan; `inner`: it is a subquery.
    Steps { plan: Plan, inner: bool, grid: TimeGrid, given: Vec<ScalarParam> },
    /// The samples of a bare range selector.
    Samples { selector: Selector, range: i64, t: TimeMs },
}

/// What is answered. To `Steps`: `Selected`, and after a word on the size of blocks for each of
/// them parts and `Block`. To `Samples`: `Series`. In the end `PeerSummary`.
#[derive(Serialize, Deserialize)]
enum PeerReply {
    /// So many series; with none of them there are no blocks.
    Selected(usize),
    Part(PeerPorts),
    /// A block of steps is complete.
    Block(RemoteUsage),
    Series(Vec<Series>, RemoteUsage),
    Done(PeerSummary),
    Failed(QueryError),
}

/// A shard's ports over a block of steps. Of labels only those that were not sent yet.
#[derive(Serialize, Deserialize)]
struct PeerPorts {
    shard: u16,
    ports: Vec<PortBlock>,
}

/// What is to be said in the end.
#[derive(Default, Serialize, Deserialize)]
struct PeerSummary {
    notes: AnnotationSet,
    /// Most samples in memory at one time.
    peak: usize,
    /// What steps looked at, if that is wanted.
    steps: Vec<(TimeMs, usize, usize)>,
}

fn say<T: Serialize>(line: &mut dyn PeerChannel, message: &T, guard: &QueryGuard) -> Result<(), QueryError> {
    let bytes = codec::encode_within(MESSAGE_BYTES, message).map_err(|e| {
        QueryError::Internal(format!("a message of more than {MESSAGE_BYTES} bytes to {}: {e}", line.name()))
    })?;
    line.say(&bytes, guard)
}

fn hear<T: DeserializeOwned>(line: &mut dyn PeerChannel, guard: &QueryGuard) -> Result<T, QueryError> {
    let bytes = line.hear(guard)?;
    codec::decode_within(MESSAGE_BYTES, &bytes)
        .map_err(|e| QueryError::Internal(format!("{} sent a message that cannot be read: {e}", line.name())))
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

    /// Every process of a cluster can send these.
    #[test]
    fn twice_the_message_costs_at_most_a_little_more_than_twice() {
        let question = |n: usize| {
            let matchers = (0..n).map(|i| Matcher::equal(format!("l{i}"), "v")).collect();
            let selector = Selector { matchers, offset: 0, at: None, extension: None };
            let what = PeerTask::Samples { selector, range: 1, t: 2 };
            message(&PeerRequest { what, options: QueryOptions::default() })
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
