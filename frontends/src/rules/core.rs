//! The rules manager without its thread: owns every running rule, takes events and time, hands out what is due.
//!
//! [`Core::apply`] changes the set of rules, all or nothing; [`Core::step`] does the work of one moment. The
//! thread around it is in [`super::manager`]; tests drive it by hand.

use super::alerting::{Alerting, Behind, Tools, timing};
use super::counters::{Counters, Durations, RULE_GROUP};
use super::file::{Group, Rule};
use super::inbox::{Arrived, Inbox, RuleId, RuleSink};
use super::limits::{KEEP_WAIT_MS, MAX_SLEEP_MS, TIMER_SLACK_MS};
use super::lineage::{Kinship, RuleKey, lineage};
use super::manager::{Options, Ports};
use super::ports::OutgoingAlert;
use super::restore;
use super::running::Running;
use super::slots::Slots;
use super::snapshot::GroupSnapshot;
use super::template::Expander;
use crate::past::PastRule;
use engine::live::{TapId, ViewId, ViewKind, ViewSpec};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use storage::keep::Change;
use storage::model::{Labels, TimeMs};

/// All running rules.
pub struct Core {
    ports: Ports,
    options: Options,
    expander: Arc<Expander>,
    inbox: Arc<Inbox>,
    groups: Vec<RunningGroup>,
    /// Where each rule is: group, rule.
    places: HashMap<RuleId, (usize, usize)>,
    /// When each rule wants to be looked at: what is not due costs nothing.
    wakes: BTreeSet<(TimeMs, RuleId)>,
    /// When the next slot of each group is, by its place.
    slots: BTreeSet<(TimeMs, usize)>,
    /// Groups that wrote states in slots in the latest step.
    wrote: BTreeSet<usize>,
    durations: Durations,
    next_id: u64,
    /// The alerts of before the restart have not been asked for yet.
    newborn: bool,
}

pub(super) struct RunningGroup {
    pub group: Group,
    pub rules: Vec<Running>,
    counters: Counters,
    /// When states had been written last in slots.
    wrote: TimeMs,
}

impl RunningGroup {
    /// Tells a rule that reads the states of alerts how far the rules in front of it are. `writes`: states are being written
    /// in this step.
    fn follow(&mut self, r: usize, writes: bool) {
        let (front, rest) = self.rules.split_at_mut(r);
        let Some(alerting) = rest[0].alerting.as_mut().filter(|alerting| alerting.is_behind()) else {
            return;
        };
        let slots = front.iter().filter_map(Running::next_slot);
        let since = if writes { TimeMs::MAX } else { self.wrote };
        alerting.follow(Behind { before: slots.min().unwrap_or(TimeMs::MAX), since });
    }
}

/// A rule of the new set and where it comes from.
#[derive(Copy, Clone)]
struct Origin {
    /// The rule it goes on from: group, rule.
    old: Option<(usize, usize)>,
    /// The view that has just been installed for it; `None`: it keeps the one it has.
    view: Option<ViewId>,
}

impl Core {
    /// No rules yet.
    pub fn new(ports: Ports, options: Options, inbox: Arc<Inbox>) -> Core {
        let expander = Expander::new(&options.external_labels, &options.external_url, ports.query.clone());
        let expander = Arc::new(expander);
        let (groups, places, wakes, slots, wrote) = Default::default();
        let durations = Durations::new(&ports.metrics);
        Core {
            ports,
            options,
            expander,
            inbox,
            groups,
            places,
            wakes,
            slots,
            wrote,
            durations,
            next_id: 0,
            newborn: true,
        }
    }

