//! Tests that parsing costs are linear: twice the lines, labels, metrics or buckets take about
//! twice the CPU time, in all parsers, in label builders and in relabelling.

mod bench;

use bench::protobuf::{body, double, family, label, number, submessage};
use connectors::exposition::{BodyFormat, Context, MetricType, TextFormat, series};
use connectors::relabel::{RelabelConfig, Relabeler};
use connectors::scrape::appender::{HistogramPolicy, ScrapeAppender, ScrapeCounts, ScrapeRules};
use connectors::scrape::config::ScrapeLimits;
use connectors::scrape::series_admission::SeriesAdmission;
use std::fmt::Write;
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::{Labels, LabelsBuilder};
use storage::store::{Store, StoreOptions};
use testing::{assert_proportional, assert_proportional_anew};

fn labels(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("label_{}", i * 7919 % n)).collect()
}

fn line(n: usize) -> String {
    let pairs: Vec<String> = labels(n).iter().map(|name| format!("{name}=\"v\"")).collect();
    format!("m{{{}}}", pairs.join(","))
}

#[test]
fn labels_of_a_series() {
    assert_proportional_anew("exposed labels", 1_500, line, |line| {
        series::parse(line.as_bytes(), Context::text(MetricType::Unknown)).unwrap();
    });
    let quoted = |n: usize| {
        let pairs: Vec<String> = labels(n).iter().map(|name| format!("\"{name}.é\"=\"v\"")).collect();
        format!("{{\"m.x\",{}}}", pairs.join(","))
    };
    assert_proportional_anew("quoted labels", 1_500, quoted, |line| {
        series::parse(line.as_bytes(), Context::text(MetricType::Unknown)).unwrap();
    });
    let escaped = |n: usize| format!("m{{a=\"{}\"}}", "\\n\\\"\\\\x".repeat(n));
    assert_proportional_anew("escapes", 50_000, escaped, |line| {
        series::parse(line.as_bytes(), Context::text(MetricType::Unknown)).unwrap();
    });
    assert_proportional_anew("setting", 10_000, labels, |names| {
        let mut builder = LabelsBuilder::default();
        for name in &names {
            builder.set(name, "v");
        }
        for name in names.iter() {
            assert_eq!(builder.get(name), "v");
        }
        assert_eq!(builder.build().len(), names.len());
        for name in &names {
            builder.remove(name);
        }
    });
}

fn configs(rules: &str) -> Vec<RelabelConfig> {
    serde_saphyr::from_str(&format!("[{rules}]")).unwrap()
}

#[test]
fn rules() {
    let all = labels(4_000).join(", ");
    let rules = [
        "{action: labeldrop, regex: 'label_.*'}".to_owned(),
        "{action: labelkeep, regex: 'other'}".to_owned(),
        "{action: labelmap, regex: 'label_(.*)', replacement: 'x_$1'}".to_owned(),
        format!("{{source_labels: [{all}], regex: '(v?;?)*', target_label: x, replacement: '$0-$0'}}"),
        format!("{{action: keep, source_labels: [{all}], regex: '[v;]*'}}"),
        format!("{{action: drop, source_labels: [{all}], regex: 'x'}}"),
        format!("{{action: hashmod, source_labels: [{all}], modulus: 7, target_label: x}}"),
        format!("{{action: uppercase, source_labels: [{all}], target_label: x}}"),
        "{action: keepequal, source_labels: [label_0], target_label: label_1}".to_owned(),
    ];
    for rule in &rules {
        let relabeler = Relabeler::new(&configs(rule)).unwrap();
        let made = |n: usize| {
            let mut builder = LabelsBuilder::default();
            for name in labels(n) {
                builder.set(name, "v");
            }
            builder
        };
        assert_proportional_anew(rule, 2_000, made, |mut builder| assert!(relabeler.apply(&mut builder)));
    }
}

