//! One port of the gather stage: the rows of one step of the local stage, from all shards, as the
//! owner of a view knows them. Each shard sends what changed as a delta
//! ([`PortDelta`]). [`super::ports`] is the table of ports.

use super::super::message::PortDelta;
use crate::annotations::StepAnnotation;
use crate::heap_size::HeapSize;
use crate::operators::metric_names::FlaggedLabels;
use crate::operators::{ChangedRows, StepOutput};
use crate::plan::physical::StepId;
use crate::types::histogram_column::HistogramColumn;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::value::ABSENT;
use storage::model::{NativeHistogram, TimeMs};

/// The state of one port.
pub(super) struct GatherPort {
    pub(super) step: StepId,
    /// By shard, and by row of the shard: the row in the gather stage.
    rows: Vec<Vec<u32>>,
    /// The rows that deltas have changed since they were last published.
    touched: Vec<u32>,
    /// From when on these changes hold.
    since: Option<TimeMs>,
    /// All rows count as changed.
    all_changed: bool,
    /// The error of each shard that has one.
    errors: BTreeMap<u16, String>,
    /// Annotations of local steps, by shard.
    pub(super) annotations: BTreeMap<u16, Vec<(u64, StepAnnotation)>>,
}

impl GatherPort {
    pub(super) fn new(step: StepId, shards: usize) -> GatherPort {
        let rows = (0..shards).map(|_| Vec::new()).collect();
        GatherPort {
            step,
            rows,
            touched: Vec::new(),
            since: None,
            all_changed: false,
            errors: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Whether a delta was applied that is not published yet.
    pub(super) fn is_touched(&self) -> bool {
        self.all_changed || !self.touched.is_empty()
    }

    /// Bytes allocated, without the rows.
    pub(super) fn bytes(&self) -> usize {
        let annotations = self
            .annotations
            .values()
            .map(|annotations| annotations.capacity() * size_of::<(u64, StepAnnotation)>());
        self.rows.heap() + self.touched.heap() + self.errors.heap() + annotations.sum::<usize>()
    }

    /// Applies the delta of one shard to the rows of the port.
    pub(super) fn apply(&mut self, delta: PortDelta, out: &mut StepOutput) {
        let partial_columns = delta.columns.len().saturating_sub(1).max(out.partial_columns.len());
        out.partial_columns.resize_with(partial_columns, Vec::new);
        for column in &mut out.partial_columns {
            column.resize(out.values.len(), ABSENT);
        }
        let rows = &mut self.rows[usize::from(delta.shard)];
        let mut drops = delta.drops.into_iter();
        for labels in delta.labels {
            rows.push(
                out.add_row_with_name_flag(FlaggedLabels::new(labels, drops.next().unwrap_or(false))) as u32
            );
            out.shards.push(delta.shard);
            out.sorted = false;
        }
        self.since = self.since.into_iter().chain(delta.since).min();
        for (i, row) in delta.rows.iter().enumerate() {
            let row = rows[*row as usize];
            out.values[row as usize] = delta.columns[0][i];
            for (to, from) in out.partial_columns.iter_mut().zip(&delta.columns[1..]) {
                to[row as usize] = from[i];
            }
            self.touched.push(row);
        }
        let rows = || delta.rows.iter().map(|row| rows[*row as usize] as usize);
        set_histograms(&mut out.histograms, rows(), delta.histograms);
        set_histograms(&mut out.histogram_compensations, rows(), delta.compensations);
        if let Some(annotations) = delta.annotations {
            self.annotations.insert(delta.shard, annotations);
            self.annotations.retain(|_, annotations| !annotations.is_empty());
        }
        let before = self.errors.remove(&delta.shard);
        self.all_changed |= before != delta.error;
        if let Some(error) = delta.error {
            self.errors.insert(delta.shard, error);
        }
    }

    /// Makes the applied deltas visible to the steps that read the port. Returns whether there were
    /// any.
    pub(super) fn publish(&mut self, out: &mut StepOutput) -> bool {
        if !self.is_touched() {
            return false;
        }
        let touched = std::mem::take(&mut self.touched);
        out.changed =
            if std::mem::take(&mut self.all_changed) { ChangedRows::All } else { ChangedRows::Rows(touched) };
        out.error = self.errors.values().next().cloned();
        out.since = self.since.take();
        out.version += 1;
        true
    }
}

/// Sets the histograms of rows; an empty list means that none of them has one.
fn set_histograms(
    column: &mut HistogramColumn,
    rows: impl Iterator<Item = usize>,
    histograms: Vec<Option<Arc<NativeHistogram>>>,
) {
    if histograms.is_empty() && column.is_empty() {
        return;
    }
    let mut histograms = histograms.into_iter();
    for row in rows {
        column.set(row, histograms.next().flatten());
    }
}
