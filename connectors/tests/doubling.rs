//! Twice the input costs about twice as much: parsers, label builders and relabelling against the number of their lines,
//! labels, metrics and buckets.
//!
//! Measured is the processor time of the thread, the least of several runs, so a busy machine does not matter.

mod bench;

use bench::protobuf::{body, double, family, label, number, submessage};
use connectors::scrape::admit::Admission;
use connectors::scrape::config::ScrapeLimits;
use connectors::scrape::exposition::{BodyFormat, Format, Kind, series};
use connectors::scrape::ingest::{Counts, Ingest, NativeRules, Rules};
use connectors::scrape::relabel::{RelabelConfig, Relabeler};
use std::fmt::Write;
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::{Labels, LabelsBuilder};
use storage::store::{Options, Store};

/// What twice the input may cost at most.
const MOST: f64 = 2.6;
const RUNS: usize = 5;

/// Time on a processor that this thread has had, ns.
fn thread_time() -> u64 {
    // The kernel brings the number up to date when the thread gives way.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The least that `run` costs, ns, of several runs, each with an input of its own.
fn cost<T>(prepare: &mut dyn FnMut() -> T, run: &mut dyn FnMut(T)) -> f64 {
    let once = |_| {
        let input = prepare();
        let before = thread_time();
        run(input);
        thread_time() - before
    };
    (0..RUNS).map(once).min().unwrap() as f64
}

/// Compares `n` with twice as many; once more if it was too much, as the first may have been cheap by chance.
fn doubles<T>(what: &str, n: usize, mut prepare: impl FnMut(usize) -> T, mut run: impl FnMut(T)) {
    let mut ratio = f64::INFINITY;
    for _ in 0..3 {
        let single = cost(&mut || prepare(n), &mut run);
        let double = cost(&mut || prepare(2 * n), &mut run);
        ratio = ratio.min(double / single);
        if ratio <= MOST {
            return;
        }
    }
    panic!("{what}: twice the input costs {ratio:.2} times as much");
}

fn labels(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("label_{}", i * 7919 % n)).collect()
}

fn line(n: usize) -> String {
    let pairs: Vec<String> = labels(n).iter().map(|name| format!("{name}=\"v\"")).collect();
    format!("m{{{}}}", pairs.join(","))
}

#[test]
fn labels_of_a_series() {
    doubles("exposed labels", 1_500, line, |line| {
        series::parse(line.as_bytes(), Kind::Unknown).unwrap();
    });
    doubles("setting", 10_000, labels, |names| {
        let mut builder = LabelsBuilder::default();
        for name in &names {
            builder.set(name, "v");
        }
        names.iter().for_each(|name| assert_eq!(builder.get(name), "v"));
        assert_eq!(builder.build().len(), names.len());
        for name in &names {
            builder.remove(name);
        }
    });
}

#[test]
fn rules() {
    let rules = [
        "{action: labeldrop, regex: 'label_.*'}",
        "{action: labelkeep, regex: 'other'}",
        "{action: labelmap, regex: 'label_(.*)', replacement: 'x_$1'}",
    ];
    for rule in rules {
        let configs: Vec<RelabelConfig> = serde_saphyr::from_str(&format!("[{rule}]")).unwrap();
        let relabeler = Relabeler::new(&configs).unwrap();
        let made = |n: usize| {
            let mut builder = LabelsBuilder::default();
            for name in labels(n) {
                builder.set(name, "v");
            }
            builder
        };
        doubles(rule, 2_000, made, |mut builder| assert!(relabeler.apply(&mut builder)));
    }
}

/// A way into a store of its own.
struct Target {
    ingest: Ingest,
    native: NativeRules,
    _dir: tempfile::TempDir,
}

impl Target {
    fn new(native: NativeRules) -> Target {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            dir: dir.path().into(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default()).unwrap();
        let ingest = Ingest::new(store, "t".into(), &Labels::default(), &["up"]);
        Target { ingest, native, _dir: dir }
    }

    fn scrape(&mut self, body: &[u8], format: BodyFormat, t: i64) -> Counts {
        let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
        let limits = ScrapeLimits {
            body: usize::MAX,
            samples: usize::MAX,
            labels: usize::MAX,
            name_bytes: usize::MAX,
            value_bytes: usize::MAX,
        };
        let relabel = Relabeler::default();
        let admission = Admission { target: &target, honor_labels: false, relabel: &relabel, limits };
        let rules = Rules { admission, honor_timestamps: true, track_timestamps: false, native: self.native };
        let mut counts = Counts::default();
        self.ingest.read(body, format, t, &rules, &mut counts).unwrap();
        self.ingest.commit(t, &[1.0], &mut counts).unwrap();
        counts
    }
}

