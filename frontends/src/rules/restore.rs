//! The alerts of before a restart, for rules that have just been started.
//!
//! What was kept (see [`super::memory`]) is taken up exactly: `for` has gone on, nothing is told twice. Where nothing was ever
//! kept, as in a data directory filled from Prometheus, the `ALERTS_FOR_STATE` series tell what they can, and Prometheus'
//! rules for that hold: the outage does not count, a grace period follows, and an alert begins only when its row comes. Such
//! series may be those of other servers, that were written or federated to this one.

use super::alert::{Alert, Restored, State};
use super::alerting::Awaiting;
use super::core::RunningGroup;
use super::file::Rule;
use super::limits::RESTART_PATIENCE_MS;
use super::lineage::{RuleKey, lineage};
use super::manager::{Options, Ports};
use super::memory;
use super::running::Running;
use super::states::{ALERTS, ALERTS_FOR_STATE};
use std::collections::{BTreeMap, HashMap, HashSet};
use storage::keep::Entries;
use storage::model::value::is_stale;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::StoreError;

/// A rule's group and number.
type Place = (usize, usize);

/// See the module.
pub(super) struct Restart<'a> {
    pub ports: &'a Ports,
    pub options: &'a Options,
    pub now: TimeMs,
}

/// A series `ALERTS` or `ALERTS_FOR_STATE` that has not ended.
struct Living {
    series: Labels,
    /// The labels of its alert.
    alert: Labels,
    t: TimeMs,
    value: f64,
}

impl Living {
    fn is_firing(&self) -> bool {
        self.series.get("alertstate") == Some("firing")
    }

    fn has_start(&self) -> bool {
        self.series.get("alertstate").is_none()
    }
}

