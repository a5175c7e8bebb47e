//! The timely dataflow of a worker: local executor, exchange, gather executor, feedback. Only this
//! file and [`super::time`] know how timely counts time.
//!
//! ```text
//!         samples (queue)
//!                ▼
//! control ──► local executor ──exchange by owner──► gather executor
//!                ▲                                        │ recorded samples
//!                └──────────── feedback, one round ───────┘
//! ```
//! Only worker 0 feeds the control stream, so it alone decides when all workers tick, in a cluster
//! too: the workers of other processes run the same graph and have no input of their own.
//!
//! An executor processes a round when the frontier says that nothing earlier can come. The number
//! of rounds of a tick follows from the views that are due: a tick without rules that read rules
//! has one round.

use super::control::{ControlRequests, ControlTarget, dispatch};
use super::describe::{DescribeRequest, HostReport};
use super::gather::{GatherExecutor, RemainingWork};
use super::local::{LocalExecutor, vote_message};
use super::message::{Control, InstallBatchId, PortDelta, WorkerVote};
use super::sample_queue::SampleReceiver;
use super::time::{self, LiveTime};
use super::topology::owner_thread;
use super::views::ViewRequest;
use super::{TapId, ViewId};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use storage::model::{Matcher, TimeMs};
use storage::store::ChangeEvent;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::vec::input::{Handle, Input};
use timely::dataflow::operators::{Capability, ConnectLoop, Feedback};
use timely::dataflow::{Scope, StreamVec};
use timely::progress::frontier::MutableAntichain;
use timely::worker::Worker;

/// The control stream's input, which worker 0 holds.
pub type ControlInput = Handle<LiveTime, Control>;

/// Receives an executor's part of a description, with the number of the request.
pub type DescribeReply = Rc<dyn Fn(u64, HostReport)>;

/// What the dataflow reports to the runtime.
pub struct WorkerCallbacks {
    /// This worker has finished the tick or preparation of that number, and has this left to
    /// prepare.
    pub done: Box<dyn Fn(u64, RemainingWork)>,
    /// All workers agree on a vote; called in worker 0.
    pub decided: Box<dyn Fn(WorkerVote)>,
    /// An executor has answered a description request.
    pub described: DescribeReply,
}

/// Selectors whose state the gather executor of a worker wants built again. The local executor of
/// the same worker sends them to worker 0, which may be in another process: only it has an output
/// to the exchange.
type GarbageSelectors = Rc<RefCell<Vec<Vec<Matcher>>>>;

/// What a worker's dataflow is built of.
pub struct WorkerComponents {
    /// Evaluates the local stage.
    pub local: LocalExecutor,
    /// The samples for the local stage.
    pub samples: SampleReceiver,
    /// Evaluates the gather stage.
    pub gather: GatherExecutor,
    /// Receives what the worker reports.
    pub callbacks: WorkerCallbacks,
}

/// Builds the dataflow of a worker, one of `threads` in its process. `None`: another worker feeds
/// the control stream.
pub fn build(worker: &mut Worker, threads: usize, components: WorkerComponents) -> Option<ControlInput> {
    let WorkerComponents { local, samples, gather, callbacks } = components;
    let sequencer = worker.index() == 0;
    worker.dataflow::<LiveTime, _, _>(|scope| {
        let (control, control_stream) = scope.new_input::<Control>();
        // Every worker needs every control message. Only worker 0 has an input that stays open, so
        // all workers see the same messages in the same order, which keeps their tables of views
        // equal.
        let control_stream = control_stream.broadcast();
        // Feedback takes one round: what is recorded in round `r` of a tick is read in round `r +
        // 1` of the same tick. So a rule that reads another rule sees its new value without waiting
        // for the next tick.
        let (handle, feedback) = scope.feedback::<Vec<ChangeEvent>>(1);
        // Not a dataflow edge: both operators of a worker run on one thread, and the order in which
        // garbage is reported does not matter.
        let garbage = GarbageSelectors::default();
        let described = callbacks.described.clone();
        let local = LocalOperator { executor: local, samples, described, garbage: garbage.clone() };
        let deltas = local.add_to(scope, threads, control_stream.clone(), feedback);
        let gather = GatherOperator { executor: gather, garbage, callbacks };
        gather.add_to(scope, deltas, control_stream).connect_loop(handle);
        // Dropping the input closes it, so that it does not hold back the frontier.
        sequencer.then_some(control)
    })
}

