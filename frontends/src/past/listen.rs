//! Who hears of corrections: subscriptions of recorded series.

use super::correct::Changed;
use engine::live::Row;
use engine::operators::side::Sample;
use parking_lot::Mutex;
use storage::model::value::is_stale;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::Corrected;

/// What was corrected at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectedRows {
    /// The slot.
    pub t: TimeMs,
    /// Rows that have another value, or one at all, there.
    pub upsert: Vec<Row>,
    /// Rows that have none there any more.
    pub remove: Vec<Labels>,
}

/// A consumer of corrections.
pub trait Listener: Send {
    /// Takes what was corrected at one time. Must queue and return.
    fn corrected(&self, rows: CorrectedRows);
    /// Whether it wants more.
    fn is_open(&self) -> bool;
}

/// A listener, and what picks the series it wants to hear of.
type Listening = (Vec<Matcher>, Box<dyn Listener>);

/// All listeners.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<Listening>>);

impl Listeners {
    /// Adds one; those that want no more go.
    pub fn add(&self, matchers: Vec<Matcher>, listener: Box<dyn Listener>) {
        let mut all = self.0.lock();
        all.retain(|(_, listener)| listener.is_open());
        all.push((matchers, listener));
    }

    /// Tells each of what it listens to, time by time.
    pub fn tell(&self, changed: &[Changed]) {
        for (matchers, listener) in self.0.lock().iter() {
            let wants = |(_, labels, _): &&Changed| matchers.iter().all(|m| m.matches_labels(labels));
            let wanted: Vec<&Changed> = changed.iter().filter(wants).collect();
            wanted.chunk_by(|a, b| a.0 == b.0).for_each(|rows| listener.corrected(of(rows)));
        }
    }
}

fn of(changed: &[&Changed]) -> CorrectedRows {
    let t = changed.first().map_or(0, |(t, ..)| *t);
    let (mut upsert, mut remove) = (Vec::new(), Vec::new());
    for (_, labels, to) in changed {
        match to {
            Corrected::Float(v) if !is_stale(*v) => upsert.push((labels.clone(), Sample::Float(*v))),
            Corrected::Histogram(h) => upsert.push((labels.clone(), Sample::Histogram(h.clone()))),
            Corrected::Float(_) | Corrected::Gone => remove.push(labels.clone()),
        }
    }
    CorrectedRows { t, upsert, remove }
}
