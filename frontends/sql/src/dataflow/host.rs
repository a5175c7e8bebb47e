//! The thread that has all dataflows. Views install theirs, ask it what changed, and remove it; in
//! between it sleeps, so a dataflow over which nothing happens costs nothing.
//!
//! Time is the number of the refresh. A refresh looks at all relations, puts what changed into the
//! dataflows, and runs them until all of it has arrived.

use super::input::{InputSpec, InputState, ReadLists};
use super::lower::FlowPlan;
use super::rel::Side;
use super::render::{Gauges, KeyedTrace, Renderer, RowTrace, Time};
use super::row::Row;
use crate::error::{SqlError, SqlErrorKind};
use crate::limits::{DATAFLOW_BYTES, DATAFLOW_ROWS, DATAFLOW_WAITING_ROWS, REFRESH_MS, STANDING_ROWS};
use differential_dataflow::input::InputSession;
use differential_dataflow::operators::arrange::ShutdownButton;
use differential_dataflow::trace::TraceReader;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use storage::model::TimeMs;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::CapabilitySet;
use timely::progress::frontier::AntichainRef;
use timely::worker::Worker;

/// What the host is asked.
pub(super) enum Request {
    /// Builds a dataflow; the answer has all of its rows.
    Install {
        plan: Arc<FlowPlan>,
        marks: Arc<ViewMarks>,
        t: TimeMs,
        deadline: Instant,
        reply: Reply,
    },
    /// What changed in a view until `t`, since the call before.
    Ask {
        view: u64,
        t: TimeMs,
        deadline: Instant,
        reply: Reply,
    },
    Remove {
        view: u64,
    },
    Describe {
        reply: SyncSender<DataflowStats>,
    },
}

pub(super) type Reply = SyncSender<Result<ViewChanges, SqlError>>;

/// What changed in a view.
#[derive(Debug, Default)]
pub(super) struct ViewChanges {
    /// The number of the view.
    pub(super) view: u64,
    /// The version of [`ViewMarks`] that they lead to.
    pub(super) version: u64,
    pub(super) rows: Vec<(Row, isize)>,
}

/// What a view may read without asking the host.
#[derive(Debug, Default)]
pub(super) struct ViewMarks {
    /// Changes with each change of its rows.
    pub(super) version: AtomicU64,
}

/// What all views may read without asking the host.
#[derive(Debug)]
pub(super) struct HostMarks {
    /// The time of the newest refresh.
    pub(super) refreshed: AtomicI64,
}

impl Default for HostMarks {
    fn default() -> HostMarks {
        HostMarks { refreshed: AtomicI64::new(TimeMs::MIN) }
    }
}

/// What all dataflows consist of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataflowStats {
    /// Statements that stand as dataflows.
    pub views: usize,
    /// Relations that they read.
    pub inputs: usize,
    /// Sides of joins that they share.
    pub arrangements: usize,
    /// Different rows of the relations.
    pub rows: usize,
    /// Bytes of all rows that are kept, approximately.
    pub bytes: usize,
}

/// A relation of the server, arranged by all of its columns.
struct InputFlow {
    spec: Arc<InputSpec>,
    session: InputSession<Time, Row, isize>,
    trace: RowTrace,
    state: InputState,
    /// Why it could not be read at the newest refresh.
    error: Option<SqlError>,
    dataflow: usize,
    users: usize,
}

/// A side of joins that several views share.
struct SideFlow {
    trace: KeyedTrace,
    probe: ProbeHandle<Time>,
    buttons: Vec<ShutdownButton<CapabilitySet<Time>>>,
    dataflow: usize,
    gauges: Gauges,
    input: String,
    users: usize,
}

/// The dataflow of a view.
struct ViewFlow {
    probe: ProbeHandle<Time>,
    buttons: Vec<ShutdownButton<CapabilitySet<Time>>>,
    dataflow: usize,
    gauges: Gauges,
    inputs: Vec<String>,
    sides: Vec<String>,
    /// What came out since the view last asked.
    output: Rc<RefCell<Vec<(Row, isize)>>>,
    marks: Arc<ViewMarks>,
}

