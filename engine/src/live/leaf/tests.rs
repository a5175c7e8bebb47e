//! Tests of the memory of the live runtime: how many bytes leaves (selectors and windows) and rings
//! (the samples they read) take.

use super::*;
use crate::functions::lookup;
use crate::plan::physical::SampleSource;
use crate::plan::{Dialect, FunctionRef};
use storage::model::{Labels, Matcher};
use storage::store::GroupId;

const SERIES: usize = 600;
const SCRAPE_MS: i64 = 15_000;
/// What the local executor adds to the length of windows.
const SLACK_MS: i64 = 30_000;

fn ring(range: i64) -> SampleRing {
    let mut ring = SampleRing::new(vec![Matcher::equal("__name__", "c_total")], range + SLACK_MS);
    let labels = |i: usize| {
        let i = i.to_string();
        Labels::from_pairs([("__name__", "c_total"), ("instance", "h:90"), ("series", &i)])
    };
    let labels: Vec<Labels> = (0..SERIES).map(labels).collect();
    let series = labels.iter().enumerate().map(|(i, labels)| (i as u32, i as u32, labels));
    let route = ring.route(GroupId(1), series).unwrap();
    for scrape in 0..2 * range / SCRAPE_MS {
        let values: Vec<f64> = (0..SERIES).map(|i| (scrape * i as i64) as f64).collect();
        ring.push(&route, scrape * SCRAPE_MS, &values, scrape * SCRAPE_MS);
    }
    ring.strip_names();
    ring
}

/// Bytes of one window: the state of the leaf, and its rows.
fn window(ring: &SampleRing, function: &str, range: i64) -> usize {
    let source = SampleSource {
        matchers: ring.matchers().to_vec(),
        offset: 0,
        at: None,
        extension: None,
        counts_only: false,
    };
    let leaf = Leaf::Window(FunctionRef(lookup(function).unwrap()), range);
    let mut state = LiveLeaf::new(LeafConfig::new(source, leaf, 300_000, Dialect::default()), 0);
    let mut out = StepOutput::default();
    let newest = ring.blocks[0].clock().last().copied().unwrap();
    assert_eq!(state.eval(ring, newest, vec![0.9], &mut out), SERIES);
    assert_eq!(out.present().count(), SERIES);
    state.bytes()
        + state.sorted_bytes().share
        + out.values.capacity() * size_of::<f64>()
        + out.labels.capacity() * size_of::<Labels>()
}

#[test]
fn five_minutes_at_fifteen_seconds_take_300_bytes_a_series_and_further_windows_64() {
    let ring = ring(300_000);
    let first = (ring.bytes() + window(&ring, "rate", 300_000)) / SERIES;
    assert!(first <= 300, "{first}");
    for (function, range) in [("rate", 60_000), ("increase", 120_000), ("max_over_time", 300_000)] {
        let further = window(&ring, function, range) / SERIES;
        assert!(further <= 64, "{function}: {further}");
    }
}

#[test]
fn an_hour_costs_its_samples_and_little_more() {
    let ring = ring(3_600_000);
    let samples = (3_600_000 + SLACK_MS) as usize / SCRAPE_MS as usize * size_of::<f64>();
    assert!(ring.bytes() / SERIES <= samples * 11 / 10 + 120, "{}", ring.bytes() / SERIES);
    // A partial result for each 32 samples, of two numbers for sums.
    let extremes = window(&ring, "max_over_time", 3_600_000) / SERIES;
    assert!(extremes <= 64 + 64, "{extremes}");
    let sums = window(&ring, "sum_over_time", 3_600_000) / SERIES;
    assert!(sums <= 64 + 128, "{sums}");
    // The values a second time, sorted.
    let median = window(&ring, "quantile_over_time", 3_600_000) / SERIES;
    assert!(median <= 64 + 24 + 240 * size_of::<f64>(), "{median}");
}
