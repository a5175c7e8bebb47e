//! The dataflows that the thread of [`super::host`] runs, and the routing of changes from one to
//! the next.
//!
//! The host gives each dataflow the changes of the lists and groups that it reads. Rows of a list
//! are stored once, outside of the dataflows. A dataflow whose inputs did not change is not run. A
//! dataflow without joins is called directly ([`super::pipeline`]); one that joins consists of
//! operators with an input session for each list. A `GROUP BY` is a dataflow of its own
//! ([`GroupFlow`]), whose rows several statements read. A side of a join that is a list itself is
//! arranged once ([`SideFlow`]) and imported by the dataflows that join it.

use super::delta::Delta;
use super::input::{InputSpec, InputState};
use super::pipeline::Pipeline;
use super::program::Update;
use super::rel::{Rel, RelReads};
use super::render::{Gauges, KeyedTrace, Time};
use super::row::{Row, RowCodec};
use super::standing::ViewMarks;
use crate::error::SqlError;
use datafusion::common::HashMap;
use differential_dataflow::consolidation::consolidate;
use differential_dataflow::input::InputSession;
use differential_dataflow::operators::arrange::ShutdownButton;
use differential_dataflow::trace::{BatchReader, TraceReader};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::CapabilitySet;
use timely::worker::Worker;

/// Ends the import of an arrangement; differential-dataflow calls it a button.
pub(super) type ImportShutdown = ShutdownButton<CapabilitySet<Time>>;
/// The input of a dataflow.
pub(super) type Session = InputSession<Time, Row, isize>;

/// An input (a list or table) with its rows.
pub(super) struct InputRows {
    pub(super) spec: Arc<InputSpec>,
    pub(super) state: InputState,
    /// Why the list could not be read at the latest refresh.
    pub(super) error: Option<SqlError>,
}

/// A side of joins that several dataflows share.
pub(super) struct SideFlow {
    pub(super) trace: KeyedTrace,
    pub(super) session: Session,
    pub(super) probe: ProbeHandle<Time>,
    pub(super) dataflow: usize,
    pub(super) gauges: Gauges,
    /// The list that the side reads.
    pub(super) input: String,
}

/// A dataflow with its inputs.
pub(super) struct Flow {
    pub(super) body: FlowBody,
    pub(super) gauges: Gauges,
    /// It got changes, and its output is not read yet.
    pub(super) is_behind: bool,
}

/// What runs a dataflow.
pub(super) enum FlowBody {
    /// Without joins.
    Direct(Pipeline),
    Joining(OperatorFlow),
}

/// A dataflow of operators of differential-dataflow.
pub(super) struct OperatorFlow {
    /// By the names of their inputs.
    pub(super) sessions: BTreeMap<String, Session>,
    /// The arranged sides that the dataflow imports.
    pub(super) sides: Vec<String>,
    pub(super) probe: ProbeHandle<Time>,
    pub(super) buttons: Vec<ImportShutdown>,
    pub(super) dataflow: usize,
    /// The output that nobody has read yet.
    pub(super) output: Rc<RefCell<Vec<Update>>>,
}

/// A `GROUP BY` whose rows several dataflows read.
pub(super) struct GroupFlow {
    pub(super) rel: Arc<Rel>,
    pub(super) codec: Rc<RowCodec>,
    pub(super) flow: Flow,
    pub(super) rows: HashMap<Row, isize>,
    /// Memory of the rows, bytes.
    pub(super) bytes: usize,
}

/// The dataflow of a view.
pub(super) struct ViewFlow {
    pub(super) flow: Flow,
    pub(super) reads: RelReads,
    pub(super) marks: Arc<ViewMarks>,
}