impl Restart<'_> {
    /// Gives the rules at `wanted` their alerts. `kept`: what was kept, if anything ever was; then they also go on with
    /// the series of theirs.
    pub fn run(&self, groups: &mut [RunningGroup], wanted: &[Place], kept: Option<&Entries>) {
        let mut living = self.living().unwrap_or_else(|error| {
            tracing::warn!(%error, "the ALERTS series of before the restart could not be read");
            Vec::new()
        });
        let active: HashSet<&Labels> = groups
            .iter()
            .flat_map(|g| &g.rules)
            .filter_map(|r| r.alerting.as_ref())
            .flat_map(|a| a.alerts.iter())
            .map(|(labels, _)| labels)
            .collect();
        living.retain(|series| !active.contains(&series.alert));
        match kept {
            Some(entries) => self.resume(groups, wanted, entries, &living),
            None => self.restore(groups, wanted, &living),
        }
        self.adopt(groups, wanted, &living);
    }

    /// The series of alerts that were alive within the outage tolerance.
    fn living(&self) -> Result<Vec<Living>, StoreError> {
        let from = self.now - self.options.outage_tolerance;
        let mut all = Vec::new();
        for name in [ALERTS, ALERTS_FOR_STATE] {
            let newest = self.ports.store.newest(&[Matcher::equal("__name__", name)], from, self.now)?;
            all.extend(newest.into_iter().filter(|(_, _, v)| !is_stale(*v)).map(|(series, t, value)| {
                Living { alert: series.filter(|n| n != "__name__" && n != "alertstate"), series, t, value }
            }));
        }
        Ok(all)
    }

    /// Exactly what was kept.
    fn resume(&self, groups: &mut [RunningGroup], wanted: &[Place], entries: &Entries, living: &[Living]) {
        let mut seen: HashMap<&Labels, TimeMs> = HashMap::new();
        for series in living {
            let t = seen.entry(&series.alert).or_insert(series.t);
            *t = series.t.max(*t);
        }
        let mut past = memory::read(entries);
        let keys: Vec<RuleKey> = wanted.iter().map(|(g, r)| groups[*g].rules[*r].key.clone()).collect();
        let ancestors = lineage(&past.iter().map(|p| &p.rule).collect::<Vec<_>>(), &keys);
        for (place, ancestor) in wanted.iter().zip(ancestors) {
            let Some((at, _)) = ancestor else { continue };
            let mut alerts = std::mem::take(&mut past[at].alerts);
            alerts.retain_mut(|(labels, alert)| {
                alert.seen_at = alert.seen_at.max(seen.get(labels).copied().unwrap_or(TimeMs::MIN));
                self.is_recent(alert)
            });
            let patience = self.patience(groups, *place);
            let running = rule_at(groups, *place);
            let Some(alerting) = running.alerting.as_mut().filter(|_| !alerts.is_empty()) else { continue };
            alerting.alerts.resume(alerts, self.now);
            alerting.awaiting = Some(Awaiting::until(patience));
        }
    }

    /// Whether the server was not away for too long to know what became of it.
    fn is_recent(&self, alert: &Alert) -> bool {
        alert.state == State::Inactive || self.now - alert.seen_at <= self.options.outage_tolerance
    }

    /// When alerts whose rows have not come are over.
    fn patience(&self, groups: &[RunningGroup], (g, _): Place) -> TimeMs {
        self.now + (2 * groups[g].group.interval).max(RESTART_PATIENCE_MS)
    }

    /// What the series tell.
    fn restore(&self, groups: &mut [RunningGroup], wanted: &[Place], living: &[Living]) {
        let owners = Owners::new(groups, wanted, living);
        let firing: HashMap<&Labels, TimeMs> =
            living.iter().filter(|s| s.is_firing()).map(|s| (&s.alert, s.t)).collect();
        let mut restored: HashMap<Place, Vec<Restored>> = HashMap::new();
        for series in living.iter().filter(|s| s.has_start() && s.value.is_finite()) {
            for place in owners.of(&series.alert) {
                restored.entry(*place).or_default().push(Restored {
                    alert: series.alert.clone(),
                    active_at: (series.value * 1000.0).round() as TimeMs,
                    seen_at: series.t,
                    firing: firing.get(&series.alert).is_some_and(|at| *at >= series.t),
                });
            }
        }
        for place in wanted {
            let Some(alerts) = restored.remove(place) else { continue };
            let patience = self.patience(groups, *place);
            let Some(alerting) = &mut rule_at(groups, *place).alerting else { continue };
            alerting.alerts.restore(alerts, self.now, self.options.for_grace_period);
            alerting.awaiting = Some(Awaiting::until(patience));
        }
    }

    /// Series of alerts that were taken up go on, or end with a stale marker if their alert has another state.
    fn adopt(&self, groups: &mut [RunningGroup], wanted: &[Place], living: &[Living]) {
        let mut holder: HashMap<&Labels, Place> = HashMap::new();
        for place in wanted {
            let Some(alerting) = &groups[place.0].rules[place.1].alerting else { continue };
            let mine = living.iter().filter(|s| alerting.alerts.has(&s.alert));
            holder.extend(mine.map(|s| (&s.alert, *place)));
        }
        let mut adopted: BTreeMap<Place, Vec<Labels>> = BTreeMap::new();
        for series in living {
            if let Some(place) = holder.get(&series.alert) {
                adopted.entry(*place).or_default().push(series.series.clone());
            }
        }
        for (place, series) in adopted {
            if let Some(alerting) = &mut rule_at(groups, place).alerting {
                alerting.writer.adopt(&*self.ports.store, series);
            }
        }
    }
}

fn rule_at(groups: &mut [RunningGroup], (g, r): Place) -> &mut Running {
    &mut groups[g].rules[r]
}

/// Which rules an alert may belong to, as far as its labels tell.
struct Owners(HashMap<Labels, Vec<Place>>);

impl Owners {
    fn new(groups: &[RunningGroup], wanted: &[Place], living: &[Living]) -> Owners {
        let mut by_name: HashMap<&str, Vec<(Place, &Rule)>> = HashMap::new();
        for (g, r) in wanted {
            let rule = &groups[*g].rules[*r].rule;
            by_name.entry(&rule.name).or_default().push(((*g, *r), rule));
        }
        let mut owners = HashMap::new();
        for series in living {
            let named = series.alert.get("alertname").and_then(|name| by_name.get(name));
            let places = named.into_iter().flatten().filter(|(_, rule)| owns(rule, &series.alert));
            owners.insert(series.alert.clone(), places.map(|(place, _)| *place).collect());
        }
        Owners(owners)
    }

    fn of(&self, alert: &Labels) -> &[Place] {
        self.0.get(alert).map_or(&[], Vec::as_slice)
    }
}

/// Whether an alert may be one of this rule.
fn owns(rule: &Rule, alert: &Labels) -> bool {
    let fixed = rule.labels.iter().filter(|(_, v)| !v.contains("{{"));
    fixed.into_iter().all(|(name, value)| alert.get(name).unwrap_or("") == value)
}
