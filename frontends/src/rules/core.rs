//! The rules manager without its thread: owns every running rule, takes events and time, hands out what is due.
//!
//! [`Core::apply`] changes the set of rules, all or nothing; [`Core::step`] does the work of one moment. The
//! thread around it is in [`super::manager`]; tests drive it by hand.

use super::alert::Restored;
use super::file::{Group, Rule};
use super::inbox::{Arrived, Inbox, RuleId, RuleSink};
use super::limits::MAX_SLEEP_MS;
use super::manager::{Options, Ports};
use super::running::{Alerting, Running, Slots, Tally, Tools, timing};
use super::snapshot::GroupSnapshot;
use super::template::Expander;
use engine::live::{ViewId, ViewKind, ViewSpec};
use std::collections::HashMap;
use std::sync::Arc;
use storage::metrics::{Counter, Gauge, Metrics};
use storage::model::value::is_stale;
use storage::model::{Labels, Matcher, TimeMs};

/// All running rules.
pub struct Core {
    ports: Ports,
    options: Options,
    expander: Expander,
    inbox: Arc<Inbox>,
    groups: Vec<RunningGroup>,
    /// Where each rule is: group, rule.
    places: HashMap<RuleId, (usize, usize)>,
    next_id: u64,
}

struct RunningGroup {
    group: Group,
    rules: Vec<Running>,
    counters: Counters,
}

struct Counters {
    evaluations: Arc<Counter>,
    failures: Arc<Counter>,
    missed: Arc<Counter>,
    rules: Arc<Gauge>,
    interval: Arc<Gauge>,
    last: Arc<Gauge>,
}

impl Counters {
    fn new(metrics: &Metrics, group: &Group) -> Counters {
        let key = format!("{};{}", group.file, group.name);
        let labels = [("rule_group", key.as_str())];
        let counter = |name, help| metrics.counter(name, help, &labels);
        let gauge = |name, help| metrics.gauge(name, help, &labels);
        Counters {
            evaluations: counter("prometheus_rule_evaluations_total", "Evaluations of rules."),
            failures: counter(
                "prometheus_rule_evaluation_failures_total",
                "Evaluations of rules that failed.",
            ),
            missed: counter(
                "prometheus_rule_group_iterations_missed_total",
                "Interval slots or snapshots of a rule group that were missed.",
            ),
            rules: gauge("prometheus_rule_group_rules", "Rules in the group."),
            interval: gauge("prometheus_rule_group_interval_seconds", "Distance of the group's slots."),
            last: gauge(
                "prometheus_rule_group_last_evaluation_timestamp_seconds",
                "When a rule of the group was last evaluated.",
            ),
        }
    }

    fn add(&self, tally: Tally) {
        self.evaluations.add(tally.evaluations);
        self.failures.add(tally.failures);
        self.missed.add(tally.missed);
    }
}

/// A rule of the new set and where it comes from.
enum Origin {
    /// It runs already: group, rule.
    Old(usize, usize),
    /// Its view has just been installed.
    New(ViewId),
}

impl Core {
    /// No rules yet.
    pub fn new(ports: Ports, options: Options, inbox: Arc<Inbox>) -> Core {
        let expander = Expander::new(&options.external_labels, &options.external_url, ports.query.clone());
        Core { ports, options, expander, inbox, groups: Vec::new(), places: HashMap::new(), next_id: 1 }
    }

    /// Replaces the set of rules, all or nothing: on an error everything runs on as before. Rules whose
    /// definition is the same keep view and state; an alert whose `for` or annotations alone changed does too.
    pub fn apply(&mut self, groups: Vec<Group>, external_labels: &Labels, now: TimeMs) -> Result<(), String> {
        let expander = Expander::new(external_labels, &self.options.external_url, self.ports.query.clone());
        let mut parts = Vec::new();
        for group in &groups {
            for rule in &group.rules {
                let part = |o| Alerting::new(group, rule, o, &expander, self.options.resend_delay, now);
                parts.push(rule.alert.as_ref().map(part).transpose()?);
            }
        }
        let origins = self.install(&groups)?;
        self.expander = expander;
        self.options.external_labels = external_labels.clone();
        self.take_over(groups, parts, origins, now);
        Ok(())
    }