fn lines(n: usize, more: &str) -> String {
    let mut body = String::new();
    for i in 0..n {
        if i % 10 == 0 {
            let _ = writeln!(body, "# HELP m{} some help\n# TYPE m{} gauge", i / 10, i / 10);
        }
        let _ = writeln!(body, "m{}{{i=\"{i}\",path=\"/a/b\"}} {i}{more}", i / 10);
    }
    body
}

#[test]
fn bodies_of_text() {
    let text = BodyFormat::Text(Format::Text);
    let open_metrics = BodyFormat::Text(Format::OpenMetrics);
    let n = 2_000;
    let new = |n: usize| (Target::new(NativeRules::default()), lines(n, ""));
    doubles("new series", n, new, |(mut target, body)| {
        target.scrape(body.as_bytes(), text, 1_000);
    });
    let known = |n: usize| {
        let (mut target, body) = new(n);
        target.scrape(body.as_bytes(), text, 1_000);
        (target, body)
    };
    doubles("known series", 4 * n, known, |(mut target, body)| {
        target.scrape(body.as_bytes(), text, 2_000);
    });
    let open = |n: usize| (Target::new(NativeRules::default()), lines(n, " # {id=\"x\"} 1") + "# EOF\n");
    doubles("OpenMetrics", n, open, |(mut target, body)| {
        target.scrape(body.as_bytes(), open_metrics, 1_000);
    });
    let timed = |n: usize| {
        let mut target = Target::new(NativeRules::default());
        target.scrape(lines(n, " 500").as_bytes(), text, 1_000);
        (target, lines(n, ""))
    };
    doubles("series that have timestamps no more", n, timed, |(mut target, body)| {
        target.scrape(body.as_bytes(), text, 2_000);
    });
    let again = |n: usize| (Target::new(NativeRules::default()), "a{b=\"c\"} 1\n".repeat(n));
    doubles("equal lines", 20 * n, again, |(mut target, body)| {
        let counts = target.scrape(body.as_bytes(), text, 1_000);
        assert_eq!(counts.duplicates, counts.scraped - 1);
    });
}

#[test]
fn classic_histograms_that_become_native_ones() {
    let convert = NativeRules { convert: true, ..NativeRules::default() };
    let falling = |n: usize| {
        let mut body = "# TYPE h histogram\n".to_owned();
        for i in (0..n).rev() {
            let _ = writeln!(body, "h_bucket{{le=\"{i}\"}} {i}");
        }
        (Target::new(convert), body)
    };
    doubles("buckets from the highest on", 2_000, falling, |(mut target, body)| {
        target.scrape(body.as_bytes(), BodyFormat::Text(Format::Text), 1_000);
    });
}

#[test]
fn bodies_of_protobuf() {
    let gauges = |n: usize| {
        let gauge = |i: usize| [label("i", &i.to_string()), submessage(2, &double(1, i as f64))].concat();
        let metrics: Vec<Vec<u8>> = (0..n).map(gauge).collect();
        (Target::new(NativeRules::default()), body(&[family("g", 1, &metrics)]))
    };
    doubles("metrics of a family", 2_000, gauges, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
    let wide = |n: usize| {
        let pairs: Vec<u8> = labels(n).iter().flat_map(|name| label(name, "v")).collect();
        let gauge = [pairs, submessage(2, &double(1, 1.0))].concat();
        (Target::new(NativeRules::default()), body(&[family("g", 1, &[gauge])]))
    };
    doubles("labels of a metric", 1_500, wide, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
    let native = NativeRules { scrape: true, ..NativeRules::default() };
    let buckets = |n: usize| {
        let span = submessage(12, &number(2, n as u64));
        let deltas: Vec<u8> = (0..n).flat_map(|i| number(13, u64::from(i == 0) * 2)).collect();
        let histogram = submessage(7, &[number(1, n as u64), span, deltas].concat());
        (Target::new(native), body(&[family("h", 4, &[histogram])]))
    };
    doubles("buckets of a histogram", 4_000, buckets, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
}
