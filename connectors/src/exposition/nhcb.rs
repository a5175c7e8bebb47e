//! Converts classic histograms to native ones with custom buckets: the lines of one histogram
//! become one sample.
//!
//! In a text, the lines of a histogram must be adjacent: a line with another name or other labels
//! begins another histogram.

use super::points::{ExposedPoints, PointRules, PointValue, RawExemplar, write_series};
use super::series::SeriesError;
use super::{Context, ExposedSample, MetricType, series};
use crate::limits::HISTOGRAM_EXEMPLARS;
use crate::native_histogram::{RawBuckets, RawHistogram};
use crate::number;
use storage::limits::HISTOGRAM_BUCKETS;
use storage::model::histogram::{BucketSpan, CUSTOM_BUCKETS};
use storage::model::labels::METRIC_NAME;
use storage::model::number::general;
use storage::model::{Labels, TimeMs};

/// How the lines of a classic histogram contradict each other.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClassicError {
    /// The number of all observations is negative.
    #[error("count must be non-negative: count={}", general(*.0))]
    NegativeCount(f64),
    /// A bucket ends at NaN.
    #[error("bucket boundary must not be NaN")]
    NanBound,
    /// A bucket has a negative number of observations.
    #[error("bucket count must be non-negative: le={}, count={}", general(*bound), general(*count))]
    NegativeBucket {
        /// The upper bound.
        bound: f64,
        /// The number.
        count: f64,
    },
    /// A bucket has fewer observations than the one below, which it contains.
    #[error("count is not cumulative: {} < {}", general(*count), general(*below))]
    NotCumulative {
        /// The number of the bucket.
        count: f64,
        /// That of the one below.
        below: f64,
    },
    /// There are more buckets than a histogram may have.
    #[error("more than {HISTOGRAM_BUCKETS} buckets")]
    TooManyBuckets,
    /// The bucket of all observations has another number than the histogram.
    #[error("count mismatch: count={} != le=+Inf count={}", general(*count), general(*last))]
    CountMismatch {
        /// The number of the histogram.
        count: f64,
        /// That of the bucket.
        last: f64,
    },
}

/// A classic histogram that is being collected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassicHistogram {
    /// (Upper bound, number of observations up to it).
    buckets: Vec<(f64, f64)>,
    /// Number of all observations, if it was given.
    count: Option<f64>,
    /// Sum of all observations.
    pub sum: f64,
    /// The first error.
    wrong: Option<ClassicError>,
}

impl ClassicHistogram {
    /// A histogram with this sum.
    pub fn from_sum(sum: f64) -> ClassicHistogram {
        ClassicHistogram { sum, ..ClassicHistogram::default() }
    }

    /// Sets the number of all observations.
    pub fn count(&mut self, count: f64) {
        if count < 0.0 {
            self.fail(ClassicError::NegativeCount(count));
        }
        self.count = Some(count);
    }

    /// Adds a bucket, in any order. Of two with the same bound, the first counts.
    pub fn bucket(&mut self, bound: f64, count: f64) {
        if bound.is_nan() {
            return self.fail(ClassicError::NanBound);
        }
        if count < 0.0 {
            return self.fail(ClassicError::NegativeBucket { bound, count });
        }
        match self.buckets.last() {
            // As in Prometheus, a bucket that comes twice is no error. Protobuf bodies of some
            // clients have `+Inf` both as a bucket and implied by the count.
            Some((last, _)) if *last == bound => {}
            // Only neighbours in order are compared while lines are read; buckets in another order
            // are sorted and checked when all of them are there.
            Some((last, below)) if *last < bound && count < *below => {
                let below = *below;
                self.fail(ClassicError::NotCumulative { count, below });
            }
            _ if self.buckets.len() >= HISTOGRAM_BUCKETS => {
                self.fail(ClassicError::TooManyBuckets);
            }
            _ => self.buckets.push((bound, count)),
        }
    }

    /// Records an error; the first one counts.
    fn fail(&mut self, error: ClassicError) {
        self.wrong.get_or_insert(error);
    }