    /// Finds what runs already and installs the rest; on an error nothing stays installed.
    fn install(&self, groups: &[Group]) -> Result<Vec<Origin>, String> {
        let mut used = std::collections::HashSet::new();
        let (mut origins, mut installed) = (Vec::new(), Vec::new());
        for group in groups {
            for rule in &group.rules {
                if let Some(place) = self.same_rule(group, rule, &used) {
                    used.insert(place);
                    origins.push(Origin::Old(place.0, place.1));
                    continue;
                }
                match self.ports.views.install(view_of(group, rule)) {
                    Ok(view) => {
                        installed.push(view);
                        origins.push(Origin::New(view));
                    }
                    Err(error) => {
                        installed.into_iter().for_each(|view| self.ports.views.remove(view));
                        return Err(format!(
                            "{}: group {:?}, rule {:?}: {error}",
                            group.file, group.name, rule.name
                        ));
                    }
                }
            }
        }
        Ok(origins)
    }

    fn same_rule(
        &self,
        group: &Group,
        rule: &Rule,
        used: &std::collections::HashSet<(usize, usize)>,
    ) -> Option<(usize, usize)> {
        let g =
            self.groups.iter().position(|g| (&g.group.file, &g.group.name) == (&group.file, &group.name))?;
        let old = &self.groups[g];
        let same_grid = (old.group.interval, old.group.query_offset, old.group.limit)
            == (group.interval, group.query_offset, group.limit);
        let same = |running: &Running| {
            let was = &running.rule;
            (&was.name, &was.expr, &was.labels) == (&rule.name, &rule.expr, &rule.labels)
                && was.alert.is_some() == rule.alert.is_some()
                && (rule.alert.is_some() || same_grid)
        };
        let r = (0..old.rules.len()).find(|r| !used.contains(&(g, *r)) && same(&old.rules[*r]))?;
        Some((g, r))
    }

    fn take_over(
        &mut self,
        groups: Vec<Group>,
        parts: Vec<Option<Alerting>>,
        origins: Vec<Origin>,
        now: TimeMs,
    ) {
        let mut old: HashMap<(usize, usize), Running> = HashMap::new();
        let old_counters: Vec<Counters> = std::mem::take(&mut self.groups)
            .into_iter()
            .enumerate()
            .map(|(g, group)| {
                old.extend(group.rules.into_iter().enumerate().map(|(r, rule)| ((g, r), rule)));
                group.counters
            })
            .collect();
        old_counters.iter().for_each(|c| c.rules.set(0.0));
        let mut fresh = Vec::new();
        let mut sources = parts.into_iter().zip(origins);
        for group in groups {
            let mut rules = Vec::new();
            for rule in &group.rules {
                let Some((part, origin)) = sources.next() else { break };
                let kept = if let Origin::Old(g, r) = origin { old.remove(&(g, r)) } else { None };
                rules.push(match (kept, origin) {
                    (Some(running), _) => self.carry_on(&group, running, rule, part, now),
                    (None, Origin::New(view)) => {
                        let running = self.start(view, rule, part);
                        fresh.push(running.id);
                        running
                    }
                    (None, Origin::Old(..)) => continue,
                });
            }
            let counters = Counters::new(&self.ports.metrics, &group);
            counters.rules.set(rules.len() as f64);
            counters.interval.set(group.interval as f64 / 1000.0);
            self.groups.push(RunningGroup { group, rules, counters });
        }
        old.into_values().for_each(|running| self.end(running, now));
        self.index();
        self.restore(&fresh, now);
    }

    fn index(&mut self) {
        let places = self.groups.iter().enumerate().flat_map(|(g, group)| {
            group.rules.iter().enumerate().map(move |(r, running)| (running.id, (g, r)))
        });
        self.places = places.collect();
    }

