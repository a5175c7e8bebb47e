//! The series of a queue, by slot: their labels as they are sent. External labels are added and
//! relabelling rules run once per series, not per sample. In remote write 1.0 the encoded labels of
//! a series are kept, in 2.0 the numbers of its texts ([`super::symbols`]).

use super::batch::SeriesMetadata;
use super::metadata::{MetadataSource, MetadataTable};
use super::symbols::SymbolIds;
use crate::protobuf::put_labels;
use connectors::relabel::Relabeler;
use hashbrown::HashMap;
use std::sync::Arc;
use storage::model::{Labels, SeriesRef};
use storage::store::Store;

/// The labels of a series as they are sent.
pub(super) struct SentSeries {
    /// Its labels as a message has them; empty in remote write 2.0.
    pub encoded: Box<[u8]>,
    /// The numbers ([`SymbolIds`]) of the first name, the first value, the second name and so on;
    /// empty in remote write 1.0.
    pub symbols: Box<[u32]>,
    /// The metric name, for metadata.
    pub name: Box<str>,
}

/// What a queue does with the samples of a series.
pub(super) enum SeriesUse {
    /// Sends them.
    Send(SentSeries),
    /// Its rules drop the series.
    Drop,
    /// Its labels are not known.
    Unknown,
}

/// The known series of a queue.
pub(super) struct SeriesCache {
    store: Arc<Store>,
    external: Labels,
    relabel: Relabeler,
    known: SlotPages,
    /// The numbers of the texts of all known series; `None` in remote write 1.0.
    symbols: Option<SymbolIds>,
    /// The metadata that are sent with each series; `None` in remote write 1.0.
    metadata: Option<MetadataTable>,
}

/// A series with what a request needs to know of it.
pub(super) struct KnownSeries<'a> {
    pub series: &'a SentSeries,
    /// The texts of its symbols; `None` in remote write 1.0.
    pub ids: Option<&'a SymbolIds>,
    pub metadata: SeriesMetadata<'a>,
}

impl SeriesCache {
    /// No series are known yet.
    pub(super) fn new(
        store: Arc<Store>,
        external: Labels,
        relabel: Relabeler,
        is_v2: bool,
        metadata: Arc<dyn MetadataSource>,
    ) -> SeriesCache {
        let symbols = is_v2.then(SymbolIds::default);
        let metadata = is_v2.then(|| MetadataTable::new(metadata));
        SeriesCache { store, external, relabel, known: SlotPages::default(), symbols, metadata }
    }

    /// Looks at the metadata again if they are old.
    pub(super) fn refresh(&mut self) {
        if let Some(metadata) = &mut self.metadata {
            metadata.refresh();
        }
    }

    /// Forgets all series. To be called from time to time: series that have ended are never asked
    /// for again.
    pub(super) fn clear(&mut self) {
        self.known = SlotPages::default();
        if let Some(symbols) = &mut self.symbols {
            *symbols = SymbolIds::default();
        }
    }

    /// A series that was asked for and is sent.
    pub(super) fn known(&self, series: SeriesRef) -> Option<KnownSeries<'_>> {
        match self.known.find(series)? {
            SeriesUse::Send(series) => {
                let metadata = self.metadata.as_ref().map(|table| table.find(&series.name));
                let metadata = metadata.unwrap_or_default();
                Some(KnownSeries { series, ids: self.symbols.as_ref(), metadata })
            }
            SeriesUse::Drop | SeriesUse::Unknown => None,
        }
    }

    /// What is done with the samples of a series.
    pub(super) fn get(&mut self, series: SeriesRef) -> &SeriesUse {
        let SeriesCache { store, external, relabel, known, symbols, metadata } = self;
        known.entry(series).get_or_insert_with(|| {
            let found = resolve(&store.series().labels(series), external, relabel, symbols);
            if let (SeriesUse::Send(sent), Some(metadata)) = (&found, metadata) {
                metadata.look_for(&sent.name);
            }
            found
        })
    }
}

/// Slots of a page.
const PAGE_SLOTS: u64 = 32;

