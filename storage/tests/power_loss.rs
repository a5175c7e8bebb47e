//! Tests a power loss after every one of 1,000 disk operations: everything guaranteed is present,
//! nothing is invented, no block is damaged, and the store continues.
//!
//! `support/journal.rs` defines which unsynced changes may survive; they are chosen randomly for
//! every power loss. By default there is one script for each sync mode; `SEEDS=20 OPERATIONS=5000`
//! runs more and longer ones. Also tests a power loss after a start that found unsynced records of
//! a killed process, which the start guarantees.
#![allow(clippy::disallowed_methods, reason = "directories are made and read beside the store")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use std::path::Path;
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::Matcher;
use storage::store::{Store, StoreBuilder};
use support::books::Crash;
use support::hooked::HookedDisk;
use support::journal::{DiskContent, Journal, UnsyncedChanges};
use support::random::Random;
use support::world::{SEGMENT, World, everything, options};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |n| n.parse().expect("a number"))
}

fn step(world: &mut World) {
    world.wait();
    match world.random.below(100) {
        0..25 => world.scrape(),
        25..38 => world.rows(),
        38..45 => world.together(),
        45..52 => world.histogram(),
        52..60 => world.correct(),
        60..80 => world.write_log(false),
        80..92 => world.write_log(true),
        92..96 => world.maintain(),
        96..98 => world.compact(),
        98 => world.query(),
        // A new segment continues after this one.
        _ => world.journal.fail(1),
    }
}

/// The store that a new process opens.
fn open(dir: &Path, sync: u64) -> (Arc<Store>, f64, Vec<String>) {
    let disk = Arc::new(HookedDisk(Arc::new(Journal::new(dir))));
    let metrics = Metrics::default();
    let (store, replay) =
        StoreBuilder::new(options(dir.into(), sync), disk, &metrics).manual_log(SEGMENT).open().unwrap();
    (store, metrics.gauge("prometheus_tsdb_blocks_damaged", "", &[]).get(), replay.damage)
}

fn check_cut(world: &World, held: &DiskContent, cut: usize, sync: u64) {
    let dir = world.new_directory();
    let what = if cut.is_multiple_of(8) { UnsyncedChanges::Lost } else { UnsyncedChanges::Some };
    held.write_to(dir.path(), what, &mut Random::new(cut as u64));
    let (store, damaged, damage) = open(dir.path(), sync);
    let found = everything(&store);
    let outcome = world.books.check_after(&found, cut, Crash::PowerLoss);
    outcome.unwrap_or_else(|e| panic!("power lost after {cut} changes: {e}\n{damage:#?}"));
    assert_eq!(damaged, 0.0, "power lost after {cut} changes: a damaged block");
    if cut.is_multiple_of(16) {
        store.maintenance().run_housekeeping(i64::MAX).unwrap();
        store.close().unwrap();
        let (again, ..) = open(dir.path(), sync);
        assert!(everything(&again) == found, "after {cut} changes and another start");
    }
}

fn play(seed: u64) {
    let operations = number("OPERATIONS", 1_000) as usize;
    let sync = seed % 2 * 100;
    let mut world = World::new(seed, sync);
    while world.journal.len() < operations {
        step(&mut world);
    }
    let mut held = world.held.clone();
    let changes = world.journal.changes();
    for (cut, change) in changes.iter().enumerate() {
        check_cut(&world, &held, cut, sync);
        held.apply(change);
    }
    check_cut(&world, &held, changes.len(), sync);
    eprintln!("seed {seed}: power lost after each of {} operations", changes.len());
}

#[test]
fn power_may_go_at_any_time_where_each_answer_is_synced() {
    for seed in 0..number("SEEDS", 1) {
        play(2 * seed);
    }
}

#[test]
fn power_may_go_at_any_time_between_syncs() {
    for seed in 0..number("SEEDS", 1) {
        play(2 * seed + 1);
    }
}

#[test]
fn what_a_start_has_found_survives_power_loss() {
    let of_all = |world: &mut World| world.delete_of(&[Matcher::equal("instance", "r")], 0, i64::MAX);
    let deeds: [fn(&mut World); 5] =
        [of_all, World::maintain, World::compact, World::clean_tombstones, |world| world.write_log(true)];
    for kill in 0..8 * 4 * deeds.len() {
        let seed = kill as u64 % 4;
        let changes = kill / 4 % 8;
        let deed = deeds[kill / 32];
        let mut world = World::new(seed, 100);
        for _ in 0..60 {
            step(&mut world);
        }
        world.maintain();
        world.journal.die_in(changes);
        deed(&mut world);
        for unsynced in [UnsyncedChanges::Kept, UnsyncedChanges::Lost] {
            world.crash(unsynced);
            world.replay();
        }
    }
}
