//! What was written to the server, and what of it was acknowledged: the server must have that, and nothing else.

use std::collections::BTreeMap;

/// A series (the value of its label `i`) and a time.
pub type Key = (String, i64);

/// Samples as they are found: bits of the value.
pub type Contents = BTreeMap<Key, u64>;

#[derive(Clone, Debug)]
struct Entry {
    bits: u64,
    /// The server said that it survives the process …
    acknowledged: bool,
    /// … and it survives the loss of power.
    synced: bool,
}

/// See the module.
#[derive(Default)]
pub struct Ledger(BTreeMap<Key, Entry>);

impl Ledger {
    pub fn knows(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    /// A sample is on its way.
    pub fn sent(&mut self, key: Key, bits: u64) {
        self.0.insert(key, Entry { bits, acknowledged: false, synced: false });
    }

    /// The server has said that it has these.
    pub fn acknowledged(&mut self, keys: &[Key], synced: bool) {
        for key in keys {
            let entry = self.0.get_mut(key).expect("it was sent");
            (entry.acknowledged, entry.synced) = (true, entry.synced || synced);
        }
    }

    /// What is acknowledged is synced.
    pub fn synced(&mut self) {
        self.0.values_mut().filter(|entry| entry.acknowledged).for_each(|entry| entry.synced = true);
    }

    /// What is wrong with what was found at times from `from` to `to`.
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

    /// The power was lost: only what is synced is promised.
    pub fn power_lost(&mut self) {
        self.0.values_mut().for_each(|entry| entry.acknowledged &= entry.synced);
    }

    /// A start has found these, and synced them: they stay. Others never come.
    pub fn take_over(&mut self, found: &Contents) {
        self.0.retain(|key, _| found.contains_key(key));
        self.0.values_mut().for_each(|entry| (entry.acknowledged, entry.synced) = (true, true));
    }
}
