//! Labels of inactive series: series without samples in the head and without a writer. A slot is
//! never given to another series, and a writer may come back with only the slot number, so the
//! labels must be kept. They are compressed many at a time, because neighbouring series share most
//! of their labels.

use crate::limits::{INACTIVE_LABELS_PACK, INACTIVE_LABELS_ZSTD_LEVEL};
use crate::model::Labels;
use crate::model::labels::hash_encoded;
use hashbrown::HashTable;
use parking_lot::Mutex;

/// The labels of inactive series, found by slot or by labels.
#[derive(Default)]
pub(super) struct InactiveLabels {
    slots: HashTable<PackedSlot>,
    packs: Vec<Option<LabelPack>>,
    /// The pack that was decompressed last, by its number. Lookups come in runs: the next series is
    /// usually in the same pack.
    open: Mutex<Option<(u32, Vec<u8>)>>,
}

/// In which pack the labels of a slot are.
struct PackedSlot {
    hash: u64,
    slot: u32,
    pack: u32,
}

/// The compressed labels of some slots.
struct LabelPack {
    slots: Box<[u32]>,
    /// How many of the slots are still inactive. An empty pack is dropped.
    left: u32,
    /// The last record of the log when they became inactive: none after it has samples of them.
    last_lsn: u64,
    /// Compressed; for each slot, in ascending order: length (`u32`, little-endian) and encoded
    /// labels.
    bytes: Box<[u8]>,
    unpacked: usize,
}

impl InactiveLabels {
    /// Adds the labels of slots in ascending order; `last_lsn` is the last record of the log that
    /// may have samples of them. Returns those that could not be compressed.
    pub(super) fn add(&mut self, ended: Vec<(u32, Labels)>, last_lsn: u64) -> Vec<(u32, Labels)> {
        *self.open.lock() = None;
        let mut back = Vec::new();
        for some in ended.chunks(INACTIVE_LABELS_PACK) {
            match LabelPack::compress(some, last_lsn) {
                Some(pack) => self.add_pack(pack, some),
                None => back.extend_from_slice(some),
            }
        }
        back
    }

    fn add_pack(&mut self, pack: LabelPack, ended: &[(u32, Labels)]) {
        let free = self.packs.iter().position(Option::is_none).unwrap_or(self.packs.len());
        if free == self.packs.len() {
            self.packs.push(None);
        }
        self.packs[free] = Some(pack);
        for (slot, labels) in ended {
            let place = PackedSlot { hash: labels.hash64(), slot: *slot, pack: free as u32 };
            self.slots.insert_unique(place.hash, place, |place| place.hash);
        }
    }

    /// The slot of these encoded labels.
    pub(super) fn find(&self, encoded: &[u8]) -> Option<u32> {
        let hash = hash_encoded(encoded);
        let mut same = self.slots.iter_hash(hash).filter(|place| place.hash == hash);
        same.find(|place| self.look(place.pack, place.slot, |labels| labels == encoded) == Some(true))
            .map(|place| place.slot)
    }

    /// The labels of a slot, if it is inactive.
    pub(super) fn labels(&self, slot: u32) -> Option<Labels> {
        let pack = self.packs.iter().position(|pack| pack.as_ref().is_some_and(|p| p.at(slot).is_some()))?;
        self.look(pack as u32, slot, Labels::from_encoded)?
    }

    /// Calls `visit` for the slots that may have samples in record `from_lsn` of the log or later.
    pub(super) fn since(&self, from_lsn: u64, mut visit: impl FnMut(u32, &Labels)) {
        for pack in self.packs.iter().flatten().filter(|pack| pack.last_lsn >= from_lsn) {
            let Some(unpacked) = pack.unpack() else { continue };
            for slot in &pack.slots {
                if let Some(labels) = pack.get(&unpacked, *slot).and_then(Labels::from_encoded) {
                    visit(*slot, &labels);
                }
            }
        }
    }

    /// Removes and returns the labels of a slot, if it is inactive.
    pub(super) fn take(&mut self, slot: u32) -> Option<Labels> {
        let labels = self.labels(slot)?;
        // `labels` may come from an older pack, from which this slot was taken before. Its labels
        // are the same, and the entry found by their hash names the right pack.
        let (place, _) = self.slots.find_entry(labels.hash64(), |place| place.slot == slot).ok()?.remove();
        let pack = &mut self.packs[place.pack as usize];
        *pack =
            pack.take().map(|pack| LabelPack { left: pack.left - 1, ..pack }).filter(|pack| pack.left > 0);
        Some(labels)
    }

