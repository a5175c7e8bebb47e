//! A port in the gather stage: the rows of one local step from all shards, updated by the deltas
//! that the shards send.

use super::super::message::PortDelta;
use crate::annotations::StepAnnotation;
use crate::heap_size::HeapSize;
use crate::operators::{ChangedRows, StepOutput};
use crate::plan::physical::StepId;
use std::collections::BTreeMap;

/// The state of one port.
pub(super) struct GatherPort {
    pub(super) step: StepId,
    /// By shard, and by row of the shard: the row in the gather stage.
    rows: Vec<Vec<u32>>,
    pub(super) touched: Vec<u32>,
    pub(super) all: bool,
    errors: BTreeMap<u16, String>,
    /// Annotations of local steps, by shard.
    pub(super) notes: BTreeMap<u16, Vec<(u64, StepAnnotation)>>,
}

impl GatherPort {
    pub(super) fn new(step: StepId, shards: usize) -> GatherPort {
        let rows = (0..shards).map(|_| Vec::new()).collect();
        GatherPort {
            step,
            rows,
            touched: Vec::new(),
            all: false,
            errors: BTreeMap::new(),
            notes: BTreeMap::new(),
        }
    }

    /// Bytes allocated, without the rows.
    pub(super) fn bytes(&self) -> usize {
        let notes = self.notes.values().map(|notes| notes.capacity() * size_of::<(u64, StepAnnotation)>());
        self.rows.heap() + self.touched.heap() + self.errors.heap() + notes.sum::<usize>()
    }

    /// Applies the delta of one shard to the rows of the port.
    pub(super) fn apply(&mut self, delta: PortDelta, out: &mut StepOutput) {
        out.partial_columns
            .resize_with(delta.lanes.len().saturating_sub(1).max(out.partial_columns.len()), Vec::new);
        out.partial_columns
            .iter_mut()
            .for_each(|lane| lane.resize(out.values.len(), storage::model::value::ABSENT));
        let rows = &mut self.rows[usize::from(delta.shard)];
        let mut drops = delta.drops.into_iter();
        for labels in delta.labels {
            rows.push(out.add_row_with_name_flag((labels, drops.next().unwrap_or(false))) as u32);
            out.shards.push(delta.shard);
            out.sorted = false;
        }
        for (i, row) in delta.rows.iter().enumerate() {
            let row = rows[*row as usize];
            out.values[row as usize] = delta.lanes[0][i];
            for (to, from) in out.partial_columns.iter_mut().zip(&delta.lanes[1..]) {
                to[row as usize] = from[i];
            }
            self.touched.push(row);
        }
        for (side, from) in
            [(&mut out.histograms, delta.histograms), (&mut out.histogram_compensations, delta.compensations)]
        {
            if !from.is_empty() || !side.is_empty() {
                let rows = delta.rows.iter().map(|row| rows[*row as usize] as usize);
                let mut from = from.into_iter();
                rows.for_each(|row| side.set(row, from.next().flatten()));
            }
        }
        if let Some(notes) = delta.notes {
            self.notes.insert(delta.shard, notes);
            self.notes.retain(|_, notes| !notes.is_empty());
        }
        let before = self.errors.remove(&delta.shard);
        self.all |= before != delta.error;
        if let Some(error) = delta.error {
            self.errors.insert(delta.shard, error);
        }
    }

    /// Makes the applied deltas visible to the steps that read the port. Returns whether there were
    /// any.
    pub(super) fn publish(&mut self, out: &mut StepOutput) -> bool {
        if self.touched.is_empty() && !self.all {
            return false;
        }
        let touched = std::mem::take(&mut self.touched);
        out.changed =
            if std::mem::take(&mut self.all) { ChangedRows::All } else { ChangedRows::Rows(touched) };
        out.error = self.errors.values().next().cloned();
        out.version += 1;
        true
    }
}
