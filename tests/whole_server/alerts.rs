//! What the server recorded of its alerts (`ALERTS`): each goes from pending to firing and ends,
//! and none is late.

use super::peers::ScrapedSample;
use std::collections::{BTreeMap, BTreeSet};
use storage::model::value::is_stale;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::Store;

/// Recorded samples of a state that is further apart do not belong together, ms: two slots of the
/// group and some more.
const GAP: i64 = 12_000;
/// An alert that a server begins so long after its start began before it did, ms.
const RESTORED: i64 = 20_000;
/// An alert is recorded so long after its time at the latest, ms: a scrape, a slot, and what comes late.
const LATE: i64 = 30_000;
/// Targets are scraped that often, ms, and a little more.
const SCRAPED: i64 = 6_000;

/// What the server was to do, and since when.
pub struct Duty {
    /// The start of its life.
    pub started: TimeMs,
    /// How long a target must be hot, ms, in this life: least and most.
    pub hold: (i64, i64),
}

/// Times at which an alert was pending, and at which it was firing.
type States = [BTreeSet<TimeMs>; 2];

/// What was recorded of alerts, by their target.
pub fn recorded(store: &Store) -> BTreeMap<String, States> {
    let mut all: BTreeMap<String, States> = BTreeMap::new();
    let matchers = [Matcher::equal("__name__", "ALERTS"), Matcher::equal("alertname", "Hot")];
    for shard in 0..SHARDS {
        let selection = store.select(shard, &matchers, TimeMs::MIN, TimeMs::MAX).expect("an answer");
        for (at, labels) in selection.labels.iter().enumerate() {
            let mut times = Vec::new();
            let mut values = Vec::new();
            selection.read(at, TimeMs::MIN, TimeMs::MAX, &mut times, &mut values).expect("samples");
            let is_firing = labels.get("alertstate") == Some("firing");
            // A target that a reload puts into another job has another alert.
            let label = |name| labels.get(name).expect("a label of its target");
            let target = format!("{} of {}", label("instance"), label("job"));
            let present = times.iter().zip(&values).filter(|(_, v)| !is_stale(**v)).map(|(t, _)| *t);
            all.entry(target).or_default()[usize::from(is_firing)].extend(present);
        }
    }
    all
}

/// What is wrong with the alerts that began in this life.
pub fn check(all: &BTreeMap<String, States>, told: &[ScrapedSample], duty: &Duty) -> Result<(), String> {
    for (instance, [pending, firing]) in all {
        if let Some(t) = pending.intersection(firing).next() {
            return Err(format!("{instance} is pending and firing at {t}"));
        }
        for began in firing.iter().filter(|t| is_first(firing, **t)) {
            let mut since = *began;
            while let Some(before) = pending.range(since - GAP..since).next_back() {
                since = *before;
            }
            let known = since > duty.started + RESTORED;
            if known && began - since < duty.hold.0 - SCRAPED {
                return Err(format!("{instance} fires at {began} and is pending since {since} only"));
            }
        }
        for t in pending.iter().filter(|t| **t > duty.started + RESTORED) {
            if firing.range(t - SCRAPED..*t).next().is_some() {
                return Err(format!("{instance} is pending at {t} and was firing before"));
            }
        }
    }
    for (instance, since, until) in hot(told, duty.started) {
        let due = since + duty.hold.1 + LATE;
        let of_target = || all.iter().filter(|(target, _)| target.starts_with(instance));
        let fires = || of_target().any(|(_, states)| states[1].range(since..=due).next().is_some());
        if until >= due && !fires() {
            return Err(format!("{instance} is hot from {since} to {until} and does not fire"));
        }
    }
    Ok(())
}

fn is_first(times: &BTreeSet<TimeMs>, t: TimeMs) -> bool {
    times.range(t - GAP..t).next().is_none()
}

/// Targets that were hot without a break as far as a server knows that started then: from when to when.
fn hot(told: &[ScrapedSample], started: TimeMs) -> Vec<(&str, TimeMs, TimeMs)> {
    let mut all: Vec<(&str, TimeMs, TimeMs)> = Vec::new();
    let mut open: BTreeMap<&str, (TimeMs, TimeMs)> = BTreeMap::new();
    for one in told.iter().filter(|one| one.t > started) {
        let instance = one.instance.as_str();
        let before = open.remove(instance);
        let goes_on = before.filter(|(_, last)| one.t - last <= SCRAPED);
        if goes_on.is_none() {
            all.extend(before.map(|(since, until)| (instance, since, until)));
        }
        if one.is_hot && one.is_good {
            open.insert(instance, (goes_on.map_or(one.t, |(since, _)| since), one.t));
        } else {
            all.extend(goes_on.map(|(since, until)| (instance, since, until)));
        }
    }
    all.extend(open.into_iter().map(|(instance, (since, until))| (instance, since, until)));
    all
}
