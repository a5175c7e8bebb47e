//! Random series: counters with resets, gauges, classic histograms and rare values, with gaps,
//! stale markers, and labels that come and go. Both servers get them in the same remote-write
//! requests, in time order.
//!
//! Two choices make the comparison exact. Values are multiples of 1/8 where possible, so that sums
//! are exact in any order. Scrapes are at odd milliseconds, so that no edge of a window, which is
//! on a half second, coincides with one; only the metric `aligned_total` has its samples on edges.
//! Read next: [`crate::generator`].

use crate::random::Random;
use crate::support::remote_write::{self, Histogram, Series};

/// The time of the first scrape, ms: fixed, so that a seed gives the same series on any day.
pub const START: i64 = 1_700_000_000_000;

/// The time from the first to the last scrape, ms.
pub const SPAN: i64 = 50 * 60_000;

/// The scrape interval, ms.
const INTERVAL: i64 = 15_000;

/// The time range of one write request, ms.
const SLICE: i64 = 10 * 60_000;

/// The bits of a stale marker.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// The kind of a metric's samples.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Increases by whole numbers, sometimes resets to zero.
    Counter,
    /// Like a counter, with samples at whole multiples of the interval.
    AlignedCounter,
    /// A random walk over multiples of 1/8.
    Gauge,
    /// NaN, infinities, zeros of both signs, huge and tiny numbers.
    Odd,
    /// Always 1.
    One,
    /// 0 or 1.
    Bool,
    /// Unix times in seconds, in different centuries.
    Epoch,
    /// The cumulative buckets of a classic histogram, by `le`.
    Buckets,
    /// Native histograms.
    Native,
}

/// A metric: name, labels with their values, kind of samples.
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// The labels; each combination of values is a series (but see `share`).
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// The kind of samples.
    pub shape: Shape,
    /// The percentage of combinations that exist.
    share: u64,
}

const JOBS: (&str, &[&str]) = ("job", &["api", "web", "db"]);
const INSTANCES: (&str, &[&str]) = ("instance", &["a:1", "b:1", "c:2"]);
const LE: (&str, &[&str]) = ("le", &["0.1", "0.5", "1", "1.0", "2.5", "10", "+Inf", "many"]);

/// All metrics.
pub const METRICS: &[Metric] = &[
    metric(
        "requests_total",
        &[JOBS, INSTANCES, ("method", &["get", "post"]), ("code", &["200", "404", "500"])],
        Shape::Counter,
        60,
    ),
    metric("errors_total", &[JOBS, INSTANCES, ("code", &["404", "500"])], Shape::Counter, 70),
    metric("aligned_total", &[JOBS, INSTANCES], Shape::AlignedCounter, 80),
    metric("temperature", &[JOBS, INSTANCES, ("zone", &["north", "south"])], Shape::Gauge, 70),
    metric("load", &[JOBS, INSTANCES], Shape::Gauge, 90),
    metric("odd", &[JOBS, ("kind", &["x", "y", "z"])], Shape::Odd, 90),
    metric("build_info", &[JOBS, INSTANCES, ("version", &["1.0", "1.1", "2\nbeta"])], Shape::One, 50),
    metric("quota", &[JOBS], Shape::Gauge, 100),
    metric("up", &[JOBS, INSTANCES], Shape::Bool, 90),
    metric("started_seconds", &[JOBS, ("kind", &["x", "y"])], Shape::Epoch, 90),
    // Without job and instance: the other labels determine the shards of these series.
    metric("queue", &[("kind", &["x", "y", "z"])], Shape::Gauge, 90),
    metric("queue_limit", &[("kind", &["x", "y", "z"]), ("zone", &["north", "south"])], Shape::Gauge, 60),
    metric("latency_seconds_bucket", &[JOBS, INSTANCES, LE], Shape::Buckets, 45),
    metric("request_seconds", &[JOBS, INSTANCES, ("method", &["get", "post"])], Shape::Native, 60),
    metric("latency_seconds_sum", &[JOBS, INSTANCES], Shape::Counter, 90),
    metric("latency_seconds_count", &[JOBS, INSTANCES], Shape::Counter, 90),
];

const fn metric(
    name: &'static str,
    labels: &'static [(&'static str, &'static [&'static str])],
    shape: Shape,
    share: u64,
) -> Metric {
    Metric { name, labels, shape, share }
}

