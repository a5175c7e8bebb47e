//! The samples that the simulation has written to the server, and which of them were acknowledged.
//! The server must have the acknowledged ones, and none that were not written.

use std::collections::BTreeMap;

/// A series (the value of its label `i`) and a time.
pub type Key = (String, i64);

/// The samples in a store: the bits of each value.
pub type Contents = BTreeMap<Key, u64>;

#[derive(Clone, Debug)]
struct Entry {
    bits: u64,
    /// Whether the server has acknowledged that the sample survives the process.
    acknowledged: bool,
    /// Whether the sample survives a power loss.
    synced: bool,
}

/// All samples that were written.
#[derive(Default)]
pub struct Ledger(BTreeMap<Key, Entry>);

impl Ledger {
    pub fn knows(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    /// Records that a sample was sent.
    pub fn sent(&mut self, key: Key, bits: u64) {
        self.0.insert(key, Entry { bits, acknowledged: false, synced: false });
    }

    /// Records that samples were acknowledged.
    pub fn acknowledged(&mut self, keys: &[Key], synced: bool) {
        for key in keys {
            let entry = self.0.get_mut(key).expect("it was sent");
            entry.acknowledged = true;
            entry.synced = entry.synced || synced;
        }
    }

    /// Records that the WAL was synced: all acknowledged samples survive a power loss.
    pub fn synced(&mut self) {
        for entry in self.0.values_mut().filter(|entry| entry.acknowledged) {
            entry.synced = true;
        }
    }

    /// Checks the samples that were found at times from `from` to `to`; the error says what is
    /// wrong.
    pub fn check(&self, found: &Contents, from: i64, to: i64) -> Result<(), String> {
        let inside = |key: &&Key| (from..=to).contains(&key.1);
        for (key, entry) in self.0.iter().filter(|(key, _)| inside(key)) {
            match found.get(key) {
                Some(bits) if *bits != entry.bits => {
                    return Err(format!("{key:?} is {bits:x} and was sent as {:x}", entry.bits));
                }
                None if entry.acknowledged => return Err(format!("{key:?} was acknowledged and is lost")),
                _ => {}
            }
        }
        match found.keys().find(|key| !self.0.contains_key(*key)) {
            Some(key) => Err(format!("{key:?} was never sent")),
            None => Ok(()),
        }
    }

    /// Records a power loss: only synced samples are guaranteed.
    pub fn power_lost(&mut self) {
        for entry in self.0.values_mut() {
            entry.acknowledged &= entry.synced;
        }
    }

    /// Records the samples that a start has found and synced: these remain, all others never
    /// appear.
    pub fn take_over(&mut self, found: &Contents) {
        self.0.retain(|key, _| found.contains_key(key));
        for entry in self.0.values_mut() {
            entry.acknowledged = true;
            entry.synced = true;
        }
    }
}
