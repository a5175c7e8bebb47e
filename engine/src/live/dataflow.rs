//! The one dataflow of a worker: local host, exchange, gather host, feedback. Everything timely is here.
//!
//! ```text
//! samples ──► local host ──exchange by owner──► gather host
//! control ──►    ▲                                  │ recorded samples
//!                └───────── feedback, one round ────┘
//! ```
//! Both hosts process a round when the frontier says that nothing earlier can come. A tick's rounds are known
//! from the views that are due, so a tick without chained rules is one round.

use super::gather::GatherHost;
use super::local::{LocalHost, owner};
use super::message::{Control, PortDelta, Samples};
use super::time::{self, LiveTime};
use std::collections::{BTreeMap, VecDeque};
use storage::model::TimeMs;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::vec::input::{Handle, Input};
use timely::dataflow::operators::{Capability, ConnectLoop, Feedback};
use timely::dataflow::{Scope, StreamVec};
use timely::progress::frontier::MutableAntichain;
use timely::worker::Worker;

/// The inputs of a worker's dataflow.
pub struct Inputs {
    /// Samples of the shards that this worker owns.
    pub samples: Handle<LiveTime, Samples>,
    /// Control messages; only worker 0's reach anyone.
    pub control: Handle<LiveTime, Control>,
}

/// What the dataflow tells the handle.
pub struct Reports {
    /// This worker has finished the tick at that time.
    pub done: Box<dyn Fn(TimeMs)>,
    /// Ended series have piled up: a rebuild is due.
    pub garbage: Box<dyn Fn()>,
}

/// Builds the dataflow.
pub fn build(worker: &mut Worker, local: LocalHost, gather: GatherHost, reports: Reports) -> Inputs {
    let Reports { done, garbage } = reports;
    let peers = worker.peers();
    worker.dataflow::<LiveTime, _, _>(|scope| {
        let (samples, sample_stream) = scope.new_input::<Samples>();
        let (control, control_stream) = scope.new_input::<Control>();
        let control_stream = control_stream.broadcast();
        let (handle, feedback) = scope.feedback::<Vec<Samples>>(1);
        let deltas =
            local_operator(scope, (local, garbage), peers, sample_stream, control_stream.clone(), feedback);
        gather_operator(scope, gather, deltas, control_stream, done).connect_loop(handle);
        Inputs { samples, control }
    })
}

/// The ticks of the control stream, and how far the operator is in them.
#[derive(Default)]
struct Ticks {
    control: BTreeMap<LiveTime, Vec<Control>>,
    ready: VecDeque<(TimeMs, Vec<Control>)>,
    current: Option<(TimeMs, u64, u64)>,
}

impl Ticks {
    /// Moves control messages that are complete as of `upper` into line.
    fn line_up(&mut self, upper: LiveTime) {
        while let Some(entry) = self.control.first_entry().filter(|e| *e.key() < upper) {
            let (t, messages) = (time::split(*entry.key()).0, entry.remove());
            self.ready.push_back((t, messages));
        }
    }

    /// The time the operator works on next, or may next hear of.
    fn next(&self, upper: LiveTime) -> LiveTime {
        match (self.current, self.ready.front()) {
            (Some((t, round, _)), _) => time::at(t, round),
            (None, Some((t, _))) => time::at(*t, 0),
            (None, None) => self.control.keys().next().copied().unwrap_or(upper).min(upper),
        }
    }

    /// Notes that a round is done; returns the tick if it was its last.
    fn round_done(&mut self) -> Option<TimeMs> {
        let (t, round, last) = self.current?;
        if round < last {
            self.current = Some((t, round + 1, last));
            return None;
        }
        self.current = None;
        Some(t)
    }
}

/// Everything before this time has arrived.
fn upper(frontier: &MutableAntichain<LiveTime>) -> LiveTime {
    frontier.frontier().first().copied().unwrap_or(LiveTime::MAX)
}

