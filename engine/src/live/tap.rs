//! Taps: consumers of a view, and what they have been shown.

use super::{Sink, TapEvent, TapId};
use crate::limits::PROGRESS_MS;
use crate::operators::{Changed, Output};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, TimeMs};

/// Sinks on their way from the handle to the worker that owns their view.
pub type Waiting = Arc<Mutex<HashMap<TapId, Box<dyn Sink>>>>;

/// The taps of one view.
#[derive(Default)]
pub struct Taps {
    taps: Vec<(TapId, Box<dyn Sink>, bool)>,
    /// Value shown per row.
    shown: Vec<f64>,
    version: u64,
    failed: Option<String>,
    /// When consumers last heard how far the answer is complete.
    progressed: TimeMs,
}

impl Taps {
    /// Adds a consumer.
    pub fn add(&mut self, id: TapId, sink: Box<dyn Sink>) {
        self.taps.push((id, sink, false));
    }

    /// Removes a consumer.
    pub fn remove(&mut self, id: TapId) {
        self.taps.retain(|(tap, ..)| *tap != id);
    }

    /// Rows have new numbers: everyone is greeted again.
    pub fn restart(&mut self) {
        self.shown.clear();
        self.version = 0;
        self.taps.iter_mut().for_each(|(.., greeted)| *greeted = false);
    }

    /// Tells everyone about the evaluation of `out` at `t`. `error`: it failed (also when `out` itself is fine).
    pub fn tell(&mut self, t: TimeMs, out: &Output, error: Option<&String>) {
        if self.taps.is_empty() {
            // Nobody saw it: what is shown to the next consumer starts from nothing.
            self.shown.clear();
            self.version = 0;
            return;
        }
        let delta = if error.is_none() { self.delta(t, out) } else { None };
        let newly_failed = error.is_some() && self.failed.as_ref() != error;
        let recovered = error.is_none() && self.failed.is_some();
        self.failed = error.cloned();
        let snapshot = self.taps.iter().any(|(.., greeted)| !greeted).then(|| self.snapshot(t, out));
        let progress = error.is_none()
            && (delta.is_some() || snapshot.is_some() || recovered || t - self.progressed >= PROGRESS_MS);
        if snapshot.is_none() && !progress && !newly_failed {
            return;
        }
        if progress {
            self.progressed = t;
        }
        self.taps.retain_mut(|(_, sink, greeted)| {
            let first = !std::mem::replace(greeted, true);
            let news = if first { snapshot.clone() } else { delta.clone() };
            let failure = error.filter(|_| newly_failed || first);
            let failure = failure.map(|error| TapEvent::Failed { t, error: error.clone() });
            let progress = progress.then_some(TapEvent::Progress { t });
            news.into_iter().chain(failure).chain(progress).all(|event| sink.push(event))
        });
    }

    fn snapshot(&self, t: TimeMs, out: &Output) -> TapEvent {
        let rows = self.shown.iter().zip(&out.labels).filter(|(v, _)| !is_absent(**v));
        TapEvent::Snapshot { t, rows: rows.map(|(v, labels)| (labels.clone(), *v)).collect() }
    }

    /// What changed since the last time, and remembers it as shown.
    fn delta(&mut self, t: TimeMs, out: &Output) -> Option<TapEvent> {
        if self.version == out.version && self.shown.len() == out.values.len() {
            return None;
        }
        let exact = self.version + 1 == out.version && self.version > 0;
        self.version = out.version;
        self.shown.resize(out.values.len(), ABSENT);
        let (mut upsert, mut remove): (Vec<(Labels, f64)>, Vec<Labels>) = (Vec::new(), Vec::new());
        let mut look = |row: usize| {
            let value = out.values[row];
            let shown = std::mem::replace(&mut self.shown[row], value);
            if value.to_bits() == shown.to_bits() {
                return;
            }
            match is_absent(value) {
                true => remove.push(out.labels[row].clone()),
                false => upsert.push((out.labels[row].clone(), value)),
            }
        };
        match &out.changed {
            Changed::Rows(rows) if exact => rows.iter().for_each(|row| look(*row as usize)),
            _ => (0..out.values.len()).for_each(look),
        }
        if !remove.is_empty() && !upsert.is_empty() {
            // Two rows may carry the same labels at different times: one took over from the other.
            let taken: HashSet<&Labels> = upsert.iter().map(|(labels, _)| labels).collect();
            remove.retain(|labels| !taken.contains(labels));
        }
        (!upsert.is_empty() || !remove.is_empty()).then_some(TapEvent::Delta { t, upsert, remove })
    }
}