    /// Converts it to a native histogram. The error says how the buckets contradict each other.
    pub fn convert(mut self) -> Result<RawHistogram, ClassicError> {
        if let Some(reason) = self.wrong {
            return Err(reason);
        }
        // The sort is stable, and fast if they are in order already.
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, first| later.0 == first.0);
        if let Some(two) = self.buckets.windows(2).find(|two| two[0].1 > two[1].1) {
            return Err(ClassicError::NotCumulative { count: two[1].1, below: two[0].1 });
        }
        let highest = self.buckets.last().copied();
        let count = self.count.or(highest.map(|(_, count)| count)).unwrap_or(0.0);
        // A histogram may leave out its last bucket: the count says how many observations it has.
        if highest.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let last = self.buckets.last().map_or(0.0, |(_, last)| *last);
        // Count and last bucket say the same thing twice. If they differ the scrape caught the
        // client between two updates, or the exporter is wrong: rates over such a histogram would
        // be, too.
        if last != count {
            return Err(ClassicError::CountMismatch { count, last });
        }
        let below = self.buckets.iter().rev().nth(1).map_or(0.0, |(_, below)| *below);
        if below > count {
            return Err(ClassicError::NotCumulative { count, below });
        }
        // Classic buckets contain those below them, native ones do not.
        let mut before = 0.0;
        let counts = self.buckets.iter().map(|(_, count)| count - std::mem::replace(&mut before, *count));
        let counts = counts.collect();
        let length = self.buckets.len() as u32;
        // The bound of the last bucket is infinity in every histogram and is not stored.
        self.buckets.pop();
        Ok(RawHistogram {
            float: true,
            count,
            sum: self.sum,
            schema: CUSTOM_BUCKETS,
            positive: RawBuckets {
                spans: vec![BucketSpan { offset: 0, length }],
                counts,
                ..RawBuckets::default()
            },
            bounds: self.buckets.into_iter().map(|(bound, _)| bound).collect(),
            ..RawHistogram::default()
        })
    }
}

/// Converts the lines of a text body, one after the other.
#[derive(Default)]
pub struct Converter {
    /// The name from the last TYPE line.
    family: String,
    /// The histogram whose lines are being read.
    open: Option<OpenClassicHistogram>,
    /// Number of histograms so far.
    opened: u64,
}

impl Converter {
    /// Begins a family with this name, as written in its TYPE line.
    pub fn family(&mut self, name: &[u8]) {
        let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
        self.family.clear();
        self.family.push_str(&String::from_utf8_lossy(name));
    }

    /// The number of the histogram whose lines are being read, if there is one.
    pub fn number(&self) -> Option<u64> {
        self.open.as_ref().map(|_| self.opened)
    }

    /// Sets the start timestamp of the histogram with this number; does nothing if its lines have
    /// ended.
    pub fn set_start(&mut self, number: u64, start: TimeMs) {
        if let Some(open) = self.open.as_mut().filter(|_| number == self.opened) {
            open.start = start;
        }
    }

    /// Processes a line. Adds the histogram that it ends, and the line itself if it stays a sample.
    pub fn line(
        &mut self,
        sample: &ExposedSample<'_>,
        context: Context<'_>,
        exemplar: Option<RawExemplar>,
        rules: PointRules,
        points: &mut ExposedPoints,
    ) -> Result<(), SeriesError> {
        let mut said = None;
        if context.kind == MetricType::Histogram {
            let part = ClassicLine::new(sample, context)?;
            let goes_on = self.open.as_ref().is_some_and(|open| open.histogram == part.histogram);
            // Lines of one histogram are adjacent, in both formats. To look for its other lines
            // anywhere in the body would mean to hold the whole body.
            if !goes_on {
                self.close(points);
            }
            // Only lines of the family of the TYPE line: `foo_bar_count` in the family `foo` looks
            // like the count of a histogram `foo_bar`, which does not exist.
            if part.histogram.name() == self.family {
                said = part.said.as_ref().map(|said| self.collect(part.histogram, said, sample, &exemplar));
            }
        } else {
            self.close(points);
        }
        if said.is_none() || rules.classic_too {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(sample.series);
            let point = points.push(write, context, PointValue::Float(sample.value));
            point.t = sample.t;
            // The exemplar of a line that is part of a histogram belongs to the histogram.
            point.exemplars.extend(exemplar.filter(|_| said.is_none()));
        }
        Ok(())
    }

