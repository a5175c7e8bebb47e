//! The metrics of the server itself: a small registry of counters, gauges, histograms and
//! summaries, rendered in the text format 0.0.4.
//!
//! It is in the lowest crate so that every crate can use it, and is passed as an argument, never
//! global. Where stock alerts or dashboards expect a metric, its name is that of Prometheus
//! (`prometheus_tsdb_…`).

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
    /// The current count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, v: f64) {
        self.0.store(v.to_bits(), Relaxed);
    }
    /// Adds `v` (may be negative).
    pub fn add(&self, v: f64) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + v).to_bits()));
    }
    /// The current value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// A classic histogram.
#[derive(Debug)]
pub struct MetricHistogram {
    bounds: Vec<f64>,
    buckets: Vec<AtomicU64>,
    sum: Gauge,
}

impl MetricHistogram {
    /// Counts one observation.
    pub fn observe(&self, v: f64) {
        // A value that equals a bound belongs to its bucket: `le` includes it.
        let at = self.bounds.partition_point(|b| *b < v);
        self.buckets[at].fetch_add(1, Relaxed);
        self.sum.add(v);
    }

    fn read(&self) -> HistogramReading {
        let mut total = 0;
        let mut buckets = Vec::with_capacity(self.buckets.len());
        for (i, bucket) in self.buckets.iter().enumerate() {
            total += bucket.load(Relaxed);
            let upper_bound = self.bounds.get(i).copied().unwrap_or(f64::INFINITY);
            buckets.push(BucketReading { upper_bound, cumulative_count: total });
        }
        HistogramReading { buckets, sum: self.sum.get(), count: total }
    }
}

/// The quantiles of a summary.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// Number of latest observations over which the quantiles of a summary are computed: enough for
/// several beyond the 0.99 quantile.
const RECENT: usize = 512;

/// A summary: sum and count of all observations, quantiles of the latest ones.
#[derive(Debug)]
pub struct MetricSummary {
    observed: Mutex<RecentObservations>,
    quantiles: &'static [f64],
}

impl Default for MetricSummary {
    fn default() -> MetricSummary {
        MetricSummary { observed: Mutex::default(), quantiles: &QUANTILES }
    }
}

#[derive(Debug, Default)]
struct RecentObservations {
    recent: VecDeque<f64>,
    count: u64,
    sum: f64,
}

impl MetricSummary {
    /// Counts one observation.
    pub fn observe(&self, v: f64) {
        self.observe_all(v, 1);
    }

    /// Counts `n` observations that are known only by their common value, such as a mean.
    pub fn observe_all(&self, v: f64, n: u64) {
        if n == 0 {
            return;
        }
        let mut observed = self.observed.lock();
        if observed.recent.len() == RECENT {
            observed.recent.pop_front();
        }
        observed.recent.push_back(v);
        observed.count += n;
        observed.sum += v * n as f64;
    }

    fn read(&self) -> SummaryReading {
        let observed = self.observed.lock();
        let mut sorted: Vec<f64> = observed.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let value = |q: f64| {
            let rank = (q * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
        };
        let quantiles = self.quantiles.iter().map(|q| (*q, value(*q))).collect();
        SummaryReading { quantiles, sum: observed.sum, count: observed.count }
    }
}

/// The values of a metric at one time, as [`Metrics::read`] gives them.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricReading {
    /// A counter; some have fractions.
    Counter(f64),
    /// A gauge.
    Gauge(f64),
    /// A classic histogram.
    Histogram(HistogramReading),
    /// A summary.
    Summary(SummaryReading),
}

/// The values of a [`MetricHistogram`].
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramReading {
    /// The buckets by upper bound; the last one has no bound, and counts all observations.
    pub buckets: Vec<BucketReading>,
    /// The sum of all observations.
    pub sum: f64,
    /// The number of observations.
    pub count: u64,
}

/// A bucket of a classic histogram.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct BucketReading {
    /// The largest value that the bucket counts; may be infinite.
    pub upper_bound: f64,
    /// The number of observations up to that value.
    pub cumulative_count: u64,
}

/// The values of a [`MetricSummary`].
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryReading {
    /// Each quantile with its value over the latest observations; NaN: there are none.
    pub quantiles: Vec<(f64, f64)>,
    /// The sum of all observations.
    pub sum: f64,
    /// The number of observations.
    pub count: u64,
}

/// All series of one metric name.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyReading {
    /// The full name, as `/metrics` shows it.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// `counter`, `gauge`, `histogram` or `summary`.
    pub kind: &'static str,
    /// Labels and values of each series.
    pub series: Vec<(Vec<(String, String)>, MetricReading)>,
}

