//! Checks that rules with corrections or backfill have recorded the results of their expressions,
//! however late the samples were.

use super::life::scratch;
use super::process::Process;
use std::collections::BTreeMap;
use storage::model::value::is_stale;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::Store;

/// A recording rule of the configuration.
pub struct Rule {
    pub name: &'static str,
    pub expr: &'static str,
    /// Whether the time before the start of the server is computed, too.
    pub is_backfilled: bool,
}

/// Rules whose recorded samples are corrected.
pub const RULES: [Rule; 4] = [
    Rule { name: "w:sum", expr: "sum(w)", is_backfilled: false },
    Rule { name: "i:w:count", expr: "count_over_time(w[1m])", is_backfilled: false },
    Rule { name: "w:sum:max1m", expr: "max_over_time(sum(w)[1m:5s])", is_backfilled: false },
    Rule { name: "temperature:max", expr: "max(temperature)", is_backfilled: true },
];
/// A rule over the states of alerts, after the alert in its group: the number of states in its
/// slot.
pub const OF_ALERTS: Rule =
    Rule { name: "alerts:count", expr: "count(timestamp(ALERTS) == time())", is_backfilled: false };
/// The interval of the group, ms.
pub const INTERVAL: i64 = 5_000;
/// The latest time after the start at which a rule is installed, ms: its first slot follows.
const STANDS: i64 = 1_000;
/// How long after their slot the states of alerts are written, ms, because timers wait for samples.
const STATES: i64 = 100;
/// The most pieces of the past that may have to be computed.
const PIECES: usize = 20;

/// The group of these rules in a rule file.
pub fn group() -> String {
    let rule = |rule: &Rule| {
        let backfill = if rule.is_backfilled { "    backfill: 10m\n" } else { "" };
        format!("  - record: '{}'\n    expr: {}\n{backfill}", rule.name, rule.expr)
    };
    let rules: String = RULES.iter().map(rule).collect();
    format!("- name: late\n  late_samples: correct\n  lateness: 10m\n  rules:\n{rules}")
}

/// Fails if a recorded sample of the slots after `began` until `now` is not the result of its
/// expression. For a rule with backfill the slots after `ended`, the end of the previous server,
/// are checked, too.
pub fn check(process: &Process, ended: TimeMs, began: TimeMs, now: TimeMs) {
    for _ in 0..PIECES {
        process.server.views.recording.turn();
    }
    // In this order: the states are queried, then written, then the rule queries the store.
    process.server.views.composite.turn();
    process.server.rules.manager.turn();
    process.server.views.composite.turn();
    for rule in RULES.iter().chain([&OF_ALERTS]) {
        if rule.is_backfilled && !process.server.views.recording.is_complete() {
            continue;
        }
        let after = if rule.is_backfilled { ended } else { began + STANDS };
        let first = (after.div_euclid(INTERVAL) + 1) * INTERVAL;
        let last = if rule.name == OF_ALERTS.name { now - STATES } else { now };
        let recorded = samples(&process.server.storage.store, rule.name, first, last);
        for t in (first..=last).step_by(INTERVAL as usize) {
            let live = recorded.get(&t).cloned().unwrap_or_default();
            let scratch = scratch(process, rule.expr, t);
            assert!(
                super::life::same(&live, &scratch),
                "{} at {t}, now {now}, began {began}, ended {ended}: recorded {live:?}, from scratch {scratch:?}",
                rule.name,
            );
        }
    }
}

/// The samples of a recorded metric by time and by labels without the name.
fn samples(store: &Store, name: &str, from: TimeMs, to: TimeMs) -> BTreeMap<TimeMs, BTreeMap<String, f64>> {
    let mut all: BTreeMap<TimeMs, BTreeMap<String, f64>> = BTreeMap::new();
    for shard in 0..SHARDS {
        let matchers = [Matcher::equal("__name__", name)];
        let selection = store.select(shard, &matchers, from, to).expect("an answer");
        for (at, labels) in selection.labels.iter().enumerate() {
            let mut times = Vec::new();
            let mut values = Vec::new();
            selection.read(at, from, to, &mut times, &mut values).expect("samples");
            let key = super::life::key(labels.iter().filter(|(name, _)| *name != "__name__"));
            for (t, v) in times.iter().zip(&values).filter(|(_, v)| !is_stale(**v)) {
                all.entry(*t).or_default().insert(key.clone(), *v);
            }
        }
    }
    all
}
