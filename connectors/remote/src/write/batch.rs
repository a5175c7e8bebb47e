//! The requests of remote write.
//!
//! A [`BatchBuilder`] encodes items (samples, histograms, exemplars) into a message, one after the
//! other. A [`Batch`] is a complete request that waits to be sent; it is compressed, so that it
//! needs little memory. [`super::queue`] fills builders, [`super::shard`] sends batches.

use super::metrics::{ItemCounts, ItemKind};
use super::series::KnownSeries;
use super::symbols::{BatchSymbols, SymbolIds};
use crate::protobuf::{
    put_bytes, put_double, put_histogram, put_message, put_number, put_sample, put_stale_histogram,
    put_varint, sample_len,
};
use bytes::Bytes;
use std::time::Instant;
use storage::exemplars::Exemplar;
use storage::model::{NativeHistogram, TimeMs};
use storage::store::LogPosition;

/// A request that waits to be sent.
pub(super) struct Batch {
    /// The compressed message.
    pub body: Bytes,
    /// What is in it.
    pub counts: ItemCounts,
    /// The time of the newest item.
    pub newest: TimeMs,
    /// The time of the oldest item.
    pub oldest: TimeMs,
    /// Whether it has samples of the log, so that it has a position.
    pub is_logged: bool,
    /// Whether it was under way when the process ended, so that the receiver may have it already.
    pub is_repeat: bool,
    /// The message and where its items are, if old ones may have to be left out later.
    pub parts: Option<MessageParts>,
    /// The number of the write to the queue's note ([`super::progress`]) that has the first and the
    /// last item of this request: once it is on disk, the request may be sent.
    pub note: u64,
}

/// A message that is not compressed.
pub(super) struct MessageParts {
    /// What comes before the items: the table of texts of 2.0.
    head: Vec<u8>,
    items: Vec<u8>,
    ends: Vec<ItemEnd>,
}

/// Where an item ends, and what it is.
#[derive(Copy, Clone)]
struct ItemEnd {
    end: u32,
    t: TimeMs,
    kind: ItemKind,
    /// How many exemplars go along.
    exemplars: u32,
}

/// The metadata of a series in remote write 2.0.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct SeriesMetadata<'a> {
    pub kind: u64,
    pub help: &'a str,
    pub unit: &'a str,
}

/// An item of a request.
pub(super) struct WriteItem<'a> {
    /// Its time.
    pub t: TimeMs,
    /// Since when its counter counts; 0: not known, or no counter.
    pub start: TimeMs,
    /// Its value.
    pub value: ItemValue<'a>,
    /// The exemplars that go along with it; none in remote write 1.0.
    pub exemplars: &'a [Exemplar],
}

/// The value of an item.
pub(super) enum ItemValue<'a> {
    Float(f64),
    Histogram(&'a NativeHistogram),
    /// The stale marker of a series of histograms.
    StaleHistogram,
    /// An exemplar in an entry of its own, as remote write 1.0 has it.
    Exemplar(&'a Exemplar),
}

impl ItemValue<'_> {
    /// The kind of the item.
    pub(super) fn kind(&self) -> ItemKind {
        match self {
            ItemValue::Float(_) => ItemKind::Sample,
            ItemValue::Histogram(_) | ItemValue::StaleHistogram => ItemKind::Histogram,
            ItemValue::Exemplar(_) => ItemKind::Exemplar,
        }
    }
}

/// A request that is being built.
pub(super) struct BatchBuilder {
    items: Vec<u8>,
    /// The table of texts; `None` in remote write 1.0.
    symbols: Option<BatchSymbols>,
    /// References of the labels of one series; kept to reuse its memory.
    refs: Vec<u32>,
    counts: ItemCounts,
    newest: TimeMs,
    oldest: TimeMs,
    /// The position after the last sample.
    end: LogPosition,
    /// Whether it has samples of the log.
    is_logged: bool,
    /// Since when the first item waits.
    since: Option<Instant>,
    /// Where items end; `None`: not needed.
    ends: Option<Vec<ItemEnd>>,
    compressor: snap::raw::Encoder,
    /// The table and the items, and what the compressor writes; kept to reuse their memory.
    message: Vec<u8>,
    compressed: Vec<u8>,
}

impl BatchBuilder {
    /// An empty request after the position `begin`. With `may_age`, items can be left out of the
    /// batch later.
    pub(super) fn new(is_v2: bool, may_age: bool, begin: LogPosition) -> BatchBuilder {
        BatchBuilder {
            items: Vec::new(),
            symbols: is_v2.then(BatchSymbols::default),
            refs: Vec::new(),
            counts: ItemCounts::default(),
            newest: TimeMs::MIN,
            oldest: TimeMs::MAX,
            end: begin,
            is_logged: false,
            since: None,
            ends: may_age.then(Vec::new),
            compressor: snap::raw::Encoder::new(),
            message: Vec::new(),
            compressed: Vec::new(),
        }
    }

