//! The thread that runs all dataflows. It starts with the first standing statement and ends with
//! the last; it sleeps while nothing changes. [`build`] builds the dataflows.
//!
//! A logical time of timely is the number of a refresh or of an installation. A refresh reads all
//! lists ([`super::input`]), gives each dataflow its changes ([`super::flows`]), and steps the
//! worker until no dataflow has work left. The output of a dataflow is put into the [`ViewMarks`]
//! of its statement, where [`super::standing`] reads it without asking the thread.

mod build;

use super::delta::{Delta, in_pieces};
use super::flows::{Flow, GroupFlow, InputRows, SideFlow, ViewFlow, put};
use super::input::ListLook;
use super::lower::FlowPlan;
use super::rel::RelReads;
use super::render::Time;
use super::row::Row;
use super::standing::ViewMarks;
use crate::error::{SqlError, SqlErrorKind};
use crate::limits::{DataflowLimits, REFRESH_MS, STANDING_ROWS};
use crate::standing::lists::SharedLists;
use differential_dataflow::trace::TraceReader;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use storage::model::TimeMs;
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
    /// See [`DataflowWork`].
    looks: AtomicU64,
    /// See [`DataflowWork`].
    steps: AtomicU64,
}

impl Default for HostMarks {
    fn default() -> HostMarks {
        HostMarks {
            refreshed: AtomicI64::new(TimeMs::MIN),
            looks: AtomicU64::new(0),
            steps: AtomicU64::new(0),
        }
    }
}

impl HostMarks {
    pub(super) fn work(&self) -> DataflowWork {
        DataflowWork { looks: self.looks.load(SeqCst), steps: self.steps.load(SeqCst) }
    }
}

/// How much the thread of dataflows has done since it started.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct DataflowWork {
    /// How often it looked whether relations had changed: for all dataflows at once.
    pub looks: u64,
    /// How often a dataflow was given changes, and how often operators were run.
    pub steps: u64,
}

/// What all dataflows consist of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataflowStats {
    /// Number of standing statements that are dataflows.
    pub views: usize,
    /// Number of lists that they read.
    pub inputs: usize,
    /// Number of shared arrangements for joins.
    pub arrangements: usize,
    /// Changes that those keep: one a row, and those that are not merged yet.
    pub arranged: usize,
    /// Groups that they share.
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
    lists: Arc<SharedLists>,
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
    pub(super) fn new(
        worker: &'a mut Worker,
        marks: Arc<HostMarks>,
        limits: DataflowLimits,
        lists: Arc<SharedLists>,
    ) -> Host<'a> {
        Host {
            worker,
            marks,
            limits,
            lists,
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

    /// Looks at all relations, if that was not done just now.
    fn refresh(&mut self, t: TimeMs, deadline: Instant) -> Result<(), SqlError> {
        let last = self.marks.refreshed.load(SeqCst);
        if (last..last.saturating_add(REFRESH_MS)).contains(&t) {
            return Ok(());
        }
        self.now += 1;
        self.marks.looks.fetch_add(1, SeqCst);
        let lists = self.lists.clone();
        let mut look = ListLook::new(&lists, t);
        let mut limits = self.poll_limits(deadline);
        let names: Vec<String> = self.inputs.keys().cloned().collect();
        for name in names {
            let Some(mut input) = self.inputs.remove(&name) else { continue };
            let before = input.state.len();
            let polled = input.spec.poll(&mut input.state, &mut look, &limits);
            limits.kept = (limits.kept + input.state.len()).saturating_sub(before);
            let fed = polled.and_then(|changes| {
                input.spec.changed(&input.state, changes).try_for_each(|piece| self.feed(&name, &piece?))
            });
            // What one relation lacks concerns only those who read it.
            input.error = fed.err();
            self.inputs.insert(name, input);
        }
        self.settle(deadline)?;
        self.tell_errors();
        // As old as the oldest list, which another statement may have read.
        self.marks.refreshed.store(look.oldest, SeqCst);
        Ok(())
    }

    /// Puts changes of a relation, or of groups, into all dataflows that read it.
    fn feed(&mut self, name: &str, delta: &Delta) -> Result<(), SqlError> {
        let now = self.now;
        let mut steps = 0;
        let mut arranged = BTreeSet::new();
        for (side, flow) in self.sides.iter_mut().filter(|(_, flow)| flow.input == name) {
            put(&mut flow.session, now, delta)?;
            arranged.insert(side.clone());
            steps += 1;
        }
        let groups = self.groups.iter_mut().map(|group| &mut group.flow);
        let views = self.views.values_mut().map(|view| &mut view.flow);
        for flow in groups.chain(views) {
            steps += u64::from(flow.feed(name, now, delta)?);
            flow.is_behind |= flow.imports(&arranged);
        }
        self.marks.steps.fetch_add(steps, SeqCst);
        Ok(())
    }

    /// Steps the worker until all input is processed.
    fn settle(&mut self, deadline: Instant) -> Result<(), SqlError> {
        let now = self.now;
        let is_behind = |flow: &Flow| flow.is_behind;
        if !self.groups.iter().any(|group| is_behind(&group.flow))
            && !self.views.values().any(|view| is_behind(&view.flow))
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
            let group = &mut self.groups[at];
            let changes = group.take();
            let codec = group.codec.clone();
            for piece in in_pieces(&codec, changes) {
                self.feed(&name, &piece)?;
            }
        }
        for view in self.views.values_mut().filter(|view| view.flow.is_behind) {
            view.flow.advance(now);
        }
        let is_complete = |view: &ViewFlow| !view.flow.is_behind || view.flow.is_complete(now);
        self.run_until(deadline, |host| host.views.values().all(is_complete))?;
        // Those that run nothing, too, keep rows.
        while let Err(error) = self.check_limits() {
            self.end_largest(error)?;
        }
        let is_joining = |view: &ViewFlow| view.flow.is_behind && view.flow.is_joining();
        if !self.sides.is_empty() || self.views.values().any(is_joining) {
            for _ in 0..SETTLING_STEPS {
                self.step();
            }
            self.compact(now);
        }
        self.tell_changes();
        Ok(())
    }

    fn step(&mut self) {
        self.marks.steps.fetch_add(1, SeqCst);
        self.worker.step();
    }

    fn run_until(&mut self, deadline: Instant, is_done: impl Fn(&Host<'_>) -> bool) -> Result<(), SqlError> {
        while !is_done(self) {
            self.step();
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
        for (number, view) in self.views.iter_mut().filter(|(_, view)| view.flow.is_behind) {
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
        self.check_bytes(self.stats().bytes)?;
        let groups = self.groups.iter().map(|group| &group.flow);
        let flows = groups.chain(self.views.values().map(|view| &view.flow));
        let most = self.limits.waiting_rows;
        if flows.map(Flow::waiting).max().unwrap_or(0) > most {
            return Err(too_much(format!("a join of a dataflow makes more than {most} rows at once")));
        }
        Ok(())
    }

    fn check_bytes(&self, bytes: usize) -> Result<(), SqlError> {
        let most = self.limits.bytes;
        if bytes > most {
            return Err(too_much(format!("dataflows would keep more than {most} bytes")));
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
            arranged: self.sides.values().map(SideFlow::len).sum(),
            groups: self.groups.len(),
            rows: self.inputs.values().map(|input| input.state.len()).sum(),
            bytes: of_inputs + of_sides + of_groups + of_views,
        }
    }
}

fn too_much(text: String) -> SqlError {
    SqlError::new(SqlErrorKind::LimitReached, text)
        .hint("filter or group more, or end other statements that stand")
}

/// How long a caller waits for the host beyond its own deadline.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