/// A tick being evaluated, or a preparation, which has one round.
#[derive(Copy, Clone)]
struct ActiveTick {
    /// Number of the tick.
    number: u64,
    /// Time of the tick.
    t: TimeMs,
    prepares: bool,
    round: u64,
    last: u64,
}

/// The ticks of the control stream, and how far the operator has got.
#[derive(Default)]
struct TickQueue {
    control: BTreeMap<LiveTime, Vec<Control>>,
    ready: VecDeque<(u64, Vec<Control>)>,
    current: Option<ActiveTick>,
    /// Description requests to answer when the current tick is done.
    descriptions: Vec<DescribeRequest>,
}

impl TickQueue {
    /// Moves control messages that are complete as of `upper` to `ready`.
    fn line_up(&mut self, upper: LiveTime) {
        while let Some(entry) = self.control.first_entry().filter(|e| *e.key() < upper) {
            let number = time::tick_of(*entry.key());
            let messages = entry.remove();
            self.ready.push_back((number, messages));
        }
    }

    /// The time that the operator works on next, or may receive next.
    fn next(&self, upper: LiveTime) -> LiveTime {
        match (self.current, self.ready.front()) {
            // The operator must keep the right to send at its current round until that round is
            // done. Otherwise the frontier says that the round is complete, and the owners of views
            // answer without its rows.
            (Some(ActiveTick { number, round, .. }), _) => time::timestamp(number, round),
            (None, Some((number, _))) => time::timestamp(*number, 0),
            (None, None) => self.control.keys().next().copied().unwrap_or(upper).min(upper),
        }
    }

    /// Takes the next tick or preparation, with its messages.
    fn take(&mut self) -> Option<(ActiveTick, Vec<Control>)> {
        let (number, messages) = self.ready.pop_front()?;
        let time = |message: &Control| match message {
            Control::Tick(t) => Some((*t, false)),
            Control::Prepare(t) => Some((*t, true)),
            _ => None,
        };
        // Every batch of messages ends with `Tick` or `Prepare` (see [`super::runtime`]). The
        // default is only for a stream that was cut short while the process stops.
        let (t, prepares) = messages.iter().find_map(time).unwrap_or((0, false));
        Some((ActiveTick { number, t, prepares, round: 0, last: 0 }, messages))
    }

    /// Records that a round is done. Returns the tick if it was its last round.
    fn round_done(&mut self) -> Option<ActiveTick> {
        let current = self.current?;
        // The same rounds in all workers: the number of rounds follows from the views that are due,
        // which are the same everywhere.
        if current.round < current.last {
            self.current = Some(ActiveTick { round: current.round + 1, ..current });
            return None;
        }
        self.current.take()
    }
}

/// The earliest time that may still arrive: everything before it has.
fn upper(frontier: &MutableAntichain<LiveTime>) -> LiveTime {
    frontier.frontier().first().copied().unwrap_or(LiveTime::MAX)
}

/// The operator of the local stage.
struct LocalOperator {
    executor: LocalExecutor,
    samples: SampleReceiver,
    described: DescribeReply,
    garbage: GarbageSelectors,
}