    /// Replaces the set of rules, all or nothing: on an error everything runs on as before. Rules whose
    /// definition is the same keep view and state, wherever they are now; an alert whose `for` or annotations alone changed
    /// does too. An alert whose expression has changed keeps its state (see [`lineage`]). A recording rule with another
    /// expression records the old one until the new one can stand: no slot is lost.
    pub fn apply(&mut self, groups: Vec<Group>, external_labels: &Labels, now: TimeMs) -> Result<(), String> {
        let expander = Expander::new(external_labels, &self.options.external_url, self.ports.query.clone());
        let mut parts = Vec::new();
        for group in &groups {
            for rule in &group.rules {
                let part = |o| Alerting::new(group, rule, o, &expander, self.options.resend_delay, now);
                parts.push(rule.alert.as_ref().map(part).transpose()?);
            }
        }
        let keys = RuleKey::all(&groups);
        self.ports.views.hold();
        let applied = self.install(&groups, &keys).map(|origins| {
            self.expander = Arc::new(expander);
            self.options.external_labels = external_labels.clone();
            self.take_over(groups, keys, parts, origins, now);
            self.ports.views.keep_past(self.past());
        });
        self.ports.views.release();
        applied
    }

    /// All recording rules.
    fn past(&self) -> Vec<PastRule> {
        let rules = self.groups.iter().flat_map(|g| g.rules.iter().map(move |r| (&g.group, r)));
        let rules = rules.filter(|(_, running)| running.rule.alert.is_none());
        rules.map(|(group, running)| past_of(group, running)).collect()
    }