    fn collect(
        &mut self,
        histogram: Labels,
        said: &ClassicLineKind,
        sample: &ExposedSample<'_>,
        seen: &Option<RawExemplar>,
    ) {
        // The number tells a `_created` line whether the histogram that it means is still open.
        self.opened += u64::from(self.open.is_none());
        let open = self.open.get_or_insert_with(|| OpenClassicHistogram {
            histogram,
            t: None,
            start: 0,
            classic: ClassicHistogram::default(),
            exemplars: Vec::new(),
        });
        open.t = sample.t;
        match said {
            ClassicLineKind::Bucket(bound) => open.classic.bucket(*bound, sample.value),
            ClassicLineKind::Count => open.classic.count(sample.value),
            ClassicLineKind::Sum => open.classic.sum = sample.value,
        }
        // An exemplar of a native histogram without a timestamp cannot be distinguished from one
        // seen before.
        let seen = seen.clone().filter(|exemplar| exemplar.t.is_some());
        if open.exemplars.len() < HISTOGRAM_EXEMPLARS {
            open.exemplars.extend(seen);
        }
    }

    /// Ends the lines of a histogram, because other lines or another family begin, or the body
    /// ends. Adds its sample if it is valid.
    pub fn close(&mut self, points: &mut ExposedPoints) {
        let Some(OpenClassicHistogram { histogram, t, start, classic, exemplars }) = self.open.take() else {
            return;
        };
        // A histogram that contradicts itself is left out and does not fail the scrape: as in
        // Prometheus, conversion is an addition to what the target exposes.
        let Ok(raw) = classic.convert() else { return };
        let pairs: Vec<(&str, &str)> = histogram.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
        let write = |out: &mut Vec<u8>| write_series(out, [histogram.name(), ""], &pairs, None);
        let value = PointValue::Histogram(Box::new(raw));
        let point = points.push(write, Context::text(MetricType::Histogram), value);
        point.t = t;
        point.start = start;
        point.exemplars = exemplars;
    }
}

/// The part of a histogram that a line gives.
enum ClassicLineKind {
    Bucket(f64),
    Count,
    Sum,
}

/// A line of a family of type histogram.
struct ClassicLine {
    /// The labels of its histogram; for a line that is not part of one, its own labels.
    histogram: Labels,
    /// `None` for a bucket without a bound, and for other names.
    said: Option<ClassicLineKind>,
}

impl ClassicLine {
    fn new(sample: &ExposedSample<'_>, context: Context<'_>) -> Result<ClassicLine, SeriesError> {
        let mut labels = series::parse(sample.series, context)?;
        let name = labels.get(METRIC_NAME).to_owned();
        let bound = || number::parse(labels.get("le")).filter(|bound| !bound.is_nan());
        let (base, said) = match name.rsplit_once('_') {
            Some((base, "bucket")) => (base, bound().map(ClassicLineKind::Bucket)),
            Some((base, "count")) => (base, Some(ClassicLineKind::Count)),
            Some((base, "sum")) => (base, Some(ClassicLineKind::Sum)),
            // A name without one of the three endings is an ordinary series, even in a family of
            // type histogram.
            _ => (&name[..], None),
        };
        labels.set(METRIC_NAME, base);
        labels.remove("le");
        Ok(ClassicLine { histogram: labels.build(), said })
    }
}

/// The histogram whose lines are being read.
struct OpenClassicHistogram {
    histogram: Labels,
    t: Option<TimeMs>,
    /// The start timestamp, ms; 0: none.
    start: TimeMs,
    classic: ClassicHistogram,
    exemplars: Vec<RawExemplar>,
}

#[cfg(test)]
mod tests {
    use super::super::{ExpositionEntry, ExpositionParser, MetadataValue, TextFormat};
    use super::*;

    fn read_text(body: &[u8], rules: PointRules) -> ExposedPoints {
        let mut parser = ExpositionParser::new(body, TextFormat::Text);
        let mut converter = Converter::default();
        let mut points = ExposedPoints::default();
        while let Some(entry) = parser.next(&[]).unwrap() {
            match entry {
                ExpositionEntry::Sample(sample) => {
                    converter.line(&sample, parser.context(), None, rules, &mut points).unwrap();
                }
                ExpositionEntry::Meta(meta) => {
                    converter.close(&mut points);
                    if let MetadataValue::Type(_) = meta.what {
                        converter.family(meta.name);
                    }
                }
            }
        }
        converter.close(&mut points);
        points
    }

    fn read(body: &str, rules: PointRules) -> Vec<(String, String)> {
        let points = read_text(body.as_bytes(), rules);
        let show = |(series, point): (&[u8], &super::super::points::ExposedPoint)| {
            let value = match &point.value {
                PointValue::Float(v) => v.to_string(),
                PointValue::Histogram(raw) => {
                    let h = raw.clone().finish().unwrap();
                    format!("{} {} {:?} {:?}", h.count, h.sum, h.bounds, h.positive.counts)
                }
            };
            (String::from_utf8(series.to_vec()).unwrap(), value)
        };
        points.iter().map(show).collect()
    }

