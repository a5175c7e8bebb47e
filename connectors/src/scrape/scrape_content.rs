//! [`ScrapeContent`]: what a scrape has read, until its whole body is known to be valid and it is
//! stored. Then [`super::appender`] resolves new series and appends everything.

use super::created_lines::CreatedLines;
use super::non_float::SampleExemplar;
use super::series_cache::CachedSeriesId;
use crate::exposition::{Resume, nhcb::Converter, protobuf::Families};
use crate::limits;
use std::collections::HashSet;
use std::sync::Arc;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// A series that is new in this scrape.
pub(super) struct NewSeries {
    /// Its index in the series cache.
    pub id: CachedSeriesId,
    /// The labels.
    pub labels: Labels,
    /// The first sample without a timestamp; *absent* if there is none.
    pub value: f64,
    /// Whether the first sample had a timestamp.
    pub timed: bool,
}

/// A value that belongs to a series, with its timestamp; `None`: the time of the scrape.
pub(super) struct SeriesValue<T> {
    /// The series.
    pub id: CachedSeriesId,
    /// The timestamp, ms.
    pub t: Option<TimeMs>,
    /// The value.
    pub what: T,
}

/// The samples that a `_created` line may give a start timestamp.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct WaitsForStart {
    /// The series and timestamp of a float.
    pub line: Option<(CachedSeriesId, Option<TimeMs>)>,
    /// The number of the histogram that the line began, among those of the converter.
    pub histogram: Option<u64>,
}

/// The unstored content of a scrape.
#[derive(Default)]
pub(super) struct ScrapeContent {
    /// The state that the parser of the next lines needs.
    pub resume: Resume,
    /// The reader of protobuf families.
    pub families: Families,
    /// The converter of classic histograms to native ones.
    pub converter: Converter,
    /// Samples whose `_created` line may follow.
    pub created: CreatedLines<WaitsForStart>,
    /// The new series, in the order of the exposition.
    pub series: Vec<NewSeries>,
    /// Samples with timestamps of new series.
    pub rows: Vec<SeriesValue<f64>>,
    /// Native histograms.
    pub histograms: Vec<SeriesValue<Arc<NativeHistogram>>>,
    /// Start timestamps.
    pub starts: Vec<SeriesValue<TimeMs>>,
    /// Exemplars.
    pub exemplars: Vec<SeriesValue<SampleExemplar>>,
    /// Whether a histogram had more buckets than the limit allows.
    pub has_too_many_buckets: bool,
    /// Series that have a native histogram at the time of the scrape.
    seen: HashSet<CachedSeriesId>,
    label_bytes: usize,
    /// The bytes of histograms at the time of the scrape: at most one per series.
    histogram_bytes: usize,
    /// The bytes of histograms with timestamps: any number per series.
    timed_bytes: usize,
    exemplar_bytes: usize,
}

impl ScrapeContent {
    /// Adds a new series and returns its index; `timed` says whether its first sample has a
    /// timestamp.
    pub(super) fn add_series(&mut self, labels: Labels, timed: bool) -> u32 {
        self.label_bytes += labels.encoded().len();
        self.series.push(NewSeries { id: CachedSeriesId::MAX, labels, value: ABSENT, timed });
        self.series.len() as u32 - 1
    }

    /// Adds a sample of a new series; `false` if the series already has one.
    pub(super) fn add_value(&mut self, index: u32, value: f64) -> bool {
        let known = &mut self.series[index as usize].value;
        let free = is_absent(*known);
        if free {
            *known = value;
        }
        free
    }

    /// Adds a histogram; `false` if its series already has one at the time of the scrape.
    pub(super) fn add_histogram(
        &mut self,
        id: CachedSeriesId,
        t: Option<TimeMs>,
        what: NativeHistogram,
    ) -> bool {
        // One histogram per series and scrape, like one float; with timestamps any number.
        if t.is_none() && !self.seen.insert(id) {
            return false;
        }
        // Two sums, because only what stays after the scrape is paid from the memory of new series.
        let bytes = bytes_of(&what);
        if t.is_none() {
            self.histogram_bytes += bytes;
        } else {
            self.timed_bytes += bytes;
        }
        self.histograms.push(SeriesValue { id, t, what: Arc::new(what) });
        true
    }

    /// Adds an exemplar, unless there are too many: exemplars beyond the limit are dropped, because
    /// no sample is lost with them.
    pub(super) fn add_exemplar(&mut self, id: CachedSeriesId, t: Option<TimeMs>, what: SampleExemplar) {
        let bytes = size_of::<SeriesValue<SampleExemplar>>() + what.exemplar.labels.encoded().len();
        if self.exemplar_bytes + bytes <= limits::SCRAPE_EXEMPLAR_BYTES {
            self.exemplar_bytes += bytes;
            self.exemplars.push(SeriesValue { id, t, what });
        }
    }

    /// Sets the start timestamp of the waiting samples.
    pub(super) fn has_start(&mut self, of: WaitsForStart, start: TimeMs) {
        self.starts.extend(of.line.map(|(id, t)| SeriesValue { id, t, what: start }));
        if let Some(number) = of.histogram {
            self.converter.set_start(number, start);
        }
    }

    /// The bytes of memory that become permanent if the scrape succeeds.
    pub(super) fn new_bytes(&self) -> usize {
        self.series.len() * size_of::<NewSeries>() + self.label_bytes + self.histogram_bytes
    }

    /// The bytes of memory of what a body may repeat without limit: samples with timestamps, start
    /// timestamps, exemplars.
    pub(super) fn loose_bytes(&self) -> usize {
        let rows = self.rows.len() * size_of::<SeriesValue<f64>>()
            + self.starts.len() * size_of::<SeriesValue<TimeMs>>();
        rows + self.timed_bytes + self.exemplar_bytes
    }
}

fn bytes_of(h: &NativeHistogram) -> usize {
    let spans = h.positive.spans.len() + h.negative.spans.len();
    let counts = h.positive.counts.len() + h.negative.counts.len() + h.bounds.len();
    size_of::<NativeHistogram>() + size_of::<SeriesValue<Arc<NativeHistogram>>>() + 8 * (spans + counts)
}
