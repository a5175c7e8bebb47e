//! The thread that runs all dataflows. It starts with the first standing statement and ends with
//! the last; it sleeps while nothing changes.
//!
//! A logical time of timely is the number of a refresh. A refresh reads all lists
//! ([`super::input`]), gives each dataflow its changes ([`super::flows`]), and steps the worker
//! until no dataflow has work left. The output of a dataflow is put into the [`ViewMarks`] of its
//! statement, where [`super::standing`] reads it without asking the thread.

use super::flows::{Flow, GroupFlow, ImportShutdown, InputRows, SideFlow, ViewFlow, end_dataflow, put};
use super::input::{InputSpec, InputState, PollLimits, ReadLists};
use super::lower::FlowPlan;
use super::program::Update;
use super::rel::{Rel, RelOp, RelReads, Side};
use super::render::{Gauges, KeyedTrace, Renderer, Time};
use super::row::Row;
use super::standing::ViewMarks;
use crate::error::{SqlError, SqlErrorKind};
use crate::limits::{DataflowLimits, REFRESH_MS, STANDING_ROWS};
use datafusion::common::HashMap as RowMap;
use differential_dataflow::input::{Input, InputSession};
use differential_dataflow::trace::TraceReader;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use storage::model::TimeMs;
use timely::dataflow::ProbeHandle;
use timely::progress::frontier::AntichainRef;
use timely::worker::Worker;

/// A request to the thread.
pub(super) enum Request {
    /// Builds a dataflow, and answers with its number. Its current rows are the first changes in
    /// the marks.
    Install {
        plan: Arc<FlowPlan>,
        marks: Arc<ViewMarks>,
        t: TimeMs,
        deadline: Instant,
        reply: SyncSender<Result<u64, SqlError>>,
    },
    /// Reads all lists, and answers when the marks of all views have the changes until `t`.
    Refresh {
        t: TimeMs,
        deadline: Instant,
        reply: SyncSender<Result<(), SqlError>>,
    },
    Remove {
        view: u64,
    },
    Describe {
        reply: SyncSender<DataflowStats>,
    },
}

/// State that views read without a request to the thread.
#[derive(Debug)]
pub(super) struct HostMarks {
    /// The time of the latest refresh.
    pub(super) refreshed: AtomicI64,
}

impl Default for HostMarks {
    fn default() -> HostMarks {
        HostMarks { refreshed: AtomicI64::new(TimeMs::MIN) }
    }
}

/// Sizes of all dataflows together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataflowStats {
    /// Number of standing statements that are dataflows.
    pub views: usize,
    /// Number of lists that they read.
    pub inputs: usize,
    /// Number of shared arrangements for joins.
    pub arrangements: usize,
    /// Number of shared `GROUP BY`s.
    pub groups: usize,
    /// Number of distinct rows of the lists.
    pub rows: usize,
    /// Memory of all stored rows, bytes, approximately.
    pub bytes: usize,
}

pub(super) struct Host<'a> {
    worker: &'a mut Worker,
    marks: Arc<HostMarks>,
    limits: DataflowLimits,
    now: Time,
    inputs: BTreeMap<String, InputRows>,
    sides: BTreeMap<String, SideFlow>,
    /// Ordered: each after those that it reads.
    groups: Vec<GroupFlow>,
    views: BTreeMap<u64, ViewFlow>,
    next: u64,
    /// Whether any view has an error.
    has_failed: bool,
}

/// Additional steps after a refresh, in which arrangements merge their batches.
const SETTLING_STEPS: usize = 8;

