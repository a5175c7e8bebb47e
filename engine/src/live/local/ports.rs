//! The ports of one shard: steps of the local stage whose rows go to the workers that own views.
//! Here is what each owner has received, as versions, and so what must be sent to it now
//! ([`PortDelta`]). `live/gather/port.rs` is the receiving side.

use crate::annotations::StepAnnotation;
use crate::live::message::PortDelta;
use crate::operators::stage::{Stage, StepChange};
use crate::operators::step_set::StepSet;
use crate::operators::{ChangedRows, StepOutput};
use crate::plan::physical::StepId;
use crate::types::histogram_column::HistogramColumn;
use std::collections::HashMap;

/// A port and the worker that reads it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PortReader {
    pub port: StepId,
    pub owner: usize,
}

/// What an owner knows of a port.
#[derive(Copy, Clone, Default)]
struct PortCursor {
    version: u64,
    labels: usize,
    /// The owner has received something.
    is_known: bool,
    /// Version of the annotations of the port and of the steps below it.
    annotations: u64,
}

/// What the owners of the ports of a shard have received, and what they must receive.
pub(super) struct PortOutbox {
    /// The number of the shard among the shards of all processes.
    global_shard: u16,
    cursors: HashMap<PortReader, PortCursor>,
    /// Steps whose rows changed in this round.
    changed: Vec<StepId>,
    /// Ports of which a new owner has received nothing yet.
    new_readers: Vec<PortReader>,
    annotations: AnnotationRouting,
}

/// Which ports carry the annotations of which steps.
#[derive(Default)]
struct AnnotationRouting {
    /// Steps that ever had an annotation.
    steps: Vec<StepId>,
    /// By port, in order: those of these steps that are below it.
    by_port: Vec<(StepId, Vec<StepId>)>,
    /// `by_port` must be built again, because steps or ports were added or removed.
    is_outdated: bool,
    /// Steps whose annotations have changed since the last
    /// [`PortOutbox::ports_with_new_annotations`].
    changed: Vec<StepId>,
    /// Ports whose owners have not received the latest annotations.
    unsent: StepSet,
}

impl PortOutbox {
    /// The outbox of a shard, by its number among the shards of all processes.
    pub(super) fn new(global_shard: u16) -> PortOutbox {
        PortOutbox {
            global_shard,
            cursors: HashMap::new(),
            changed: Vec::new(),
            new_readers: Vec::new(),
            annotations: AnnotationRouting::default(),
        }
    }

    /// A worker begins to read a port.
    pub(super) fn add_reader(&mut self, reader: PortReader) {
        self.new_readers.push(reader);
    }

    /// A worker does not read a port any more.
    pub(super) fn remove_reader(&mut self, reader: PortReader) {
        self.cursors.remove(&reader);
        self.new_readers.retain(|new| *new != reader);
    }

    /// A step is removed.
    pub(super) fn remove_step(&mut self, step: StepId) {
        let annotations = &mut self.annotations;
        // If no step of the shard ever had an annotation, the lists by port cannot change.
        annotations.is_outdated |= !annotations.steps.is_empty();
        annotations.steps.retain(|annotated| *annotated != step);
    }

    /// A step was evaluated.
    pub(super) fn step_evaluated(&mut self, step: StepId, change: StepChange) {
        if change.annotations {
            self.annotations.changed.push(step);
            if !self.annotations.steps.contains(&step) {
                self.annotations.steps.push(step);
                self.annotations.is_outdated = true;
            }
        }
        if change.rows {
            self.changed.push(step);
        }
    }

    /// Removes and returns the steps whose rows changed in this round.
    pub(super) fn take_changed(&mut self) -> Vec<StepId> {
        std::mem::take(&mut self.changed)
    }

    /// Removes and returns the new readers of ports that are due.
    pub(super) fn take_new_readers(&mut self, due: &StepSet) -> Vec<PortReader> {
        let (now, later) = self.new_readers.drain(..).partition(|reader| due.contains(reader.port));
        self.new_readers = later;
        now
    }