    fn carry_on(
        &self,
        group: &Group,
        mut running: Running,
        rule: &Rule,
        part: Option<Alerting>,
        now: TimeMs,
    ) -> Running {
        let old = running.alerting.take();
        running.rule = rule.clone();
        running.alerting = match (part, old, &rule.alert) {
            (Some(mut part), Some(old), Some(options)) => {
                part.inherit(old, timing(group, options, self.options.resend_delay), now);
                Some(part)
            }
            (part, ..) => part,
        };
        running
    }

    fn start(&mut self, view: ViewId, rule: &Rule, alerting: Option<Alerting>) -> Running {
        let id = RuleId(self.next_id);
        self.next_id += 1;
        let sink = RuleSink { inbox: self.inbox.clone(), rule: id, outcome_only: alerting.is_none() };
        let tap = self.ports.views.tap(view, Box::new(sink));
        Running {
            id,
            view,
            tap,
            rule: rule.clone(),
            health: Default::default(),
            last_evaluation: None,
            evaluation_time: 0.0,
            alerting,
        }
    }

    /// A rule that is no more: its series end.
    fn end(&self, mut running: Running, now: TimeMs) {
        self.ports.views.remove(running.view);
        if let Some(alerting) = &mut running.alerting
            && let Err(error) = alerting.writer.write(&*self.ports.store, now, &[])
        {
            tracing::warn!(rule = %running.rule.name, %error, "ending the ALERTS series of a removed rule failed");
        }
    }