impl<'a> Host<'a> {
    pub(super) fn new(worker: &'a mut Worker, marks: Arc<HostMarks>, limits: DataflowLimits) -> Host<'a> {
        Host {
            worker,
            marks,
            limits,
            now: 1,
            inputs: BTreeMap::new(),
            sides: BTreeMap::new(),
            groups: Vec::new(),
            views: BTreeMap::new(),
            next: 0,
            has_failed: false,
        }
    }

    /// Runs until there is no view any more, or no sender of requests.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            self.answer(request);
            // The thread ends, so that its allocator returns its memory. A request in the meantime
            // starts a new thread.
            while self.views.is_empty() {
                let Ok(request) = requests.try_recv() else { return };
                self.answer(request);
            }
        }
        let views: Vec<u64> = self.views.keys().copied().collect();
        for view in views {
            self.remove(view);
        }
    }

    fn answer(&mut self, request: Request) {
        // The caller may have given up. Nothing is lost then.
        match request {
            Request::Install { plan, marks, t, deadline, reply } => {
                let _ = reply.send(self.install(&plan, marks, t, deadline));
            }
            Request::Refresh { t, deadline, reply } => drop(reply.send(self.refresh(t, deadline))),
            Request::Remove { view } => self.remove(view),
            Request::Describe { reply } => drop(reply.send(self.stats())),
        }
    }

    fn install(
        &mut self,
        plan: &FlowPlan,
        marks: Arc<ViewMarks>,
        t: TimeMs,
        deadline: Instant,
    ) -> Result<u64, SqlError> {
        self.refresh(t, deadline)?;
        let view = self.next;
        self.next += 1;
        let built = self.build(plan, marks.clone(), t, deadline);
        let result = built.and_then(|flow| {
            self.views.insert(view, flow);
            self.settle(deadline)?;
            self.tell_errors();
            // Also the error of a limit that has ended the view.
            marks.error().map_or(Ok(view), Err)
        });
        if result.is_err() {
            self.remove(view);
        }
        result
    }

    fn build(
        &mut self,
        plan: &FlowPlan,
        marks: Arc<ViewMarks>,
        t: TimeMs,
        deadline: Instant,
    ) -> Result<ViewFlow, SqlError> {
        let reads = plan.rel.reads_in_all();
        for spec in reads.inputs.values() {
            self.add_input(spec, t, deadline)?;
        }
        for (name, side) in &reads.sides {
            self.add_side(name, side)?;
        }
        for rel in &reads.groups {
            self.add_group(rel)?;
        }
        let flow = self.flow("view", &plan.rel, &plan.rel.reads())?;
        Ok(ViewFlow { flow, reads, marks })
    }

    fn add_input(&mut self, spec: &Arc<InputSpec>, t: TimeMs, deadline: Instant) -> Result<(), SqlError> {
        if self.inputs.contains_key(&spec.name) {
            return Ok(());
        }
        let mut state = InputState::default();
        let limits = self.poll_limits(deadline);
        let rows = spec.poll(&mut state, t, &mut ReadLists::new(), &limits)?;
        // A later reader starts with the rows that are stored here.
        drop(rows);
        self.inputs.insert(spec.name.clone(), InputRows { spec: spec.clone(), state, error: None });
        Ok(())
    }

    fn poll_limits(&self, deadline: Instant) -> PollLimits {
        let kept: usize = self.inputs.values().map(|input| input.state.len()).sum();
        PollLimits { rows: self.limits.rows, kept, deadline }
    }

    fn add_side(&mut self, name: &str, side: &Side) -> Result<(), SqlError> {
        if self.sides.contains_key(name) {
            return Ok(());
        }
        let Some(input) = side.rel.reads().inputs.into_keys().next() else { return Ok(()) };
        let gauges = Gauges::default();
        let probe = ProbeHandle::new();
        let mut session = InputSession::new();
        let dataflow = self.worker.next_dataflow_index();
        let rendered = self.worker.dataflow_named(name, |scope| -> Result<KeyedTrace, SqlError> {
            let rows = session.to_collection(scope);
            let inputs = HashMap::from([(input.clone(), rows)]);
            let renderer = Renderer { inputs, sides: HashMap::new(), gauges: gauges.clone() };
            let arranged = renderer.arranged(side)?;
            arranged.clone().as_collection(|_, _| ()).probe_with(&probe);
            Ok(arranged.trace)
        });
        match rendered {
            Ok(trace) => {
                put(&mut session, self.now, updates(self.rows_of(&input)));
                let flow = SideFlow { trace, session, probe, dataflow, gauges, input };
                self.sides.insert(name.to_owned(), flow);
                Ok(())
            }
            Err(error) => {
                drop(session);
                end_dataflow(self.worker, Vec::new(), dataflow);
                Err(error)
            }
        }
    }

    fn add_group(&mut self, rel: &Arc<Rel>) -> Result<(), SqlError> {
        let RelOp::Aggregate(input, _) = &rel.op else { return Ok(()) };
        if self.groups.iter().any(|group| group.rel.text == rel.text) {
            return Ok(());
        }
        let flow = self.flow(GROUPS, rel, &input.reads())?;
        self.groups.push(GroupFlow { rel: rel.clone(), flow, rows: RowMap::new(), bytes: 0 });
        Ok(())
    }

    /// Builds the dataflow of a relation, or of groups if `name` says so, and inserts all rows that
    /// it reads.
    fn flow(&mut self, name: &str, rel: &Arc<Rel>, reads: &RelReads) -> Result<Flow, SqlError> {
        let groups = reads.groups.iter().map(|group| &group.text);
        let names: Vec<String> = reads.inputs.keys().chain(groups).cloned().collect();
        let gauges = Gauges::default();
        let probe = ProbeHandle::new();
        let output: Rc<RefCell<Vec<Update>>> = Rc::default();
        let mut buttons: Vec<ImportShutdown> = Vec::new();
        let mut sessions = BTreeMap::new();
        let sides = &mut self.sides;
        let dataflow = self.worker.next_dataflow_index();
        let rendered = self.worker.dataflow_named(name, |scope| -> Result<(), SqlError> {
            let mut renderer =
                Renderer { inputs: HashMap::new(), sides: HashMap::new(), gauges: gauges.clone() };
            for name in &names {
                let (session, rows) = scope.new_collection();
                sessions.insert(name.clone(), session);
                renderer.inputs.insert(name.clone(), rows);
            }
            for name in reads.sides.keys() {
                if let Some(side) = sides.get_mut(name) {
                    let (arranged, button) = side.trace.import_core(scope, name);
                    renderer.sides.insert(name.clone(), arranged);
                    buttons.push(button);
                }
            }
            let rows = if name == GROUPS { renderer.groups(rel)? } else { renderer.rows(rel)? };
            let received = output.clone();
            rows.inspect_batch(move |_, updates| {
                received.borrow_mut().extend(updates.iter().map(|(row, _, count)| (row.clone(), *count)));
            })
            .probe_with(&probe);
            Ok(())
        });
        let sides = reads.sides.keys().cloned().collect();
        let mut flow = Flow { sessions, sides, probe, buttons, dataflow, gauges, output, is_behind: true };
        if let Err(error) = rendered {
            flow.end(self.worker);
            return Err(error);
        }
        for name in &names {
            flow.feed(name, self.now, updates(self.rows_of(name)));
        }
        Ok(flow)
    }

    /// The current rows of a list or of groups.
    fn rows_of(&self, name: &str) -> Option<&RowMap<Row, isize>> {
        match self.inputs.get(name) {
            Some(input) => Some(input.state.rows()),
            None => self.groups.iter().find(|group| group.rel.text == name).map(|group| &group.rows),
        }
    }

    /// Reads all lists, unless that was just done.
    fn refresh(&mut self, t: TimeMs, deadline: Instant) -> Result<(), SqlError> {
        let last = self.marks.refreshed.load(SeqCst);
        if (last..last.saturating_add(REFRESH_MS)).contains(&t) {
            return Ok(());
        }
        self.now += 1;
        let mut lists = ReadLists::new();
        let mut limits = self.poll_limits(deadline);
        let mut changed = Vec::new();
        for (name, input) in &mut self.inputs {
            // An error of one list concerns only the views that read it.
            match input.spec.poll(&mut input.state, t, &mut lists, &limits) {
                Ok(changes) => {
                    input.error = None;
                    limits.kept += changes.len();
                    changed.push((name.clone(), changes));
                }
                Err(error) => input.error = Some(error),
            }
        }
        for (name, changes) in changed {
            self.feed(&name, &changes);
        }
        self.settle(deadline)?;
        self.tell_errors();
        self.marks.refreshed.store(t, SeqCst);
        Ok(())
    }

    /// Inserts the changes of a list or of groups into all dataflows that read it.
    fn feed(&mut self, name: &str, changes: &[Update]) {
        if changes.is_empty() {
            return;
        }
        let now = self.now;
        let mut arranged = BTreeSet::new();
        for (side, flow) in self.sides.iter_mut().filter(|(_, flow)| flow.input == name) {
            put(&mut flow.session, now, changes.iter().cloned());
            arranged.insert(side.clone());
        }
        let groups = self.groups.iter_mut().map(|group| &mut group.flow);
        let views = self.views.values_mut().map(|view| &mut view.flow);
        for flow in groups.chain(views) {
            flow.feed(name, now, changes.iter().cloned());
            flow.is_behind |= flow.sides.iter().any(|side| arranged.contains(side));
        }
    }

    /// Steps the worker until all input is processed.
    fn settle(&mut self, deadline: Instant) -> Result<(), SqlError> {
        let now = self.now;
        if !self.groups.iter().any(|group| group.flow.is_behind)
            && !self.views.values().any(|view| view.flow.is_behind)
        {
            return Ok(());
        }
        // All dataflows, because one is complete only when its imports are.
        for side in self.sides.values_mut() {
            side.session.advance_to(now);
            side.session.flush();
        }
        self.run_until(deadline, |host| host.sides.values().all(|side| !side.probe.less_than(&now)))?;
        while let Some(group) = self.groups.iter_mut().find(|group| group.flow.is_behind) {
            let name = group.rel.text.clone();
            group.flow.advance(now);
            let found = |host: &Host<'_>| host.groups.iter().position(|group| group.rel.text == name);
            self.run_until(deadline, |host| {
                found(host).is_none_or(|at| host.groups[at].flow.is_complete(now))
            })?;
            // A limit may have ended the view.
            let Some(at) = found(self) else { continue };
            self.groups[at].flow.is_behind = false;
            let changes = self.groups[at].take();
            self.feed(&name, &changes);
        }
        for view in self.views.values_mut().filter(|view| view.flow.is_behind) {
            view.flow.advance(now);
        }
        let is_complete = |view: &ViewFlow| !view.flow.is_behind || view.flow.is_complete(now);
        self.run_until(deadline, |host| host.views.values().all(is_complete))?;
        for _ in 0..SETTLING_STEPS {
            self.worker.step();
        }
        self.compact(now);
        self.tell_changes();
        Ok(())
    }

    fn run_until(&mut self, deadline: Instant, is_done: impl Fn(&Host<'_>) -> bool) -> Result<(), SqlError> {
        while !is_done(self) {
            self.worker.step();
            if let Err(error) = self.check_limits() {
                self.end_largest(error)?;
            }
            if Instant::now() >= deadline {
                return Err(SqlError::new(SqlErrorKind::Timeout, "the dataflow did not answer in time"));
            }
        }
        Ok(())
    }

    /// Allows arrangements to merge updates of different times before now.
    fn compact(&mut self, now: Time) {
        let frontier = [now];
        for side in self.sides.values_mut() {
            side.trace.set_logical_compaction(AntichainRef::new(&frontier));
            side.trace.set_physical_compaction(AntichainRef::new(&frontier));
        }
    }

    /// Moves the output of views to their marks.
    fn tell_changes(&mut self) {
        let mut ended = Vec::new();
        for (number, view) in &mut self.views {
            view.flow.is_behind = false;
            let changes = view.flow.take();
            if changes.is_empty() {
                continue;
            }
            // A view that is not evaluated must not collect changes forever. After consolidation
            // there is at most one deletion and one insertion for each row.
            if view.marks.add(changes) > 2 * STANDING_ROWS {
                let error = format!("a statement that stands has at most {STANDING_ROWS} rows");
                let error = SqlError::new(SqlErrorKind::LimitReached, error).hint("filter or group more");
                view.marks.set_error(Some(error));
                ended.push(*number);
            }
        }
        for view in ended {
            self.remove(view);
        }
    }

    /// Gives views the errors of the lists that they read.
    fn tell_errors(&mut self) {
        let groups = self.groups.iter().map(|group| &group.flow);
        let flows = groups.chain(self.views.values().map(|view| &view.flow)).map(|flow| &flow.gauges);
        let fails = self.inputs.values().any(|input| input.error.is_some())
            || flows
                .chain(self.sides.values().map(|side| &side.gauges))
                .any(|gauges| gauges.error().is_some());
        if fails || self.has_failed {
            for view in self.views.values() {
                view.marks.set_error(self.error_of(view));
            }
        }
        self.has_failed = fails;
    }

    fn error_of(&self, view: &ViewFlow) -> Option<SqlError> {
        let reads = &view.reads;
        let inputs = reads.inputs.keys().filter_map(|name| self.inputs.get(name)?.error.clone());
        let sides = reads.sides.keys().filter_map(|name| self.sides.get(name)?.gauges.error());
        let of_groups = |group: &&GroupFlow| reads.groups.iter().any(|rel| rel.text == group.rel.text);
        let groups = self.groups.iter().filter(of_groups).filter_map(|group| group.flow.gauges.error());
        inputs.chain(sides).chain(groups).chain(view.flow.gauges.error()).next()
    }

    /// Ends the view that holds most memory, so that the others can go on.
    fn end_largest(&mut self, error: SqlError) -> Result<(), SqlError> {
        let of_flow = |flow: &Flow| flow.gauges.bytes() + flow.waiting() * size_of::<Row>();
        let size = |view: &ViewFlow| {
            let reads = &view.reads;
            let inputs = reads.inputs.keys().filter_map(|name| self.inputs.get(name));
            let sides = reads.sides.keys().filter_map(|name| self.sides.get(name));
            let is_read = |group: &&GroupFlow| reads.groups.iter().any(|rel| rel.text == group.rel.text);
            let groups = self.groups.iter().filter(is_read);
            // Shared state counts for each of its readers, because it would not exist without them.
            let shared: usize = inputs
                .map(|input| input.state.bytes)
                .chain(sides.map(|side| side.gauges.bytes()))
                .chain(groups.map(|group| group.bytes + of_flow(&group.flow)))
                .sum();
            of_flow(&view.flow) + shared
        };
        // Of equal views the newest one, because its memory was added last.
        let largest = self.views.iter().max_by_key(|(number, view)| (size(view), **number));
        let Some((number, view)) = largest else { return Err(error) };
        view.marks.set_error(Some(error));
        let number = *number;
        self.remove(number);
        Ok(())
    }

    fn check_limits(&self) -> Result<(), SqlError> {
        let limit = |text: String| {
            Err(SqlError::new(SqlErrorKind::LimitReached, text)
                .hint("filter or group more, or end other statements that stand"))
        };
        let most = self.limits.bytes;
        if self.stats().bytes > most {
            return limit(format!("dataflows would keep more than {most} bytes"));
        }
        let groups = self.groups.iter().map(|group| &group.flow);
        let flows = groups.chain(self.views.values().map(|view| &view.flow));
        let most = self.limits.waiting_rows;
        if flows.map(Flow::waiting).max().unwrap_or(0) > most {
            return limit(format!("a join of a dataflow makes more than {most} rows at once"));
        }
        Ok(())
    }

    fn remove(&mut self, view: u64) {
        if let Some(view) = self.views.remove(&view) {
            view.flow.end(self.worker);
        }
        self.drop_unused();
    }

    /// Ends the shared dataflows that no view reads any more.
    fn drop_unused(&mut self) {
        let reads: Vec<&RelReads> = self.views.values().map(|view| &view.reads).collect();
        let is_read = |group: &GroupFlow| {
            reads.iter().any(|reads| reads.groups.iter().any(|rel| rel.text == group.rel.text))
        };
        let (kept, unused): (Vec<GroupFlow>, Vec<GroupFlow>) =
            std::mem::take(&mut self.groups).into_iter().partition(is_read);
        self.groups = kept;
        for group in unused {
            group.flow.end(self.worker);
        }
        let is_unused = |name: &String, _: &mut SideFlow| !reads.iter().any(|r| r.sides.contains_key(name));
        for (_, side) in self.sides.extract_if(.., is_unused) {
            side.end(self.worker);
        }
        self.inputs.retain(|name, _| reads.iter().any(|reads| reads.inputs.contains_key(name)));
        self.worker.step();
    }

    fn stats(&self) -> DataflowStats {
        let of_inputs: usize = self.inputs.values().map(|input| input.state.bytes).sum();
        let of_sides: usize = self.sides.values().map(|side| side.gauges.bytes()).sum();
        let of_groups: usize = self.groups.iter().map(|group| group.bytes + group.flow.gauges.bytes()).sum();
        let of_views: usize = self.views.values().map(|view| view.flow.gauges.bytes()).sum();
        DataflowStats {
            views: self.views.len(),
            inputs: self.inputs.len(),
            arrangements: self.sides.len(),
            groups: self.groups.len(),
            rows: self.inputs.values().map(|input| input.state.len()).sum(),
            bytes: of_inputs + of_sides + of_groups + of_views,
        }
    }
}

/// The name of the dataflow of a `GROUP BY`.
const GROUPS: &str = "groups";

fn updates(rows: Option<&RowMap<Row, isize>>) -> impl Iterator<Item = Update> {
    rows.into_iter().flatten().map(|(row, count)| (row.clone(), *count))
}

/// How long a caller waits for the host beyond its own deadline.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
