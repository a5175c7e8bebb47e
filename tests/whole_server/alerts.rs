//! Checks the recorded alerts (`ALERTS`) of a simulated server: each is first pending, then firing,
//! then ends, and none is late. [`super::life`] calls it after each life of a server.

use super::peers::ScrapedSample;
use std::collections::{BTreeMap, BTreeSet};
use storage::model::value::is_stale;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::Store;

/// The largest gap between recorded samples of one state, ms: two slots of the group and a margin.
const GAP: i64 = 12_000;
/// An alert that begins less than this after the start of the server may have begun before the
/// start, ms.
const RESTORED: i64 = 20_000;
/// The latest time at which an alert is recorded, after the time at which it should be, ms: a
/// scrape, a slot, and late samples.
const LATE: i64 = 30_000;
/// The scrape interval with a margin, ms.
const SCRAPED: i64 = 6_000;

/// The rules that a server had to evaluate, and since when.
pub struct ExpectedRules {
    /// The start of the life.
    pub started: TimeMs,
    /// How long a target must be hot in this life, ms: least and most.
    pub hold: (i64, i64),
}

/// The times at which an alert was pending, and at which it was firing.
type States = [BTreeSet<TimeMs>; 2];

/// The recorded alerts, by target.
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
            // If a reload moves a target to another job, it has another alert.
            let label = |name| labels.get(name).expect("a label of its target");
            let target = format!("{} of {}", label("instance"), label("job"));
            let present = times.iter().zip(&values).filter(|(_, v)| !is_stale(**v)).map(|(t, _)| *t);
            all.entry(target).or_default()[usize::from(is_firing)].extend(present);
        }
    }
    all
}

/// Checks the alerts that began in this life; the error says what is wrong.
pub fn check(
    all: &BTreeMap<String, States>,
    told: &[ScrapedSample],
    duty: &ExpectedRules,
) -> Result<(), String> {
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

/// The periods in which targets were continuously hot, as far as a server that started at `started`
/// can know.
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
