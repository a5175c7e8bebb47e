//! Restores the alerts from before a restart, for rules that have just been started.
//!
//! Saved states (see [`super::alert_persistence`]) are restored exactly: `for` has continued,
//! nothing is sent twice. If nothing was ever saved, as in a data directory imported from
//! Prometheus, the `ALERTS_FOR_STATE` series are used with the semantics of Prometheus: the outage
//! does not count, a grace period follows, and an alert begins only when its row comes. Such series
//! may belong to other servers, if they were written or federated to this one.

use super::active_rule::ActiveRule;
use super::active_rules::ActiveGroup;
use super::alert::{Alert, AlertFromSeries, AlertState};
use super::alert_persistence::{self, SavedRuleAlerts};
use super::alerting_rule::AwaitedRows;
use super::file::Rule;
use super::limits::RESTART_PATIENCE_MS;
use super::manager::{RuleManagerOptions, RuleServices};
use super::rule_matching::{RuleKey, match_rules};
use super::state_change::ChangeReason;
use std::collections::{BTreeMap, HashMap, HashSet};
use storage::durable_map::MapEntries;
use storage::model::value::is_stale;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::StoreError;
use views::alert_series::{ALERTS, ALERTS_FOR_STATE};

/// Where a running rule is: the index of its group, and its index in the group.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RulePosition {
    pub group: usize,
    pub rule: usize,
}

/// Restores alerts.
pub(super) struct AlertRestore<'a> {
    pub ports: &'a RuleServices,
    pub options: &'a RuleManagerOptions,
    pub now: TimeMs,
}

/// An `ALERTS` or `ALERTS_FOR_STATE` series that has not ended.
struct OpenAlertSeries {
    /// The labels of the series.
    series: Labels,
    /// The labels of its alert.
    alert: Labels,
    /// Time of the newest sample, ms.
    t: TimeMs,
    /// Value of that sample.
    value: f64,
}

impl OpenAlertSeries {
    fn is_firing(&self) -> bool {
        self.series.get("alertstate") == Some("firing")
    }

    fn has_start(&self) -> bool {
        self.series.get("alertstate").is_none()
    }
}

impl AlertRestore<'_> {
    /// Restores the alerts of the rules at `positions`. `saved`: the saved states, if there are
    /// any; then rules also continue the series of their alerts.
    pub(crate) fn run(
        &self,
        groups: &mut [ActiveGroup],
        positions: &[RulePosition],
        saved: Option<&MapEntries>,
    ) {
        let mut living = self.living().unwrap_or_else(|error| {
            tracing::warn!(target: "rules", %error, "the ALERTS series of before the restart cannot be read; they end, and alerts without a saved state begin again");
            Vec::new()
        });
        let active: HashSet<&Labels> = groups
            .iter()
            .flat_map(|g| &g.rules)
            .filter_map(|r| r.alerting.as_ref())
            .flat_map(|a| a.alerts.iter())
            .map(|(labels, _)| labels)
            .collect();
        // Alerts that run already write their own series; a rule that is new in a reload must not
        // take them.
        living.retain(|series| !active.contains(&series.alert));
        match saved {
            Some(entries) => self.resume(groups, positions, entries, &living),
            None => self.restore(groups, positions, &living),
        }
        self.adopt(groups, positions, &living);
    }

    /// The series of alerts that were active within the outage tolerance.
    fn living(&self) -> Result<Vec<OpenAlertSeries>, StoreError> {
        let from = self.now - self.options.outage_tolerance;
        let mut all = Vec::new();
        for name in [ALERTS, ALERTS_FOR_STATE] {
            let newest = self.ports.store.newest(&[Matcher::equal("__name__", name)], from, self.now)?;
            // A stale marker as the newest sample: the alert ended before the restart.
            all.extend(newest.into_iter().filter(|(_, _, v)| !is_stale(*v)).map(|(series, t, value)| {
                OpenAlertSeries {
                    alert: series.filter(|n| n != "__name__" && n != "alertstate"),
                    series,
                    t,
                    value,
                }
            }));
        }
        Ok(all)
    }

    /// Restores the saved states exactly.
    fn resume(
        &self,
        groups: &mut [ActiveGroup],
        positions: &[RulePosition],
        entries: &MapEntries,
        living: &[OpenAlertSeries],
    ) {
        let mut seen: HashMap<&Labels, TimeMs> = HashMap::new();
        for series in living {
            let t = seen.entry(&series.alert).or_insert(series.t);
            *t = series.t.max(*t);
        }
        let mut past = alert_persistence::read(entries);
        let keys: Vec<RuleKey> =
            positions.iter().map(|at| groups[at.group].rules[at.rule].key.clone()).collect();
        let ancestors = match_rules(&past.iter().map(|p| &p.rule).collect::<Vec<_>>(), &keys);
        for (position, ancestor) in positions.iter().zip(ancestors) {
            let Some((at, _)) = ancestor else { continue };
            let mut alerts = std::mem::take(&mut past[at].alerts);
            for (labels, alert) in &mut alerts {
                // The series are written at every evaluation, the saved state only when it changes.
                alert.last_seen_at = alert.last_seen_at.max(seen.get(labels).copied().unwrap_or(TimeMs::MIN));
            }
            let (alerts, old): (Vec<_>, Vec<_>) =
                alerts.into_iter().partition(|(_, alert)| self.is_recent(alert));
            let patience = self.patience(groups, *position);
            let running = rule_at(groups, *position);
            let Some(alerting) = running.alerting.as_mut() else { continue };
            for (labels, alert) in &old {
                alerting.alerts.changes.report_end(labels, alert, self.now, ChangeReason::Restart);
            }
            if alerts.is_empty() {
                continue;
            }
            alerting.alerts.restore_exactly(alerts, self.now);
            alerting.awaiting = Some(AwaitedRows::until(patience));
        }
    }

    /// Whether the outage was short enough for the state to be still valid.
    fn is_recent(&self, alert: &Alert) -> bool {
        // Ended alerts are restored whatever their age: their end may still have to be sent.
        alert.state == AlertState::Inactive || self.now - alert.last_seen_at <= self.options.outage_tolerance
    }

    /// When alerts without rows end.
    fn patience(&self, groups: &[ActiveGroup], at: RulePosition) -> TimeMs {
        // Twice the interval, because a target may be scraped as seldom as the group is evaluated.
        self.now + (2 * groups[at.group].group.interval).max(RESTART_PATIENCE_MS)
    }

    /// Restores alerts from their series.
    fn restore(&self, groups: &mut [ActiveGroup], positions: &[RulePosition], living: &[OpenAlertSeries]) {
        let owners = AlertOwners::new(groups, positions, living);
        let firing: HashMap<&Labels, TimeMs> =
            living.iter().filter(|s| s.is_firing()).map(|s| (&s.alert, s.t)).collect();
        let mut restored: HashMap<RulePosition, Vec<AlertFromSeries>> = HashMap::new();
        for series in living.iter().filter(|s| s.has_start() && s.value.is_finite()) {
            for position in owners.rules(&series.alert) {
                restored.entry(*position).or_default().push(AlertFromSeries {
                    alert: series.alert.clone(),
                    // The value of `ALERTS_FOR_STATE` is the time, in whole seconds.
                    active_at: (series.value * 1000.0).round() as TimeMs,
                    seen_at: series.t,
                    // An older firing series is of an earlier life of the alert.
                    firing: firing.get(&series.alert).is_some_and(|at| *at >= series.t),
                });
            }
        }
        for position in positions {
            let Some(alerts) = restored.remove(position) else { continue };
            let patience = self.patience(groups, *position);
            let Some(alerting) = &mut rule_at(groups, *position).alerting else { continue };
            alerting.alerts.restore_from_series(alerts, self.now, self.options.for_grace_period);
            alerting.awaiting = Some(AwaitedRows::until(patience));
        }
    }

    /// Series of restored alerts continue, or end with a stale marker if their alert has another
    /// state.
    fn adopt(&self, groups: &mut [ActiveGroup], positions: &[RulePosition], living: &[OpenAlertSeries]) {
        let mut holder: HashMap<&Labels, RulePosition> = HashMap::new();
        for position in positions {
            let Some(alerting) = &groups[position.group].rules[position.rule].alerting else { continue };
            let mine = living.iter().filter(|s| alerting.alerts.has(&s.alert));
            holder.extend(mine.map(|s| (&s.alert, *position)));
        }
        let mut adopted: BTreeMap<RulePosition, Vec<Labels>> = BTreeMap::new();
        for series in living {
            if let Some(position) = holder.get(&series.alert) {
                adopted.entry(*position).or_default().push(series.series.clone());
            }
        }
        for (position, series) in adopted {
            if let Some(alerting) = &mut rule_at(groups, position).alerting {
                alerting.writer.adopt(&*self.ports.store, series);
            }
        }
    }
}