    /// Number of items.
    pub(super) fn len(&self) -> u64 {
        self.counts.total()
    }

    /// Bytes of the items.
    pub(super) fn bytes(&self) -> usize {
        self.items.len()
    }

    /// What is in it.
    pub(super) fn counts(&self) -> ItemCounts {
        self.counts
    }

    /// Since when the first item waits; `None`: there is none.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// The position after the last sample.
    pub(super) fn end(&self) -> LogPosition {
        self.end
    }

    /// Adds an item. `after` is the position after it, if it is from the log.
    pub(super) fn add(&mut self, known: KnownSeries<'_>, item: &WriteItem<'_>, after: Option<LogPosition>) {
        let t = item.t;
        let KnownSeries { series, ids, metadata } = known;
        match (&mut self.symbols, ids) {
            (Some(symbols), Some(ids)) => {
                self.refs.clear();
                self.refs.extend(series.symbols.iter().map(|id| symbols.reference(*id, ids)));
                put_series_v2(&mut self.items, &self.refs, symbols, ids, metadata, item);
            }
            _ => put_series_v1(&mut self.items, &series.encoded, item),
        }
        let kind = item.value.kind();
        self.counts.add(kind);
        self.counts.exemplars += item.exemplars.len() as u64;
        self.newest = self.newest.max(t);
        self.oldest = self.oldest.min(t);
        if let Some(after) = after {
            self.end = after;
            self.is_logged = true;
        }
        self.since.get_or_insert_with(Instant::now);
        if let Some(ends) = &mut self.ends {
            let exemplars = item.exemplars.len() as u32;
            ends.push(ItemEnd { end: self.items.len() as u32, t, kind, exemplars });
        }
    }

    /// Takes the request and begins the next one. `None`: it cannot be compressed, which the limit
    /// of its length excludes.
    pub(super) fn finish(&mut self) -> Option<Batch> {
        let body = self.compress();
        let ends = self.ends.as_mut().map(std::mem::take);
        let parts = ends.map(|ends| MessageParts {
            head: self.head().to_vec(),
            items: std::mem::take(&mut self.items),
            ends,
        });
        let batch = body.map(|body| Batch {
            body,
            counts: self.counts,
            newest: self.newest,
            oldest: self.oldest,
            is_logged: self.is_logged,
            is_repeat: false,
            parts,
            note: 0,
        });
        self.clear();
        batch
    }

    /// The table of texts, encoded; empty in remote write 1.0.
    fn head(&self) -> &[u8] {
        self.symbols.as_ref().map_or(&[], BatchSymbols::table)
    }

    /// The compressed message. `None`: it is too long for that.
    fn compress(&mut self) -> Option<Bytes> {
        let mut whole = std::mem::take(&mut self.message);
        // Remote write 1.0 has nothing before the items.
        let message = match self.head() {
            [] => &self.items,
            head => {
                whole.clear();
                whole.extend_from_slice(head);
                whole.extend_from_slice(&self.items);
                &whole
            }
        };
        let most = snap::raw::max_compress_len(message.len());
        if self.compressed.len() < most {
            self.compressed.resize(most, 0);
        }
        let written = self.compressor.compress(message, &mut self.compressed).ok();
        self.message = whole;
        written.map(|written| Bytes::copy_from_slice(&self.compressed[..written]))
    }

    /// Begins the next request.
    fn clear(&mut self) {
        self.items.clear();
        if let Some(symbols) = &mut self.symbols {
            symbols.clear();
        }
        self.counts = ItemCounts::default();
        self.newest = TimeMs::MIN;
        self.oldest = TimeMs::MAX;
        self.since = None;
        self.is_logged = false;
    }
}

impl Batch {
    /// Leaves out the items before `oldest`. Returns how many of each kind.
    pub(super) fn drop_before(&mut self, oldest: TimeMs) -> ItemCounts {
        let mut dropped = ItemCounts::default();
        let Some(parts) = self.parts.as_mut().filter(|_| self.oldest < oldest) else { return dropped };
        let mut kept = Vec::with_capacity(parts.items.len());
        let mut ends = Vec::with_capacity(parts.ends.len());
        let mut begin = 0;
        for item in &parts.ends {
            let end = item.end as usize;
            if item.t < oldest {
                dropped.add(item.kind);
                dropped.exemplars += u64::from(item.exemplars);
            } else {
                kept.extend_from_slice(&parts.items[begin..end]);
                ends.push(ItemEnd { end: kept.len() as u32, ..*item });
            }
            begin = end;
        }
        parts.items = kept;
        parts.ends = ends;
        self.oldest = parts.ends.iter().map(|item| item.t).min().unwrap_or(TimeMs::MAX);
        self.counts = self.counts.without(dropped);
        let message = [&parts.head[..], &parts.items].concat();
        // What could be compressed with more items can be compressed with fewer.
        if let Ok(body) = snap::raw::Encoder::new().compress_vec(&message) {
            self.body = body.into();
        }
        dropped
    }
}

