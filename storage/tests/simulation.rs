//! Simulates the store on one thread with a seeded clock, disk and sequence of events: appends,
//! queries, flushes, compactions, corrections, deletions, snapshots, retention, failures, crashes,
//! and work during a log replay. Every result is compared with a model; the same seed repeats the
//! same run, disk change by disk change.
//!
//! 50 seeds by default; `SEEDS=2000 cargo test --workspace --test simulation` is the nightly
//! variant, and `SEED=17` runs one. The events are in `support/world.rs`.
#![allow(clippy::disallowed_methods, reason = "directories are made and read beside the store")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use support::journal::UnsyncedChanges;
use support::world::World;

const STEPS: usize = 400;
/// The number of kinds of events, see `World::seen`.
const KINDS: usize = 15;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().expect("a number"))
}

/// Makes some calls of the file system fail.
fn trouble(world: &mut World) {
    let some = world.random.below(6) as usize;
    match world.random.below(3) {
        0 => world.journal.die_in(some),
        _ => world.journal.fail(1 + some),
    }
}

fn crash(world: &mut World) {
    let unsynced = match world.random.below(4) {
        0 | 1 => UnsyncedChanges::Kept,
        2 => UnsyncedChanges::Lost,
        _ => UnsyncedChanges::Some,
    };
    // Now, or during an operation.
    if world.random.chance(50) {
        world.journal.die_in(world.random.clone().below(12) as usize);
        match world.random.below(5) {
            _ if world.is_replaying() => world.write_log(true),
            0 => world.maintain(),
            1 => world.compact(),
            2 => world.delete(),
            3 => world.snapshot(),
            _ => world.write_log(true),
        }
    }
    world.crash(unsynced);
}

/// A step during the log replay: samples are appended, and nothing is read.
fn step_of_replay(world: &mut World) {
    match world.random.below(100) {
        0..30 => world.scrape(),
        30..45 => world.rows(),
        45..55 => world.together(),
        55..62 => world.histogram(),
        62..75 => world.write_log(false),
        75..80 => world.write_log(true),
        80..88 => crash(world),
        _ => world.replay(),
    }
}

fn step(world: &mut World) {
    if world.is_replaying() {
        return step_of_replay(world);
    }
    match world.random.below(100) {
        0..22 => world.scrape(),
        22..36 => world.rows(),
        36..44 => world.together(),
        44..50 => world.histogram(),
        50..56 => world.correct(),
        56..66 => world.write_log(false),
        66..74 => world.write_log(true),
        74..81 => world.query(),
        81..87 => world.maintain(),
        87..89 => world.compact(),
        89..91 => world.delete(),
        91 => world.clean_tombstones(),
        92 => world.snapshot(),
        93 => world.retain(),
        94..96 => trouble(world),
        96 => world.reopen(),
        _ => crash(world),
    }
}

/// Runs a seed; returns a hash of the run, and the kinds of events that occurred.
fn run(seed: u64) -> (u64, BTreeSet<&'static str>) {
    let mut world = World::new(seed, seed % 2 * 100);
    for _ in 0..STEPS {
        world.wait();
        step(&mut world);
    }
    world.replay();
    world.check();
    let seen = world.seen.clone();
    (world.trace(), seen)
}

#[test]
fn random_lives_of_a_store_are_as_the_books_say() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(50),
    };
    let all = seeds.end - seeds.start;
    let mut failed = Vec::new();
    let mut seen = BTreeSet::new();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok((_, of_seed)) => seen.extend(of_seed),
            Err(_) => {
                eprintln!("SEED={seed} failed");
                failed.push(seed);
            }
        }
        if seed % 100 == 99 {
            eprintln!("{} of {all} seeds, {} failed", seed + 1, failed.len());
        }
    }
    assert!(failed.is_empty(), "{} of {all} seeds failed: SEED={}", failed.len(), failed[0]);
    assert!(all < 50 || seen.len() == KINDS, "some things never happened: {seen:?}");
}

#[test]
fn a_seed_does_the_same_every_time() {
    let first: Vec<u64> = (0..4).map(|seed| run(seed).0).collect();
    assert_eq!(first, (0..4).map(|seed| run(seed).0).collect::<Vec<_>>());
    assert!(first.iter().all(|trace| first.iter().filter(|other| *other == trace).count() == 1));
}
