//! Sends corrections (recorded samples that were computed again because of late samples) to the
//! subscriptions of recorded series.

use super::corrector::SampleChange;
use engine::live::LabelledSample;
use engine::types::histogram_column::Sample;
use parking_lot::Mutex;
use storage::model::value::is_stale;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::CorrectedValue;

/// What was corrected at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectionEvent {
    /// The evaluation time.
    pub t: TimeMs,
    /// Rows with a new or another value there.
    pub upsert: Vec<LabelledSample>,
    /// Rows without a value there now.
    pub remove: Vec<Labels>,
}

/// A consumer of corrections.
///
/// # Contract
/// 1. `corrected` queues and returns: it is called by the thread that corrects.
/// 2. Events come in no order of time: the corrections of a late sample may be older than those
///    that came before.
/// 3. Once `is_open` is false it stays so; the listener is then dropped.
pub trait CorrectionListener: Send {
    /// Receives what was corrected at one time. Must queue and return.
    fn corrected(&self, rows: CorrectionEvent);
    /// Whether it wants more.
    fn is_open(&self) -> bool;
}

/// A listener, and the selector of the series it listens to.
type FilteredListener = (Vec<Matcher>, Box<dyn CorrectionListener>);

/// All listeners.
#[derive(Default)]
pub(super) struct CorrectionListeners(Mutex<Vec<FilteredListener>>);

impl CorrectionListeners {
    /// Adds a listener; closed ones are removed.
    pub(super) fn add(&self, matchers: Vec<Matcher>, listener: Box<dyn CorrectionListener>) {
        let mut all = self.0.lock();
        all.retain(|(_, listener)| listener.is_open());
        all.push((matchers, listener));
    }

    /// Sends the changes to each listener that selects them, time by time.
    pub(super) fn notify(&self, changed: &[SampleChange]) {
        for (matchers, listener) in self.0.lock().iter() {
            let wants = |(_, labels, _): &&SampleChange| matchers.iter().all(|m| m.matches_labels(labels));
            let wanted: Vec<&SampleChange> = changed.iter().filter(wants).collect();
            for rows in wanted.chunk_by(|a, b| a.0 == b.0) {
                listener.corrected(correction_event(rows));
            }
        }
    }
}

fn correction_event(changed: &[&SampleChange]) -> CorrectionEvent {
    let t = changed.first().map_or(0, |(t, ..)| *t);
    let mut upsert = Vec::new();
    let mut remove = Vec::new();
    for (_, labels, to) in changed {
        match to {
            CorrectedValue::Float(v) if !is_stale(*v) => upsert.push((labels.clone(), Sample::Float(*v))),
            CorrectedValue::Histogram(h) => upsert.push((labels.clone(), Sample::Histogram(h.clone()))),
            CorrectedValue::Float(_) | CorrectedValue::Gone => remove.push(labels.clone()),
        }
    }
    CorrectionEvent { t, upsert, remove }
}