#[test]
fn reading_rules() {
    let many =
        |rule: fn(usize) -> String| move |n: usize| (0..n).map(rule).collect::<Vec<String>>().join(", ");
    let replaces = many(|i| {
        format!("{{source_labels: [a{i}], regex: '(.*)-{i}', target_label: b{i}, replacement: '$1'}}")
    });
    let drops = many(|i| format!("{{action: drop, source_labels: [a{i}, b], regex: 'x|y{i}'}}"));
    let read = |rules: &String| Relabeler::new(&configs(rules)).unwrap();
    assert_proportional("rules that replace", 200, replaces, read);
    assert_proportional("rules that drop", 200, drops, read);
    let names = |n: usize| format!("{{source_labels: [{}], target_label: b}}", labels(n).join(", "));
    assert_proportional("labels of a rule", 2_000, names, read);
    let long = |n: usize| format!("{{regex: '{}', target_label: b}}", "(a|b)".repeat(n));
    assert_proportional("a long pattern", 1_000, long, read);
    let filled = |n: usize| format!("{{target_label: b, replacement: '{}'}}", "x${1}".repeat(n));
    assert_proportional("a long replacement", 5_000, filled, |rules| {
        let mut builder = LabelsBuilder::default();
        builder.set("a", "v");
        read(rules).apply(&mut builder)
    });
}

/// A scrape appender with its own store.
struct Target {
    ingest: ScrapeAppender,
    native: HistogramPolicy,
    _dir: tempfile::TempDir,
}

impl Target {
    fn new(native: HistogramPolicy) -> Target {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: dir.path().into(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default()).unwrap();
        let ingest = ScrapeAppender::new(store, "t".into(), &Labels::default(), &["up"]);
        Target { ingest, native, _dir: dir }
    }

