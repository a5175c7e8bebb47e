//! Tests that a removed dataflow returns its memory to the operating system.
//!
//! It measures the resident memory of the process, so it is the only test of its program.

#[path = "support/listed.rs"]
mod listed;
mod support;

use engine::query::{Querier, QueryOptions, StandingAnswer};
use listed::{ListedSeries, engine_over, resident, stand};
use sql::DataflowStats;
use sql::standing::StatementAnswers;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};

// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const T: TimeMs = 1_700_000_000_000;
const SERIES: usize = 10_000;
const ROUNDS: usize = 3;
/// Groups, first rows, a join with its sides, distinct rows.
const STATEMENTS: [&str; 3] = [
    "SELECT metric, name, count(DISTINCT value) AS n, min(value) AS first FROM label_pairs GROUP BY metric, name ORDER BY n DESC LIMIT 20",
    "SELECT p.metric, count(*) AS n FROM label_pairs p JOIN series s ON p.series = s.series GROUP BY p.metric",
    "SELECT s.metric, count(*) AS n FROM series s WHERE NOT EXISTS (SELECT 1 FROM label_pairs p WHERE p.series = s.series AND p.name = 'gone') GROUP BY s.metric",
];

fn series(i: usize) -> Labels {
    let names = ["a", "b", "c", "d", "e", "f"];
    let pair = |(n, name): (usize, &&str)| ((*name).to_owned(), format!("value-{}", i * (n + 1) % 997));
    let pairs = names.iter().enumerate().map(pair);
    let own =
        [("__name__".to_owned(), format!("metric_{}_total", i % 200)), ("id".to_owned(), i.to_string())];
    Labels::from_pairs(pairs.chain(own))
}

/// Waits until resident memory is at most `most` MB, or for so long. The allocator returns what is
/// free a moment later, and when it is called.
fn settled(most: f64, patience: Duration) -> f64 {
    let end = Instant::now() + patience;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        drop(std::hint::black_box(vec![0_u8; 1 << 20]));
        let now = resident();
        if now <= most || Instant::now() >= end {
            return now;
        }
    }
}

#[test]
fn removed_dataflows_give_their_memory_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let querier = Arc::new(Querier::new(support::open_store(dir.path()), 1));
    let listed = Arc::new(ListedSeries::new((0..SERIES).map(series)));
    let answers = StatementAnswers::new(engine_over(querier.clone(), listed), querier);
    let before = settled(0.0, Duration::from_secs(1));
    for round in 0..ROUNDS {
        let views: Vec<Box<dyn StandingAnswer>> = STATEMENTS
            .iter()
            .map(|text| {
                let mut view = stand(&answers, text).expect(text);
                view.at(T, &QueryOptions::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
                view
            })
            .collect();
        let during = resident();
        let held = during - before;
        let counted = answers.dataflow_stats(Duration::from_secs(60)).expect("an answer").bytes as f64 / 1e6;
        assert!(
            held > 20.0,
            "round {round}: {held:.0} MB are too few to see anything, {counted:.0} MB counted"
        );
        drop(views);
        let left = answers.dataflow_stats(Duration::from_secs(60));
        assert_eq!(left, Some(DataflowStats::default()), "round {round}");
        let most = before + held / 4.0;
        let after = settled(most, Duration::from_secs(10));
        eprintln!(
            "round {round}: {before:.0} MB before, {during:.0} with dataflows ({counted:.0} counted), {after:.0} after"
        );
        assert!(
            after <= most,
            "round {round}: {after:.0} MB are left, {before:.0} were there before, {during:.0} with dataflows"
        );
    }
}