impl Flow {
    /// Passes changes of the input `name` to the dataflow, as part of the refresh `now`. Returns
    /// whether the dataflow reads this input.
    pub(super) fn feed(&mut self, name: &str, now: Time, delta: &Delta) -> Result<bool, SqlError> {
        match &mut self.body {
            FlowBody::Direct(pipeline) if pipeline.source == name => pipeline.apply(delta),
            FlowBody::Direct(_) => return Ok(false),
            FlowBody::Joining(flow) => {
                let Some(session) = flow.sessions.get_mut(name) else { return Ok(false) };
                put(session, now, delta)?;
            }
        }
        self.is_behind = true;
        Ok(true)
    }

    /// Declares the input for the refresh `now` complete.
    pub(super) fn advance(&mut self, now: Time) {
        let FlowBody::Joining(flow) = &mut self.body else { return };
        for session in flow.sessions.values_mut() {
            session.advance_to(now);
            session.flush();
        }
    }

    /// Whether all input until `now` is processed.
    pub(super) fn is_complete(&self, now: Time) -> bool {
        let FlowBody::Joining(flow) = &self.body else { return true };
        !flow.probe.less_than(&now)
    }

    /// Whether it imports one of these sides.
    pub(super) fn imports(&self, sides: &BTreeSet<String>) -> bool {
        let FlowBody::Joining(flow) = &self.body else { return false };
        flow.sides.iter().any(|side| sides.contains(side))
    }

    /// Whether operators have to be run until it is complete.
    pub(super) fn is_joining(&self) -> bool {
        matches!(self.body, FlowBody::Joining(_))
    }

    /// The output since the last call.
    pub(super) fn take(&mut self) -> Vec<Update> {
        self.is_behind = false;
        let mut updates = match &mut self.body {
            FlowBody::Direct(pipeline) => pipeline.finish(),
            FlowBody::Joining(flow) => std::mem::take(&mut *flow.output.borrow_mut()),
        };
        consolidate(&mut updates);
        updates
    }

    /// Number of rows that wait in operators or in the output.
    pub(super) fn waiting(&self) -> usize {
        let output = match &self.body {
            FlowBody::Direct(pipeline) => pipeline.waiting(),
            FlowBody::Joining(flow) => flow.output.borrow().len(),
        };
        self.gauges.waiting() + output
    }

    pub(super) fn end(self, worker: &mut Worker) {
        let FlowBody::Joining(flow) = self.body else { return };
        drop(flow.sessions);
        end_dataflow(worker, flow.buttons, flow.dataflow);
    }
}

impl SideFlow {
    /// Changes that it keeps.
    pub(super) fn len(&self) -> usize {
        let mut changes = 0;
        self.trace.map_batches(|batch| changes += batch.len());
        changes
    }

    pub(super) fn end(self, worker: &mut Worker) {
        drop((self.trace, self.session));
        end_dataflow(worker, Vec::new(), self.dataflow);
    }
}

impl GroupFlow {
    /// The changes of the groups since the last call.
    pub(super) fn take(&mut self) -> Vec<Update> {
        let updates = self.flow.take();
        for (row, by) in &updates {
            let size = row.size();
            let Some(known) = self.rows.get_mut(row) else {
                self.rows.insert(row.clone(), *by);
                self.bytes += size;
                continue;
            };
            *known += by;
            if *known == 0 {
                self.rows.remove(row);
                self.bytes = self.bytes.saturating_sub(size);
            }
        }
        updates
    }
}

/// Puts changes in that are part of the refresh `now`.
pub(super) fn put(session: &mut Session, now: Time, delta: &Delta) -> Result<(), SqlError> {
    // It may not have been told the time for a while.
    session.advance_to(now.saturating_sub(1).max(*session.time()));
    for (row, count) in delta.updates()? {
        session.update(row, count);
    }
    Ok(())
}

/// Ends a dataflow. Its imports end first, because an open import waits for more input.
pub(super) fn end_dataflow(worker: &mut Worker, buttons: Vec<ImportShutdown>, dataflow: usize) {
    for mut button in buttons {
        button.press();
    }
    worker.step();
    worker.drop_dataflow(dataflow);
}
