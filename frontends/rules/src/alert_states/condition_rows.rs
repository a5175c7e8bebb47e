//! The rows of the condition of an alerting rule that hold now, and which alert each of them is. A
//! row becomes an alert by the labels of the rule; two rows may become the same alert, which is an
//! error.

use crate::alert::ConditionRow;
use std::collections::HashMap;
use storage::model::{Labels, TimeMs};

/// The rows that hold now.
#[derive(Debug, Default)]
pub(super) struct ConditionRows {
    /// The alert and the value of each row.
    rows: HashMap<Labels, AlertValue>,
    /// The rows of each alert.
    by_alert: HashMap<Labels, Vec<Labels>>,
    /// How many alerts have more than one row.
    conflicts: usize,
}

#[derive(Debug)]
struct AlertValue {
    alert: Labels,
    value: f64,
}

/// A row, and its value.
pub(super) struct RowValue {
    pub(super) row: Labels,
    pub(super) value: f64,
}

impl ConditionRows {
    /// Adds a row, or gives it another value or another alert. Returns the alert that it had if
    /// that is another one.
    pub(super) fn insert(&mut self, row: ConditionRow) -> Option<Labels> {
        // A template in a label may have given the row another alert than before; the old one then
        // lost its row.
        let before = self.remove(&row.row).filter(|before| *before != row.alert);
        let rows = self.by_alert.entry(row.alert.clone()).or_default();
        rows.push(row.row.clone());
        // Counted at the second row, not the third, so that the sum is the number of alerts with a
        // conflict.
        self.conflicts += usize::from(rows.len() == 2);
        self.rows.insert(row.row, AlertValue { alert: row.alert, value: row.value });
        before
    }

    /// Removes a row. Returns the alert that it was.
    pub(super) fn remove(&mut self, row: &Labels) -> Option<Labels> {
        let alert = self.rows.remove(row)?.alert;
        if let Some(rows) = self.by_alert.get_mut(&alert) {
            // Asked before the removal: of two, one is left, which is no conflict.
            self.conflicts -= usize::from(rows.len() == 2);
            rows.retain(|other| other != row);
            if rows.is_empty() {
                self.by_alert.remove(&alert);
            }
        }
        Some(alert)
    }

    /// Removes all rows.
    pub(super) fn clear(&mut self) {
        *self = ConditionRows::default();
    }

    /// The row of an alert, the first if there are several.
    pub(super) fn of_alert(&self, alert: &Labels) -> Option<RowValue> {
        let row = self.by_alert.get(alert)?.first()?;
        Some(RowValue { row: row.clone(), value: self.rows.get(row)?.value })
    }

    /// Whether several rows are the same alert.
    pub(super) fn have_conflict(&self) -> bool {
        self.conflicts > 0
    }

    /// All rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Labels> {
        self.rows.keys()
    }

    /// The alerts that have rows.
    pub(super) fn alerts(&self) -> impl Iterator<Item = &Labels> {
        self.by_alert.keys()
    }
}

/// Whether the rows of the condition are known. While they are not, states do not change, as in
/// Prometheus.
#[derive(Debug)]
pub struct ConditionHealth {
    /// The rows of the latest answer are not valid: two are the same alert, or there are too many.
    pub(super) is_invalid: bool,
    /// Evaluating the condition fails.
    is_failing: bool,
    /// No timer runs before this time: until then it was not known what holds.
    pub(super) known_since: TimeMs,
}

impl Default for ConditionHealth {
    fn default() -> ConditionHealth {
        ConditionHealth { is_invalid: false, is_failing: false, known_since: TimeMs::MIN }
    }
}

impl ConditionHealth {
    /// Evaluating the condition failed: nothing changes until it succeeds again.
    pub fn suspend(&mut self) {
        self.is_failing = true;
    }

    /// Evaluating the condition succeeded at `t`.
    pub fn resume_at(&mut self, t: TimeMs) {
        if std::mem::take(&mut self.is_failing) {
            self.known_since = t;
        }
    }

    /// Whether evaluating the condition fails.
    pub fn is_evaluation_failing(&self) -> bool {
        self.is_failing
    }

    /// Whether the rows of the latest answer are not valid.
    pub fn is_invalid(&self) -> bool {
        self.is_invalid
    }

    /// Whether it is not known what holds, so that states do not change.
    pub fn is_suspended(&self) -> bool {
        self.is_failing || self.is_invalid
    }
}
