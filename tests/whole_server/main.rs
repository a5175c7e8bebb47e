//! Simulates the whole server on one thread: scrapes, remote write, rules, alerts, queries,
//! subscriptions, reloads, blocks, crashes and restarts, with events in a seeded order, a clock
//! that jumps, a disk that loses unsynced data, and peers that are slow or fail. There are no
//! threads, so the same seed repeats the same run, request by request and disk change by disk
//! change.
//!
//! 50 seeds by default; `SEEDS=2000 cargo test --workspace --test whole_server` is the nightly
//! variant, `SEED=17` runs one seed, and `TRACE=file` writes a trace. Begin with `world.rs` (what
//! survives a process) and `life.rs` (a process).
#![allow(clippy::disallowed_methods, reason = "directories are made and read beside the server")]

mod alerts;
mod clock;
mod directory;
#[allow(dead_code, reason = "shared with the tests of the store")]
#[path = "../../storage/tests/support/hooked.rs"]
mod hooked;
#[allow(dead_code, reason = "shared with the tests of the store")]
#[path = "../../storage/tests/support/journal.rs"]
mod journal;
mod ledger;
mod life;
mod peers;
mod process;
#[allow(dead_code, reason = "shared with the tests of the store")]
#[path = "../../storage/tests/support/random.rs"]
mod random;
mod recorded;
mod subscriber;
mod trace;
mod world;
mod write;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// The number of threads that run seeds; each has its own worlds.
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().expect("a number"))
}

/// Runs a seed; returns a hash of the trace, and the kinds of events that occurred.
fn run(purpose: &str, seed: u64) -> (u64, BTreeSet<&'static str>) {
    let mut world = World::new(purpose, seed);
    while world.goes_on() {
        life::live(&mut world);
    }
    world.end()
}

/// Runs the seeds of one thread; returns those that failed.
fn run_some(seeds: impl Iterator<Item = u64>, seen: &mut BTreeSet<&'static str>) -> Vec<u64> {
    let mut failed = Vec::new();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run("lives", seed))) {
            Ok((_, of_seed)) => seen.extend(of_seed),
            Err(_) => {
                eprintln!("SEED={seed} failed");
                failed.push(seed);
            }
        }
    }
    failed
}

#[test]
fn random_lives_of_a_server_keep_its_promises() {
    let (first, end) = match number("SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("SEEDS").unwrap_or(50)),
    };
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut seen = BTreeSet::new();
                let mine = (first..end).filter(|seed| seed % THREADS == thread);
                let failed = run_some(mine, &mut seen);
                (failed, seen)
            })
        })
        .collect();
    let mut failed = Vec::new();
    let mut seen = BTreeSet::new();
    for thread in threads {
        let (of_thread, kinds) = thread.join().expect("a thread");
        failed.extend(of_thread);
        seen.extend(kinds);
    }
    let all = end - first;
    assert!(failed.is_empty(), "{} of {all} seeds failed: SEED={}", failed.len(), failed[0]);
    let missing: Vec<_> = world::KINDS.iter().filter(|kind| !seen.contains(*kind)).collect();
    assert!(all < 50 || missing.is_empty(), "these never happened: {missing:?}");
}

#[test]
fn a_seed_does_the_same_every_time() {
    let traces = || (0..4).map(|seed| run("same", seed).0).collect::<Vec<u64>>();
    let first = traces();
    assert_eq!(first, traces());
    assert!(first.iter().all(|trace| first.iter().filter(|other| *other == trace).count() == 1));
}
