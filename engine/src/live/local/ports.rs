//! The ports of one shard: which rows and annotations each owner knows, and what must be sent to it
//! now.

use super::shard::LocalShard;
use crate::annotations::StepAnnotation;
use crate::live::message::PortDelta;
use crate::operators::step_set::StepSet;
use crate::operators::{ChangedRows, StepOutput};
use crate::plan::physical::StepId;
use crate::types::histogram_column::HistogramColumn;

/// What an owner knows of a port.
#[derive(Copy, Clone, Default)]
pub(super) struct PortCursor {
    version: u64,
    labels: usize,
    once: bool,
    /// Version of the annotations of the port and of the steps below it.
    notes: u64,
}

impl LocalShard {
    /// The delta that `owner` must receive, if any.
    pub(super) fn delta(&mut self, port: StepId, owner: usize) -> Option<PortDelta> {
        let sent = self.sent.get(&(port, owner)).copied().unwrap_or_default();
        let first = !sent.once;
        // Which steps are below a new port is not known yet, because step numbers are reused. Their
        // annotations are sent by [`LocalShard::ports_with_new_annotations`].
        self.remarks_stand &= !first || self.noted.is_empty();
        let remarked = if self.remarks_stand { self.remarked(port) } else { sent.notes };
        let out = self.stage.output(port);
        let silent = remarked == sent.notes;
        if !first && sent.version == out.version && silent {
            return None;
        }
        let delta = PortDelta {
            owner: owner as u64,
            port: port as u64,
            shard: self.wide,
            labels: out.labels[sent.labels..].to_vec(),
            drops: out.drops_name.get(sent.labels..).unwrap_or_default().to_vec(),
            rows: Vec::new(),
            error: out.error.clone(),
            ..PortDelta::default()
        };
        let change = out.version.wrapping_sub(sent.version);
        let known = sent.labels;
        let now = PortCursor { version: out.version, labels: out.labels.len(), once: true, notes: remarked };
        self.sent.insert((port, owner), now);
        let mut delta = match change {
            0 if !first => delta,
            1 if !first => with_rows(delta, out, false, known),
            _ => with_rows(delta, out, true, known),
        };
        if !silent {
            delta.notes = Some(self.notes(port));
        }
        // Nothing to send: the owner starts with no rows for this shard, which is already correct.
        let nothing = delta.labels.is_empty() && delta.error.is_none() && delta.notes.is_none();
        (!(first && nothing)).then_some(delta)
    }

    /// Due ports above steps whose annotations have changed: they must be sent although no value
    /// changed.
    pub(super) fn ports_with_new_annotations(&mut self, due: &StepSet) -> Vec<StepId> {
        if !std::mem::replace(&mut self.remarks_stand, true) {
            self.find_remarks();
            self.remarks.iter().for_each(|(port, _)| self.unheard.insert(*port));
            self.renoted.clear();
        }
        for step in self.renoted.drain(..) {
            let above = self.remarks.iter().filter(|(_, below)| below.contains(&step));
            above.for_each(|(port, _)| self.unheard.insert(*port));
        }
        let mut ports = Vec::new();
        let mut from = 0;
        while let Some(port) = self.unheard.next_common(due, from) {
            self.unheard.remove(port);
            ports.push(port);
            from = port + 1;
        }
        ports
    }

    fn find_remarks(&mut self) {
        let mut ports: Vec<StepId> = self.sent.keys().map(|(port, _)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        let below = |port: &StepId| -> Vec<StepId> {
            self.noted.iter().copied().filter(|step| self.stage.reads(*port, *step)).collect()
        };
        let found = ports.iter().map(|port| (*port, below(port)));
        self.remarks = found.filter(|(_, steps)| !steps.is_empty()).collect();
    }

    /// The sum of the versions of the annotations below a port; it changes with each of them. 0:
    /// there never was one.
    fn remarked(&self, port: StepId) -> u64 {
        self.remarkable(port).map(|step| self.stage.output(step).notes.version()).sum()
    }

    fn notes(&self, port: StepId) -> Vec<(u64, StepAnnotation)> {
        let of = |step: StepId| {
            let notes = self.stage.output(step).notes.iter();
            notes.map(move |note| (step as u64, note.clone()))
        };
        self.remarkable(port).flat_map(of).collect()
    }

    /// The steps below a port, itself included, that ever had an annotation.
    fn remarkable(&self, port: StepId) -> impl Iterator<Item = StepId> + '_ {
        let at = self.remarks.binary_search_by_key(&port, |(port, _)| *port);
        at.ok().map_or(&[][..], |at| &self.remarks[at].1).iter().copied()
    }
}

fn with_rows(mut delta: PortDelta, out: &StepOutput, all: bool, known: usize) -> PortDelta {
    delta.rows = match &out.changed {
        ChangedRows::Rows(rows) if !all => {
            // A new row without a value is not among the changed ones; the owner starts it as
            // absent, too.
            debug_assert!(known <= out.labels.len());
            rows.clone()
        }
        _ => (0..out.labels.len() as u32).collect(),
    };
    let pick = |lane: &Vec<f64>| delta.rows.iter().map(|row| lane[*row as usize]).collect::<Vec<f64>>();
    delta.lanes = std::iter::once(&out.values).chain(&out.partial_columns).map(pick).collect();
    let side = |side: &HistogramColumn| {
        if side.is_empty() {
            Vec::new()
        } else {
            delta.rows.iter().map(|row| side.get(*row as usize).cloned()).collect()
        }
    };
    delta.histograms = side(&out.histograms);
    delta.compensations = side(&out.histogram_compensations);
    delta
}
