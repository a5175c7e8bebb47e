//! Installs a standing statement in the thread of [`super`]: builds its dataflow, and first those
//! of its inputs that do not exist yet (lists, shared sides of joins, `GROUP BY`s).

use super::Host;
use crate::dataflow::delta::{Delta, in_pieces};
use crate::dataflow::flows::{
    Flow, FlowBody, GroupFlow, ImportShutdown, InputRows, OperatorFlow, SideFlow, ViewFlow, end_dataflow, put,
};
use crate::dataflow::input::{InputSpec, InputState, ListLook, Pieces, PollLimits};
use crate::dataflow::lower::FlowPlan;
use crate::dataflow::pipeline::Pipeline;
use crate::dataflow::program::Update;
use crate::dataflow::rel::{Rel, RelOp, RelReads, Side};
use crate::dataflow::render::{Gauges, KeyedTrace, Renderer};
use crate::dataflow::row::RowCodec;
use crate::dataflow::standing::ViewMarks;
use crate::error::{SqlError, SqlErrorKind};
use datafusion::common::HashMap as RowMap;
use differential_dataflow::input::{Input, InputSession};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;
use storage::model::TimeMs;
use timely::dataflow::ProbeHandle;

/// What the dataflow of groups is called.
const GROUPS: &str = "groups";

