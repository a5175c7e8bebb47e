//! Measures the cost of evaluating a rule with a subquery: from scratch, and with the subquery
//! cache.
//!
//! `cargo run --release -p perennial-promql --example subquery_cost [targets] [late ms] [expr]`:
//! each target has 20 counters and 20 gauges, scraped every 15 s for two hours. Then the
//! expressions are evaluated every 15 s, a moment after the scrapes. With `late`, a sample of
//! another metric arrives that late before each evaluation. Times are CPU times of all threads
//! except the write-ahead log's (Linux), without appending.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use engine::query::{Querier, QueryOptions, SubqueryCache};
use promql::{PromqlOptions, compile};
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, Store, StoreOptions};

type Failure = Box<dyn std::error::Error>;

const START: TimeMs = 1_700_006_400_000;
const SERIES: usize = 40;
const SCRAPE: i64 = 15_000;
const PAST: i64 = 480;
const EVALUATIONS: i64 = 40;

const EXPRESSIONS: [&str; 5] = [
    "max_over_time(sum by (job) (rate(c_total[5m]))[1h:1m])",
    "max_over_time(sum by (job) (rate(c_total[5m]))[1h:15s])",
    "max_over_time(rate(c_total[5m])[1h:1m])",
    "max_over_time(g[1h:15s])",
    "quantile_over_time(0.9, (g > 300)[1h:1m])",
];

/// The CPU time of all threads except the write-ahead log's so far, ms.
fn cpu_ms() -> f64 {
    let of_task = |task: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let ns = read("schedstat").split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0);
        if read("comm").starts_with("wal") { 0.0 } else { ns }
    };
    std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(of_task).sum::<f64>() / 1e6
}

struct Targets {
    store: Arc<Store>,
    /// By target and shard: group and layout, and the indexes of the series.
    parts: Vec<(usize, ColumnBatch, Vec<usize>)>,
}

impl Targets {
    fn new(store: &Arc<Store>, targets: usize) -> Targets {
        let mut parts = Vec::new();
        for target in 0..targets {
            let instance = format!("h{target}:90");
            let job = format!("job{}", target % 8);
            let mut shards = std::collections::BTreeMap::<u16, (Vec<u32>, Vec<usize>)>::new();
            for i in 0..SERIES {
                let name = ["c_total", "g"][i % 2];
                let series = format!("s{}", i / 2);
                let pairs = [("__name__", name), ("instance", &instance), ("job", &job), ("series", &series)];
                let labels = Labels::from_pairs(pairs);
                let part = shards.entry(shard_of(&labels)).or_default();
                part.0.push(store.get_or_create_series(&labels).slot);
                part.1.push(i);
            }
            for (shard, (slots, which)) in shards {
                let group = store.open_group(&instance, shard);
                let columns =
                    ColumnBatch { group, layout: Arc::new(ColumnLayout { slots }), t: 0, values: [].into() };
                parts.push((target, columns, which));
            }
        }
        Targets { store: store.clone(), parts }
    }

    fn scrape(&self, n: i64) -> Result<(), Failure> {
        for (target, columns, which) in &self.parts {
            let noise = |i: usize| (i as i64 * 7919 + n * 104_729 + *target as i64 * 31) % 997;
            let value = |i: &usize| {
                if i.is_multiple_of(2) { (n * 1_000 + noise(*i)) as f64 } else { noise(*i) as f64 }
            };
            // Targets are scraped one after the other.
            let t = START + n * SCRAPE - (*target as i64 * 7919) % SCRAPE;
            let values = which.iter().map(value).collect();
            self.store.append_columns(&ColumnBatch { t, values, ..columns.clone() }, FeedDelivery::Nobody)?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let targets: usize = args.next().map_or(Ok(250), |n| n.parse())?;
    let late: i64 = args.next().map_or(Ok(0), |n| n.parse())?;
    let own: Vec<String> = args.collect();
    let expressions: Vec<&str> =
        if own.is_empty() { EXPRESSIONS.into() } else { own.iter().map(|e| &**e).collect() };
    let dir = tempfile::tempdir()?;
    let options = StoreOptions {
        dir: dir.path().to_owned(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default())?;
    let all = Targets::new(&store, targets);
    (0..PAST).try_for_each(|n| all.scrape(n))?;
    let querier = Querier::new(store.clone(), 2);
    let options = QueryOptions::default();
    let tardy = store.get_or_create_series(&Labels::from_pairs([("__name__", "tardy")]));
    println!("{targets} targets, {} counters and as many gauges", targets * SERIES / 2);
    println!("ms from scratch | ms kept | steps evaluated | rows | bytes | expression");
    let mut n = PAST;
    for text in expressions {
        let plan = compile(text, &PromqlOptions::default())?;
        let mut kept = SubqueryCache::default();
        let mut spent = [0.0; 2];
        let mut first = 0;
        for round in 0..=EVALUATIONS {
            all.scrape(n)?;
            let t = START + n * SCRAPE;
            if late > 0 {
                store.append_rows(&[FloatRow { series: tardy, t: t - late, v: n as f64 }])?;
            }
            n += 1;
            let begun = cpu_ms();
            let scratch = querier.instant(&plan, t + 100, &options)?;
            let between = cpu_ms();
            let with = querier.instant_cached(&plan, t + 100, &options, &mut kept)?;
            let ended = cpu_ms();
            assert_eq!(scratch.value, with.value, "{text}");
            if round == 0 {
                first = kept.report().evaluated;
            } else {
                spent = [spent[0] + between - begun, spent[1] + ended - between];
            }
        }
        let report = kept.report();
        let [scratch, with] = spent.map(|ms| ms / EVALUATIONS as f64);
        let evaluated = (report.evaluated - first) as f64 / EVALUATIONS as f64;
        println!(
            "{scratch:.2} | {with:.2} | {evaluated:.1} of {first} | {} | {} | {text}",
            report.rows, report.bytes
        );
    }
    Ok(())
}