pub(super) struct Host<'a> {
    worker: &'a mut Worker,
    marks: Arc<HostMarks>,
    now: Time,
    inputs: BTreeMap<String, InputFlow>,
    sides: BTreeMap<String, SideFlow>,
    views: HashMap<u64, ViewFlow>,
    /// Views that a limit has ended, until they ask.
    ended: HashMap<u64, SqlError>,
    next: u64,
}

/// How many steps more after a refresh: arrangements merge their pieces.
const SETTLING_STEPS: usize = 8;

impl<'a> Host<'a> {
    pub(super) fn new(worker: &'a mut Worker, marks: Arc<HostMarks>) -> Host<'a> {
        Host {
            worker,
            marks,
            now: 1,
            inputs: BTreeMap::new(),
            sides: BTreeMap::new(),
            views: HashMap::new(),
            ended: HashMap::new(),
            next: 0,
        }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            // Who asked may be gone: nothing is lost then.
            match request {
                Request::Install { plan, marks, t, deadline, reply } => {
                    let _ = reply.send(self.install(&plan, marks, t, deadline));
                }
                Request::Ask { view, t, deadline, reply } => {
                    let _ = reply.send(self.ask(view, t, deadline));
                }
                Request::Remove { view } => self.remove(view),
                Request::Describe { reply } => drop(reply.send(self.stats())),
            }
        }
        let views: Vec<u64> = self.views.keys().copied().collect();
        for view in views {
            self.remove(view);
        }
    }

    fn install(
        &mut self,
        plan: &FlowPlan,
        marks: Arc<ViewMarks>,
        t: TimeMs,
        deadline: Instant,
    ) -> Result<ViewChanges, SqlError> {
        self.refresh(t, deadline)?;
        let mut specs = BTreeMap::new();
        plan.rel.inputs(&mut specs);
        let mut sides = BTreeMap::new();
        plan.rel.shared_sides(&mut sides);
        let built = self.build(plan, &specs, &sides, marks, t, deadline);
        let view = self.next;
        let result = built.and_then(|flow| {
            self.views.insert(view, flow);
            self.next += 1;
            self.settle(deadline)?;
            self.ask_now(view)
        });
        if result.is_err() {
            self.remove(view);
            self.drop_unused();
        }
        result
    }

    fn build(
        &mut self,
        plan: &FlowPlan,
        specs: &BTreeMap<String, Arc<InputSpec>>,
        sides: &BTreeMap<String, Side>,
        marks: Arc<ViewMarks>,
        t: TimeMs,
        deadline: Instant,
    ) -> Result<ViewFlow, SqlError> {
        for spec in specs.values() {
            self.add_input(spec, t, deadline)?;
        }
        for (name, side) in sides {
            self.add_side(name, side)?;
        }
        let probe = ProbeHandle::new();
        let output: Rc<RefCell<Vec<(Row, isize)>>> = Rc::default();
        let gauges = Gauges::default();
        let mut buttons = Vec::new();
        let dataflow = self.worker.next_dataflow_index();
        let inputs = &mut self.inputs;
        let shared = &mut self.sides;
        let rendered = self.worker.dataflow_named("view", |scope| -> Result<(), SqlError> {
            let mut renderer =
                Renderer { inputs: HashMap::new(), sides: HashMap::new(), gauges: gauges.clone() };
            for name in specs.keys() {
                if let Some(flow) = inputs.get_mut(name) {
                    let (arranged, button) = flow.trace.import_core(scope, name);
                    renderer.inputs.insert(name.clone(), arranged);
                    buttons.push(button);
                }
            }
            for name in sides.keys() {
                if let Some(flow) = shared.get_mut(name) {
                    let (arranged, button) = flow.trace.import_core(scope, name);
                    renderer.sides.insert(name.clone(), arranged);
                    buttons.push(button);
                }
            }
            let rows = renderer.rows(&plan.rel)?;
            let received = output.clone();
            rows.inspect_batch(move |_, updates| {
                received.borrow_mut().extend(updates.iter().map(|(row, _, count)| (row.clone(), *count)));
            })
            .probe_with(&probe);
            Ok(())
        });
        for name in specs.keys() {
            if let Some(flow) = self.inputs.get_mut(name) {
                flow.users += 1;
            }
        }
        for name in sides.keys() {
            if let Some(flow) = self.sides.get_mut(name) {
                flow.users += 1;
            }
        }
        let flow = ViewFlow {
            probe,
            buttons,
            dataflow,
            gauges,
            inputs: specs.keys().cloned().collect(),
            sides: sides.keys().cloned().collect(),
            output,
            marks,
        };
        if let Err(error) = rendered {
            self.end_view(flow);
            return Err(error);
        }
        Ok(flow)
    }