impl Host<'_> {
    pub(super) fn install(
        &mut self,
        plan: &FlowPlan,
        marks: Arc<ViewMarks>,
        t: TimeMs,
        deadline: Instant,
    ) -> Result<u64, SqlError> {
        self.refresh(t, deadline)?;
        // The installation has a logical time of its own: at the time of the refresh the sides of
        // joins are complete, so the new dataflow imports all their rows.
        self.now += 1;
        let view = self.next;
        self.next += 1;
        let built = self.build(plan, marks.clone(), t, deadline);
        let result = built.and_then(|flow| {
            self.views.insert(view, flow);
            self.settle(deadline)?;
            self.tell_errors();
            // The error may also be a limit that the first rows exceeded.
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
        // Before a long list is read for nothing.
        for spec in reads.inputs.values() {
            spec.is_there()?;
        }
        for spec in reads.inputs.values() {
            self.add_input(spec, t, deadline)?;
        }
        for (name, side) in &reads.sides {
            self.add_side(name, side, deadline)?;
        }
        for rel in &reads.groups {
            self.add_group(rel, deadline)?;
        }
        let flow = self.flow("view", &plan.rel, &plan.rel.reads(), deadline)?;
        Ok(ViewFlow { flow, reads, marks })
    }

    fn add_input(&mut self, spec: &Arc<InputSpec>, t: TimeMs, deadline: Instant) -> Result<(), SqlError> {
        if self.inputs.contains_key(&spec.name) {
            return Ok(());
        }
        let mut state = InputState::new(spec)?;
        let limits = self.poll_limits(deadline);
        let lists = self.lists.clone();
        let mut look = ListLook::new(&lists, t);
        let changes = spec.poll(&mut state, &mut look, &limits)?;
        self.marks.refreshed.fetch_min(look.oldest, SeqCst);
        // Who reads it gets all that it keeps.
        drop(changes);
        self.inputs.insert(spec.name.clone(), InputRows { spec: spec.clone(), state, error: None });
        Ok(())
    }

    pub(super) fn poll_limits(&self, deadline: Instant) -> PollLimits {
        let kept: usize = self.inputs.values().map(|input| input.state.len()).sum();
        PollLimits { rows: self.limits.rows, kept, deadline }
    }

    fn add_side(&mut self, name: &str, side: &Side, deadline: Instant) -> Result<(), SqlError> {
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
        let trace = match rendered {
            Ok(trace) => trace,
            Err(error) => {
                drop(session);
                end_dataflow(self.worker, Vec::new(), dataflow);
                return Err(error);
            }
        };
        let mut flow = SideFlow { trace, session, probe, dataflow, gauges, input };
        let filled = self.fill(&flow.input, deadline, |delta| {
            put(&mut flow.session, self.now, delta)?;
            Ok(0)
        });
        match filled {
            Ok(()) => drop(self.sides.insert(name.to_owned(), flow)),
            Err(_) => flow.end(self.worker),
        }
        filled
    }

    /// Gives all rows of a relation, or of groups, to `take`, which says how many bytes its
    /// dataflow has then.
    fn fill(
        &self,
        name: &str,
        deadline: Instant,
        mut take: impl FnMut(&Delta) -> Result<usize, SqlError>,
    ) -> Result<(), SqlError> {
        let kept = self.stats().bytes;
        for piece in self.rows_of(name) {
            let bytes = take(&piece?)?;
            self.check_bytes(kept + bytes)?;
            if Instant::now() >= deadline {
                return Err(SqlError::new(SqlErrorKind::Timeout, "the dataflow could not be built in time"));
            }
        }
        Ok(())
    }

    fn add_group(&mut self, rel: &Arc<Rel>, deadline: Instant) -> Result<(), SqlError> {
        let RelOp::Aggregate(input, _) = &rel.op else { return Ok(()) };
        if self.groups.iter().any(|group| group.rel.text == rel.text) {
            return Ok(());
        }
        let codec = Rc::new(RowCodec::new(&rel.kinds)?);
        let flow = self.flow(GROUPS, rel, &input.reads(), deadline)?;
        self.groups.push(GroupFlow { rel: rel.clone(), codec, flow, rows: RowMap::new(), bytes: 0 });
        Ok(())
    }

    /// The dataflow of a relation, or of groups if it is called so. It is fed with all rows that it
    /// reads.
    fn flow(
        &mut self,
        name: &str,
        rel: &Arc<Rel>,
        reads: &RelReads,
        deadline: Instant,
    ) -> Result<Flow, SqlError> {
        let groups = reads.groups.iter().map(|group| &group.text);
        let names: Vec<String> = reads.inputs.keys().chain(groups).cloned().collect();
        let gauges = Gauges::default();
        let body = match Pipeline::new(rel, name == GROUPS, gauges.clone())? {
            Some(pipeline) => FlowBody::Direct(pipeline),
            None => FlowBody::Joining(self.operators(name, rel, reads, &gauges)?),
        };
        let mut flow = Flow { body, gauges: gauges.clone(), is_behind: true };
        for name in &names {
            let filled = self.fill(name, deadline, |delta| {
                flow.feed(name, self.now, delta)?;
                Ok(gauges.bytes())
            });
            if let Err(error) = filled {
                flow.end(self.worker);
                return Err(error);
            }
        }
        Ok(flow)
    }

    /// The operators of a relation that joins, or of groups of one.
    fn operators(
        &mut self,
        name: &str,
        rel: &Arc<Rel>,
        reads: &RelReads,
        gauges: &Gauges,
    ) -> Result<OperatorFlow, SqlError> {
        let groups = reads.groups.iter().map(|group| &group.text);
        let names: Vec<String> = reads.inputs.keys().chain(groups).cloned().collect();
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
        if let Err(error) = rendered {
            drop(sessions);
            end_dataflow(self.worker, buttons, dataflow);
            return Err(error);
        }
        let sides = reads.sides.keys().cloned().collect();
        Ok(OperatorFlow { sessions, sides, probe, buttons, dataflow, output })
    }

    /// The rows of a relation, or of groups.
    fn rows_of(&self, name: &str) -> Pieces<'_> {
        if let Some(input) = self.inputs.get(name) {
            return input.spec.all(&input.state);
        }
        let Some(group) = self.groups.iter().find(|group| group.rel.text == name) else {
            return Box::new(std::iter::empty());
        };
        let rows = group.rows.iter().map(|(row, count)| (row.clone(), *count));
        Box::new(in_pieces(&group.codec, rows).map(Ok))
    }
}