impl LocalOperator {
    /// Adds the operator to the dataflow. Returns the port deltas.
    fn add_to<'scope>(
        mut self,
        scope: Scope<'scope, LiveTime>,
        threads: usize,
        control: StreamVec<'scope, LiveTime, Control>,
        feedback: StreamVec<'scope, LiveTime, ChangeEvent>,
    ) -> StreamVec<'scope, LiveTime, PortDelta> {
        let mut builder = OperatorBuilder::new("LocalExecutor".to_owned(), scope);
        let mut control = builder.new_input(control, Pipeline);
        // Recorded samples are in the store of process 0, and its workers have the lowest numbers.
        let by_shard = Exchange::new(move |item: &ChangeEvent| owner_thread(item.shard, threads) as u64);
        let mut feedback = builder.new_input(feedback, by_shard);
        let (output, stream) = builder.new_output::<Vec<PortDelta>>();
        let mut output = OutputBuilder::from(output);
        builder.build(move |mut capabilities| {
            let mut capability: Option<Capability<LiveTime>> = capabilities.pop();
            let mut ticks = TickQueue::default();
            let mut recorded = BTreeMap::<LiveTime, Vec<ChangeEvent>>::new();
            move |frontiers| {
                // Batches are sorted by time first, because timely may deliver those of a later
                // round before this operator has processed the earlier one.
                feedback.for_each(|cap, batch| recorded.entry(*cap.time()).or_default().append(batch));
                control.for_each(|cap, batch| ticks.control.entry(*cap.time()).or_default().append(batch));
                let control_upper = upper(&frontiers[0]);
                let feedback_upper = upper(&frontiers[1]);
                // The input is closed: no tick follows. Without the capability the frontier can
                // advance to the end, and the worker's dataflow ends.
                if control_upper == LiveTime::MAX {
                    capability = None;
                }
                let Some(cap) = capability.as_mut() else { return };
                ticks.line_up(control_upper);
                let mut handle = output.activate();
                while self.begin_next(&mut ticks) {
                    // A tick stays current over several calls of this closure: between its rounds
                    // the operator waits for the feedback of all workers.
                    let Some(tick) = ticks.current else { break };
                    let now = time::timestamp(tick.number, tick.round);
                    // Samples that an earlier round records may still come.
                    if feedback_upper <= now {
                        break;
                    }
                    let mut deltas = self.round(tick, &ticks.descriptions, take_until(&mut recorded, now));
                    // The capability is lowered to the time of the round before sending: timely
                    // stamps what is sent with the capability's time.
                    cap.downgrade(&now);
                    handle.session(&*cap).give_container(&mut deltas);
                    if ticks.round_done().is_some() {
                        self.describe(&mut ticks);
                    }
                }
                cap.downgrade(&ticks.next(control_upper));
            }
        });
        stream
    }

    /// Makes sure that a tick or a preparation is in progress, beginning the next one if necessary.
    /// `false` if there is none.
    fn begin_next(&mut self, ticks: &mut TickQueue) -> bool {
        if ticks.current.is_some() {
            return true;
        }
        let Some((mut current, messages)) = ticks.take() else { return false };
        let requests = dispatch(messages, current.prepares, self);
        ticks.descriptions.extend(requests.descriptions);
        let executor = &mut self.executor;
        // `tick` comes after the messages: views that begin in this tick are part of it. And it
        // comes before the samples, which belong to the time of the new tick.
        if !current.prepares {
            // Only ticks move the executor's time. A preparation evaluates as of the previous tick:
            // its rows must equal those of the views that the tick has evaluated.
            executor.tick(current.t, requests.begins_all);
        }
        // The last view was removed. From now on nobody takes samples, and a queue that stayed open
        // would fill up.
        if executor.is_idle() {
            self.samples.close();
        }
        // A preparation leaves samples to the next tick, unless there will be none.
        if !current.prepares || executor.is_idle() {
            let mut batches = 0;
            for item in self.samples.take() {
                executor.samples(&item, executor.now());
                batches += 1;
            }
            current.last = executor.last_round(executor.now());
            let ActiveTick { number, t, last, .. } = current;
            tracing::debug!(target: "live::tick", number, t, batches, last_round = last, "a worker begins a tick");
        }
        ticks.current = Some(current);
        true
    }

    /// Runs one round, or a preparation, after adding the samples that the round before has
    /// recorded.
    fn round(
        &mut self,
        tick: ActiveTick,
        descriptions: &[DescribeRequest],
        recorded: Vec<ChangeEvent>,
    ) -> Vec<PortDelta> {
        let executor = &mut self.executor;
        for item in recorded {
            executor.samples(&item, executor.now());
        }
        let mut deltas = if tick.prepares { executor.prepare() } else { executor.round(tick.t, tick.round) };
        deltas.extend(vote_message(self.garbage.take().into_iter().map(WorkerVote::Garbage).collect()));
        // After the last round the answer that is checked is complete. What this worker says goes
        // to the view's owner with the deltas of the round, so it is there when the owner answers.
        if !tick.prepares && tick.round == tick.last {
            deltas.extend(descriptions.iter().filter_map(|request| executor.check(request)));
        }
        deltas
    }

    /// Sends the descriptions that the finished tick was asked for.
    fn describe(&mut self, ticks: &mut TickQueue) {
        for request in ticks.descriptions.drain(..) {
            (self.described)(request.id, HostReport::Local(self.executor.describe(&request)));
        }
    }
}

