//! The model of the simulation ([`super::world`]): what was sent to a store, what was guaranteed
//! and when, and so what the store may and must contain after a crash.
//!
//! Positions are numbers of disk changes: a sample was sent before one, and guaranteed after one.

use std::collections::{BTreeMap, BTreeSet};

/// A sample: series and time.
pub type Key = (String, i64);

/// The bits of a value; `None`: no sample.
pub type Value = Option<u64>;

/// The samples of a store.
pub type Contents = BTreeMap<Key, u64>;

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    sent: usize,
    /// The position from which the value survives the end of the process.
    written: Option<usize>,
    /// The position from which the value survives a power loss.
    synced: Option<usize>,
    /// Whether a crash may have lost the value: later guarantees do not apply to it.
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
    /// Whether retention may have removed the sample.
    expired: bool,
}

impl Sample {
    fn now(&self) -> Value {
        self.entries.last().and_then(|entry| entry.value)
    }

    /// The possible values after a crash at `cut`: the last guaranteed value, or one that was sent
    /// after it.
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
    /// Records that the store accepted a value at position `at`.
    pub fn sent(&mut self, at: usize, key: Key, value: Value) {
        let entry = Entry { value, sent: at, written: None, synced: None, doubtful: false };
        self.0.entry(key).or_default().entries.push(entry);
    }

    /// Records that all values sent before survive the end of the process.
    pub fn written(&mut self, at: usize) {
        for e in self.entries().filter(|e| !e.doubtful) {
            _ = e.written.get_or_insert(at);
        }
    }

    /// Records that all values sent before survive a power loss.
    pub fn synced(&mut self, at: usize) {
        self.written(at);
        for e in self.entries().filter(|e| !e.doubtful) {
            _ = e.synced.get_or_insert(at);
        }
    }

    /// The time of the newest sample that was ever sent and may be stored.
    pub fn newest(&self) -> Option<i64> {
        self.0.keys().map(|key| key.1).max()
    }

    /// Records that retention may remove samples before `t`.
    pub fn expire(&mut self, t: i64) {
        for (_, sample) in self.0.iter_mut().filter(|(key, _)| key.1 < t) {
            sample.expired = true;
        }
    }

    /// Records that a start has found and synced all present samples, except those in `since`,
    /// which were sent later.
    pub fn found(&mut self, at: usize, since: &BTreeSet<Key>) {
        for (_, sample) in self.0.iter_mut().filter(|(key, _)| !since.contains(*key)) {
            for entry in &mut sample.entries {
                entry.written = Some(at);
                entry.synced = Some(at);
            }
        }
    }

    fn entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.values_mut().flat_map(|sample| &mut sample.entries)
    }

    /// Records a crash: until [`Books::take_over`], values that were not guaranteed may be present
    /// or not.
    pub fn crashed(&mut self, crash: Crash) {
        for entry in self.entries() {
            entry.written = entry.written.filter(|_| crash == Crash::Kill || entry.synced.is_some());
            entry.doubtful |= entry.written.is_none();
        }
    }

    /// Whether such a sample was ever sent.
    pub fn knows(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    pub fn value(&self, key: &Key) -> Value {
        self.0.get(key).and_then(Sample::now)
    }

    /// Checks the contents of a running store, for the samples that `asked` accepts; the error says
    /// what is wrong.
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

    /// Checks the contents of a store that was opened after a crash at `cut`; the error says what
    /// is wrong.
    pub fn check_after(&self, contents: &Contents, cut: usize, crash: Crash) -> Result<(), String> {
        for (key, sample) in &self.0 {
            let found = contents.get(key).copied();
            if !sample.possible(cut, crash).any(|value| value == found) {
                return Err(format!("{key:?}: {found:x?} after {crash:?} at {cut}: {:x?}", sample.entries));
            }
        }
        self.made_up(contents)
    }

    /// Continues with the contents of a store after a crash.
    pub fn take_over(&mut self, contents: &Contents) {
        for (key, sample) in &mut self.0 {
            let found = contents.get(key).copied();
            let last = sample.entries.iter().rposition(|entry| entry.value == found);
            sample.entries.truncate(last.map_or(0, |last| last + 1));
            for entry in &mut sample.entries {
                entry.doubtful = false;
            }
        }
        self.0.retain(|_, sample| !sample.entries.is_empty());
    }
}