#[derive(Clone)]
enum Metric {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    /// A counter with fractions, whose value is measured elsewhere.
    Total(Arc<Gauge>),
    Histogram(Arc<MetricHistogram>),
    Summary(Arc<MetricSummary>),
}

impl Metric {
    /// The type, as the text format names it.
    fn kind(&self) -> &'static str {
        match self {
            Metric::Counter(_) | Metric::Total(_) => "counter",
            Metric::Gauge(_) => "gauge",
            Metric::Histogram(_) => "histogram",
            Metric::Summary(_) => "summary",
        }
    }

    /// Whether only the registry has it.
    fn is_unused(&self) -> bool {
        1 == match self {
            Metric::Counter(counter) => Arc::strong_count(counter),
            Metric::Gauge(gauge) | Metric::Total(gauge) => Arc::strong_count(gauge),
            Metric::Histogram(histogram) => Arc::strong_count(histogram),
            Metric::Summary(summary) => Arc::strong_count(summary),
        }
    }

    fn read(&self) -> MetricReading {
        match self {
            Metric::Counter(counter) => MetricReading::Counter(counter.get() as f64),
            Metric::Total(total) => MetricReading::Counter(total.get()),
            Metric::Gauge(gauge) => MetricReading::Gauge(gauge.get()),
            Metric::Histogram(histogram) => MetricReading::Histogram(histogram.read()),
            Metric::Summary(summary) => MetricReading::Summary(summary.read()),
        }
    }
}

struct MetricFamily {
    help: &'static str,
    /// By the labels as the text format writes them.
    series: BTreeMap<String, MetricSeries>,
}

struct MetricSeries {
    labels: Vec<(String, String)>,
    metric: Metric,
}

/// All metrics of one server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<&'static str, MetricFamily>>>);

impl Metrics {
    /// The counter `name` with these labels, created on first use.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Arc<Counter> {
        // If the name is used with another type, the caller gets a counter that is not shown: a
        // wrong metric must not end the server.
        match self.entry(name, help, labels, || Metric::Counter(Arc::default())) {
            Metric::Counter(c) => c,
            _ => Arc::default(),
        }
    }

    /// The gauge `name` with these labels, created on first use.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Arc<Gauge> {
        match self.entry(name, help, labels, || Metric::Gauge(Arc::default())) {
            Metric::Gauge(g) => g,
            _ => Arc::default(),
        }
    }

    /// The counter `name` with these labels for a value that is counted elsewhere and may have
    /// fractions, created on first use.
    pub fn total(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Arc<Gauge> {
        match self.entry(name, help, labels, || Metric::Total(Arc::default())) {
            Metric::Total(g) => g,
            _ => Arc::default(),
        }
    }

    /// The histogram `name` with these labels and bucket bounds, created on first use.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        bounds: &[f64],
    ) -> Arc<MetricHistogram> {
        let make = || {
            let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
            Arc::new(MetricHistogram { bounds: bounds.to_vec(), buckets, sum: Gauge::default() })
        };
        match self.entry(name, help, labels, || Metric::Histogram(make())) {
            Metric::Histogram(h) => h,
            _ => make(),
        }
    }

    /// The summary `name` with these labels, created on first use.
    pub fn summary(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Arc<MetricSummary> {
        self.summary_of(name, help, labels, &QUANTILES)
    }

    /// As [`Metrics::summary`], with these quantiles.
    pub fn summary_of(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        quantiles: &'static [f64],
    ) -> Arc<MetricSummary> {
        let make = || Arc::new(MetricSummary { observed: Mutex::default(), quantiles });
        match self.entry(name, help, labels, || Metric::Summary(make())) {
            Metric::Summary(s) => s,
            _ => make(),
        }
    }

    /// Removes all metrics with exactly these labels, because what they measured no longer exists.
    pub fn forget(&self, labels: &[(&str, &str)]) {
        let key = key(labels);
        let mut families = self.0.lock();
        for family in families.values_mut() {
            drop(family.series.remove(&key));
        }
        // A family without series would be a HELP line without a value.
        families.retain(|_, family| !family.series.is_empty());
    }

    /// The same for those that nobody holds any more. Whoever shares a metric calls it when it has
    /// dropped its own handle; the last one removes the metric.
    pub fn forget_unused(&self, labels: &[(&str, &str)]) {
        let key = key(labels);
        let mut families = self.0.lock();
        for family in families.values_mut() {
            if family.series.get(&key).is_some_and(|series| series.metric.is_unused()) {
                drop(family.series.remove(&key));
            }
        }
        families.retain(|_, family| !family.series.is_empty());
    }

    fn entry(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        make: impl FnOnce() -> Metric,
    ) -> Metric {
        let key = key(labels);
        let mut families = self.0.lock();
        let family = families.entry(name).or_insert_with(|| MetricFamily { help, series: BTreeMap::new() });
        let new = || {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            MetricSeries { labels: labels.collect(), metric: make() }
        };
        family.series.entry(key).or_insert_with(new).metric.clone()
    }

    /// Renders all metrics in the text format 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, family) in self.0.lock().iter() {
            // All series of a family have one type: the first one to be created.
            let Some(first) = family.series.values().next() else { continue };
            let kind = first.metric.kind();
            let _ = write!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n", family.help);
            for (labels, series) in &family.series {
                render_series(&mut out, name, labels, &series.metric);
            }
        }
        out
    }

    /// The values of all metrics whose name `wanted` accepts, by name.
    pub fn read(&self, wanted: impl Fn(&str) -> bool) -> Vec<FamilyReading> {
        let mut readings = Vec::new();
        for (name, family) in self.0.lock().iter().filter(|(name, _)| wanted(name)) {
            let Some(first) = family.series.values().next() else { continue };
            let series = family.series.values().map(|s| (s.labels.clone(), s.metric.read())).collect();
            readings.push(FamilyReading { name, help: family.help, kind: first.metric.kind(), series });
        }
        readings
    }
}

