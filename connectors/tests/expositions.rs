//! Compares the results of unusual bodies with those of Prometheus 3.14: whether the scrape
//! succeeds, its counts, the series with their values, the metadata. The results were recorded;
//! `tests/beside/README.md` explains how.

use connectors::exposition::{BodyFormat, TextFormat};
use connectors::native_histogram::HistogramLimits;
use connectors::relabel::Relabeler;
use connectors::scrape::appender::{HistogramPolicy, ScrapeAppender, ScrapeCounts, ScrapeRules};
use connectors::scrape::config::ScrapeLimits;
use connectors::scrape::series_admission::SeriesAdmission;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, NativeHistogram, SHARDS, TimeMs};
use storage::store::{Store, StoreOptions};

/// The first line of the file.
#[derive(Deserialize)]
struct Head {
    /// The time of all scrapes, ms.
    now: TimeMs,
}

/// The samples of a series: a time, if it is not that of the scrape, and a value.
type Values = Vec<(Option<TimeMs>, String)>;

/// A body and its result.
#[derive(Deserialize)]
struct Case {
    format: String,
    /// The keys of the job.
    job: String,
    /// The bytes of the body, each as a character.
    body: String,
    up: u8,
    scraped: usize,
    kept: usize,
    series: Vec<(BTreeMap<String, String>, Values)>,
    /// Name, type, help, unit.
    metadata: Vec<[String; 4]>,
}

/// The series by labels, with their samples.
type Samples = BTreeMap<BTreeMap<String, String>, Values>;

fn native(job: &str) -> HistogramPolicy {
    HistogramPolicy {
        scrape: matches!(job, "native" | "both" | "nhcbboth"),
        classic_too: matches!(job, "both" | "nhcbboth"),
        convert: matches!(job, "nhcb" | "nhcbboth"),
        limits: HistogramLimits::default(),
        ..HistogramPolicy::default()
    }
}

fn format(name: &str) -> BodyFormat {
    match name {
        "text" => BodyFormat::Text(TextFormat::Text),
        "om" => BodyFormat::Text(TextFormat::OpenMetrics),
        _ => BodyFormat::Protobuf,
    }
}

/// A number in a form that can be compared.
fn number(v: f64) -> String {
    if v == f64::INFINITY { "+Inf".to_owned() } else { format!("{v:?}").replace("inf", "Inf") }
}

fn numbers(text: &str) -> String {
    let words = text.split(' ').map(|word| word.parse().map_or_else(|_| word.to_owned(), number));
    words.collect::<Vec<_>>().join(" ")
}

/// Count, sum and the counts of all buckets that are not empty, in order.
fn histogram(h: &NativeHistogram) -> String {
    let filled = |(_, count): &(i32, f64)| *count != 0.0;
    let mut negative: Vec<f64> = h.negative.iter().filter(filled).map(|(_, count)| count).collect();
    negative.reverse();
    let zero = Some(h.zero_count).filter(|count| *count != 0.0);
    let positive = h.positive.iter().filter(filled).map(|(_, count)| count);
    let all = [h.count, h.sum].into_iter().chain(negative).chain(zero).chain(positive);
    format!("histogram {}", all.map(number).collect::<Vec<_>>().join(" "))
}

/// The samples in the store of the target `n`.
fn stored(store: &Store, n: &str, now: TimeMs) -> Samples {
    let mut all = Samples::new();
    for shard in 0..SHARDS {
        let selection = store.select(shard, &[Matcher::equal("n", n)], 0, i64::MAX).unwrap();
        for (i, labels) in selection.labels.iter().enumerate() {
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            let mut histograms = Vec::new();
            selection.read(i, 0, i64::MAX, &mut ts, &mut vs).unwrap();
            selection.read_histograms(i, 0, i64::MAX, &mut histograms).unwrap();
            let floats = ts.into_iter().zip(vs.into_iter().map(number));
            let histograms = histograms.into_iter().map(|(t, h)| (t, histogram(&h)));
            let mut samples: Vec<(TimeMs, String)> = floats.chain(histograms).collect();
            samples.sort_by_key(|(t, _)| *t);
            let own = labels.iter().filter(|(name, _)| !matches!(*name, "n" | "job" | "instance"));
            let labels = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let time = |t: TimeMs| Some(t).filter(|t| *t != now);
            all.insert(labels, samples.into_iter().map(|(t, v)| (time(t), v)).collect());
        }
    }
    all.retain(|_, samples| !samples.is_empty());
    all
}

/// The differences between the result and the recorded one.
fn check(store: &Arc<Store>, n: usize, case: &Case, now: TimeMs) -> Vec<String> {
    let n = n.to_string();
    let target = Labels::from_pairs([("job", &case.job[..]), ("instance", "i"), ("n", &n)]);
    let mut ingest = ScrapeAppender::new(store.clone(), n.clone(), &target, &[]);
    let relabel = Relabeler::default();
    let limits = ScrapeLimits {
        body: usize::MAX,
        samples: usize::MAX,
        labels: usize::MAX,
        name_bytes: usize::MAX,
        value_bytes: usize::MAX,
    };
    let admission = SeriesAdmission::new(&target, &relabel, limits);
    let native = native(&case.job);
    let rules = ScrapeRules { admission, honor_timestamps: true, track_timestamps: false, native };
    let body: Vec<u8> = case.body.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let mut counts = ScrapeCounts::default();
    let read = ingest.read(&body, format(&case.format), now, &rules, &mut counts);
    let read = read.and_then(|()| Ok(ingest.commit(now, &[], &mut counts)?));
    let metadata = ingest.metadata(read.is_ok()).unwrap_or_default();
    let metadata = metadata
        .iter()
        .map(|(name, m)| [name.to_string(), m.kind.as_str().to_owned(), m.help.clone(), m.unit.clone()]);
    let metadata = metadata.collect::<Vec<_>>();
    let found = stored(store, &n, now);
    let expected: Samples = case.series.iter().cloned().collect();
    let expected: Samples = expected
        .into_iter()
        .map(|(labels, all)| (labels, all.into_iter().map(|(t, v)| (t, numbers(&v))).collect()))
        .collect();
    let mut wrong = Vec::new();
    let mut same = |what: &str, there: String, here: String| {
        if there != here {
            wrong.push(format!("{what}\n    3.14: {there}\n    here: {here}"));
        }
    };
    same("up", case.up.to_string(), u8::from(read.is_ok()).to_string());
    same("scraped", case.scraped.to_string(), counts.scraped.to_string());
    same("kept", case.kept.to_string(), counts.kept.to_string());
    same("series", format!("{expected:?}"), format!("{found:?}"));
    same("metadata", format!("{:?}", case.metadata), format!("{metadata:?}"));
    wrong
}

#[test]
fn bodies_mean_what_they_mean_to_prometheus() {
    let mut lines = include_str!("data/expositions.jsonl").lines();
    let head: Head = serde_json::from_str(lines.next().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        dir: dir.path().into(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default()).unwrap();
    store.exemplars().set_limit(1_000);
    let mut wrong = Vec::new();
    for (n, line) in lines.enumerate() {
        let case: Case = serde_json::from_str(line).unwrap();
        for difference in check(&store, n, &case, head.now) {
            wrong.push(format!(
                "{} of {} as {}: {:?}\n  {difference}",
                n + 2,
                case.format,
                case.job,
                case.body
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}
