//! The dataflows that the thread of [`super::host`] runs, and the routing of changes from one to
//! the next.
//!
//! Each dataflow has an input session for each list and each group that it reads; [`put`] gives it
//! the changes. Rows of a list are stored once, outside of the dataflows. A dataflow whose inputs
//! did not change is not run. A `GROUP BY` is a dataflow of its own ([`GroupFlow`]), whose rows
//! several statements read. A side of a join that is a list itself is arranged once ([`SideFlow`])
//! and imported by the dataflows that join it.

use super::input::{InputSpec, InputState};
use super::program::Update;
use super::rel::{Rel, RelReads};
use super::render::{Gauges, KeyedTrace, Time};
use super::row::Row;
use super::standing::ViewMarks;
use crate::error::SqlError;
use datafusion::common::HashMap;
use differential_dataflow::consolidation::consolidate;
use differential_dataflow::input::InputSession;
use differential_dataflow::operators::arrange::ShutdownButton;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::CapabilitySet;
use timely::worker::Worker;

/// Ends the import of an arrangement; differential-dataflow calls it a button.
pub(super) type ImportShutdown = ShutdownButton<CapabilitySet<Time>>;
/// The input of a dataflow.
pub(super) type Session = InputSession<Time, Row, isize>;

/// A relation of the server, and its rows.
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
    /// The input sessions, by the names of their lists or groups.
    pub(super) sessions: BTreeMap<String, Session>,
    /// The arranged sides that the dataflow imports.
    pub(super) sides: Vec<String>,
    pub(super) probe: ProbeHandle<Time>,
    pub(super) buttons: Vec<ImportShutdown>,
    pub(super) dataflow: usize,
    pub(super) gauges: Gauges,
    /// The output since it was taken last.
    pub(super) output: Rc<RefCell<Vec<Update>>>,
    /// Whether the dataflow has input that it has not processed yet.
    pub(super) is_behind: bool,
}

/// Groups that several dataflows read.
pub(super) struct GroupFlow {
    pub(super) rel: Arc<Rel>,
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
    /// Inserts changes that belong to the refresh `now`.
    pub(super) fn feed(&mut self, name: &str, now: Time, changes: impl Iterator<Item = Update>) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        self.is_behind = true;
        put(session, now, changes);
    }

    /// Declares the input for the refresh `now` complete.
    pub(super) fn advance(&mut self, now: Time) {
        for session in self.sessions.values_mut() {
            session.advance_to(now);
            session.flush();
        }
    }

    /// Whether all input until `now` is processed.
    pub(super) fn is_complete(&self, now: Time) -> bool {
        !self.probe.less_than(&now)
    }

    /// The output since the last call.
    pub(super) fn take(&mut self) -> Vec<Update> {
        let mut updates = std::mem::take(&mut *self.output.borrow_mut());
        consolidate(&mut updates);
        updates
    }

    /// Number of rows that wait in operators or in the output.
    pub(super) fn waiting(&self) -> usize {
        self.gauges.waiting() + self.output.borrow().len()
    }

    pub(super) fn end(self, worker: &mut Worker) {
        drop(self.sessions);
        end_dataflow(worker, self.buttons, self.dataflow);
    }
}

impl SideFlow {
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

/// Inserts changes that belong to the refresh `now`.
pub(super) fn put(session: &mut Session, now: Time, changes: impl Iterator<Item = Update>) {
    // The session may be at an old time, because a dataflow without changes is not advanced.
    session.advance_to(now.saturating_sub(1).max(*session.time()));
    for (row, count) in changes {
        session.update(row, count);
    }
}

/// Ends a dataflow. Its imports end first, because an open import waits for more input.
pub(super) fn end_dataflow(worker: &mut Worker, buttons: Vec<ImportShutdown>, dataflow: usize) {
    for mut button in buttons {
        button.press();
    }
    worker.step();
    worker.drop_dataflow(dataflow);
}
