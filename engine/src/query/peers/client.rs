//! The asking side of a query in a cluster: sends the task to each of the other processes, and
//! reads their replies as blocks of further shards. [`super::server`] answers; [`super`] describes
//! the exchange.

use super::{
    PeerChannel, PeerPorts, PeerReply, PeerRequest, PeerSummary, PeerTask, QueryPeers, receive_message,
    send_message,
};
use crate::annotations::AnnotationSet;
use crate::limits::LABELS_BYTES;
use crate::query::guard::QueryGuard;
use crate::query::query_run::ShardBlocks;
use crate::query::shard_evaluator::PortBlock;
use crate::query::{QueryError, QueryOptions, Series};
use std::collections::HashMap;
use storage::model::{Labels, SHARDS};

/// A task that the other processes are running; without others it does nothing.
#[derive(Default)]
pub(crate) struct PeerQuery {
    /// Number of this process.
    process: usize,
    /// One for each other process.
    sessions: Vec<PeerSession>,
}

/// The session with one process.
struct PeerSession {
    /// Number of the other process.
    process: usize,
    channel: Box<dyn PeerChannel>,
    /// Number of series that its leaves select.
    rows: usize,
    /// Labels by shard and port, as far as they were received.
    labels: HashMap<(u16, usize), Vec<Labels>>,
}

impl PeerQuery {
    /// Sends the task to all other processes.
    pub(in crate::query) fn new(
        peers: &dyn QueryPeers,
        task: PeerTask,
        options: &QueryOptions,
        guard: &QueryGuard,
    ) -> Result<PeerQuery, QueryError> {
        let mut options = options.clone();
        (_, options.timeout) = guard.time_left();
        let request = PeerRequest { task, options };
        let mut sessions = Vec::new();
        for (process, mut channel) in peers.channels(guard)? {
            send_message(&mut *channel, &request, guard)?;
            channel.flush(guard)?;
            sessions.push(PeerSession { process, channel, rows: 0, labels: HashMap::new() });
        }
        Ok(PeerQuery { process: peers.process(), sessions })
    }

    /// The number of series that they selected.
    pub(crate) fn rows(&mut self, guard: &QueryGuard) -> Result<usize, QueryError> {
        for session in &mut self.sessions {
            let PeerReply::Selected(rows) = session.receive_reply(guard)? else {
                return Err(session.unexpected_reply());
            };
            session.rows = rows;
        }
        Ok(self.sessions.iter().map(|session| session.rows).sum())
    }

    /// Starts their evaluation, with `size` steps in a block.
    pub(crate) fn begin(&mut self, size: usize, guard: &QueryGuard) -> Result<(), QueryError> {
        for session in self.sessions.iter_mut().filter(|session| session.rows > 0) {
            send_message(&mut *session.channel, &size, guard)?;
            session.channel.flush(guard)?;
        }
        Ok(())
    }

    /// The next block of `steps` steps: `own` and those of the other processes, ordered by process
    /// and shard, so that the answer does not depend on which process was asked.
    pub(crate) fn block(
        &mut self,
        own: ShardBlocks,
        steps: usize,
        guard: &QueryGuard,
    ) -> Result<ShardBlocks, QueryError> {
        let mut blocks: ShardBlocks =
            own.into_iter().map(|(s, b)| (global_shard(self.process, s), b)).collect();
        for session in self.sessions.iter_mut().filter(|session| session.rows > 0) {
            session.block(&mut blocks, steps, guard)?;
        }
        blocks.sort_by_key(|(shard, _)| *shard);
        Ok(blocks)
    }

    /// The samples of a range selector.
    pub(crate) fn series(&mut self, guard: &QueryGuard) -> Result<Vec<Series>, QueryError> {
        let mut all = Vec::new();
        for session in &mut self.sessions {
            for _ in 0..SHARDS {
                let PeerReply::Series(series, counted) = session.receive_reply(guard)? else {
                    return Err(session.unexpected_reply());
                };
                guard.count_remote(counted)?;
                guard.grow(series.iter().map(Series::bytes).sum())?;
                all.extend(series);
            }
        }
        Ok(all)
    }

    /// Reads the final replies: annotations and counters.
    pub(crate) fn end(self, guard: &QueryGuard) -> Result<AnnotationSet, QueryError> {
        let mut all = AnnotationSet::default();
        for mut session in self.sessions {
            let PeerReply::Done(PeerSummary { annotations, peak, steps }) = session.receive_reply(guard)?
            else {
                return Err(session.unexpected_reply());
            };
            guard.peaked(peak);
            for (t, samples, fresh) in steps.into_iter() {
                guard.count_step(t, samples, fresh);
            }
            all.extend(annotations);
        }
        Ok(all)
    }
}

/// The number of a shard among those of all processes.
fn global_shard(process: usize, shard: u16) -> u16 {
    process as u16 * SHARDS + shard
}

impl PeerSession {
    /// Reads a reply. An error of the query itself is passed on unchanged, as it would also occur
    /// here; for other errors the process is named.
    fn receive_reply(&mut self, guard: &QueryGuard) -> Result<PeerReply, QueryError> {
        let name = self.channel.name();
        match receive_message(&mut *self.channel, guard)? {
            PeerReply::Failed(error) => Err(error.with_peer_name(&name)),
            reply => Ok(reply),
        }
    }

    fn unexpected_reply(&self) -> QueryError {
        QueryError::Internal(format!("{} sent what was not asked for", self.channel.name()))
    }

    fn block(&mut self, into: &mut ShardBlocks, steps: usize, guard: &QueryGuard) -> Result<(), QueryError> {
        loop {
            match self.receive_reply(guard)? {
                PeerReply::Part(PeerPorts { shard, mut ports }) if shard < SHARDS => {
                    for (number, port) in ports.iter_mut().enumerate() {
                        if port.rows.is_none() && port.steps.len() != steps {
                            return Err(self.unexpected_reply());
                        }
                        let bytes = |labels: &Labels| LABELS_BYTES + labels.encoded().len();
                        guard.grow(port.labels.iter().map(bytes).sum())?;
                        self.complete(shard, number, port);
                    }
                    into.push((global_shard(self.process, shard), ports));
                }
                PeerReply::Block(counted) => return guard.count_remote(counted),
                _ => return Err(self.unexpected_reply()),
            }
        }
    }

    /// Adds the labels that came with earlier blocks.
    fn complete(&mut self, shard: u16, number: usize, port: &mut PortBlock) {
        let known = self.labels.entry((shard, number)).or_default();
        known.append(&mut port.labels);
        port.labels.clone_from(known);
    }
}