/// The series of one seed and round.
pub fn series(random: &mut Random) -> Vec<Series> {
    METRICS.iter().flat_map(|metric| of_metric(metric, random)).collect()
}

fn of_metric(metric: &Metric, random: &mut Random) -> Vec<Series> {
    let mut combinations: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    for (label, values) in metric.labels {
        let with = |c: &Vec<(&'static str, &'static str)>| {
            let c = c.clone();
            values.iter().map(move |v| [c.clone(), vec![(*label, *v)]].concat())
        };
        combinations = combinations.iter().flat_map(with).collect();
    }
    let mut all = Vec::new();
    for labels in combinations {
        // All buckets of a histogram exist or none: the instance decides, except for the rare
        // buckets.
        let le = labels.iter().find(|(name, _)| *name == "le").map(|(_, v)| *v);
        let share = match le {
            Some("1.0" | "many") => 10,
            Some(_) => 92,
            None => metric.share,
        };
        if random.chance(share) && !(le.is_some() && whole(&labels) >= metric.share) {
            let samples = samples(metric.shape, le, random);
            all.push(match metric.shape {
                Shape::Native => Series {
                    histograms: histograms(&samples, random),
                    ..Series::new(metric.name, &labels, Vec::new())
                },
                _ => Series::new(metric.name, &labels, samples),
            });
        }
    }
    all
}

/// A number below 100 that is the same for all buckets of a histogram.
fn whole(labels: &[(&str, &str)]) -> u64 {
    let bytes = labels.iter().filter(|(name, _)| *name != "le").flat_map(|(_, value)| value.bytes());
    bytes.fold(7, |hash: u64, b| hash.wrapping_mul(31).wrapping_add(u64::from(b))) % 100
}

/// The samples of one series, with churn, jitter, gaps, and stale markers at the end.
fn samples(shape: Shape, le: Option<&str>, random: &mut Random) -> Vec<(i64, f64)> {
    let mut born = START;
    let mut dead = START + SPAN;
    if random.chance(25) {
        born += random.between(0, SPAN * 2 / 3);
    }
    if random.chance(25) {
        dead = random.between(born, START + SPAN);
    }
    let phase = random.between(0, INTERVAL / 2 - 1) * 2 + 1;
    let mut values = Values::new(shape, le, random);
    let mut out: Vec<(i64, f64)> = Vec::new();
    let mut t = START + (born - START) / INTERVAL * INTERVAL;
    while t < dead {
        if random.chance(2) {
            t += INTERVAL * random.between(1, 25);
            continue;
        }
        let jitter = if random.chance(20) { random.between(-400, 400) * 2 } else { 0 };
        let value = values.next(random);
        let at = if shape == Shape::AlignedCounter { t } else { t + phase + jitter };
        out.push((at, value));
        if random.chance(1) {
            out.push((at + 2_000, f64::from_bits(STALE)));
        }
        t += INTERVAL;
    }
    if random.chance(50) {
        out.push((dead + INTERVAL + 1, f64::from_bits(STALE)));
    }
    out.sort_by_key(|(t, _)| *t);
    out.dedup_by_key(|(t, _)| *t);
    out
}

/// Native histograms at the times of these samples, with their stale markers: counters that
/// sometimes reset.
///
/// Each series keeps its schema and its zero bucket, because 2.42 handles changes of these between
/// two samples differently. Sums of several series combine different schemas.
fn histograms(samples: &[(i64, f64)], random: &mut Random) -> Vec<(i64, Histogram)> {
    let empty = Histogram {
        schema: random.between(-1, 3) as i32,
        zero_threshold: random.pick(&[0.001, 0.001, 0.25]),
        ..Histogram::default()
    };
    let middle = random.between(-6, 6) as i32;
    let both_signs = random.chance(30);
    let mut now = empty.clone();
    let next = |(t, value): &(i64, f64)| {
        if value.to_bits() == STALE {
            return (*t, Histogram { sum: *value, ..Histogram::default() });
        }
        if random.chance(2) {
            now = empty.clone();
        }
        for _ in 0..random.below(6) {
            let index = middle + random.between(-3, 3) as i32 + random.below(2) as i32 * 2;
            let side = if both_signs && random.chance(30) { &mut now.negative } else { &mut now.positive };
            // A value within the zero bucket has no other bucket.
            let bound = 2f64.powf(f64::from(index) * 2f64.powi(-now.schema));
            let bucket =
                if bound <= now.zero_threshold { &mut now.zero } else { side.entry(index).or_default() };
            *bucket += random.below(4) + 1;
            now.sum += random.between(-8, 40) as f64 / 8.0;
        }
        now.zero += u64::from(random.chance(20));
        (*t, now.clone())
    };
    samples.iter().map(next).collect()
}

