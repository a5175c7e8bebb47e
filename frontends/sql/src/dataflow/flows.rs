//! What the thread of dataflows runs, and how changes get from one dataflow to the next.
//!
//! A dataflow has an input of its own for each relation and each group that it reads, into which the
//! host puts what changed. So rows of a relation are kept once, unsorted, and a dataflow over which
//! nothing changes is not even told the time. Groups are dataflows of their own: statements that
//! differ in what they do with a group share it. Sides of joins that are made of one relation are
//! arranged once ([`SideFlow`]), and imported.

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

/// Ends the import of a side.
pub(super) type Button = ShutdownButton<CapabilitySet<Time>>;
/// What is put into a dataflow.
pub(super) type Session = InputSession<Time, Row, isize>;

/// A relation of the server, and its rows.
pub(super) struct InputRows {
    pub(super) spec: Arc<InputSpec>,
    pub(super) state: InputState,
    /// Why it could not be read at the newest refresh.
    pub(super) error: Option<SqlError>,
}

/// A side of joins that several dataflows share.
pub(super) struct SideFlow {
    pub(super) trace: KeyedTrace,
    pub(super) session: Session,
    pub(super) probe: ProbeHandle<Time>,
    pub(super) dataflow: usize,
    pub(super) gauges: Gauges,
    /// The relation that it is made of.
    pub(super) input: String,
}

/// A dataflow that is fed with changes.
pub(super) struct Flow {
    /// By the names of what they carry.
    pub(super) sessions: BTreeMap<String, Session>,
    /// The sides that it imports.
    pub(super) sides: Vec<String>,
    pub(super) probe: ProbeHandle<Time>,
    pub(super) buttons: Vec<Button>,
    pub(super) dataflow: usize,
    pub(super) gauges: Gauges,
    /// What came out since it was taken.
    pub(super) output: Rc<RefCell<Vec<Update>>>,
    /// It was fed, and has not answered yet.
    pub(super) is_behind: bool,
}

/// Groups that several dataflows read.
pub(super) struct GroupFlow {
    pub(super) rel: Arc<Rel>,
    pub(super) flow: Flow,
    pub(super) rows: HashMap<Row, isize>,
    /// What the rows take, in bytes.
    pub(super) bytes: usize,
}

/// The dataflow of a view.
pub(super) struct ViewFlow {
    pub(super) flow: Flow,
    pub(super) reads: RelReads,
    pub(super) marks: Arc<ViewMarks>,
}

impl Flow {
    /// Puts changes in that are part of the refresh `now`.
    pub(super) fn feed(&mut self, name: &str, now: Time, changes: impl Iterator<Item = Update>) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        self.is_behind = true;
        put(session, now, changes);
    }

    /// What was put in for the refresh `now` is complete.
    pub(super) fn advance(&mut self, now: Time) {
        for session in self.sessions.values_mut() {
            session.advance_to(now);
            session.flush();
        }
    }

    /// Whether all that was put in until `now` has come out.
    pub(super) fn is_complete(&self, now: Time) -> bool {
        !self.probe.less_than(&now)
    }

    /// What came out since the call before.
    pub(super) fn take(&mut self) -> Vec<Update> {
        let mut updates = std::mem::take(&mut *self.output.borrow_mut());
        consolidate(&mut updates);
        updates
    }

    /// Rows that wait in it, or for who takes them.
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
    /// How the groups changed since the call before.
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
pub(super) fn put(session: &mut Session, now: Time, changes: impl Iterator<Item = Update>) {
    // It may not have been told the time for a while.
    session.advance_to(now.saturating_sub(1).max(*session.time()));
    for (row, count) in changes {
        session.update(row, count);
    }
}

/// Ends a dataflow: its imports first, which would otherwise wait for more.
pub(super) fn end_dataflow(worker: &mut Worker, buttons: Vec<Button>, dataflow: usize) {
    for mut button in buttons {
        button.press();
    }
    worker.step();
    worker.drop_dataflow(dataflow);
}
