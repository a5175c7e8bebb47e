//! What a scrape has brought so far and is not stored before its whole body is known to be good.

use super::created::CreatedLines;
use super::exposition::{Resume, nhcb::Converter, protobuf::Families};
use super::non_float::SampleExemplar;
use super::series_cache::CachedSeriesId;
use crate::limits;
use std::collections::HashSet;
use std::sync::Arc;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// A series that was not known before this scrape.
pub struct NewSeries {
    /// Its number in the cache.
    pub id: CachedSeriesId,
    /// Its labels.
    pub labels: Labels,
    /// The first sample without a time of its own; *absent* if there is none.
    pub value: f64,
    /// Whether the first sample had a time of its own.
    pub timed: bool,
}

/// Something that belongs to a series, at a time that is `None` if it is the scrape's.
pub struct Of<T> {
    /// The series.
    pub id: CachedSeriesId,
    /// The time.
    pub t: Option<TimeMs>,
    /// What it is.
    pub what: T,
}

/// What a line was for which a start timestamp may come.
#[derive(Copy, Clone, Debug, Default)]
pub struct WaitsForStart {
    /// Its float, with its time.
    pub line: Option<(CachedSeriesId, Option<TimeMs>)>,
    /// The number of the histogram that it began, of those that the converter has made.
    pub histogram: Option<u64>,
}

/// See the module.
#[derive(Default)]
pub struct Waiting {
    /// What the parser of the next lines has to know.
    pub resume: Resume,
    /// What has been read of a protobuf family.
    pub families: Families,
    /// What has been read of a classic histogram that becomes a native one.
    pub converter: Converter,
    /// Samples whose `_created` line is to come.
    pub created: CreatedLines<WaitsForStart>,
    /// The new series, in the order of the exposition.
    pub series: Vec<NewSeries>,
    /// Samples of new series with times of their own.
    pub rows: Vec<Of<f64>>,
    /// Native histograms.
    pub histograms: Vec<Of<Arc<NativeHistogram>>>,
    /// Start timestamps.
    pub starts: Vec<Of<TimeMs>>,
    /// Exemplars.
    pub exemplars: Vec<Of<SampleExemplar>>,
    /// Whether a histogram had more buckets than it may have.
    pub has_too_many_buckets: bool,
    /// Series that have a native histogram at the time of the scrape.
    seen: HashSet<CachedSeriesId>,
    label_bytes: usize,
    /// Bytes of histograms at the time of the scrape, of which there is one for each series …
    histogram_bytes: usize,
    /// … and of those with times of their own, of which there can be any number.
    timed_bytes: usize,
    exemplar_bytes: usize,
}

impl Waiting {
    /// Adds a new series whose first sample has this time; its index.
    pub fn add_series(&mut self, labels: Labels, timed: bool) -> u32 {
        self.label_bytes += labels.encoded().len();
        self.series.push(NewSeries { id: CachedSeriesId::MAX, labels, value: ABSENT, timed });
        self.series.len() as u32 - 1
    }

    /// Adds a sample of a new series; `false` if there is one already.
    pub fn add_value(&mut self, index: u32, value: f64) -> bool {
        let known = &mut self.series[index as usize].value;
        let free = is_absent(*known);
        if free {
            *known = value;
        }
        free
    }

    /// Adds a histogram; `false` if its series has one at the time of the scrape already.
    pub fn add_histogram(&mut self, id: CachedSeriesId, t: Option<TimeMs>, what: NativeHistogram) -> bool {
        if t.is_none() && !self.seen.insert(id) {
            return false;
        }
        let bytes = bytes_of(&what);
        if t.is_none() {
            self.histogram_bytes += bytes;
        } else {
            self.timed_bytes += bytes;
        }
        self.histograms.push(Of { id, t, what: Arc::new(what) });
        true
    }

    /// Adds an exemplar, as long as there are not too many: they say nothing that a sample does not.
    pub fn add_exemplar(&mut self, id: CachedSeriesId, t: Option<TimeMs>, what: SampleExemplar) {
        let bytes = size_of::<Of<SampleExemplar>>() + what.exemplar.labels.encoded().len();
        if self.exemplar_bytes + bytes <= limits::SCRAPE_EXEMPLAR_BYTES {
            self.exemplar_bytes += bytes;
            self.exemplars.push(Of { id, t, what });
        }
    }

    /// What waited for a start has one.
    pub fn has_start(&mut self, of: WaitsForStart, start: TimeMs) {
        self.starts.extend(of.line.map(|(id, t)| Of { id, t, what: start }));
        if let Some(number) = of.histogram {
            self.converter.set_start(number, start);
        }
    }

    /// Bytes that are stored if the body is good.
    pub fn new_bytes(&self) -> usize {
        self.series.len() * size_of::<NewSeries>() + self.label_bytes + self.histogram_bytes
    }

    /// Bytes of what may say the same again and again: samples with times of their own, and what
    /// comes with samples.
    pub fn loose_bytes(&self) -> usize {
        let rows = self.rows.len() * size_of::<Of<f64>>() + self.starts.len() * size_of::<Of<TimeMs>>();
        rows + self.timed_bytes + self.exemplar_bytes
    }
}

fn bytes_of(h: &NativeHistogram) -> usize {
    let spans = h.positive.spans.len() + h.negative.spans.len();
    let counts = h.positive.counts.len() + h.negative.counts.len() + h.bounds.len();
    size_of::<NativeHistogram>() + size_of::<Of<Arc<NativeHistogram>>>() + 8 * (spans + counts)
}