fn rule_at(groups: &mut [ActiveGroup], at: RulePosition) -> &mut ActiveRule {
    &mut groups[at.group].rules[at.rule]
}

/// Which rules an alert may belong to, according to its labels.
struct AlertOwners(HashMap<Labels, Vec<RulePosition>>);

impl AlertOwners {
    fn new(groups: &[ActiveGroup], positions: &[RulePosition], living: &[OpenAlertSeries]) -> AlertOwners {
        let mut by_name: HashMap<&str, Vec<(RulePosition, &Rule)>> = HashMap::new();
        for position in positions {
            let rule = &groups[position.group].rules[position.rule].rule;
            by_name.entry(&rule.name).or_default().push((*position, rule));
        }
        let mut owners = HashMap::new();
        for series in living {
            let named = series.alert.get("alertname").and_then(|name| by_name.get(name));
            let owners_of_series = named.into_iter().flatten().filter(|(_, rule)| owns(rule, &series.alert));
            owners.insert(series.alert.clone(), owners_of_series.map(|(position, _)| *position).collect());
        }
        AlertOwners(owners)
    }

    fn rules(&self, alert: &Labels) -> &[RulePosition] {
        self.0.get(alert).map_or(&[], Vec::as_slice)
    }
}

/// The saved alerts of rules that were removed while the server was down.
pub(super) fn orphans(entries: &MapEntries, groups: &[ActiveGroup]) -> Vec<SavedRuleAlerts> {
    let mut past = alert_persistence::read(entries);
    let keys: Vec<RuleKey> = groups.iter().flat_map(|g| &g.rules).map(|rule| rule.key.clone()).collect();
    let ancestors = match_rules(&past.iter().map(|p| &p.rule).collect::<Vec<_>>(), &keys);
    let continued: HashSet<usize> = ancestors.into_iter().flatten().map(|(at, _)| at).collect();
    let mut at = 0;
    past.retain(|_| {
        at += 1;
        !continued.contains(&(at - 1))
    });
    past
}

/// Whether an alert may be one of this rule.
pub(super) fn owns(rule: &Rule, alert: &Labels) -> bool {
    // What a template makes of a label is not known before its row comes.
    let fixed = rule.labels.iter().filter(|(_, v)| !v.contains("{{"));
    fixed.into_iter().all(|(name, value)| alert.get(name).unwrap_or("") == value)
}