    fn add_input(&mut self, spec: &Arc<InputSpec>, t: TimeMs, deadline: Instant) -> Result<(), SqlError> {
        if self.inputs.contains_key(&spec.name) {
            return Ok(());
        }
        let mut state = InputState::default();
        let changes = spec.poll(&mut state, t, &mut ReadLists::new())?;
        let mut session = InputSession::new();
        let dataflow = self.worker.next_dataflow_index();
        let trace = self.worker.dataflow_named(&spec.name, |scope| {
            session.to_collection(scope).arrange_by_self_named(&spec.name).trace
        });
        for (row, count) in changes {
            session.update(row, count);
        }
        let flow = InputFlow { spec: spec.clone(), session, trace, state, error: None, dataflow, users: 0 };
        self.inputs.insert(spec.name.clone(), flow);
        self.advance();
        self.settle(deadline)
    }

    fn add_side(&mut self, name: &str, side: &Side) -> Result<(), SqlError> {
        if self.sides.contains_key(name) {
            return Ok(());
        }
        let mut specs = BTreeMap::new();
        side.rel.inputs(&mut specs);
        let Some(input) = specs.into_keys().next() else { return Ok(()) };
        let Some(flow) = self.inputs.get_mut(&input) else { return Ok(()) };
        let gauges = Gauges::default();
        let probe = ProbeHandle::new();
        let mut buttons = Vec::new();
        let dataflow = self.worker.next_dataflow_index();
        let rendered = self.worker.dataflow_named(name, |scope| -> Result<KeyedTrace, SqlError> {
            let (arranged, button) = flow.trace.import_core(scope, &input);
            buttons.push(button);
            let inputs = HashMap::from([(input.clone(), arranged)]);
            let renderer = Renderer { inputs, sides: HashMap::new(), gauges: gauges.clone() };
            let arranged = renderer.arranged(side)?;
            arranged.clone().as_collection(|_, _| ()).probe_with(&probe);
            Ok(arranged.trace)
        });
        flow.users += 1;
        match rendered {
            Ok(trace) => {
                let flow = SideFlow { trace, probe, buttons, dataflow, gauges, input, users: 0 };
                self.sides.insert(name.to_owned(), flow);
                Ok(())
            }
            Err(error) => {
                flow.users -= 1;
                end_dataflow(self.worker, buttons, dataflow);
                Err(error)
            }
        }
    }