/// Appends a `prometheus.TimeSeries` with one item.
fn put_series_v1(out: &mut Vec<u8>, labels: &[u8], item: &WriteItem<'_>) {
    let WriteItem { t, value, .. } = item;
    let t = *t;
    if let ItemValue::Float(v) = value {
        // By far the most: its length is known before it is written.
        put_varint(out, 1 << 3 | 2);
        put_varint(out, (labels.len() + 2 + sample_len(t)) as u64);
        out.extend_from_slice(labels);
        put_sample(out, t, *v);
        return;
    }
    put_message(out, 1, |out| {
        out.extend_from_slice(labels);
        match value {
            ItemValue::Float(v) => put_sample(out, t, *v),
            ItemValue::Histogram(h) => put_message(out, 4, |out| put_histogram(out, t, h)),
            ItemValue::StaleHistogram => put_message(out, 4, |out| put_stale_histogram(out, t)),
            ItemValue::Exemplar(exemplar) => put_message(out, 3, |out| {
                crate::protobuf::put_labels(out, &exemplar.labels);
                put_double(out, 2, exemplar.v);
                put_number(out, 3, exemplar.t as u64);
            }),
        }
    });
}

/// Appends a `io.prometheus.write.v2.TimeSeries` with one item and its exemplars.
fn put_series_v2(
    out: &mut Vec<u8>,
    refs: &[u32],
    symbols: &mut BatchSymbols,
    ids: &SymbolIds,
    metadata: SeriesMetadata<'_>,
    item: &WriteItem<'_>,
) {
    let WriteItem { t, start, value, exemplars } = item;
    let t = *t;
    let start = *start;
    let help = symbols.text(metadata.help, ids);
    let unit = symbols.text(metadata.unit, ids);
    put_message(out, 5, |out| {
        put_refs(out, refs);
        match value {
            ItemValue::Float(v) if start == 0 => put_sample(out, t, *v),
            ItemValue::Float(v) => put_message(out, 2, |out| {
                put_double(out, 1, *v);
                put_number(out, 2, t as u64);
                put_number(out, 3, start as u64);
            }),
            ItemValue::Histogram(h) => put_message(out, 3, |out| {
                put_histogram(out, t, h);
                if start != 0 {
                    put_number(out, 17, start as u64);
                }
            }),
            ItemValue::StaleHistogram => put_message(out, 3, |out| put_stale_histogram(out, t)),
            // 2.0 has no such entries: the exemplar is in that of its sample.
            ItemValue::Exemplar(exemplar) => put_exemplar_v2(out, symbols, ids, exemplar),
        }
        for exemplar in *exemplars {
            put_exemplar_v2(out, symbols, ids, exemplar);
        }
        put_message(out, 5, |out| {
            for (field, n) in [(1, metadata.kind), (3, u64::from(help)), (4, u64::from(unit))] {
                if n > 0 {
                    put_number(out, field, n);
                }
            }
        });
    });
}

/// Appends an exemplar to a series of remote write 2.0.
fn put_exemplar_v2(out: &mut Vec<u8>, symbols: &mut BatchSymbols, ids: &SymbolIds, exemplar: &Exemplar) {
    let pairs = exemplar.labels.iter().flat_map(|(name, value)| [name, value]);
    let refs: Vec<u32> = pairs.map(|text| symbols.text(text, ids)).collect();
    put_message(out, 4, |out| {
        put_refs(out, &refs);
        put_double(out, 2, exemplar.v);
        put_number(out, 3, exemplar.t as u64);
    });
}