impl ControlTarget for LocalOperator {
    fn install(&mut self, id: ViewId, request: ViewRequest, batch: InstallBatchId) {
        // Opened before the history is read, so that no sample is missed: what arrives later is in
        // the queue.
        self.samples.open();
        self.executor.install(id, request, batch);
    }
    fn begin(&mut self, batch: InstallBatchId) {
        self.executor.begin(Some(batch));
    }
    fn remove(&mut self, id: ViewId) {
        self.executor.remove(id);
    }
    fn rebuild(&mut self, selector: Option<&[Matcher]>, batch: InstallBatchId) {
        self.executor.rebuild(selector, batch);
    }
    fn evaluate_for_check(&mut self, id: ViewId) {
        self.executor.evaluate_for_check(id);
    }
}

/// Removes and returns what has a time up to and including `now`.
fn take_until<T>(arrived: &mut BTreeMap<LiveTime, Vec<T>>, now: LiveTime) -> Vec<T> {
    // Not only what has the time `now`: control messages may have skipped ticks that had no rounds
    // of their own, and deltas for those are applied with the next.
    let later = arrived.split_off(&(now + 1));
    std::mem::replace(arrived, later).into_values().flatten().collect()
}

/// The operator of the gather stage.
struct GatherOperator {
    executor: GatherExecutor,
    garbage: GarbageSelectors,
    callbacks: WorkerCallbacks,
}

