//! Measures the cost of scraping known series: CPU time per sample, from body to store.
//!
//! `cargo run --release -p perennial-connectors --example scrape_cost [series] [scrapes]`. A third
//! of the values changes, as on real targets; HTTP is not measured.
#![allow(clippy::print_stdout)]

use connectors::exposition::{BodyFormat, ExpositionEntry, ExpositionParser, TextFormat};
use connectors::relabel::Relabeler;
use connectors::scrape::appender::{HistogramPolicy, ScrapeAppender, ScrapeCounts, ScrapeRules};
use connectors::scrape::config::ScrapeLimits;
use connectors::scrape::series_admission::SeriesAdmission;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;
use storage::metrics::Metrics;
use storage::model::Labels;
use storage::store::{Store, StoreOptions};

fn body(series: usize, scrape: usize) -> String {
    let mut body = String::new();
    for i in 0..series {
        if i % 20 == 0 {
            let _ = write!(
                body,
                "# HELP metric_{} Some help text that says what it is.\n# TYPE metric_{} gauge\n",
                i / 20,
                i / 20
            );
        }
        let value = if i % 3 == 0 { i * 1000 + scrape } else { i };
        let _ = writeln!(
            body,
            "metric_{}{{device=\"disk{}\",mode=\"mode-{}\",path=\"/api/v1/thing\"}} {value}",
            i / 20,
            i % 20,
            i % 4
        );
    }
    body
}

fn per_sample(what: &str, samples: usize, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    println!("{what:<32} {:>8.1} ns/sample", start.elapsed().as_nanos() as f64 / samples as f64);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let series = args.next().transpose()?.unwrap_or(1000);
    let scrapes = args.next().transpose()?.unwrap_or(500);
    let dir = tempfile::tempdir()?;
    let options = StoreOptions {
        dir: dir.path().into(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default())?;
    let target = Labels::from_pairs([("job", "j"), ("instance", "i:1")]);
    let limits = ScrapeLimits {
        body: usize::MAX,
        samples: usize::MAX,
        labels: 64,
        name_bytes: 256,
        value_bytes: 4096,
    };
    let relabel = Relabeler::default();
    let admission = SeriesAdmission::new(&target, &relabel, limits);
    let native = HistogramPolicy::default();
    let rules = ScrapeRules { admission, honor_timestamps: true, track_timestamps: false, native };
    let mut ingest = ScrapeAppender::new(store.clone(), "bench".into(), &target, &["up"]);
    let bodies: Vec<String> = (0..10).map(|scrape| body(series, scrape)).collect();
    let mut scrape = |n: usize| -> Result<(), Box<dyn std::error::Error>> {
        let body = &bodies[n % 10];
        let t = n as i64 * 15_000;
        let mut counts = ScrapeCounts::default();
        ingest.read(body.as_bytes(), BodyFormat::Text(TextFormat::Text), t, &rules, &mut counts)?;
        ingest.metadata(true);
        ingest.commit(t, &[1.0], &mut counts)?;
        Ok(())
    };
    per_sample("first scrape", series, || scrape(0).unwrap_or_else(|e| println!("{e}")));
    per_sample("parse only, no guess", series * scrapes, || {
        for n in 0..scrapes {
            let mut parser = ExpositionParser::new(bodies[n % 10].as_bytes(), TextFormat::Text);
            let mut sum = 0.0;
            while let Ok(Some(entry)) = parser.next(&[]) {
                if let ExpositionEntry::Sample(sample) = entry {
                    sum += sample.value;
                }
            }
            std::hint::black_box(sum);
        }
    });
    per_sample("known series, body to store", series * scrapes, || {
        for n in 1..=scrapes {
            scrape(n).unwrap_or_else(|e| println!("{e}"));
        }
    });
    Ok(())
}