/// Appends references as the packed field 1.
fn put_refs(out: &mut Vec<u8>, refs: &[u32]) {
    let mut packed = Vec::with_capacity(refs.len() * 2);
    for reference in refs {
        put_varint(&mut packed, u64::from(*reference));
    }
    put_bytes(out, 1, &packed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::series::SentSeries;
    use connectors::protobuf::{FieldReader, FieldValue};
    use connectors::remote::request::read_histogram;
    use storage::model::Labels;

    /// The fields of the sample or histogram in a series of remote write 2.0.
    fn sent(item: &WriteItem<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut symbols = BatchSymbols::default();
        put_series_v2(&mut out, &[], &mut symbols, &SymbolIds::default(), SeriesMetadata::default(), item);
        let mut request = FieldReader::new(&out);
        let Some((5, FieldValue::Bytes(series))) = request.next_field().expect("a field") else {
            panic!("no series")
        };
        let mut fields = FieldReader::new(series);
        while let Some(field) = fields.next_field().expect("a field") {
            if let (2 | 3, FieldValue::Bytes(message)) = field {
                return message.to_vec();
            }
        }
        panic!("no item")
    }

    #[test]
    fn start_timestamps_are_sent_where_they_are_known() {
        for start in [0, 1_500] {
            let message = sent(&WriteItem { t: 2_000, start, value: ItemValue::Float(7.0), exemplars: &[] });
            let mut fields = FieldReader::new(&message);
            let mut found = Vec::new();
            while let Some((number, value)) = fields.next_field().expect("a field") {
                found.push((number, value.number()));
            }
            let expected: &[(u64, u64)] =
                if start == 0 { &[(1, 0), (2, 2_000)] } else { &[(1, 0), (2, 2_000), (3, 1_500)] };
            assert_eq!(found, expected);
            let h = NativeHistogram { count: 1.0, zero_count: 1.0, ..NativeHistogram::default() };
            let message =
                sent(&WriteItem { t: 2_000, start, value: ItemValue::Histogram(&h), exemplars: &[] });
            let (_, times) = read_histogram(&message).expect("a histogram");
            assert_eq!((times.t, times.start), (2_000, start));
        }
    }

    #[test]
    fn a_request_has_the_items_since_the_one_before() {
        let mut encoded = Vec::new();
        crate::protobuf::put_labels(&mut encoded, &Labels::from_pairs([("__name__", "up")]));
        let name = "up".into();
        let series = SentSeries { encoded: encoded.clone().into(), symbols: Box::default(), name };
        let entry = |t: TimeMs| {
            let mut out = Vec::new();
            put_message(&mut out, 1, |out| {
                out.extend_from_slice(&encoded);
                put_sample(out, t, 7.0);
            });
            out
        };
        let decompressed = |body: &[u8]| snap::raw::Decoder::new().decompress_vec(body).expect("Snappy");
        for may_age in [false, true] {
            let mut builder = BatchBuilder::new(false, may_age, LogPosition::default());
            // The second is shorter, so that what is left of the first would show.
            for times in [&[1_000, 2_000, 3_000][..], &[4_000]] {
                for t in times {
                    let item = WriteItem { t: *t, start: 0, value: ItemValue::Float(7.0), exemplars: &[] };
                    let known =
                        KnownSeries { series: &series, ids: None, metadata: SeriesMetadata::default() };
                    builder.add(known, &item, Some(LogPosition::at(1)));
                }
                let mut batch = builder.finish().expect("a request");
                assert_eq!((builder.len(), builder.bytes()), (0, 0));
                assert_eq!((batch.oldest, batch.newest), (times[0], times[times.len() - 1]));
                let all: Vec<u8> = times.iter().flat_map(|t| entry(*t)).collect();
                assert_eq!(decompressed(&batch.body), all);
                let dropped = batch.drop_before(2_000).total();
                let kept: Vec<TimeMs> = times.iter().copied().filter(|t| !may_age || *t >= 2_000).collect();
                assert_eq!(dropped, (times.len() - kept.len()) as u64);
                let kept: Vec<u8> = kept.iter().flat_map(|t| entry(*t)).collect();
                assert_eq!(decompressed(&batch.body), kept);
            }
        }
    }

    #[test]
    fn exemplars_are_in_the_entry_of_their_sample() {
        let exemplar = |t| Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), t, v: 0.5 };
        let exemplars = [exemplar(900), exemplar(950)];
        let value = ItemValue::Float(7.0);
        let mut out = Vec::new();
        let mut symbols = BatchSymbols::default();
        let item = WriteItem { t: 1_000, start: 0, value, exemplars: &exemplars };
        put_series_v2(&mut out, &[], &mut symbols, &SymbolIds::default(), SeriesMetadata::default(), &item);
        let mut request = FieldReader::new(&out);
        let Some((5, FieldValue::Bytes(series))) = request.next_field().expect("a field") else {
            panic!("no series")
        };
        assert_eq!(request.next_field().expect("no damage"), None, "one entry");
        let mut fields = FieldReader::new(series);
        let mut numbers = Vec::new();
        let mut times = Vec::new();
        while let Some((number, value)) = fields.next_field().expect("a field") {
            numbers.push(number);
            if let (4, FieldValue::Bytes(exemplar)) = (number, value) {
                let mut fields = FieldReader::new(exemplar);
                while let Some((number, value)) = fields.next_field().expect("a field") {
                    times.extend((number == 3).then(|| value.number()));
                }
            }
        }
        assert_eq!(numbers, [1, 2, 4, 4, 5]);
        assert_eq!(times, [900, 950]);
        let texts = [&[0x22, 0, 0x22, 8][..], b"trace_id", &[0x22, 1], b"x"].concat();
        assert_eq!(symbols.table(), texts);
    }
}