    /// The delta that a reader must receive, if any.
    pub(super) fn delta(&mut self, stage: &Stage, reader: PortReader) -> Option<PortDelta> {
        let PortReader { port, owner } = reader;
        let sent = self.cursors.get(&reader).copied().unwrap_or_default();
        let first = !sent.is_known;
        // Which steps are below a new port is not known yet, because step numbers are reused. Their
        // annotations are sent by [`PortOutbox::ports_with_new_annotations`].
        self.annotations.is_outdated |= first && !self.annotations.steps.is_empty();
        let annotations = if self.annotations.is_outdated {
            sent.annotations
        } else {
            self.annotations.version(stage, port)
        };
        let out = stage.output(port);
        let same_annotations = annotations == sent.annotations;
        if !first && sent.version == out.version && same_annotations {
            return None;
        }
        let mut delta = PortDelta {
            owner: owner as u64,
            port: port as u64,
            shard: self.global_shard,
            labels: out.labels[sent.labels..].to_vec(),
            drops: out.drops_name.get(sent.labels..).unwrap_or_default().to_vec(),
            rows: Vec::new(),
            since: (sent.version != out.version).then_some(out.since).flatten(),
            error: out.error.clone(),
            ..PortDelta::default()
        };
        let cursor =
            PortCursor { version: out.version, labels: out.labels.len(), is_known: true, annotations };
        self.cursors.insert(reader, cursor);
        // A reader that has missed a version gets all rows: the list of changed rows is that of the
        // latest version only.
        match out.version.wrapping_sub(sent.version) {
            0 if !first => {}
            1 if !first => delta = with_rows(delta, out, false, sent.labels),
            _ => delta = with_rows(delta, out, true, sent.labels),
        }
        if !same_annotations {
            delta.annotations = Some(self.annotations.below(stage, port));
        }
        // Nothing to send: the owner starts with no rows for this shard, which is already correct.
        let is_empty = delta.labels.is_empty() && delta.error.is_none() && delta.annotations.is_none();
        (!(first && is_empty)).then_some(delta)
    }

    /// Due ports above steps whose annotations have changed: they must be sent although no value
    /// changed.
    pub(super) fn ports_with_new_annotations(&mut self, stage: &Stage, due: &StepSet) -> Vec<StepId> {
        if std::mem::take(&mut self.annotations.is_outdated) {
            let mut ports: Vec<StepId> = self.cursors.keys().map(|reader| reader.port).collect();
            ports.sort_unstable();
            ports.dedup();
            self.annotations.rebuild(stage, &ports);
        }
        self.annotations.take_unsent(due)
    }
}

impl AnnotationRouting {
    /// Finds out which annotated steps are below which of these ports. All of them must be sent
    /// again.
    fn rebuild(&mut self, stage: &Stage, ports: &[StepId]) {
        let below = |port: StepId| -> Vec<StepId> {
            self.steps.iter().copied().filter(|step| stage.reads(port, *step)).collect()
        };
        let by_port = ports.iter().map(|port| (*port, below(*port)));
        self.by_port = by_port.filter(|(_, steps)| !steps.is_empty()).collect();
        for (port, _) in &self.by_port {
            self.unsent.insert(*port);
        }
        self.changed.clear();
    }

    /// Removes and returns the due ports whose owners have not received the latest annotations.
    fn take_unsent(&mut self, due: &StepSet) -> Vec<StepId> {
        for step in self.changed.drain(..) {
            for (port, _) in self.by_port.iter().filter(|(_, below)| below.contains(&step)) {
                self.unsent.insert(*port);
            }
        }
        let mut ports = Vec::new();
        let mut from = 0;
        while let Some(port) = self.unsent.next_common(due, from) {
            self.unsent.remove(port);
            ports.push(port);
            from = port + 1;
        }
        ports
    }

    /// The sum of the versions of the annotations below a port; it changes with each of them. 0:
    /// there never was one.
    fn version(&self, stage: &Stage, port: StepId) -> u64 {
        self.steps_below(port).iter().map(|step| stage.output(*step).annotations.version()).sum()
    }

    /// All annotations below a port, with their steps.
    fn below(&self, stage: &Stage, port: StepId) -> Vec<(u64, StepAnnotation)> {
        let of_step = |step: &StepId| {
            let step = *step;
            stage.output(step).annotations.iter().map(move |annotation| (step as u64, annotation.clone()))
        };
        self.steps_below(port).iter().flat_map(of_step).collect()
    }

    /// The steps below a port, itself included, that ever had an annotation.
    fn steps_below(&self, port: StepId) -> &[StepId] {
        let index = self.by_port.binary_search_by_key(&port, |(port, _)| *port);
        index.map_or(&[][..], |index| &self.by_port[index].1)
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
    let pick = |column: &Vec<f64>| delta.rows.iter().map(|row| column[*row as usize]).collect::<Vec<f64>>();
    delta.columns = std::iter::once(&out.values).chain(&out.partial_columns).map(pick).collect();
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