    /// Looks at all relations, if that was not done just now.
    fn refresh(&mut self, t: TimeMs, deadline: Instant) -> Result<(), SqlError> {
        let last = self.marks.refreshed.load(SeqCst);
        if (last..last.saturating_add(REFRESH_MS)).contains(&t) {
            return Ok(());
        }
        let mut lists = ReadLists::new();
        let mut is_changed = false;
        for flow in self.inputs.values_mut() {
            // What one relation lacks concerns only those who read it.
            let changes = match flow.spec.poll(&mut flow.state, t, &mut lists) {
                Ok(changes) => changes,
                Err(error) => {
                    flow.error = Some(error);
                    continue;
                }
            };
            flow.error = None;
            is_changed |= !changes.is_empty();
            for (row, count) in changes {
                flow.session.update(row, count);
            }
        }
        if is_changed {
            self.advance();
            self.settle(deadline)?;
        }
        self.marks.refreshed.store(t, SeqCst);
        Ok(())
    }

    /// What was put in until now is complete.
    fn advance(&mut self) {
        self.now += 1;
        for flow in self.inputs.values_mut() {
            flow.session.advance_to(self.now);
            flow.session.flush();
        }
    }

    /// Runs until all that was put in has arrived.
    fn settle(&mut self, deadline: Instant) -> Result<(), SqlError> {
        let now = self.now;
        while self.is_behind(now) {
            self.worker.step();
            if let Err(error) = self.check_limits() {
                self.end_largest(error)?;
            }
            if Instant::now() >= deadline {
                return Err(SqlError::new(SqlErrorKind::Timeout, "the dataflow did not answer in time"));
            }
        }
        for _ in 0..SETTLING_STEPS {
            self.worker.step();
        }
        self.compact(now);
        for flow in self.views.values() {
            if !flow.output.borrow().is_empty() {
                flow.marks.version.fetch_add(1, SeqCst);
            }
        }
        Ok(())
    }

    fn is_behind(&self, now: Time) -> bool {
        self.views.values().any(|flow| flow.probe.less_than(&now))
            || self.sides.values().any(|flow| flow.probe.less_than(&now))
    }

    /// What was before now is not told apart any more.
    fn compact(&mut self, now: Time) {
        let frontier = [now];
        for flow in self.inputs.values_mut() {
            flow.trace.set_logical_compaction(AntichainRef::new(&frontier));
            flow.trace.set_physical_compaction(AntichainRef::new(&frontier));
        }
        for flow in self.sides.values_mut() {
            flow.trace.set_logical_compaction(AntichainRef::new(&frontier));
            flow.trace.set_physical_compaction(AntichainRef::new(&frontier));
        }
    }

    /// Ends the view that holds most, so that the others go on.
    fn end_largest(&mut self, error: SqlError) -> Result<(), SqlError> {
        let size = |flow: &ViewFlow| {
            let waiting = flow.gauges.waiting() + flow.output.borrow().len();
            flow.gauges.bytes() + waiting * size_of::<Row>()
        };
        // Of equal ones the newest: what it needs has come last.
        let largest =
            self.views.iter().max_by_key(|(view, flow)| (size(flow), **view)).map(|(view, _)| *view);
        let Some(view) = largest else { return Err(error) };
        self.remove(view);
        self.ended.insert(view, error);
        Ok(())
    }

    fn check_limits(&self) -> Result<(), SqlError> {
        let limit = |text: String| {
            Err(SqlError::new(SqlErrorKind::LimitReached, text)
                .hint("filter or group more, or end other statements that stand"))
        };
        let stats = self.stats();
        if stats.rows > DATAFLOW_ROWS {
            return limit(format!("dataflows would keep more than {DATAFLOW_ROWS} rows of relations"));
        }
        if stats.bytes > DATAFLOW_BYTES {
            return limit(format!("dataflows would keep more than {DATAFLOW_BYTES} bytes"));
        }
        let gauges = self.views.values().map(|flow| flow.gauges.waiting() + flow.output.borrow().len());
        if gauges.max().unwrap_or(0) > DATAFLOW_WAITING_ROWS {
            return limit(format!(
                "a join of a dataflow makes more than {DATAFLOW_WAITING_ROWS} rows at once"
            ));
        }
        Ok(())
    }

