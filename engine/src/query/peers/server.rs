//! The answering side of a query in a cluster: runs the local stage over the series of this
//! process, in its own query threads and with its own limits. [`super::client`] asks; [`super`]
//! describes the exchange.

use super::{
    PeerChannel, PeerPorts, PeerReply, PeerRequest, PeerSummary, PeerTask, receive_message, send_message,
};
use crate::limits::{BLOCK_VALUE_BYTES, WAIT_DURABLE};
use crate::plan::Selector;
use crate::plan::physical::{PhysicalPlan, StepOp};
use crate::query::guard::{QueryGuard, RemoteUsage};
use crate::query::query_run::{QueryRun, TimeGrid, evaluate, rows_of};
use crate::query::remote_stores::HistorySource;
use crate::query::scalar_params::ScalarParam;
use crate::query::{Querier, QueryError, QueryOptions, range_selector};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use storage::model::{SHARDS, TimeMs};

/// Time between two checks of the limits while waiting for the replay.
const REPLAY_POLL: Duration = Duration::from_millis(50);
/// How long sending an error may take.
const ERROR_REPLY_TIME: Duration = Duration::from_secs(1);

impl Querier {
    /// Answers the task that comes first on `channel`, from this process' store only. `cancel` is
    /// set when the asking side is gone. An error has been sent, if that was possible, when it is
    /// returned.
    pub fn answer(&self, channel: &mut dyn PeerChannel, cancel: Arc<AtomicBool>) -> Result<(), QueryError> {
        let guard = QueryGuard::new(&QueryOptions { cancel: cancel.clone(), ..QueryOptions::default() });
        let PeerRequest { task, options } = receive_message(channel, &guard)?;
        let options = QueryOptions { cancel, ..options };
        let guard = Arc::new(QueryGuard::within(&options, &self.memory));
        let answered = match task {
            PeerTask::Steps { plan, inner, grid, scalar_params } => {
                PhysicalPlan::for_history(&plan, inner, options.dialect)
                    .map_err(|e| QueryError::Execution(e.0))
                    .and_then(|physical| self.steps(channel, physical, grid, scalar_params, &options, &guard))
            }
            PeerTask::Samples { selector, range, t } => {
                self.samples(channel, &selector, range, t, &options, &guard)
            }
        };
        let Err(error) = answered else { return channel.flush(&guard) };
        // The query's own time may be over, so sending the error has a limit of its own.
        let options =
            QueryOptions { timeout: ERROR_REPLY_TIME, cancel: options.cancel, ..QueryOptions::default() };
        let guard = QueryGuard::new(&options);
        send_message(channel, &PeerReply::Failed(error.clone()), &guard)?;
        channel.flush(&guard)?;
        Err(error)
    }

    fn steps(
        &self,
        channel: &mut dyn PeerChannel,
        physical: PhysicalPlan,
        grid: TimeGrid,
        scalar_params: Vec<ScalarParam>,
        options: &QueryOptions,
        guard: &Arc<QueryGuard>,
    ) -> Result<(), QueryError> {
        self.await_replay(newest(&physical, grid, options), guard)?;
        let run = QueryRun::new(
            HistorySource::from_store(self.store.clone()),
            physical,
            grid,
            options,
            Vec::new(),
            scalar_params,
        );
        let mut shards = run.select(&self.pools, guard)?;
        let rows = rows_of(&shards);
        send_message(channel, &PeerReply::Selected(rows), guard)?;
        channel.flush(guard)?;
        if rows > 0 {
            let pool = self.pools.large(rows * grid.len(), 1).unwrap_or(self.pools.usual());
            let size: usize = receive_message(channel, guard)?;
            let mut reported = RemoteUsage::default();
            let mut labels = SentLabels::default();
            for from in (0..grid.len()).step_by(size.max(1)) {
                let to = (from + size).min(grid.len());
                let _block = guard.grow_for_now(rows * (to - from) * BLOCK_VALUE_BYTES)?;
                let blocks = evaluate(&mut shards, pool, from..to, guard)?;
                for (shard, mut ports) in blocks {
                    labels.cut(shard, &mut ports);
                    send_message(channel, &PeerReply::Part(PeerPorts { shard, ports }), guard)?;
                }
                send_message(channel, &PeerReply::Block(guard.counted_since(&mut reported)), guard)?;
                channel.flush(guard)?;
            }
        }
        let mut done = PeerSummary::default();
        for (_, run) in shards.into_iter() {
            done.annotations.extend(run.into_annotations());
        }
        self.finish(channel, done, guard)
    }