fn key(labels: &[(&str, &str)]) -> String {
    labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect::<Vec<_>>().join(",")
}

fn render_series(out: &mut String, name: &str, labels: &str, metric: &Metric) {
    let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    match metric {
        Metric::Counter(c) => drop(writeln!(out, "{name}{braces} {}", c.get())),
        Metric::Gauge(g) | Metric::Total(g) => drop(writeln!(out, "{name}{braces} {}", g.get())),
        Metric::Histogram(h) => render_histogram(out, name, labels, &braces, h),
        Metric::Summary(s) => render_summary(out, name, labels, &braces, s),
    }
}

fn render_histogram(out: &mut String, name: &str, labels: &str, braces: &str, h: &MetricHistogram) {
    let comma = if labels.is_empty() { "" } else { "," };
    let reading = h.read();
    for BucketReading { upper_bound, cumulative_count } in &reading.buckets {
        let le = if upper_bound.is_finite() { format!("{upper_bound:?}") } else { "+Inf".to_owned() };
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {cumulative_count}");
    }
    let _ = writeln!(out, "{name}_sum{braces} {}\n{name}_count{braces} {}", reading.sum, reading.count);
}

fn render_summary(out: &mut String, name: &str, labels: &str, braces: &str, summary: &MetricSummary) {
    let comma = if labels.is_empty() { "" } else { "," };
    let reading = summary.read();
    for (q, value) in &reading.quantiles {
        let _ = writeln!(out, "{name}{{{labels}{comma}quantile=\"{q}\"}} {value}");
    }
    let _ = writeln!(out, "{name}_sum{braces} {}\n{name}_count{braces} {}", reading.sum, reading.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_more_is_forgotten() {
        let metrics = Metrics::default();
        let counter = |group: &str| metrics.counter("c", "Help.", &[("group", group)]);
        counter("a").inc();
        counter("b").inc();
        metrics.forget(&[("group", "a")]);
        assert_eq!(metrics.render(), "# HELP c Help.\n# TYPE c counter\nc{group=\"b\"} 1\n");
        metrics.forget(&[("group", "b")]);
        assert_eq!(metrics.render(), "");
        assert_eq!(counter("a").get(), 0, "it begins anew");
    }

    #[test]
    fn what_is_shared_is_forgotten_by_the_last_holder() {
        let metrics = Metrics::default();
        let labels = [("config", "j")];
        let first = metrics.counter("c", "Help.", &labels);
        let second = metrics.counter("c", "Help.", &labels);
        drop(first);
        metrics.forget_unused(&labels);
        assert!(metrics.render().contains("c{config=\"j\"} 0"));
        drop(second);
        metrics.forget_unused(&labels);
        assert_eq!(metrics.render(), "");
    }

    #[test]
    fn summaries_show_quantiles_of_the_newest() {
        let metrics = Metrics::default();
        let summary = metrics.summary("s", "Help.", &[("slice", "a")]);
        assert!(metrics.render().contains("s{slice=\"a\",quantile=\"0.5\"} NaN\n"));
        for i in 0..1_000 {
            summary.observe(f64::from(i));
        }
        let text = metrics.render();
        for line in [
            "# TYPE s summary",
            "s{slice=\"a\",quantile=\"0.5\"} 743",
            "s{slice=\"a\",quantile=\"0.99\"} 994",
            "s_sum{slice=\"a\"} 499500",
            "s_count{slice=\"a\"} 1000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in {text}");
        }
    }
}
