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

use super::describe::{DescribeRequest, HostReport};
use super::gather::{GatherExecutor, RemainingWork};
use super::local::{LocalExecutor, said};
use super::message::{Control, PortDelta, WorkerVote};
use super::sample_queue::SampleReceiver;
use super::time::{self, LiveTime};
use super::topology::owner_thread;
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
    pub verdict: Box<dyn Fn(WorkerVote)>,
    /// An executor has answered a description request.
    pub described: DescribeReply,
}

/// Selectors whose state the gather executor of a worker wants built again. The local executor of
/// the same worker sends them to worker 0, which may be in another process: only it has an output
/// to the exchange.
type GarbageSelectors = Rc<RefCell<Vec<Vec<Matcher>>>>;

/// Builds the dataflow of a worker, one of `threads` in its process. `None`: another worker feeds
/// the control stream.
pub fn build(
    worker: &mut Worker,
    threads: usize,
    (local, outlet): (LocalExecutor, SampleReceiver),
    gather: GatherExecutor,
    reports: WorkerCallbacks,
) -> Option<ControlInput> {
    let sequencer = worker.index() == 0;
    worker.dataflow::<LiveTime, _, _>(|scope| {
        let (control, control_stream) = scope.new_input::<Control>();
        let control_stream = control_stream.broadcast();
        let (handle, feedback) = scope.feedback::<Vec<ChangeEvent>>(1);
        let litter = GarbageSelectors::default();
        let local = (local, outlet, reports.described.clone(), litter.clone());
        let deltas = local_operator(scope, local, threads, control_stream.clone(), feedback);
        gather_operator(scope, (gather, litter), deltas, control_stream, reports).connect_loop(handle);
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
    questions: Vec<DescribeRequest>,
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
            (Some(ActiveTick { number, round, .. }), _) => time::at(number, round),
            (None, Some((number, _))) => time::at(*number, 0),
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
        let (t, prepares) = messages.iter().find_map(time).unwrap_or((0, false));
        Some((ActiveTick { number, t, prepares, round: 0, last: 0 }, messages))
    }

    /// Notes that a round is done. Returns the tick if it was its last round.
    fn round_done(&mut self) -> Option<ActiveTick> {
        let current = self.current?;
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

fn local_operator<'scope>(
    scope: Scope<'scope, LiveTime>,
    (mut host, outlet, described, litter): (LocalExecutor, SampleReceiver, DescribeReply, GarbageSelectors),
    threads: usize,
    control: StreamVec<'scope, LiveTime, Control>,
    feedback: StreamVec<'scope, LiveTime, ChangeEvent>,
) -> StreamVec<'scope, LiveTime, PortDelta> {
    let mut builder = OperatorBuilder::new("LocalHost".to_owned(), scope);
    let mut control = builder.new_input(control, Pipeline);
    // Recorded samples are in the store of process 0, and its workers have the lowest numbers.
    let by_shard = Exchange::new(move |item: &ChangeEvent| owner_thread(item.shard, threads) as u64);
    let mut feedback = builder.new_input(feedback, by_shard);
    let (output, stream) = builder.new_output::<Vec<PortDelta>>();
    let mut output = OutputBuilder::from(output);
    builder.build(move |mut capabilities| {
        let mut capability: Option<Capability<LiveTime>> = capabilities.pop();
        let (mut ticks, mut waiting) = (TickQueue::default(), BTreeMap::<LiveTime, Vec<ChangeEvent>>::new());
        move |frontiers| {
            feedback.for_each(|cap, batch| waiting.entry(*cap.time()).or_default().append(batch));
            control.for_each(|cap, batch| ticks.control.entry(*cap.time()).or_default().append(batch));
            let inputs = upper(&frontiers[0]);
            if inputs == LiveTime::MAX {
                capability = None;
            }
            let Some(cap) = capability.as_mut() else { return };
            ticks.line_up(inputs);
            let mut handle = output.activate();
            while begin(&mut ticks, &mut host, &outlet) {
                let Some(ActiveTick { number, t, prepares, round, .. }) = ticks.current else { break };
                let now = time::at(number, round);
                if upper(&frontiers[1]) <= now {
                    break;
                }
                for item in take_until(&mut waiting, now) {
                    host.samples(&item, host.now());
                }
                let mut deltas = if prepares { host.prepare() } else { host.round(t, round) };
                deltas.extend(said(litter.take().into_iter().map(WorkerVote::Garbage).collect()));
                cap.downgrade(&now);
                handle.session(&*cap).give_container(&mut deltas);
                if ticks.round_done().is_none() {
                    continue;
                }
                for question in ticks.questions.drain(..) {
                    described(question.id, HostReport::Local(host.describe(&question)));
                }
            }
            cap.downgrade(&ticks.next(inputs));
        }
    });
    stream
}

/// Makes sure that a tick or a preparation is in progress, beginning the next one if necessary.
/// `false` if there is none.
fn begin(ticks: &mut TickQueue, host: &mut LocalExecutor, outlet: &SampleReceiver) -> bool {
    if ticks.current.is_some() {
        return true;
    }
    let Some((mut current, messages)) = ticks.take() else { return false };
    let mut all = false;
    for message in messages {
        match message {
            Control::Install(id, wanted, cohort) => {
                // Opened before the history is read, so that no sample is missed: what arrives
                // later is in the queue.
                outlet.open();
                host.install(id, wanted, cohort);
            }
            Control::Begin(cohort) => host.begin(Some(cohort)),
            Control::BeginAll => all = true,
            Control::Remove(id) => host.remove(id),
            Control::Renew(selector, cohort) => host.renew(Some(&selector), cohort),
            Control::RenewAll(cohort) => host.renew(None, cohort),
            Control::Describe(question) => {
                if question.check.is_some() && !current.prepares {
                    host.evaluate_for_check(question.from);
                }
                ticks.questions.push(question);
            }
            Control::Tap(..) | Control::Untap(_) | Control::Tick(_) | Control::Prepare(_) => {}
        }
    }
    if !current.prepares {
        host.tick(current.t, all);
    }
    if host.is_idle() {
        outlet.close();
    }
    // A preparation leaves samples to the next tick, unless there will be none.
    if !current.prepares || host.is_idle() {
        let mut batches = 0;
        for item in outlet.take() {
            host.samples(&item, host.now());
            batches += 1;
        }
        current.last = host.last_round(host.now());
        let ActiveTick { number, t, last, .. } = current;
        tracing::debug!(target: "live::tick", number, t, batches, last_round = last, "a worker begins a tick");
    }
    ticks.current = Some(current);
    true
}

/// Removes and returns what has a time up to and including `now`.
fn take_until(waiting: &mut BTreeMap<LiveTime, Vec<ChangeEvent>>, now: LiveTime) -> Vec<ChangeEvent> {
    let later = waiting.split_off(&(now + 1));
    std::mem::replace(waiting, later).into_values().flatten().collect()
}

fn gather_operator<'scope>(
    scope: Scope<'scope, LiveTime>,
    (mut host, litter): (GatherExecutor, GarbageSelectors),
    deltas: StreamVec<'scope, LiveTime, PortDelta>,
    control: StreamVec<'scope, LiveTime, Control>,
    reports: WorkerCallbacks,
) -> StreamVec<'scope, LiveTime, ChangeEvent> {
    let mut builder = OperatorBuilder::new("GatherHost".to_owned(), scope);
    let mut deltas = builder.new_input(deltas, Exchange::new(|delta: &PortDelta| delta.owner));
    let mut control = builder.new_input(control, Pipeline);
    let (output, stream) = builder.new_output::<Vec<ChangeEvent>>();
    let mut output = OutputBuilder::from(output);
    builder.build(move |mut capabilities| {
        let mut capability: Option<Capability<LiveTime>> = capabilities.pop();
        let (mut ticks, mut waiting) = (TickQueue::default(), BTreeMap::<LiveTime, Vec<PortDelta>>::new());
        move |frontiers| {
            deltas.for_each(|cap, batch| waiting.entry(*cap.time()).or_default().append(batch));
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
                let idle = ticks.current.is_none() && ticks.ready.is_empty();
                if idle || deltas_upper <= next {
                    break;
                }
                cap.downgrade(&next);
                let mut recorded = gather_round(&mut ticks, &mut host, &mut waiting);
                if !recorded.is_empty() {
                    handle.session(&*cap).give_container(&mut recorded);
                }
                if let Some(ActiveTick { number, t, .. }) = ticks.round_done() {
                    // Description requests come with ticks only, not with preparations.
                    for question in ticks.questions.drain(..) {
                        (reports.described)(question.id, HostReport::Gather(host.describe(&question, t)));
                    }
                    host.verdicts().into_iter().for_each(&reports.verdict);
                    litter.borrow_mut().extend(host.garbage(t));
                    (reports.done)(number, host.left());
                }
            }
            cap.downgrade(&ticks.next(control_upper));
        }
    });
    stream
}

