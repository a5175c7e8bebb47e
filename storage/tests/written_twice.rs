//! Tests a block that is written a second time because a kill came before its log segments were
//! removed: at every step, the samples of the first one are present once.
#![allow(clippy::disallowed_methods, reason = "files are looked at and damaged beside the store")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use storage::block::{BlockSeries, BlockSet, write_block};
use storage::disk::{Disk, OsDisk};
use storage::store::StoreError;

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::hooked::HookedDisk;
use support::{Mortal, copy, labels, names};

fn write(disk: &dyn Disk, dir: &Path) -> Result<String, StoreError> {
    let one = |i: usize| BlockSeries {
        labels: labels(i),
        ts: (0..100).map(|t| t * 100).collect(),
        vs: (0..100).map(|t| (t * i) as f64).collect(),
        ..BlockSeries::default()
    };
    let mut series: Vec<BlockSeries> = (0..3).map(one).collect();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let meta = write_block(disk, &dir.join("blocks"), 0, 10_000, series.into_iter().map(Ok))?;
    Ok(meta.name().to_string())
}

/// The number of series that can be read completely, and the number of complaints of a start.
fn readable(dir: &Path) -> (usize, usize) {
    let path = dir.join("blocks");
    let (blocks, damage) = BlockSet::open(Arc::new(OsDisk), &path).unwrap();
    let mut found = 0;
    for i in 0..3 {
        let listed = blocks.all();
        let read = listed.iter().filter(|block| {
            let all = block.open().unwrap().select(&[], i64::MIN, i64::MAX).unwrap();
            all.iter().filter(|series| *series.labels() == labels(i)).any(|series| {
                let mut ts = Vec::new();
                let mut vs = Vec::new();
                series.read(0, 10_000, &mut ts, &mut vs).is_ok() && ts.len() == 100
            })
        });
        found += usize::from(read.count() > 0);
    }
    (found, damage.len())
}

/// Writes the block again over `origin`, killed after each possible number of steps; returns the
/// number of steps.
fn at_every_step(origin: &Path, check: &dyn Fn(&Path, &str)) -> i64 {
    let mut steps = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        copy(origin, dir.path());
        let mortal = Arc::new(Mortal(i64::MAX.into()));
        mortal.0.store(steps, SeqCst);
        let done = write(&HookedDisk(mortal), dir.path()).is_ok();
        check(dir.path(), &format!("killed after {steps} steps"));
        write(&OsDisk, dir.path()).unwrap();
        BlockSet::remove_unfinished(&OsDisk, &dir.path().join("blocks")).unwrap();
        let (blocks, _) = BlockSet::open(Arc::new(OsDisk), &dir.path().join("blocks")).unwrap();
        blocks.remove_replaced(&OsDisk).unwrap();
        assert_eq!((readable(dir.path()), names(dir.path()).len()), ((3, 0), 1), "after {steps} steps");
        if done {
            return steps;
        }
        steps += 1;
    }
}

#[test]
fn what_is_whole_stays() {
    let origin = tempfile::tempdir().unwrap();
    let name = write(&OsDisk, origin.path()).unwrap();
    let steps = at_every_step(origin.path(), &|dir, when| {
        assert_eq!(readable(dir), (3, 0), "{when}");
        assert!(names(dir).contains(&name), "{when}");
    });
    assert!(steps >= 6, "{steps} steps");
}

#[test]
fn what_is_damaged_goes_when_the_new_one_is_there() {
    for file in ["samples.parquet", "series.parquet", "meta.json"] {
        let origin = tempfile::tempdir().unwrap();
        let name = write(&OsDisk, origin.path()).unwrap();
        let path = origin.path().join("blocks").join(&name).join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let before = readable(origin.path()).0;
        let steps = at_every_step(origin.path(), &|dir, when| {
            assert!(readable(dir).0 >= before, "{file} {when}");
        });
        assert!(steps >= 3, "{steps} steps");
    }
}
