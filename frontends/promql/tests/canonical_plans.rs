//! Queries that mean the same have equal plans, and as views they share every step.

use engine::live::{LiveOptions, LiveRuntime, ViewId, ViewKind, ViewSpec};
use engine::plan::Plan;
use engine::plan::as_promql::as_promql;
use engine::plan::canonical::canonical;
use promql::{PromqlOptions, compile};
use std::sync::Arc;
use std::time::Duration;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::store::{Store, StoreOptions};

/// Two texts each that mean the same.
const SAME: &[[&str; 2]] = &[
    [r#"up{job="self",instance=~".+"}"#, r#"up{instance=~".+",job="self"}"#],
    [r#"up{job="a",env="b",zone="c"}"#, r#"up{zone="c",job="a",env="b"}"#],
    [r#"{__name__="up",job="a"}"#, r#"up{job="a"}"#],
    [r#"{job="a",__name__="up"}"#, r#"up{job="a"}"#],
    [r#"up{job="a",job="a"}"#, r#"up{job="a"}"#],
    [r#"up{job=~"a"}"#, r#"up{job="a"}"#],
    [r#"up{job!~"a-b c"}"#, r#"up{job!="a-b c"}"#],
    [r#"up{job=~".*"}"#, "up"],
    [r#"{__name__=~"up",job=~".*"}"#, "up"],
    [r#"rate(c{b="2",a="1"}[5m])"#, r#"rate(c{a="1",b="2"}[5m])"#],
    [r#"rate(c{b=~".*",a=~"1"}[5m] offset 1m)"#, r#"rate(c{a="1"}[5m] offset 1m)"#],
    ["sum by (b, a) (up)", "sum by (a, b) (up)"],
    ["sum without (b, a, b) (up)", "sum without (a, b) (up)"],
    ["a / on (y, x) b", "a / on (x, y) b"],
    ["a / ignoring (y, x, y) b", "a / ignoring (x, y) b"],
    ["a / on (x) group_left (z, y) b", "a / on (x) group_left (y, z) b"],
    [r#"a and on (y, x) b{p="1",o="2"}"#, r#"a and on (x, y) b{o="2",p="1"}"#],
    [r#"topk by (b, a) (3, x{p=~"q",o="2"})"#, r#"topk by (a, b) (3, x{o="2",p="q"})"#],
    [
        r#"max_over_time(sum by (b, a) (x{p="1",o="2"})[1h:5m])"#,
        r#"max_over_time(sum by (a, b) (x{o="2",p="1"})[1h:5m])"#,
    ],
    [r#"absent(up{job="a",env="b"})"#, r#"absent(up{env="b",job="a"})"#],
    [
        r#"histogram_quantile(0.9, sum by (le, job) (rate(h{b="",a!=""}[5m])))"#,
        r#"histogram_quantile(0.9, sum by (job, le) (rate(h{a!="",b=""}[5m])))"#,
    ],
    [r#"(up{job=~"a"} > 1) or (down{x=~".*"})"#, r#"up{job="a"} > 1 or down"#],
];

/// Two texts each that look alike and mean something else.
const DIFFERENT: &[[&str; 2]] = &[
    [r#"up{job=~"a.c"}"#, r#"up{job="a.c"}"#],
    [r#"up{job=~".+"}"#, "up"],
    [r#"up{job!~".*"}"#, "up"],
    // The answer of `absent` has the labels that are compared with `=`, each once.
    [r#"absent(up{job=~"a"})"#, r#"absent(up{job="a"})"#],
    [r#"absent(up{job="a",job="a"})"#, r#"absent(up{job="a"})"#],
    [r#"absent_over_time(up{job=~"a"}[5m])"#, r#"absent_over_time(up{job="a"}[5m])"#],
    // `info` adds the labels that its matchers name.
    [r#"info(up, {version=~".*"})"#, "info(up, {})"],
    ["a / on (x) group_left (y) b", "a / on (x) group_right (y) b"],
];

fn plan(text: &str) -> Plan {
    compile(text, &PromqlOptions::all()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn the_same_meaning_is_the_same_plan() {
    for [a, b] in SAME {
        assert_eq!(plan(a), plan(b), "{a} and {b}");
        assert_eq!(as_promql(&plan(a)), as_promql(&plan(b)));
        assert_eq!(canonical(&plan(a)), plan(a), "{a}: canonical twice");
        assert_eq!(plan(&as_promql(&plan(a))), plan(a), "{a}");
    }
    for [a, b] in DIFFERENT {
        assert_ne!(plan(a), plan(b), "{a} and {b}");
    }
}

/// Positions are those of the text: not of the text that the plan prints as.
#[test]
fn spans_stay() {
    let text = r#"sum by (b, a) (rate(x{b=~".*",a=~"1"}[5m]))"#;
    let plan = plan(text);
    assert_eq!(plan.span.end as usize, text.len());
    let rate = plan.inputs()[0];
    let window = rate.inputs()[0];
    let at = |part: &Plan| &text[part.span.start as usize..part.span.end as usize];
    assert_eq!(at(rate), r#"rate(x{b=~".*",a=~"1"}[5m])"#);
    assert_eq!(at(window), r#"x{b=~".*",a=~"1"}[5m]"#);
}

#[test]
fn the_same_meaning_shares_every_step() {
    for [a, b] in SAME {
        let dir = tempfile::tempdir().expect("a directory");
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 1_000,
            block_range_ms: 7_200_000,
            out_of_order_ms: 60_000,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store");
        let options = LiveOptions { workers: 1, ..LiveOptions::default() };
        let live = LiveRuntime::manual(store, &options, &Metrics::default()).expect("a runtime");
        for text in [a, b] {
            let kind = ViewKind::Continuous { query_offset: 0 };
            live.install(ViewSpec { name: (*text).to_owned(), plan: plan(text), kind }).expect("installed");
        }
        let described = std::thread::scope(|scope| {
            let asked = scope.spawn(|| live.describe(ViewId(0), 2, Duration::from_secs(60)));
            while !asked.is_finished() {
                live.tick(1_700_000_000_000);
            }
            asked.join().expect("no panic").expect("described")
        });
        assert_eq!(described.views.len(), 2);
        for view in described.views {
            let steps = view.work.expect("a view of the live runtime");
            assert_eq!(steps.local.shared, steps.local.total, "{a} and {b}");
            assert_eq!(steps.gather.shared, steps.gather.total, "{a} and {b}");
            assert!(steps.local.total + steps.gather.total > 0);
        }
    }
}