    /// Gives new alerting rules the alerts they had before a restart.
    fn restore(&mut self, fresh: &[RuleId], now: TimeMs) {
        let wanted = fresh.iter().filter_map(|id| self.places.get(id)).copied().collect::<Vec<_>>();
        let wanted: Vec<(usize, usize)> =
            wanted.into_iter().filter(|(g, r)| self.groups[*g].rules[*r].alerting.is_some()).collect();
        if wanted.is_empty() {
            return;
        }
        let found = match self.known_alerts(now) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "alerts of before the restart could not be read: their `for` begins anew");
                return;
            }
        };
        let mut claims: HashMap<&Labels, usize> = HashMap::new();
        for (g, r) in &wanted {
            let rule = &self.groups[*g].rules[*r].rule;
            found
                .iter()
                .filter(|f| owns(rule, &f.alert))
                .for_each(|f| *claims.entry(&f.alert).or_default() += 1);
        }
        let grace = self.options.for_grace_period;
        for (g, r) in wanted {
            let interval = self.groups[g].group.interval;
            let running = &mut self.groups[g].rules[r];
            let mine: Vec<Restored> = found
                .iter()
                .filter(|f| owns(&running.rule, &f.alert))
                .map(|f| Restored { shared: claims.get(&f.alert).is_some_and(|n| *n > 1), ..f.clone() })
                .collect();
            let Some(alerting) = running.alerting.as_mut().filter(|_| !mine.is_empty()) else { continue };
            alerting.alerts.restore(mine, now, grace);
            let series = alerting.alerts.samples(&running.rule.name).into_iter().map(|(labels, _)| labels);
            alerting.writer.adopt(&*self.ports.store, series);
            alerting.settle_at = Some(now + 2 * interval);
        }
    }

    /// The alerts that the store knows to have been active within the outage tolerance.
    fn known_alerts(&self, now: TimeMs) -> Result<Vec<Restored>, storage::store::StoreError> {
        let from = now - self.options.outage_tolerance;
        let newest = |name| self.ports.store.newest(&[Matcher::equal("__name__", name)], from, now);
        let firing: HashMap<Labels, TimeMs> = newest("ALERTS")?
            .into_iter()
            .filter(|(labels, _, v)| !is_stale(*v) && labels.get("alertstate") == Some("firing"))
            .map(|(labels, t, _)| (labels.filter(|n| n != "__name__" && n != "alertstate"), t))
            .collect();
        let pending = newest("ALERTS_FOR_STATE")?.into_iter().filter(|(_, _, v)| v.is_finite());
        let one = |(labels, t, v): (Labels, TimeMs, f64)| {
            let alert = labels.without_name();
            let firing = firing.get(&alert).is_some_and(|at| *at >= t);
            Restored { alert, active_at: (v * 1000.0).round() as TimeMs, seen_at: t, firing, shared: false }
        };
        Ok(pending.map(one).collect())
    }

    /// Does what is due at `now`: events, timers, slots, sends. Returns when it wants to be called again.
    pub fn step(&mut self, now: TimeMs) -> TimeMs {
        let Arrived { events, lagging } = self.inbox.take();
        let tools = Tools { expander: &self.expander, store: &*self.ports.store };
        for (id, event) in events {
            let Some((g, r)) = self.places.get(&id).copied() else { continue };
            let group = &mut self.groups[g];
            let tally = group.rules[r].on_event(&tools, event);
            group.counters.add(tally);
            if let Some(t) = group.rules[r].last_evaluation {
                group.counters.last.set(t as f64 / 1000.0);
            }
        }
        let mut wake = now + MAX_SLEEP_MS;
        let mut outgoing = Vec::new();
        for group in &mut self.groups {
            for running in &mut group.rules {
                if running.next_wake() <= now {
                    group.counters.add(running.on_time(&tools, now));
                }
                outgoing.extend(running.outgoing(&self.expander, &self.options.external_url, now));
                wake = wake.min(running.next_wake());
            }
        }
        if !outgoing.is_empty() {
            self.ports.notify.send(outgoing);
        }
        lagging.into_iter().for_each(|id| self.tap_again(id));
        wake
    }

    /// A rule that lost events gets a fresh snapshot.
    fn tap_again(&mut self, id: RuleId) {
        let Some((g, r)) = self.places.get(&id).copied() else { return };
        let group = &mut self.groups[g];
        group.counters.missed.inc();
        let running = &mut group.rules[r];
        tracing::warn!(rule = %running.rule.name, "the rules thread lags behind: starting again from a snapshot");
        self.ports.views.untap(running.tap);
        let sink = RuleSink { inbox: self.inbox.clone(), rule: id, outcome_only: running.alerting.is_none() };
        running.tap = self.ports.views.tap(running.view, Box::new(sink));
    }

    /// What the API shows.
    pub fn snapshot(&self, now: TimeMs) -> Vec<GroupSnapshot> {
        let one = |group: &RunningGroup| GroupSnapshot {
            name: group.group.name.clone(),
            file: group.group.file.clone(),
            interval: group.group.interval,
            limit: group.group.limit,
            rules: group.rules.iter().map(|r| r.snapshot(&self.expander, now)).collect(),
            last_evaluation: group.rules.iter().filter_map(|r| r.last_evaluation).max(),
            evaluation_time: group.rules.iter().map(|r| r.evaluation_time).sum(),
        };
        self.groups.iter().map(one).collect()
    }
}

/// Whether an alert of before a restart may be one of this rule.
fn owns(rule: &Rule, alert: &Labels) -> bool {
    let fixed = rule.labels.iter().filter(|(_, v)| !v.contains("{{"));
    alert.get("alertname") == Some(&rule.name)
        && fixed.into_iter().all(|(name, value)| alert.get(name).unwrap_or("") == value)
}

/// The standing plan of a rule.
pub(super) fn view_of(group: &Group, rule: &Rule) -> ViewSpec {
    let kind = match rule.alert {
        Some(_) => ViewKind::Continuous,
        None => ViewKind::Recorded {
            record: rule.name.clone(),
            labels: rule.labels.clone(),
            interval: group.interval,
            offset: Slots::new(group.interval, 0).offset,
            query_offset: group.query_offset,
            limit: group.limit,
        },
    };
    ViewSpec { name: rule.name.clone(), plan: rule.expr.plan.clone(), kind }
}