    fn ask(&mut self, view: u64, t: TimeMs, deadline: Instant) -> Result<ViewChanges, SqlError> {
        self.refresh(t, deadline)?;
        self.ask_now(view)
    }

    fn ask_now(&mut self, view: u64) -> Result<ViewChanges, SqlError> {
        if let Some(error) = self.ended.remove(&view) {
            return Err(error);
        }
        let Some(flow) = self.views.get(&view) else {
            return Err(SqlError::new(SqlErrorKind::Unavailable, "the dataflow has ended"));
        };
        let shared = flow.sides.iter().filter_map(|name| self.sides.get(name));
        let error = flow.gauges.error().or_else(|| shared.map(|side| side.gauges.error()).find_map(|e| e));
        let mut inputs = flow.inputs.iter().filter_map(|name| self.inputs.get(name));
        let error = error.or_else(|| inputs.find_map(|input| input.error.clone()));
        if let Some(error) = error {
            return Err(error);
        }
        let mut rows = std::mem::take(&mut *flow.output.borrow_mut());
        differential_dataflow::consolidation::consolidate(&mut rows);
        if rows.len() > 2 * STANDING_ROWS {
            let error = format!("a statement that stands has at most {STANDING_ROWS} rows");
            return Err(SqlError::new(SqlErrorKind::LimitReached, error).hint("filter or group more"));
        }
        Ok(ViewChanges { view, version: flow.marks.version.load(SeqCst), rows })
    }

    fn remove(&mut self, view: u64) {
        self.ended.remove(&view);
        if let Some(flow) = self.views.remove(&view) {
            self.end_view(flow);
        }
        self.drop_unused();
    }

    fn end_view(&mut self, flow: ViewFlow) {
        for name in &flow.inputs {
            if let Some(input) = self.inputs.get_mut(name) {
                input.users -= 1;
            }
        }
        for name in &flow.sides {
            if let Some(side) = self.sides.get_mut(name) {
                side.users -= 1;
            }
        }
        end_dataflow(self.worker, flow.buttons, flow.dataflow);
    }

    /// Ends what no view reads any more.
    fn drop_unused(&mut self) {
        let unused: Vec<String> =
            self.sides.iter().filter(|(_, flow)| flow.users == 0).map(|(name, _)| name.clone()).collect();
        for name in unused {
            if let Some(flow) = self.sides.remove(&name) {
                if let Some(input) = self.inputs.get_mut(&flow.input) {
                    input.users -= 1;
                }
                drop(flow.trace);
                end_dataflow(self.worker, flow.buttons, flow.dataflow);
            }
        }
        let unused: Vec<String> =
            self.inputs.iter().filter(|(_, flow)| flow.users == 0).map(|(name, _)| name.clone()).collect();
        for name in unused {
            if let Some(flow) = self.inputs.remove(&name) {
                drop((flow.trace, flow.session));
                end_dataflow(self.worker, Vec::new(), flow.dataflow);
            }
        }
        self.worker.step();
    }

    fn stats(&self) -> DataflowStats {
        let of_inputs: usize = self.inputs.values().map(|flow| flow.state.bytes).sum();
        let of_sides: usize = self.sides.values().map(|flow| flow.gauges.bytes()).sum();
        let of_views: usize = self.views.values().map(|flow| flow.gauges.bytes()).sum();
        DataflowStats {
            views: self.views.len(),
            inputs: self.inputs.len(),
            arrangements: self.sides.len(),
            rows: self.inputs.values().map(|flow| flow.state.len()).sum(),
            bytes: of_inputs + of_sides + of_views,
        }
    }
}

/// Ends a dataflow: its imports first, which would otherwise wait for more.
fn end_dataflow(worker: &mut Worker, buttons: Vec<ShutdownButton<CapabilitySet<Time>>>, dataflow: usize) {
    for mut button in buttons {
        button.press();
    }
    worker.step();
    worker.drop_dataflow(dataflow);
}

/// How long a caller waits for the host beyond its own deadline.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