    fn scrape(&mut self, body: &[u8], format: BodyFormat, t: i64) -> ScrapeCounts {
        let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
        let limits = ScrapeLimits {
            body: usize::MAX,
            samples: usize::MAX,
            labels: usize::MAX,
            name_bytes: usize::MAX,
            value_bytes: usize::MAX,
        };
        let relabel = Relabeler::default();
        let admission = SeriesAdmission::new(&target, &relabel, limits);
        let rules =
            ScrapeRules { admission, honor_timestamps: true, track_timestamps: false, native: self.native };
        let mut counts = ScrapeCounts::default();
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
    let text = BodyFormat::Text(TextFormat::Text);
    let open_metrics = BodyFormat::Text(TextFormat::OpenMetrics);
    let n = 2_000;
    let new = |n: usize| (Target::new(HistogramPolicy::default()), lines(n, ""));
    assert_proportional_anew("new series", n, new, |(mut target, body)| {
        target.scrape(body.as_bytes(), text, 1_000);
    });
    let known = |n: usize| {
        let (mut target, body) = new(n);
        target.scrape(body.as_bytes(), text, 1_000);
        (target, body)
    };
    assert_proportional_anew("known series", 4 * n, known, |(mut target, body)| {
        target.scrape(body.as_bytes(), text, 2_000);
    });
    let open = |n: usize| (Target::new(HistogramPolicy::default()), lines(n, " # {id=\"x\"} 1") + "# EOF\n");
    assert_proportional_anew("OpenMetrics", n, open, |(mut target, body)| {
        target.scrape(body.as_bytes(), open_metrics, 1_000);
    });
    let timed = |n: usize| {
        let mut target = Target::new(HistogramPolicy::default());
        target.scrape(lines(n, " 500").as_bytes(), text, 1_000);
        (target, lines(n, ""))
    };
    assert_proportional_anew("series that have timestamps no more", n, timed, |(mut target, body)| {
        target.scrape(body.as_bytes(), text, 2_000);
    });
    let told = |n: usize| {
        let about = |i: usize| format!("# HELP m{i} {}\n# TYPE m{i} gauge\n# a comment\n", "h\\n".repeat(20));
        (Target::new(HistogramPolicy::default()), (0..n).map(about).collect::<String>())
    };
    assert_proportional_anew("metadata", 2_000, told, |(mut target, body)| {
        target.scrape(body.as_bytes(), text, 1_000);
    });
    let long =
        |n: usize| (Target::new(HistogramPolicy::default()), format!("# HELP m {}\nm 1\n", "h".repeat(n)));
    assert_proportional_anew("a long help", 500_000, long, |(mut target, body)| {
        target.scrape(body.as_bytes(), text, 1_000);
    });
    let summaries = |n: usize| {
        let line = |i: usize| format!("s{{quantile=\"{}\"}} 1\n", i as f64 / n as f64);
        let lines: String = (0..n).map(line).collect();
        (
            Target::new(HistogramPolicy::default()),
            format!("# TYPE s summary\n{lines}s_sum 1\ns_count 1\n# EOF\n"),
        )
    };
    assert_proportional_anew("quantiles", n, summaries, |(mut target, body)| {
        target.scrape(body.as_bytes(), open_metrics, 1_000);
    });
    let again = |n: usize| (Target::new(HistogramPolicy::default()), "a{b=\"c\"} 1\n".repeat(n));
    assert_proportional_anew("equal lines", 20 * n, again, |(mut target, body)| {
        let counts = target.scrape(body.as_bytes(), text, 1_000);
        assert_eq!(counts.duplicates, counts.scraped - 1);
    });
}

#[test]
fn classic_histograms_that_become_native_ones() {
    let convert = HistogramPolicy { convert: true, ..HistogramPolicy::default() };
    let falling = |n: usize| {
        let mut body = "# TYPE h histogram\n".to_owned();
        for i in (0..n).rev() {
            let _ = writeln!(body, "h_bucket{{le=\"{i}\"}} {i}");
        }
        (Target::new(convert), body)
    };
    assert_proportional_anew("buckets from the highest on", 2_000, falling, |(mut target, body)| {
        target.scrape(body.as_bytes(), BodyFormat::Text(TextFormat::Text), 1_000);
    });
}

#[test]
fn bodies_of_protobuf() {
    let gauges = |n: usize| {
        let gauge = |i: usize| [label("i", &i.to_string()), submessage(2, &double(1, i as f64))].concat();
        let metrics: Vec<Vec<u8>> = (0..n).map(gauge).collect();
        (Target::new(HistogramPolicy::default()), body(&[family("g", 1, &metrics)]))
    };
    assert_proportional_anew("metrics of a family", 2_000, gauges, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
    let wide = |n: usize| {
        let pairs: Vec<u8> = labels(n).iter().flat_map(|name| label(name, "v")).collect();
        let gauge = [pairs, submessage(2, &double(1, 1.0))].concat();
        (Target::new(HistogramPolicy::default()), body(&[family("g", 1, &[gauge])]))
    };
    assert_proportional_anew("labels of a metric", 1_500, wide, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
    let native = HistogramPolicy { scrape: true, ..HistogramPolicy::default() };
    let buckets = |n: usize| {
        let span = submessage(12, &number(2, n as u64));
        let deltas: Vec<u8> = (0..n).flat_map(|i| number(13, u64::from(i == 0) * 2)).collect();
        let histogram = submessage(7, &[number(1, n as u64), span, deltas].concat());
        (Target::new(native), body(&[family("h", 4, &[histogram])]))
    };
    assert_proportional_anew("buckets of a histogram", 4_000, buckets, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
    let classic = |n: usize| {
        let bucket = |i: usize| submessage(3, &[number(1, i as u64), double(2, i as f64)].concat());
        let histogram = submessage(7, &(0..n).flat_map(bucket).collect::<Vec<u8>>());
        (Target::new(HistogramPolicy::default()), body(&[family("h", 4, &[histogram])]))
    };
    assert_proportional_anew("classic buckets", 2_000, classic, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
    let summary = |n: usize| {
        let quantile = |i: usize| submessage(3, &[double(1, i as f64 / n as f64), double(2, 1.0)].concat());
        let summary = submessage(4, &(0..n).flat_map(quantile).collect::<Vec<u8>>());
        (Target::new(HistogramPolicy::default()), body(&[family("s", 2, &[summary])]))
    };
    assert_proportional_anew("quantiles of a summary", 2_000, summary, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
    let families = |n: usize| {
        let families: Vec<Vec<u8>> =
            (0..n).map(|i| family(&format!("g{i}"), 1, &[submessage(2, &double(1, 1.0))])).collect();
        (Target::new(HistogramPolicy::default()), body(&families))
    };
    assert_proportional_anew("families", 2_000, families, |(mut target, body)| {
        target.scrape(&body, BodyFormat::Protobuf, 1_000);
    });
}
