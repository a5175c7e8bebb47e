//! Tests that blocks are open: DuckDB, pyarrow and pandas read the blocks of a data directory
//! exactly to the bit.

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::Labels;
use storage::model::value::STALE;
use storage::store::{FloatRow, Store, StoreOptions};

const RANGE_MS: i64 = 10_000;

/// Series that cover every encoding of a block: integers, decimals, all kinds of raw doubles, gaps,
/// ends.
fn series() -> Vec<(Labels, Vec<(i64, f64)>)> {
    let odd =
        [-0.0, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(0x7ff8_0000_dead_beef), 0.1 + 0.2, 5e-324];
    let every = |step: i64, value: &dyn Fn(i64) -> f64| -> Vec<(i64, f64)> {
        (0..6 * RANGE_MS / step).map(|i| (i * step, value(i))).collect()
    };
    let all = [
        ("whole", every(500, &|i| (i * 1_000_003) as f64)),
        ("decimal", every(500, &|i| i as f64 / 1000.0)),
        ("raw", every(500, &|i| odd[i as usize % odd.len()])),
        ("gaps", every(500, &|i| i as f64 + 0.5).into_iter().filter(|(t, _)| t % 3 != 0).collect()),
        ("ends", every(500, &|i| if i % 7 == 6 { STALE } else { i as f64 / 100.0 })),
        ("other clock, \"quoted\" → ü", every(700, &|i| i as f64)),
    ];
    let labels = |name: &str| Labels::from_pairs([("__name__", "opened"), ("job", "j"), ("kind", name)]);
    all.into_iter().map(|(name, samples)| (labels(name), samples)).collect()
}

/// Writes all series and flushes complete ranges as blocks; returns what the blocks must contain.
fn write(dir: &std::path::Path) -> BTreeSet<String> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: RANGE_MS,
        out_of_order_ms: 0,
    };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store");
    let mut expected = BTreeSet::new();
    let mut rows = Vec::new();
    for (labels, samples) in series() {
        let series = store.get_or_create_series(&labels);
        rows.extend(samples.iter().map(|&(t, v)| FloatRow { series, t, v }));
        let pairs: Vec<String> =
            labels.iter().filter(|(k, _)| *k != "__name__").map(|(k, v)| format!("{k}={v}")).collect();
        for (t, v) in samples.iter().filter(|(t, _)| *t < 5 * RANGE_MS) {
            let bits =
                if v.to_bits() == STALE.to_bits() { "stale".into() } else { format!("{:016x}", v.to_bits()) };
            expected.insert(format!("opened{{{}}} {t} {bits}", pairs.join(",")));
        }
    }
    // All in one append: afterwards the head refuses samples outside its bounds.
    assert_eq!(store.append_rows(&rows).expect("appended").stored, rows.len());
    assert!(store.maintenance().run_housekeeping(6 * RANGE_MS).expect("blocks") >= 5);
    store.close().expect("closed");
    expected
}

#[test]
fn other_programs_read_every_bit() {
    let dir = tempfile::tempdir().expect("a directory");
    let expected = write(dir.path());
    let script = support::data("open_blocks.py");
    for reader in ["duckdb", "pyarrow", "pandas"] {
        let answer = Command::new(support::daemon::python())
            .args(["-c", &script, reader])
            .arg(dir.path())
            .output()
            .expect("python runs");
        assert!(answer.status.success(), "{reader}: {}", String::from_utf8_lossy(&answer.stderr));
        let text = String::from_utf8(answer.stdout).expect("UTF-8");
        let (found, lines): (BTreeSet<String>, usize) =
            (text.lines().map(str::to_owned).collect(), text.lines().count());
        assert_eq!(lines, found.len(), "{reader} reads a sample twice");
        let missing: Vec<&String> = expected.difference(&found).take(5).collect();
        let phantom: Vec<&String> = found.difference(&expected).take(5).collect();
        assert!(
            missing.is_empty() && phantom.is_empty(),
            "{reader}: missing {missing:?}, phantom {phantom:?}"
        );
    }
}