/// A sequence of values.
struct Values {
    shape: Shape,
    now: f64,
    step: i64,
}

impl Values {
    fn new(shape: Shape, le: Option<&str>, random: &mut Random) -> Values {
        // Buckets with higher bounds mostly grow faster.
        let place = LE.1.iter().position(|v| Some(*v) == le).unwrap_or(3) as i64;
        let now = match shape {
            Shape::Gauge => random.between(-400, 400) as f64 / 8.0,
            Shape::Epoch => random.pick(&EPOCHS),
            _ if random.chance(50) => 0.0,
            _ => random.between(0, 5000) as f64,
        };
        Values {
            shape,
            now,
            step: if shape == Shape::Buckets { 2 + 3 * place } else { random.between(1, 60) },
        }
    }

    fn next(&mut self, random: &mut Random) -> f64 {
        match self.shape {
            Shape::Counter | Shape::AlignedCounter | Shape::Buckets => {
                if random.chance(2) {
                    self.now = random.between(0, 3) as f64;
                } else if random.chance(80) {
                    self.now += random.between(0, self.step) as f64;
                }
                self.now
            }
            Shape::Gauge => {
                self.now += if random.chance(70) { random.between(-24, 24) as f64 / 8.0 } else { 0.0 };
                self.now
            }
            Shape::Odd => random.pick(&ODD),
            Shape::One | Shape::Native => 1.0,
            Shape::Bool => f64::from(random.chance(80)),
            Shape::Epoch => self.now + random.between(0, 3_000_000) as f64,
        }
    }
}

/// Times from before 1970 to the year 2100, around leap days.
const EPOCHS: [f64; 7] =
    [-2_208_988_800.0, -1.0, 0.0, 951_782_400.0, 1_582_934_400.0, 1_700_000_000.0, 4_107_542_400.0];

const ODD: [f64; 18] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    0.0,
    -0.0,
    1.0,
    1.0,
    -1.0,
    0.1,
    -2.5,
    3.0,
    1e300,
    -1e300,
    1e-300,
    2.5e-308,
    9_007_199_254_740_993.0,
    1e21,
    123_456_789.125,
];

/// Writes everything to a server in the order of time, as scrapes would.
pub fn write(port: u16, all: &[Series]) {
    let mut from = START - SLICE;
    while from < START + SPAN + SLICE {
        let window = from..from + SLICE;
        let some = |s: &Series| !s.samples.is_empty() || !s.histograms.is_empty();
        let slice: Vec<Series> = all.iter().map(|s| s.between(&window)).filter(some).collect();
        if !slice.is_empty() {
            let answer = remote_write::write(port, &slice).expect("a connection");
            assert!(matches!(answer.status, 200 | 204), "{}: {}", answer.status, answer.text());
        }
        from += SLICE;
    }
}

#[test]
fn series_have_what_queries_trip_over() {
    let all = series(&mut Random::new(&[1]));
    assert!(all.len() > 80, "{} series", all.len());
    let has = |what: &dyn Fn(&Series) -> bool| all.iter().any(what);
    assert!(has(&|s| s.samples.iter().any(|(_, v)| v.to_bits() == STALE)), "stale markers");
    assert!(has(&|s| s.samples.windows(2).any(|w| w[1].0 - w[0].0 > 60_000)), "gaps");
    assert!(has(&|s| s.samples.windows(2).any(|w| w[1].1 < w[0].1)), "resets");
    assert!(has(&|s| s.samples.iter().any(|(_, v)| v.is_infinite())), "infinities");
    assert!(has(&|s| s.histograms.windows(2).any(|w| w[1].1.zero > w[0].1.zero)), "native histograms");
    for one in &all {
        assert!(one.samples.windows(2).all(|w| w[0].0 < w[1].0), "in time order: {:?}", one.labels);
    }
    assert_eq!(format!("{all:?}"), format!("{:?}", series(&mut Random::new(&[1]))), "seeded");
}