/// The known series of neighbouring slots; `None`: nobody has asked for it.
type SlotPage = [Option<SeriesUse>; PAGE_SLOTS as usize];

/// What is done with each series, by slot. A scrape is logged in the order of its slots, so the
/// series that is asked for next is nearly always in the same page: it is found without a search,
/// and what is read of it is next to what was read before.
#[derive(Default)]
struct SlotPages {
    /// The index in `pages` of the page with a [`page_number`].
    by_number: HashMap<u64, usize>,
    pages: Vec<SlotPage>,
    /// The number of the page that was asked for last, and its index.
    last: Option<LastPage>,
}

/// A page that was found.
#[derive(Copy, Clone)]
struct LastPage {
    number: u64,
    index: usize,
}

impl SlotPages {
    /// The series, if it was asked for before.
    fn find(&self, series: SeriesRef) -> Option<&SeriesUse> {
        let number = page_number(series);
        let index = match self.last {
            Some(last) if last.number == number => last.index,
            _ => *self.by_number.get(&number)?,
        };
        self.pages[index][slot_in_page(series)].as_ref()
    }

    /// The entry of a series.
    fn entry(&mut self, series: SeriesRef) -> &mut Option<SeriesUse> {
        let number = page_number(series);
        let index = match self.last {
            Some(last) if last.number == number => last.index,
            _ => self.page(number),
        };
        self.last = Some(LastPage { number, index });
        &mut self.pages[index][slot_in_page(series)]
    }

    /// The index of a page; it is added if it is new.
    fn page(&mut self, number: u64) -> usize {
        let next = self.pages.len();
        let index = *self.by_number.entry(number).or_insert(next);
        if index == next {
            self.pages.push([const { None }; PAGE_SLOTS as usize]);
        }
        index
    }
}

/// The number of the page of a series.
fn page_number(series: SeriesRef) -> u64 {
    (u64::from(series.shard) << 32 | u64::from(series.slot)) / PAGE_SLOTS
}

/// Where a series is in its page.
fn slot_in_page(series: SeriesRef) -> usize {
    (u64::from(series.slot) % PAGE_SLOTS) as usize
}

/// Adds the external labels and runs the rules.
fn resolve(
    labels: &Labels,
    external: &Labels,
    relabel: &Relabeler,
    symbols: &mut Option<SymbolIds>,
) -> SeriesUse {
    if labels.is_empty() {
        return SeriesUse::Unknown;
    }
    let mut sent = labels.clone();
    if !external.is_empty() || !relabel.is_empty() {
        let mut builder = labels.to_builder();
        for (name, value) in external.iter() {
            // The own label of a series wins.
            if builder.get(name).is_empty() {
                builder.set(name, value);
            }
        }
        if !relabel.apply(&mut builder) {
            return SeriesUse::Drop;
        }
        sent = builder.build();
    }
    let mut encoded = Vec::new();
    let mut ids = Vec::new();
    match symbols {
        None => put_labels(&mut encoded, &sent),
        Some(symbols) => {
            for (name, value) in sent.iter() {
                ids.extend([symbols.id(name), symbols.id(value)]);
            }
        }
    }
    SeriesUse::Send(SentSeries { encoded: encoded.into(), symbols: ids.into(), name: sent.name().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_in_the_page_of_its_slot() {
        let mut pages = SlotPages::default();
        let asked = [(0, 0), (0, 31), (0, 32), (3, 32), (0, 1), (15, u32::MAX)];
        let asked = asked.map(|(shard, slot)| SeriesRef { shard, slot });
        for (at, series) in asked.into_iter().enumerate() {
            assert!(pages.find(series).is_none(), "{series:?}");
            let entry = pages.entry(series);
            assert!(entry.is_none(), "{series:?}");
            let name = at.to_string().into();
            *entry =
                Some(SeriesUse::Send(SentSeries { encoded: Box::default(), symbols: Box::default(), name }));
        }
        for (at, series) in asked.into_iter().enumerate() {
            let Some(SeriesUse::Send(found)) = pages.find(series) else { panic!("{series:?} is not found") };
            assert_eq!(*found.name, at.to_string());
        }
        assert_eq!(pages.pages.len(), 4);
    }
}
