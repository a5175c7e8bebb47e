//! What was sent to a store, what of it was promised when, and therefore what a store may, and must, say after a crash.
//!
//! Positions are numbers of changes of the disk: `sent` before which one, promised after which one.

use std::collections::{BTreeMap, BTreeSet};

/// A sample: series and time.
pub type Key = (String, i64);

/// A value's bits; `None`: no sample.
pub type Value = Option<u64>;

/// What a store says to have.
pub type Contents = BTreeMap<Key, u64>;

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    sent: usize,
    /// Survives the end of the process.
    written: Option<usize>,
    /// Survives power loss.
    synced: Option<usize>,
    /// A crash may have taken it: nothing that is promised later is about it.
    doubtful: bool,
}

/// How a process ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Crash {
    Kill,
    PowerLoss,
}

/// The values that a sample has had, oldest first.
#[derive(Clone, Debug, Default)]
struct Sample {
    entries: Vec<Entry>,
    /// Retention may take it, or has taken it.
    expired: bool,
}

impl Sample {
    fn now(&self) -> Value {
        self.entries.last().and_then(|entry| entry.value)
    }

    /// What may be there after a crash at `cut`: the last value that was promised, or one that was sent after it.
    fn possible(&self, cut: usize, crash: Crash) -> impl Iterator<Item = Value> + '_ {
        let promised = move |entry: &Entry| {
            let at = if crash == Crash::Kill { entry.written } else { entry.synced };
            at.is_some_and(|at| at <= cut)
        };
        let last = self.entries.iter().rposition(promised);
        let nothing = (last.is_none() || self.expired).then_some(None);
        let entries = self.entries[last.unwrap_or(0)..].iter().filter(move |entry| entry.sent <= cut);
        nothing.into_iter().chain(entries.map(|entry| entry.value))
    }
}

/// All samples.
#[derive(Clone, Debug, Default)]
pub struct Books(BTreeMap<Key, Sample>);

impl Books {
    /// The store took this at `at`.
    pub fn sent(&mut self, at: usize, key: Key, value: Value) {
        let entry = Entry { value, sent: at, written: None, synced: None, doubtful: false };
        self.0.entry(key).or_default().entries.push(entry);
    }

    /// All that was sent before would survive the end of the process.
    pub fn written(&mut self, at: usize) {
        self.entries().filter(|e| !e.doubtful).for_each(|e| _ = e.written.get_or_insert(at));
    }

    /// All that was sent before would survive power loss.
    pub fn synced(&mut self, at: usize) {
        self.written(at);
        self.entries().filter(|e| !e.doubtful).for_each(|e| _ = e.synced.get_or_insert(at));
    }

    /// Time of the newest sample that was ever sent and may have been stored.
    pub fn newest(&self) -> Option<i64> {
        self.0.keys().map(|key| key.1).max()
    }

    /// From now on retention may take samples before `t`.
    pub fn expire(&mut self, t: i64) {
        self.0.iter_mut().filter(|(key, _)| key.1 < t).for_each(|(_, sample)| sample.expired = true);
    }

    /// A start has found all that there is, and synced it; but for these samples, which came since.
    pub fn found(&mut self, at: usize, since: &BTreeSet<Key>) {
        for (_, sample) in self.0.iter_mut().filter(|(key, _)| !since.contains(*key)) {
            for entry in &mut sample.entries {
                (entry.written, entry.synced) = (Some(at), Some(at));
            }
        }
    }

    fn entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.values_mut().flat_map(|sample| &mut sample.entries)
    }

    /// A crash: until somebody looks ([`Books::take_over`]), what was not promised may be there or not.
    pub fn crashed(&mut self, crash: Crash) {
        for entry in self.entries() {
            entry.written = entry.written.filter(|_| crash == Crash::Kill || entry.synced.is_some());
            entry.doubtful |= entry.written.is_none();
        }
    }

    /// Whether there ever was such a sample.
    pub fn knows(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    pub fn value(&self, key: &Key) -> Value {
        self.0.get(key).and_then(Sample::now)
    }

    /// What is wrong with the contents of a store that runs, for the samples that `asked` is about.
    pub fn check(&self, contents: &Contents, asked: impl Fn(&Key) -> bool) -> Result<(), String> {
        for (key, sample) in self.0.iter().filter(|(key, _)| asked(key)) {
            let found = contents.get(key).copied();
            if found != sample.now() && !(sample.expired && found.is_none()) {
                return Err(format!("{key:?}: {found:x?} where {:x?} should be", sample.now()));
            }
        }
        self.made_up(contents)
    }

    fn made_up(&self, contents: &Contents) -> Result<(), String> {
        match contents.iter().find(|(key, _)| !self.0.contains_key(key)) {
            Some((key, value)) => Err(format!("{key:?}: {value:x} was never sent")),
            None => Ok(()),
        }
    }

    /// What is wrong with the contents of a store that was opened after a crash at `cut`.
    pub fn check_after(&self, contents: &Contents, cut: usize, crash: Crash) -> Result<(), String> {
        for (key, sample) in &self.0 {
            let found = contents.get(key).copied();
            if !sample.possible(cut, crash).any(|value| value == found) {
                return Err(format!("{key:?}: {found:x?} after {crash:?} at {cut}: {:x?}", sample.entries));
            }
        }
        self.made_up(contents)
    }

    /// Goes on with what a store has after a crash.
    pub fn take_over(&mut self, contents: &Contents) {
        for (key, sample) in &mut self.0 {
            let found = contents.get(key).copied();
            let last = sample.entries.iter().rposition(|entry| entry.value == found);
            sample.entries.truncate(last.map_or(0, |last| last + 1));
            sample.entries.iter_mut().for_each(|entry| entry.doubtful = false);
        }
        self.0.retain(|_, sample| !sample.entries.is_empty());
    }
}
