//! Classic histograms as native ones with custom buckets: the lines of one histogram become one sample.
//!
//! In a text the lines of a histogram stand together: what has another name or other labels begins another one.

use super::points::{PointRules, PointValue, Points, RawExemplar, write_series};
use super::series::SeriesError;
use super::{Kind, Sample, series};
use crate::histogram::{RawBuckets, RawHistogram};
use crate::limits::HISTOGRAM_EXEMPLARS;
use storage::limits::HISTOGRAM_BUCKETS;
use storage::model::histogram::{BucketSpan, CUSTOM_BUCKETS};
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, TimeMs};

/// A classic histogram being collected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassicHistogram {
    /// (upper bound, observations up to it).
    buckets: Vec<(f64, f64)>,
    /// All observations, if that was said.
    pub count: Option<f64>,
    /// Sum of all observations.
    pub sum: f64,
    broken: bool,
}

impl ClassicHistogram {
    /// Adds a bucket, in any order. Of two with one bound the first counts.
    pub fn bucket(&mut self, bound: f64, count: f64) {
        self.broken |=
            bound.is_nan() || count < 0.0 || count.is_nan() || self.buckets.len() >= HISTOGRAM_BUCKETS;
        let again = self.buckets.last().is_some_and(|(last, _)| *last == bound);
        if !self.broken && !again {
            self.buckets.push((bound, count));
        }
    }

    /// The native histogram; `None` if the buckets contradict each other, or are more than the store holds.
    pub fn convert(mut self) -> Option<RawHistogram> {
        // Stable, and quick where they are in order already.
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, first| later.0 == first.0);
        self.broken |= self.buckets.windows(2).any(|two| two[0].1 > two[1].1);
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

/// Makes samples of the lines of a text body, one after the other.
#[derive(Default)]
pub struct Converter {
    /// The histogram whose lines are being read.
    open: Option<Open>,
}

impl Converter {
    /// Takes a line of a family of type `kind`, and adds the samples that it ends and those that it stays.
    pub fn line(
        &mut self,
        sample: &Sample<'_>,
        kind: Kind,
        exemplar: Option<RawExemplar>,
        rules: PointRules,
        points: &mut Points,
    ) -> Result<(), SeriesError> {
        let part = if kind == Kind::Histogram { Part::of(sample)? } else { None };
        let keep = part.is_none() || rules.classic_too;
        match part {
            Some(part) => self.collect(part, sample, exemplar.clone(), points),
            None => self.close(points),
        }
        if keep {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(sample.series);
            let point = points.push(write, kind, PointValue::Float(sample.value));
            point.t = sample.t;
            point.exemplars.extend(exemplar);
        }
        Ok(())
    }

    fn collect(&mut self, part: Part, sample: &Sample<'_>, seen: Option<RawExemplar>, points: &mut Points) {
        if self.open.as_ref().is_some_and(|open| open.labels != part.labels) {
            self.close(points);
        }
        let open = self.open.get_or_insert_with(|| Open {
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
        let seen = seen.filter(|exemplar| exemplar.t.is_some());
        if open.exemplars.len() < HISTOGRAM_EXEMPLARS {
            open.exemplars.extend(seen);
        }
    }

    /// The lines of a histogram are over, because other ones or a family's begin, or the body ends: it becomes a sample, if
    /// it is one.
    pub fn close(&mut self, points: &mut Points) {
        let Some(Open { labels, t, classic, exemplars }) = self.open.take() else { return };
        let Some(raw) = classic.convert() else { return };
        let pairs: Vec<(&str, &str)> = labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
        let write = |out: &mut Vec<u8>| write_series(out, [labels.name(), ""], &pairs, None);
        let point = points.push(write, Kind::Histogram, PointValue::Histogram(Box::new(raw)));
        (point.t, point.exemplars) = (t, exemplars);
    }
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
    fn of(sample: &Sample<'_>) -> Result<Option<Part>, SeriesError> {
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

#[cfg(test)]
mod tests {
    use super::super::{Entry, Format, Parser};
    use super::*;

    fn read_text(body: &[u8], rules: PointRules) -> Points {
        let mut parser = Parser::new(body, Format::Text);
        let (mut converter, mut points) = (Converter::default(), Points::default());
        while let Some(entry) = parser.next(&[]).unwrap() {
            match entry {
                Entry::Sample(sample) => {
                    converter.line(&sample, parser.kind(), None, rules, &mut points).unwrap();
                }
                Entry::Meta(_) => converter.close(&mut points),
            }
        }
        converter.close(&mut points);
        points
    }

    fn read(body: &str, rules: PointRules) -> Vec<(String, String)> {
        let points = read_text(body.as_bytes(), rules);
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