/// Runs one round of the gather executor, or a preparation. If it begins a tick, its control
/// messages are handled first.
fn gather_round(
    ticks: &mut TickQueue,
    host: &mut GatherExecutor,
    waiting: &mut BTreeMap<LiveTime, Vec<PortDelta>>,
) -> Vec<ChangeEvent> {
    let mut recorded = Vec::new();
    if ticks.current.is_none() {
        let Some((mut current, messages)) = ticks.take() else { return recorded };
        let t = current.t;
        let mut all = false;
        for message in messages {
            match message {
                Control::Install(id, wanted, cohort) => host.install(id, wanted, cohort),
                Control::Begin(cohort) => recorded.extend(host.begin(Some(cohort), t)),
                Control::BeginAll => all = true,
                Control::Remove(id) => recorded.extend(host.remove(id, t)),
                Control::Renew(selector, cohort) => host.renew(Some(&selector), cohort),
                Control::RenewAll(cohort) => host.renew(None, cohort),
                Control::Tap(view, tap) => host.tap(view, tap),
                Control::Untap(tap) => host.untap(tap),
                Control::Describe(question) => {
                    if question.check.is_some() && !current.prepares {
                        host.evaluate_for_check(question.from);
                    }
                    ticks.questions.push(question);
                }
                Control::Tick(_) | Control::Prepare(_) => {}
            }
        }
        if all {
            recorded.extend(host.begin(None, t));
        }
        if !current.prepares {
            current.last = host.last_round(t);
        }
        ticks.current = Some(current);
    }
    let Some(ActiveTick { number, t, prepares, round, .. }) = ticks.current else { return recorded };
    let later = waiting.split_off(&(time::at(number, round) + 1));
    for delta in std::mem::replace(waiting, later).into_values().flatten() {
        host.delta(delta);
    }
    if prepares {
        host.prepare();
    } else {
        recorded.extend(host.round(t, round));
    }
    recorded
}