    fn samples(
        &self,
        channel: &mut dyn PeerChannel,
        selector: &Selector,
        range: i64,
        t: TimeMs,
        options: &QueryOptions,
        guard: &Arc<QueryGuard>,
    ) -> Result<(), QueryError> {
        let selection = range_selector::RangeSelection::new(selector, range, t, options);
        self.await_replay(selection.span().1, guard)?;
        let mut reported = RemoteUsage::default();
        // In a cluster no other servers are read.
        let history = HistorySource::from_store(self.store.clone());
        for shard in 0..SHARDS {
            let series = selection.shard_samples(&history, shard, guard)?;
            send_message(channel, &PeerReply::Series(series, guard.counted_since(&mut reported)), guard)?;
        }
        self.finish(channel, PeerSummary::default(), guard)
    }

    /// Sends the final reply once the log has all samples that were sent: what a client has seen
    /// must survive kill -9. The wait is limited, so that a log that cannot be written does not
    /// block reading.
    fn finish(
        &self,
        channel: &mut dyn PeerChannel,
        mut done: PeerSummary,
        guard: &QueryGuard,
    ) -> Result<(), QueryError> {
        self.store.wal().wait_durable(WAIT_DURABLE);
        let counted = guard.samples();
        done.peak = counted.peak;
        done.steps = counted.steps;
        send_message(channel, &PeerReply::Done(done), guard)
    }

    /// Waits until the log is replayed for times up to `to`. Not on a query thread, which other
    /// queries need.
    fn await_replay(&self, to: TimeMs, guard: &QueryGuard) -> Result<(), QueryError> {
        if !self.store.replay().waits_for(to) {
            return Ok(());
        }
        let (sender, receiver) = channel();
        // Sending fails only if the query has ended.
        self.store.replay().on_end(Box::new(move |fate| drop(sender.send(fate))));
        loop {
            guard.check()?;
            match receiver.recv_timeout(REPLAY_POLL) {
                Ok(fate) => return Ok(fate?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(QueryError::Unavailable("the server is stopping".to_owned()));
                }
            }
        }
    }
}

/// Time of the newest sample that the leaves may read.
fn newest(physical: &PhysicalPlan, grid: TimeGrid, options: &QueryOptions) -> TimeMs {
    let leaf = |op: &StepOp| match op {
        StepOp::Leaf(source, leaf) => {
            let end = source.time(grid.end, grid.start, grid.end);
            Some(end.saturating_add(source.reach(leaf, options.lookback).1))
        }
        _ => None,
    };
    physical.local.iter().filter_map(|step| leaf(&step.op)).max().unwrap_or(TimeMs::MIN)
}

/// How many labels of each shard's ports were sent.
#[derive(Default)]
struct SentLabels(Vec<(u16, Vec<usize>)>);

impl SentLabels {
    /// Removes from `ports` the labels that were sent before.
    fn cut(&mut self, shard: u16, ports: &mut [super::PortBlock]) {
        let at = self.0.iter().position(|(known, _)| *known == shard).unwrap_or_else(|| {
            self.0.push((shard, vec![0; ports.len()]));
            self.0.len() - 1
        });
        for (port, sent) in ports.iter_mut().zip(&mut self.0[at].1) {
            let all = port.labels.len();
            port.labels.drain(..(*sent).min(all));
            *sent = all.max(*sent);
        }
    }
}