fn local_operator<'scope>(
    scope: Scope<'scope, LiveTime>,
    (mut host, garbage): (LocalHost, Box<dyn Fn()>),
    peers: usize,
    samples: StreamVec<'scope, LiveTime, Samples>,
    control: StreamVec<'scope, LiveTime, Control>,
    feedback: StreamVec<'scope, LiveTime, Samples>,
) -> StreamVec<'scope, LiveTime, PortDelta> {
    let mut builder = OperatorBuilder::new("LocalHost".to_owned(), scope);
    let mut samples = builder.new_input(samples, Pipeline);
    let mut control = builder.new_input(control, Pipeline);
    let by_shard = Exchange::new(move |item: &Samples| owner(item.shard, peers) as u64);
    let mut feedback = builder.new_input(feedback, by_shard);
    let (output, stream) = builder.new_output::<Vec<PortDelta>>();
    let mut output = OutputBuilder::from(output);
    builder.build(move |mut capabilities| {
        let mut capability: Option<Capability<LiveTime>> = capabilities.pop();
        let (mut ticks, mut waiting) = (Ticks::default(), BTreeMap::<LiveTime, Vec<Samples>>::new());
        move |frontiers| {
            samples.for_each(|cap, batch| waiting.entry(*cap.time()).or_default().append(batch));
            feedback.for_each(|cap, batch| waiting.entry(*cap.time()).or_default().append(batch));
            control.for_each(|cap, batch| ticks.control.entry(*cap.time()).or_default().append(batch));
            let inputs = upper(&frontiers[0]).min(upper(&frontiers[1]));
            if inputs == LiveTime::MAX {
                capability = None;
            }
            let Some(cap) = capability.as_mut() else { return };
            ticks.line_up(inputs);
            let mut handle = output.activate();
            while begin(&mut ticks, &mut host) {
                let Some((t, round, _)) = ticks.current else { break };
                let now = time::at(t, round);
                if upper(&frontiers[2]) <= now {
                    break;
                }
                for item in take_until(&mut waiting, now) {
                    host.samples(&item, t);
                }
                let mut deltas = host.round(t, round);
                cap.downgrade(&now);
                handle.session(&*cap).give_container(&mut deltas);
                if ticks.round_done().is_some_and(|t| host.is_garbage(t)) {
                    garbage();
                }
            }
            cap.downgrade(&ticks.next(inputs));
        }
    });
    stream
}

/// Makes sure that a tick is at work, beginning the next in line; `false` if there is none.
fn begin(ticks: &mut Ticks, host: &mut LocalHost) -> bool {
    if ticks.current.is_some() {
        return true;
    }
    let Some((t, messages)) = ticks.ready.pop_front() else { return false };
    for message in messages {
        match message {
            Control::Install(id, spec) => host.install(id, spec, t),
            Control::Remove(id) => host.remove(id),
            Control::Rebuild => host.rebuild(t),
            Control::Tap(..) | Control::Untap(_) | Control::Tick(_) => {}
        }
    }
    ticks.current = Some((t, 0, host.last_round(t)));
    true
}

/// Removes and returns what is waiting up to and including `now`.
fn take_until(waiting: &mut BTreeMap<LiveTime, Vec<Samples>>, now: LiveTime) -> Vec<Samples> {
    let later = waiting.split_off(&(now + 1));
    std::mem::replace(waiting, later).into_values().flatten().collect()
}

fn gather_operator<'scope>(
    scope: Scope<'scope, LiveTime>,
    mut host: GatherHost,
    deltas: StreamVec<'scope, LiveTime, PortDelta>,
    control: StreamVec<'scope, LiveTime, Control>,
    done: impl Fn(TimeMs) + 'static,
) -> StreamVec<'scope, LiveTime, Samples> {
    let mut builder = OperatorBuilder::new("GatherHost".to_owned(), scope);
    let mut deltas = builder.new_input(deltas, Exchange::new(|delta: &PortDelta| delta.owner));
    let mut control = builder.new_input(control, Pipeline);
    let (output, stream) = builder.new_output::<Vec<Samples>>();
    let mut output = OutputBuilder::from(output);
    builder.build(move |mut capabilities| {
        let mut capability: Option<Capability<LiveTime>> = capabilities.pop();
        let (mut ticks, mut waiting) = (Ticks::default(), BTreeMap::<LiveTime, Vec<PortDelta>>::new());
        move |frontiers| {
            deltas.for_each(|cap, batch| waiting.entry(*cap.time()).or_default().append(batch));
            control.for_each(|cap, batch| ticks.control.entry(*cap.time()).or_default().append(batch));
            let (deltas_upper, control_upper) = (upper(&frontiers[0]), upper(&frontiers[1]));
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
                if let Some(t) = ticks.round_done() {
                    done(t);
                }
            }
            cap.downgrade(&ticks.next(control_upper));
        }
    });
    stream
}

/// One round of the gather host: control messages first if it begins a tick.
fn gather_round(
    ticks: &mut Ticks,
    host: &mut GatherHost,
    waiting: &mut BTreeMap<LiveTime, Vec<PortDelta>>,
) -> Vec<Samples> {
    let mut recorded = Vec::new();
    if ticks.current.is_none() {
        let Some((t, messages)) = ticks.ready.pop_front() else { return recorded };
        for message in messages {
            match message {
                Control::Install(id, spec) => host.install(id, spec),
                Control::Remove(id) => recorded.extend(host.remove(id, t)),
                Control::Rebuild => host.rebuild(),
                Control::Tap(view, tap) => host.tap(view, tap),
                Control::Untap(tap) => host.untap(tap),
                Control::Tick(_) => {}
            }
        }
        ticks.current = Some((t, 0, host.last_round(t)));
    }
    let Some((t, round, _)) = ticks.current else { return recorded };
    let later = waiting.split_off(&(time::at(t, round) + 1));
    for delta in std::mem::replace(waiting, later).into_values().flatten() {
        host.delta(delta);
    }
    recorded.extend(host.round(t, round));
    recorded
}
