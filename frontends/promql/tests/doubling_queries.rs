//! Twice the labels or series that a query reads cost at most 2.6 times as much CPU. This is the
//! only test of its binary: queries run on their own threads, so the CPU time of the whole process
//! is measured.

use engine::query::{Querier, QueryOptions, QueryValue};
use promql::{PromqlOptions, compile};
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::{FloatRow, Store};
use testing::assert_proportional_in_process;

const NOW: TimeMs = 1_700_000_000_000;

/// A store and a query over it.
struct Case {
    querier: Querier,
    query: String,
    _dir: tempfile::TempDir,
}

impl Case {
    /// The metric `m` has `series` series, `one` has one series with `labels` labels, and `few` has
    /// three series.
    fn new(series: usize, labels: usize, query: String) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::store::StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 0,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        let append = |labels: Labels, v: f64| {
            let series = store.get_or_create_series(&labels);
            let rows: Vec<FloatRow> =
                [20_000, 10_000, 0].map(|ago| FloatRow { series, t: NOW - ago, v }).into();
            store.append_rows(&rows).unwrap();
        };
        for n in 0..series {
            let (n, g, le) = (n.to_string(), (n % 3).to_string(), (n / 3).to_string());
            let pairs = [("__name__", "m"), ("g", &g), ("le", &le), ("n", &n)];
            append(Labels::from_pairs(pairs), (le.len() * 7) as f64);
        }
        for g in 0..3 {
            append(Labels::from_pairs([("__name__", "few".to_owned()), ("g", g.to_string())]), 2.0);
        }
        let wide = (0..labels).map(|n| (label(n), "v".to_owned()));
        append(Labels::from_pairs(wide.chain([("__name__".to_owned(), "one".to_owned())])), 1.0);
        Case { querier: Querier::new(store, 2), query, _dir: dir }
    }

    /// The number of rows of the answer.
    fn ask(&self) -> usize {
        let plan = compile(&self.query, &PromqlOptions::all()).unwrap();
        match self.querier.instant(&plan, NOW, &QueryOptions::default()).unwrap().value {
            QueryValue::Vector(rows) => rows.len(),
            QueryValue::Matrix(rows) => rows.len(),
            QueryValue::Scalar(..) | QueryValue::Text(..) => 1,
        }
    }
}

fn label(n: usize) -> String {
    format!("label_{n:05}")
}

/// Queries over many series.
const SERIES: &[&str] = &[
    "m",
    "m{n!=\"7\"}",
    "{__name__=~\"m|few\"}",
    "{n=~\".+7.*\"}",
    "m[1m]",
    "rate(m[1m])",
    "max_over_time(m[1m:5s])",
    "sum by (g) (m)",
    "sum without (n) (m)",
    "count by (n) (m)",
    "topk(10, m)",
    "quantile by (g) (0.9, m)",
    "count_values(\"v\", m)",
    "sort_desc(m)",
    "sort_by_label(m, \"le\", \"n\")",
    "m + on (n) m",
    "m * on (g) group_left () few",
    "m or m",
    "m and on (n) m",
    "m unless m{n=\"7\"}",
    "label_replace(m, \"x\", \"$1\", \"n\", \"(.).*\")",
    "label_join(m, \"x\", \"-\", \"n\", \"g\")",
    "histogram_quantile(0.9, sum by (g, le) (m))",
    "absent(m)",
    "-m < 3",
];

#[test]
fn twice_as_many_series_or_labels() {
    for query in SERIES {
        let case = |series: usize| Case::new(series, 1, (*query).to_owned());
        assert!(*query == "absent(m)" || case(100).ask() > 0, "{query} answers nothing");
        assert_proportional_in_process(query, 2_000, case, Case::ask);
    }
    let grouped = |labels: usize| {
        let names: Vec<String> = (0..labels).map(label).collect();
        Case::new(20, labels, format!("m * on () group_left ({}) one", names.join(",")))
    };
    assert_eq!(grouped(10).ask(), 20);
    assert_proportional_in_process("labels of group_left", 10_000, grouped, Case::ask);
}
