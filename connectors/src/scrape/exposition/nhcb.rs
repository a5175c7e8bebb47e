//! Classic histograms as native ones with custom buckets: the lines of one histogram become one sample.
//!
//! In a text the lines of a histogram stand together: what has another name or other labels begins another one.

use super::points::{PointRules, PointValue, Points, RawExemplar, write_series};
use super::{Entry, Format, Kind, Meta, ParseError, Parser, Sample, exemplar, series};
use crate::histogram::{RawBuckets, RawHistogram};
use storage::model::histogram::{BucketSpan, CUSTOM_BUCKETS};
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, TimeMs};

/// A classic histogram being collected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassicHistogram {
    /// (upper bound, observations up to it), ascending by bound.
    buckets: Vec<(f64, f64)>,
    /// All observations, if that was said.
    pub count: Option<f64>,
    /// Sum of all observations.
    pub sum: f64,
    broken: bool,
}

impl ClassicHistogram {
    /// Adds a bucket, in any order.
    pub fn bucket(&mut self, bound: f64, count: f64) {
        self.broken |= bound.is_nan() || count < 0.0 || count.is_nan();
        let at = self.buckets.partition_point(|(other, _)| *other < bound);
        let below = at.checked_sub(1).map_or(0.0, |at| self.buckets[at].1);
        let above = self.buckets.get(at).map_or(f64::INFINITY, |(_, count)| *count);
        if self.buckets.get(at).is_some_and(|(other, _)| *other == bound) {
            return;
        }
        self.broken |= count < below || count > above;
        self.buckets.insert(at, (bound, count));
    }

    /// The native histogram; `None` if the buckets contradict each other.
    pub fn convert(mut self) -> Option<RawHistogram> {
        let highest = self.buckets.last().copied();
        let count = self.count.or(highest.map(|(_, count)| count)).unwrap_or(0.0);
        if highest.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let agrees = self.buckets.last().is_some_and(|(_, last)| *last == count);
        let below = self.buckets.iter().rev().nth(1).is_none_or(|(_, below)| *below <= count);
        if self.broken || !agrees || !below || count < 0.0 || count.is_nan() {
            return None;
        }
        let mut before = 0.0;
        let counts = self.buckets.iter().map(|(_, count)| count - std::mem::replace(&mut before, *count));
        let (counts, length) = (counts.collect(), self.buckets.len() as u32);
        self.buckets.pop();
        Some(RawHistogram {
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

/// Reads a text body; `each` is told of its metadata.
pub fn read_text<'a>(
    body: &'a [u8],
    format: Format,
    rules: PointRules,
    mut each: impl FnMut(&Meta<'a>),
) -> Result<Points, ParseError> {
    let mut parser = Parser::new(body, format);
    let (mut points, mut open) = (Points::default(), None);
    while let Some(entry) = parser.next(&[])? {
        let sample = match entry {
            Entry::Sample(sample) => sample,
            Entry::Meta(meta) => {
                close(open.take(), &mut points);
                each(&meta);
                continue;
            }
        };
        let seen = parser.exemplar().filter(|_| rules.exemplars);
        let seen = seen.map(|raw| exemplar::parse(raw, format)).transpose().map_err(|e| parser.error(e))?;
        let part = match parser.kind() {
            Kind::Histogram => Part::of(&sample).map_err(|e| parser.error(e))?,
            _ => None,
        };
        let keep = part.is_none() || rules.classic_too;
        match part {
            Some(part) => collect(part, &sample, seen.clone(), &mut open, &mut points),
            None => close(open.take(), &mut points),
        }
        if keep {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(sample.series);
            let point = points.push(write, parser.kind(), PointValue::Float(sample.value));
            point.t = sample.t;
            point.exemplars.extend(seen);
        }
    }
    close(open.take(), &mut points);
    Ok(points)
}

/// What a line says of its histogram.
enum Said {
    Bucket(f64),
    Count,
    Sum,
}

/// A line of a classic histogram.
struct Part {
    /// Labels of the histogram.
    labels: Labels,
    said: Said,
}

impl Part {
    /// `None` if the line is of no classic histogram.
    fn of(sample: &Sample<'_>) -> Result<Option<Part>, String> {
        let mut labels = series::parse(sample.series, Kind::Histogram)?;
        let name = labels.get(METRIC_NAME).to_owned();
        let bound = labels.get("le").parse().ok();
        let (base, said) = match (name.rsplit_once('_'), bound) {
            (Some((base, "bucket")), Some(bound)) => (base, Said::Bucket(bound)),
            (Some((base, "count")), _) => (base, Said::Count),
            (Some((base, "sum")), _) => (base, Said::Sum),
            _ => return Ok(None),
        };
        labels.set(METRIC_NAME, base);
        labels.set("le", "");
        Ok(Some(Part { labels: labels.build(), said }))
    }
}

/// The histogram whose lines are being read.
struct Open {
    labels: Labels,
    t: Option<TimeMs>,
    classic: ClassicHistogram,
    exemplars: Vec<RawExemplar>,
}

fn collect(
    part: Part,
    sample: &Sample<'_>,
    seen: Option<RawExemplar>,
    open: &mut Option<Open>,
    points: &mut Points,
) {
    if open.as_ref().is_some_and(|open| open.labels != part.labels) {
        close(open.take(), points);
    }
    let open = open.get_or_insert_with(|| Open {
        labels: part.labels,
        t: sample.t,
        classic: ClassicHistogram::default(),
        exemplars: Vec::new(),
    });
    match part.said {
        Said::Bucket(bound) => open.classic.bucket(bound, sample.value),
        Said::Count => open.classic.count = Some(sample.value),
        Said::Sum => open.classic.sum = sample.value,
    }
    // Without a time, an exemplar of a native histogram cannot be told from one that was seen before.
    open.exemplars.extend(seen.filter(|exemplar| exemplar.t.is_some()));
}

/// The lines of a histogram are over: it becomes a sample, if it is one.
fn close(open: Option<Open>, points: &mut Points) {
    let Some(Open { labels, t, classic, exemplars }) = open else { return };
    let Some(raw) = classic.convert() else { return };
    let pairs: Vec<(&str, &str)> = labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
    let write = |out: &mut Vec<u8>| write_series(out, [labels.name(), ""], &pairs, None);
    let point = points.push(write, Kind::Histogram, PointValue::Histogram(Box::new(raw)));
    (point.t, point.exemplars) = (t, exemplars);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, rules: PointRules) -> Vec<(String, String)> {
        let points = read_text(body.as_bytes(), Format::Text, rules, |_| ()).unwrap();
        let show = |(series, point): (&[u8], &super::super::points::Point)| {
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
    fn contradictions_are_no_histogram() {
        let convert = |buckets: &[(f64, f64)], count: Option<f64>| {
            let mut classic = ClassicHistogram { count, ..ClassicHistogram::default() };
            buckets.iter().for_each(|(bound, n)| classic.bucket(*bound, *n));
            classic.convert().map(|raw| raw.positive.counts)
        };
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