    /// Finds what runs already and installs the rest; on an error nothing stays installed.
    fn install(&self, groups: &[Group], keys: &[RuleKey]) -> Result<Vec<Origin>, String> {
        let running = self.groups.iter().enumerate().flat_map(|(g, group)| {
            group.rules.iter().enumerate().map(move |(r, running)| ((g, r), &running.key))
        });
        let (places, old): (Vec<_>, Vec<_>) = running.unzip();
        let ancestors = lineage(&old, keys);
        let rules = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let (mut origins, mut installed, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for ((group, rule), ancestor) in rules.zip(ancestors) {
            let old = ancestor.map(|(at, _)| places[at]).filter(|place| self.is_kind(*place, rule));
            let same = ancestor.is_some_and(|(_, kinship)| kinship != Kinship::Rewritten);
            if same && old.is_some_and(|place| self.keeps_view(place, group, rule)) {
                origins.push(Origin { old, view: None });
                continue;
            }
            let spec = view_of(group, rule);
            if let Some(view) = old.and_then(|place| self.changing_view(place, rule, &spec)) {
                changes.push((view, spec));
                origins.push(Origin { old, view: None });
                continue;
            }
            match self.ports.views.install(spec) {
                Ok(view) => {
                    installed.push(view);
                    origins.push(Origin { old: old.filter(|_| rule.alert.is_some()), view: Some(view) });
                }
                Err(error) => {
                    installed.into_iter().for_each(|view| self.ports.views.remove(view));
                    let (file, group, rule) = (&group.file, &group.name, &rule.name);
                    return Err(format!("{file}: group {group:?}, rule {rule:?}: {error}"));
                }
            }
        }
        for (view, spec) in changes {
            self.ports.views.change(view, spec)?;
        }
        Ok(origins)
    }

    /// Whether the running rule is an alert as the new one is, or a recording rule as it is.
    fn is_kind(&self, (g, r): (usize, usize), rule: &Rule) -> bool {
        self.groups[g].rules[r].rule.alert.is_some() == rule.alert.is_some()
    }

    fn keeps_view(&self, (g, r): (usize, usize), group: &Group, rule: &Rule) -> bool {
        let old = &self.groups[g];
        let asks = |group: &Group| group.query_offset;
        let grid = |group: &Group| (group.interval, group.limit);
        let same = old.rules[r].rule.expr == rule.expr && asks(&old.group) == asks(group);
        same && (rule.alert.is_some() || grid(&old.group) == grid(group))
    }

    /// The view of the running rule, if it records the same series as the new one and can do so with another expression.
    fn changing_view(&self, (g, r): (usize, usize), rule: &Rule, spec: &ViewSpec) -> Option<ViewId> {
        let running = &self.groups[g].rules[r];
        let same_series = (&running.rule.name, &running.rule.labels) == (&rule.name, &rule.labels);
        let may = rule.alert.is_none() && same_series && self.ports.views.may_change(running.view, spec);
        may.then_some(running.view)
    }

    fn take_over(
        &mut self,
        groups: Vec<Group>,
        keys: Vec<RuleKey>,
        parts: Vec<Option<Alerting>>,
        origins: Vec<Origin>,
        now: TimeMs,
    ) {
        let (mut old, mut gone) = (BTreeMap::new(), BTreeSet::new());
        for (g, group) in std::mem::take(&mut self.groups).into_iter().enumerate() {
            gone.insert(group.counters.key);
            old.extend(group.rules.into_iter().enumerate().map(|(r, rule)| ((g, r), rule)));
        }
        let (mut fresh, mut changes) = (Vec::new(), Vec::new());
        let mut sources = keys.into_iter().zip(parts).zip(origins);
        for group in groups {
            let mut rules = Vec::new();
            for rule in &group.rules {
                let Some(((key, part), origin)) = sources.next() else { break };
                let mut kept = origin.old.and_then(|place| old.remove(&place));
                if let Some(kept) = kept.as_mut().filter(|kept| kept.key != key) {
                    kept.rename(Some(key.clone()), &mut changes);
                }
                rules.push(match (kept, origin.view) {
                    (Some(running), view) => self.carry_on(&group, running, rule, part, view, now),
                    (None, Some(view)) => {
                        let running = self.start(view, rule, key, part);
                        fresh.push(running.id);
                        running
                    }
                    (None, None) => continue,
                });
            }
            let counters = Counters::new(&self.ports.metrics, &group, rules.len(), now);
            gone.remove(&counters.key);
            self.groups.push(RunningGroup { group, rules, counters, wrote: now });
        }
        old.into_values().for_each(|running| self.end(running, &mut changes, now));
        gone.iter().for_each(|key| self.ports.metrics.forget(&[(RULE_GROUP, key)]));
        self.index();
        self.restore(&fresh, &mut changes, now);
        self.keep(changes, now);
        self.index();
    }

    fn index(&mut self) {
        (self.places, self.wakes, self.slots) = Default::default();
        for (g, group) in self.groups.iter_mut().enumerate() {
            self.slots.insert((group.counters.next_slot(), g));
            for (r, running) in group.rules.iter_mut().enumerate() {
                running.wake = running.next_wake();
                self.places.insert(running.id, (g, r));
                self.wakes.insert((running.wake, running.id));
            }
        }
    }

    /// The rule goes on, with a new definition, and with another `view` if it asks something else now.
    fn carry_on(
        &mut self,
        group: &Group,
        mut running: Running,
        rule: &Rule,
        part: Option<Alerting>,
        view: Option<ViewId>,
        now: TimeMs,
    ) -> Running {
        let old = running.alerting.take();
        running.rule = rule.clone();
        let in_slots = |part: &Option<Alerting>| part.as_ref().is_some_and(Alerting::in_slots);
        let anew = view.is_some() || in_slots(&part) != in_slots(&old);
        if anew {
            // What the old tap has said and still waits is not for it any more.
            running.id = self.new_id();
        }
        running.alerting = match (part, old, &rule.alert) {
            (Some(mut part), Some(old), Some(options)) => {
                part.inherit(old, timing(group, options, self.options.resend_delay), anew, now);
                Some(part)
            }
            (part, ..) => part,
        };
        match view {
            Some(view) => {
                self.ports.views.remove(running.view);
                running.view = view;
                running.tap = self.tap(&running);
            }
            None if anew => self.tap_anew(&mut running),
            None => {}
        }
        running
    }

    fn new_id(&mut self) -> RuleId {
        self.next_id += 1;
        RuleId(self.next_id)
    }

    fn tap(&self, running: &Running) -> TapId {
        let outcome_only = running.alerting.is_none();
        let sink = RuleSink { inbox: self.inbox.clone(), rule: running.id, outcome_only };
        self.ports.views.tap(running.view, Box::new(sink))
    }

    fn tap_anew(&self, running: &mut Running) {
        self.ports.views.untap(running.tap);
        running.tap = self.tap(running);
    }

    fn start(&mut self, view: ViewId, rule: &Rule, key: RuleKey, alerting: Option<Alerting>) -> Running {
        let mut running = Running {
            id: self.new_id(),
            view,
            tap: TapId(0),
            rule: rule.clone(),
            key,
            kept_as: None,
            wake: TimeMs::MAX,
            health: Default::default(),
            last_evaluation: None,
            evaluation_time: 0.0,
            counted: Default::default(),
            alerting,
        };
        running.tap = self.tap(&running);
        running
    }

    /// A rule that is no more: its series end.
    fn end(&self, mut running: Running, changes: &mut Vec<Change>, now: TimeMs) {
        self.ports.views.remove(running.view);
        running.rename(None, changes);
        if let Some(alerting) = &mut running.alerting
            && let Err(error) = alerting.writer.write(&*self.ports.store, now, &[])
        {
            tracing::warn!(rule = %running.rule.name, %error, "ending the ALERTS series of a removed rule failed");
        }
    }

    /// Gives the rules of a start the alerts they had before it. Those that a reload brings have had none.
    fn restore(&mut self, fresh: &[RuleId], changes: &mut Vec<Change>, now: TimeMs) {
        if !std::mem::take(&mut self.newborn) {
            return;
        }
        let past = self.ports.memory.recall();
        if let Some(entries) = &past {
            changes.extend(entries.keys().map(|key| (key.clone(), None)));
        }
        let wanted = fresh.iter().filter_map(|id| self.places.get(id)).copied();
        let wanted: Vec<(usize, usize)> =
            wanted.filter(|(g, r)| self.groups[*g].rules[*r].alerting.is_some()).collect();
        if !wanted.is_empty() {
            let restart = restore::Restart { ports: &self.ports, options: &self.options, now };
            restart.run(&mut self.groups, &wanted, past.as_ref());
        }
    }

    /// Keeps `changes`, and what else has changed; a number to wait for.
    fn keep(&mut self, mut changes: Vec<Change>, now: TimeMs) -> u64 {
        let rules = self.groups.iter_mut().flat_map(|group| &mut group.rules);
        rules.for_each(|running| changes.extend(running.take_changes(now)));
        self.ports.memory.keep(changes)
    }

    /// Does what is due at `now`: events, timers, slots, sends. Returns when it wants to be called again.
    pub fn step(&mut self, now: TimeMs) -> TimeMs {
        // What was written in a step was written before the next one.
        for g in std::mem::take(&mut self.wrote) {
            self.groups.get_mut(g).into_iter().for_each(|group| group.wrote = now);
        }
        let Arrived { events, lagging, told } = self.inbox.take();
        let mut touched = BTreeSet::new();
        let mut outgoing = Vec::new();
        for (id, event) in events {
            let Some(place) = self.places.get(&id).copied() else { continue };
            touched.insert(place);
            let tools = Tools { expander: &self.expander, store: &*self.ports.store };
            let group = &mut self.groups[place.0];
            group.follow(place.1, self.wrote.contains(&place.0));
            let running = &mut group.rules[place.1];
            let slot = running.next_slot();
            let tally = running.on_event(&tools, event);
            if running.next_slot() != slot {
                self.wrote.insert(place.0);
            }
            group.counters.told(running, tally, self.ports.views.spent(running.view), &self.durations);
            // At once: an alert that fires and ends within one step is told both times.
            outgoing.extend(running.outgoing(&self.expander, &self.options.external_url, &self.inbox, now));
        }
        for told in told {
            let Some(place) = self.places.get(&told.rule).copied() else { continue };
            if let Some(alerting) = &mut self.groups[place.0].rules[place.1].alerting {
                alerting.alerts.told(&told);
                touched.insert(place);
            }
        }
        let due = self.wakes.range(..=(now, RuleId(u64::MAX)));
        touched.extend(due.filter_map(|(_, id)| self.places.get(id)));
        let mut changes = Vec::new();
        for place in touched {
            self.look_at(place, now, &mut outgoing, &mut changes);
        }
        self.tell(outgoing, changes);
        self.pass_slots(now);
        if self.ports.views.wants_states() {
            self.ports.views.states_are_written(self.written_before());
        }
        lagging.into_iter().for_each(|id| self.tap_again(id));
        let slot = self.slots.first().map_or(TimeMs::MAX, |(t, _)| *t);
        self.wakes.first().map_or(TimeMs::MAX, |(t, _)| *t).min(slot).min(now + MAX_SLEEP_MS)
    }

    /// Counts the slots of groups that have passed.
    fn pass_slots(&mut self, now: TimeMs) {
        while let Some((_, g)) = self.slots.first().copied().filter(|(t, _)| *t <= now) {
            self.slots.pop_first();
            let RunningGroup { rules, counters, .. } = &mut self.groups[g];
            counters.slot(rules, &*self.ports.views, &self.durations, now);
            self.slots.insert((counters.next_slot(), g));
        }
    }

    /// The states of all slots before it are written.
    fn written_before(&self) -> TimeMs {
        let group = self.slots.first().map_or(TimeMs::MAX, |(t, _)| *t - TIMER_SLACK_MS);
        let rules = self.groups.iter().flat_map(|group| &group.rules);
        rules.filter_map(Running::next_slot).min().map_or(group, |slot| slot.min(group))
    }

    /// Lets time pass for one rule.
    fn look_at(
        &mut self,
        (g, r): (usize, usize),
        now: TimeMs,
        outgoing: &mut Vec<OutgoingAlert>,
        changes: &mut Vec<Change>,
    ) {
        let tools = Tools { expander: &self.expander, store: &*self.ports.store };
        let group = &mut self.groups[g];
        let running = &mut group.rules[r];
        if running.next_wake() <= now {
            let slot = running.next_slot();
            group.counters.failed(running.on_time(&tools, now).failures);
            if running.next_slot() != slot {
                self.wrote.insert(g);
            }
        }
        outgoing.extend(running.outgoing(&self.expander, &self.options.external_url, &self.inbox, now));
        changes.extend(running.take_changes(now));
        let wake = running.next_wake();
        if wake != running.wake {
            self.wakes.remove(&(running.wake, running.id));
            self.wakes.insert((wake, running.id));
            running.wake = wake;
        }
    }

    /// Sends alerts, once what has changed would outlive the process.
    fn tell(&self, outgoing: Vec<OutgoingAlert>, changes: Vec<Change>) {
        if !changes.is_empty() {
            let number = self.ports.memory.keep(changes);
            if !outgoing.is_empty() {
                self.ports.memory.wait(number, Duration::from_millis(KEEP_WAIT_MS));
            }
        }
        if !outgoing.is_empty() {
            self.ports.notify.send(outgoing);
        }
    }

    /// A rule that lost events gets a fresh snapshot.
    fn tap_again(&mut self, id: RuleId) {
        let Some((g, r)) = self.places.get(&id).copied() else { return };
        let running = &self.groups[g].rules[r];
        tracing::warn!(rule = %running.rule.name, "the rules thread lags behind: starting again from a snapshot");
        self.ports.views.untap(running.tap);
        let tap = self.tap(running);
        self.groups[g].rules[r].tap = tap;
    }

    /// What the API shows.
    pub fn snapshot(&self, now: TimeMs) -> Vec<GroupSnapshot> {
        let one = |group: &RunningGroup| GroupSnapshot {
            name: group.group.name.clone(),
            file: group.group.file.clone(),
            interval: group.group.interval,
            limit: group.group.limit,
            rules: group.rules.iter().map(|r| r.snapshot(&self.expander, &*self.ports.views, now)).collect(),
            last_evaluation: group.rules.iter().filter_map(|r| r.last_evaluation).max(),
            evaluation_time: group.rules.iter().map(|r| r.took(self.ports.views.spent(r.view))).sum(),
        };
        self.groups.iter().map(one).collect()
    }
}

/// A rule as [`crate::past`] knows it. Its key says nothing of its expression: what is computed stays when that changes.
fn past_of(group: &Group, running: &Running) -> PastRule {
    let (rule, spec) = (&running.rule, view_of(group, &running.rule));
    let Group { file, name, interval, query_offset, .. } = group;
    let key = format!("{file};{name};{interval};{query_offset};{};{:?}", rule.name, rule.labels);
    PastRule { view: running.view, key, spec, backfill: rule.backfill, lateness: group.lateness }
}

/// The standing plan of a rule.
pub(super) fn view_of(group: &Group, rule: &Rule) -> ViewSpec {
    let kind = match rule.alert {
        Some(_) => ViewKind::Continuous { query_offset: group.query_offset },
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