    /// Calls `to` with the encoded labels of a slot of pack `at`.
    fn look<R>(&self, at: u32, slot: u32, to: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let pack = self.packs.get(at as usize)?.as_ref()?;
        let mut open = self.open.lock();
        if open.as_ref().is_none_or(|(open, _)| *open != at) {
            *open = Some((at, pack.unpack()?));
        }
        pack.get(&open.as_ref()?.1, slot).map(to)
    }
}

impl LabelPack {
    fn compress(ended: &[(u32, Labels)], last_lsn: u64) -> Option<LabelPack> {
        let mut bytes = Vec::new();
        for (_, labels) in ended {
            bytes.extend_from_slice(&(labels.encoded().len() as u32).to_le_bytes());
            bytes.extend_from_slice(labels.encoded());
        }
        let packed = zstd::bulk::compress(&bytes, INACTIVE_LABELS_ZSTD_LEVEL).ok()?;
        Some(LabelPack {
            slots: ended.iter().map(|(slot, _)| *slot).collect(),
            left: ended.len() as u32,
            last_lsn,
            bytes: packed.into(),
            unpacked: bytes.len(),
        })
    }

    fn unpack(&self) -> Option<Vec<u8>> {
        zstd::bulk::decompress(&self.bytes, self.unpacked).ok()
    }

    fn at(&self, slot: u32) -> Option<usize> {
        self.slots.binary_search(&slot).ok()
    }

    /// The encoded labels of a slot; `unpacked` is the decompressed content of this pack.
    fn get<'a>(&self, mut unpacked: &'a [u8], slot: u32) -> Option<&'a [u8]> {
        for _ in 0..self.at(slot)? {
            unpacked = take(unpacked)?.1;
        }
        take(unpacked).map(|(encoded, _)| encoded)
    }
}

/// The first encoded labels, and the bytes after them.
fn take(unpacked: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = unpacked.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn labels(slot: u32) -> Labels {
        let pod = format!("shop-{:08x}-{:05x}", slot / 100 * 7919, slot / 100);
        let name = format!("http_requests_{}_total", slot % 100);
        Labels::from_pairs([("__name__", name.as_str()), ("job", "shop"), ("pod", &pod), ("code", "200")])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn slots_come_and_go(rounds in proptest::collection::vec(any::<u64>(), 1..12)) {
            let mut ended = InactiveLabels::default();
            let mut model = BTreeMap::new();
            for bits in rounds {
                let chosen = |slot: &u32| bits >> (slot % 64) & 1 == 1;
                let (go, come): (Vec<u32>, Vec<u32>) = (0..700).partition(chosen);
                let add: Vec<(u32, Labels)> =
                    go.into_iter().filter(|s| !model.contains_key(s)).map(|slot| (slot, labels(slot))).collect();
                model.extend(add.iter().cloned());
                prop_assert!(ended.add(add, 1).is_empty());
                for slot in come.iter().filter(|slot| *slot % 3 == 0) {
                    prop_assert_eq!(ended.take(*slot), model.remove(slot));
                }
                prop_assert_eq!(ended.slots.len(), model.len());
            }
            for slot in 0..710 {
                let there = model.get(&slot);
                prop_assert_eq!(ended.find(labels(slot).encoded()), there.map(|_| slot));
                prop_assert!(there.is_none() || ended.labels(slot).as_ref() == there);
            }
            for slot in model.keys() {
                prop_assert!(ended.take(*slot).is_some());
            }
            prop_assert!(ended.packs.iter().all(Option::is_none), "nothing is kept of what is taken");
        }
    }

    #[test]
    fn they_are_small() {
        let all: Vec<(u32, Labels)> = (0..2560).map(|slot| (slot, labels(slot))).collect();
        let raw: usize = all.iter().map(|(_, labels)| labels.encoded().len()).sum();
        let mut ended = InactiveLabels::default();
        assert!(ended.add(all, 1).is_empty());
        let packed: usize = ended.packs.iter().flatten().map(|pack| pack.bytes.len()).sum();
        assert!(packed * 10 < raw, "{packed} bytes of {raw}");
    }
}