impl GatherOperator {
    /// Adds the operator to the dataflow. Returns the recorded samples.
    fn add_to<'scope>(
        mut self,
        scope: Scope<'scope, LiveTime>,
        deltas: StreamVec<'scope, LiveTime, PortDelta>,
        control: StreamVec<'scope, LiveTime, Control>,
    ) -> StreamVec<'scope, LiveTime, ChangeEvent> {
        let mut builder = OperatorBuilder::new("GatherExecutor".to_owned(), scope);
        let mut deltas = builder.new_input(deltas, Exchange::new(|delta: &PortDelta| delta.owner));
        let mut control = builder.new_input(control, Pipeline);
        let (output, stream) = builder.new_output::<Vec<ChangeEvent>>();
        let mut output = OutputBuilder::from(output);
        builder.build(move |mut capabilities| {
            let mut capability: Option<Capability<LiveTime>> = capabilities.pop();
            let mut ticks = TickQueue::default();
            let mut arrived = BTreeMap::<LiveTime, Vec<PortDelta>>::new();
            move |frontiers| {
                deltas.for_each(|cap, batch| arrived.entry(*cap.time()).or_default().append(batch));
                control.for_each(|cap, batch| ticks.control.entry(*cap.time()).or_default().append(batch));
                let deltas_upper = upper(&frontiers[0]);
                let control_upper = upper(&frontiers[1]);
                if control_upper == LiveTime::MAX && deltas_upper == LiveTime::MAX {
                    capability = None;
                }
                let Some(cap) = capability.as_mut() else { return };
                ticks.line_up(control_upper);
                let mut handle = output.activate();
                loop {
                    let next = ticks.next(control_upper);
                    let is_idle = ticks.current.is_none() && ticks.ready.is_empty();
                    // Deltas of the round may still come.
                    // `deltas_upper` is the earliest time of deltas that may still come from any
                    // worker, in a cluster of any process. So a slow process delays the answers of
                    // all views, but no view answers with some of its shards missing.
                    if is_idle || deltas_upper <= next {
                        break;
                    }
                    cap.downgrade(&next);
                    let mut recorded = self.round(&mut ticks, &mut arrived);
                    // An empty batch would wake all workers for nothing.
                    if !recorded.is_empty() {
                        handle.session(&*cap).give_container(&mut recorded);
                    }
                    if let Some(tick) = ticks.round_done() {
                        self.tick_done(tick, &mut ticks);
                    }
                }
                cap.downgrade(&ticks.next(control_upper));
            }
        });
        stream
    }

    /// Runs one round, or a preparation. If it begins a tick, its control messages are handled
    /// first. Returns the recorded samples.
    fn round(
        &mut self,
        ticks: &mut TickQueue,
        arrived: &mut BTreeMap<LiveTime, Vec<PortDelta>>,
    ) -> Vec<ChangeEvent> {
        let mut recorded = Vec::new();
        if ticks.current.is_none() {
            let Some((mut current, messages)) = ticks.take() else { return recorded };
            let mut target = GatherTarget { executor: &mut self.executor, t: current.t, recorded };
            let ControlRequests { begins_all, descriptions } =
                dispatch(messages, current.prepares, &mut target);
            recorded = target.recorded;
            ticks.descriptions.extend(descriptions);
            // After all messages: `BeginAll` also begins the views whose `Install` came in the same
            // batch.
            if begins_all {
                recorded.extend(self.executor.begin(None, current.t));
            }
            if !current.prepares {
                current.last = self.executor.last_round(current.t);
            }
            ticks.current = Some(current);
        }
        let Some(tick) = ticks.current else { return recorded };
        for delta in take_until(arrived, time::timestamp(tick.number, tick.round)) {
            self.executor.delta(delta);
        }
        if tick.prepares {
            self.executor.prepare();
        } else {
            recorded.extend(self.executor.round(tick.t, tick.round));
        }
        recorded
    }

    /// Reports the end of a tick or preparation.
    fn tick_done(&mut self, tick: ActiveTick, ticks: &mut TickQueue) {
        // Description requests come with ticks only, not with preparations.
        for request in ticks.descriptions.drain(..) {
            let report = HostReport::Gather(self.executor.describe(&request, tick.t));
            (self.callbacks.described)(request.id, report);
        }
        for vote in self.executor.take_decided_votes() {
            (self.callbacks.decided)(vote);
        }
        self.garbage.borrow_mut().extend(self.executor.garbage(tick.t));
        (self.callbacks.done)(tick.number, self.executor.remaining_work());
    }
}

/// Handles the control messages of the tick at `t`.
struct GatherTarget<'a> {
    executor: &'a mut GatherExecutor,
    t: TimeMs,
    /// The stale markers of series that are not recorded any more.
    recorded: Vec<ChangeEvent>,
}

impl ControlTarget for GatherTarget<'_> {
    fn install(&mut self, id: ViewId, request: ViewRequest, batch: InstallBatchId) {
        self.executor.install(id, request, batch);
    }
    fn begin(&mut self, batch: InstallBatchId) {
        self.recorded.extend(self.executor.begin(Some(batch), self.t));
    }
    fn remove(&mut self, id: ViewId) {
        self.recorded.extend(self.executor.remove(id, self.t));
    }
    fn rebuild(&mut self, selector: Option<&[Matcher]>, batch: InstallBatchId) {
        self.executor.rebuild(selector, batch);
    }
    fn evaluate_for_check(&mut self, id: ViewId) {
        self.executor.evaluate_for_check(id);
    }
    fn tap(&mut self, view: ViewId, tap: TapId) {
        self.executor.tap(view, tap);
    }
    fn untap(&mut self, tap: TapId) {
        self.executor.untap(tap);
    }
}