    const BODY: &str = "\
# TYPE h histogram
h_bucket{a=\"1\",le=\"0.5\"} 2
h_bucket{a=\"1\",le=\"+Inf\"} 5
h_sum{a=\"1\"} 7.5
h_count{a=\"1\"} 5
h_bucket{a=\"2\",le=\"1\"} 3
h_count{a=\"2\"} 4
# TYPE c counter
c 1
h_count 7
";

    #[test]
    fn lines_become_histograms() {
        let rules = PointRules { convert: true, ..PointRules::default() };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let both = [
            pair("h{a=\"1\"}", "5 7.5 [0.5] [2.0, 3.0]"),
            pair("h{a=\"2\"}", "4 0 [1.0] [3.0, 1.0]"),
            pair("c", "1"),
            pair("h_count", "7"),
        ];
        assert_eq!(read(BODY, rules), both);
        let all = read(BODY, PointRules { classic_too: true, ..rules });
        assert_eq!(all.len(), both.len() + 6);
        assert_eq!(all[0].0, "h_bucket{a=\"1\",le=\"0.5\"}");
    }

    #[test]
    fn what_is_no_bucket_stays_beside_its_histogram() {
        let rules = PointRules { convert: true, ..PointRules::default() };
        let body = "# TYPE h histogram\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"x\"} 1\nh_bucket 1\nh_bucket{le=\"NaN\"} 1\n\
                    h_bucket{le=\"+Inf\"} 2\nh 7\nother_count 8\nh_sum 1.5\nh_count 2\n";
        let read = read(body, rules);
        let names: Vec<(&str, &str)> = read.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let classic = ["h_bucket{le=\"x\"}", "h_bucket", "h_bucket{le=\"NaN\"}"].map(|name| (name, "1"));
        assert_eq!(names[..3], classic);
        // A line with another name ends it, as in Prometheus; the second of the two halves is
        // refused when it is stored.
        assert_eq!(
            names[3..],
            [("h", "7"), ("h", "2 0 [0.1] [1.0, 1.0]"), ("other_count", "8"), ("h", "2 1.5 [] [2.0]")]
        );
    }

    #[test]
    fn contradictions_are_no_histogram() {
        let made = |buckets: &[(f64, f64)], count: Option<f64>| {
            let mut classic = ClassicHistogram::default();
            for count in count.into_iter() {
                classic.count(count);
            }
            for (bound, n) in buckets.iter() {
                classic.bucket(*bound, *n);
            }
            classic.convert().map(|raw| raw.positive.counts)
        };
        let convert = |buckets: &[(f64, f64)], count| made(buckets, count).ok();
        let why = |buckets: &[(f64, f64)], count| made(buckets, count).unwrap_err().to_string();
        assert_eq!(why(&[(1.0, 8.0), (2.0, 4.0)], None), "count is not cumulative: 4 < 8");
        assert_eq!(why(&[(f64::INFINITY, 9.0)], Some(10.0)), "count mismatch: count=10 != le=+Inf count=9");
        assert_eq!(why(&[(f64::NAN, 1.0)], None), "bucket boundary must not be NaN");
        assert_eq!(why(&[(1.0, -1.0)], None), "bucket count must be non-negative: le=1, count=-1");
        assert_eq!(why(&[], Some(-1.0)), "count must be non-negative: count=-1");
        let inf = f64::INFINITY;
        assert_eq!(convert(&[(1.0, 2.0), (0.5, 1.0), (inf, 2.5)], None), Some(vec![1.0, 1.0, 0.5]));
        assert_eq!(convert(&[(1.0, 2.0)], Some(3.0)), Some(vec![2.0, 1.0]));
        assert_eq!(convert(&[], Some(3.0)), Some(vec![3.0]));
        assert_eq!(convert(&[(1.0, 2.0)], Some(1.0)), None);
        assert_eq!(convert(&[(1.0, 2.0), (2.0, 1.0)], Some(2.0)), None);
        assert_eq!(convert(&[(1.0, 2.0), (inf, 3.0)], Some(4.0)), None);
        assert_eq!(convert(&[(f64::NAN, 2.0)], Some(2.0)), None);
    }
}
