//! The rules manager without its thread: owns all running rules, processes events and time, and
//! returns what is due.
//!
//! [`ActiveRules::apply`] replaces the set of rules, completely or not at all;
//! [`ActiveRules::step`] does the work of one moment. The thread is in [`super::manager`]; tests
//! call `step` themselves.

use super::active_rule::ActiveRule;
use super::alert_history::AlertHistory;
use super::alert_persistence;
use super::alerting_rule::{AlertingRule, SeriesLag, StepContext, timing};
use super::causes;
use super::evaluation_grid::EvaluationGrid;
use super::event_queue::{DrainedRuleEvents, RuleEventQueue, RuleId, RuleSink};
use super::file::{Rule, RuleGroup};
use super::group_metrics::{GroupMetrics, RULE_GROUP, RuleDurationMetrics};
use super::limits::{KEEP_WAIT_MS, MAX_SLEEP_MS, TIMER_SLACK_MS};
use super::manager::{RuleManagerOptions, RuleServices};
use super::restore::{self, RulePosition};
use super::rule_matching::{RuleKey, RuleMatch, match_rules};
use super::services::AlertNotification;
use super::snapshot::GroupSnapshot;
use super::template::TemplateExpander;
use crate::RulesError;
use engine::live::{TapId, ViewId, ViewKind, ViewSpec};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use storage::durable_map::MapChange;
use storage::model::{Labels, TimeMs};
use views::recording::RecordedRule;

/// All running rules.
pub struct ActiveRules {
    /// What the rules use.
    ports: RuleServices,
    options: RuleManagerOptions,
    /// Expands templates.
    expander: Arc<TemplateExpander>,
    /// The changes of the views.
    events: Arc<RuleEventQueue>,
    /// The groups with their rules, in the order of the files.
    groups: Vec<ActiveGroup>,
    /// The position of each rule.
    positions: HashMap<RuleId, RulePosition>,
    /// When each rule must be processed next: a rule that is not due costs nothing.
    wakeups: BTreeSet<(TimeMs, RuleId)>,
    /// The next evaluation time of each group, by its index.
    group_evaluations: BTreeSet<(TimeMs, usize)>,
    /// Groups that wrote `ALERTS` samples for an evaluation time in the latest step.
    wrote: BTreeSet<usize>,
    durations: RuleDurationMetrics,
    history: Arc<AlertHistory>,
    next_id: u64,
    /// The saved alerts have not been loaded yet.
    before_first_apply: bool,
}

pub(super) struct ActiveGroup {
    pub group: RuleGroup,
    pub rules: Vec<ActiveRule>,
    counters: GroupMetrics,
    /// When `ALERTS` samples were last written for an evaluation time.
    wrote: TimeMs,
}

impl ActiveGroup {
    /// Tells a rule that reads `ALERTS` how far the rules before it are. `writes`: samples are
    /// being written in this step.
    fn follow(&mut self, r: usize, writes: bool) {
        // Only the rules before it: as in Prometheus, a rule sees what those above it wrote for the
        // same evaluation time.
        let (front, rest) = self.rules.split_at_mut(r);
        let Some(alerting) = rest[0].alerting.as_mut().filter(|alerting| alerting.awaits_rules()) else {
            return;
        };
        let evaluation_times = front.iter().filter_map(ActiveRule::next_evaluation);
        // Samples that are being written now are not in the answer yet.
        let since = if writes { TimeMs::MAX } else { self.wrote };
        alerting.follow(SeriesLag { before: evaluation_times.min().unwrap_or(TimeMs::MAX), since });
    }
}

/// A rule of the new set, and where it comes from.
#[derive(Copy, Clone)]
struct RuleOrigin {
    /// The running rule that it continues: group, rule.
    old: Option<RulePosition>,
    /// The view that has just been installed for it; `None`: it keeps the view it has.
    view: Option<ViewId>,
}

impl ActiveRules {
    /// A manager without rules.
    pub fn new(ports: RuleServices, options: RuleManagerOptions, events: Arc<RuleEventQueue>) -> ActiveRules {
        let expander =
            TemplateExpander::new(&options.external_labels, &options.external_url, ports.query.clone())
                .counted(&ports.metrics);
        let expander = Arc::new(expander);
        let durations = RuleDurationMetrics::new(&ports.metrics, ports.tracer.clone());
        ActiveRules {
            ports,
            options,
            expander,
            events,
            groups: Vec::new(),
            positions: HashMap::new(),
            wakeups: BTreeSet::new(),
            group_evaluations: BTreeSet::new(),
            wrote: BTreeSet::new(),
            durations,
            history: Arc::default(),
            next_id: 0,
            before_first_apply: true,
        }
    }

    /// The history of all alerts.
    pub fn history(&self) -> Arc<AlertHistory> {
        self.history.clone()
    }

    /// Replaces the set of rules, completely or not at all: after an error everything runs as
    /// before. Rules with the same definition keep view and state, wherever they are now; so does
    /// an alert of which only `for` or annotations changed. An alert with another expression keeps
    /// its state (see [`match_rules`]). A recording rule with another expression records the old
    /// one until the new one is ready, so that no evaluation is lost.
    pub fn apply(
        &mut self,
        groups: Vec<RuleGroup>,
        external_labels: &Labels,
        now: TimeMs,
    ) -> Result<(), RulesError> {
        let expander =
            TemplateExpander::new(external_labels, &self.options.external_url, self.ports.query.clone())
                .counted(&self.ports.metrics);
        // All alerting parts first: a bad template must be found before anything changes.
        let mut parts = Vec::new();
        for group in &groups {
            for rule in &group.rules {
                let part = |o| AlertingRule::new(group, rule, o, &expander, self.options.resend_delay, now);
                parts.push(rule.alert.as_ref().map(part).transpose()?);
            }
        }
        let keys = RuleKey::all(&groups);
        // Together, so that all rules of a reload begin in one tick and see the same data.
        self.ports.views.begin_install_batch();
        let applied = self.install(&groups, &keys).map(|origins| {
            self.expander = Arc::new(expander);
            self.options.external_labels = external_labels.clone();
            self.adopt(groups, keys, parts, origins, now);
            self.ports.views.set_recorded_rules(self.past());
        });
        // After an error, too: the batch must not stay open.
        self.ports.views.end_install_batch();
        applied
    }

    /// All recording rules.
    fn past(&self) -> Vec<RecordedRule> {
        let rules = self.groups.iter().flat_map(|g| g.rules.iter().map(move |r| (&g.group, r)));
        let rules = rules.filter(|(_, running)| running.rule.alert.is_none());
        rules.map(|(group, running)| recorded_rule_of(group, running)).collect()
    }

    /// Finds rules that run already and installs the others. After an error no new view stays
    /// installed.
    fn install(&self, groups: &[RuleGroup], keys: &[RuleKey]) -> Result<Vec<RuleOrigin>, RulesError> {
        let running = self.groups.iter().enumerate().flat_map(|(g, group)| {
            group
                .rules
                .iter()
                .enumerate()
                .map(move |(r, running)| (RulePosition { group: g, rule: r }, &running.key))
        });
        let (positions, old): (Vec<_>, Vec<_>) = running.unzip();
        // By all rules at once: which rule continues which depends on the others when several are
        // alike.
        let ancestors = match_rules(&old, keys);
        let rules = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let mut origins = Vec::new();
        let mut installed = Vec::new();
        let mut changes = Vec::new();
        for ((group, rule), ancestor) in rules.zip(ancestors) {
            let old = ancestor.map(|(at, _)| positions[at]).filter(|at| self.is_kind(*at, rule));
            // A rewritten rule has another expression, so its view cannot stay.
            let same = ancestor.is_some_and(|(_, rule_match)| rule_match != RuleMatch::Rewritten);
            if same && old.is_some_and(|at| self.keeps_view(at, group, rule)) {
                origins.push(RuleOrigin { old, view: None });
                continue;
            }
            let spec = view_of(group, rule);
            if let Some(view) = old.and_then(|at| self.changing_view(at, rule, &spec)) {
                // Later, when all installations have succeeded: a replaced plan cannot be put back.
                changes.push((view, spec));
                origins.push(RuleOrigin { old, view: None });
                continue;
            }
            match self.ports.views.install(spec) {
                Ok(view) => {
                    installed.push(view);
                    // A recording rule has no state but its view, so with a new view it is a new
                    // rule.
                    origins.push(RuleOrigin { old: old.filter(|_| rule.alert.is_some()), view: Some(view) });
                }
                Err(error) => {
                    // Completely or not at all: the views of before still run.
                    for view in installed.into_iter() {
                        self.ports.views.remove(view);
                    }
                    return Err(RulesError::View {
                        file: group.file.clone(),
                        group: group.name.clone(),
                        rule: rule.name.clone(),
                        error,
                    });
                }
            }
        }
        for (view, spec) in changes {
            self.ports.views.replace(view, spec).map_err(RulesError::Replace)?;
        }
        Ok(origins)
    }

    /// Whether the running rule is of the same kind as the new one: alerting or recording.
    fn is_kind(&self, at: RulePosition, rule: &Rule) -> bool {
        self.running(at).rule.alert.is_some() == rule.alert.is_some()
    }

    fn running(&self, at: RulePosition) -> &ActiveRule {
        &self.groups[at.group].rules[at.rule]
    }

    fn keeps_view(&self, at: RulePosition, group: &RuleGroup, rule: &Rule) -> bool {
        let old = &self.groups[at.group];
        // The query offset shifts what a view reads, for alerts as well.
        let asks = |group: &RuleGroup| group.query_offset;
        let grid = |group: &RuleGroup| (group.interval, group.limit);
        let same = old.rules[at.rule].rule.expr == rule.expr && asks(&old.group) == asks(group);
        // The view of an alert is continuous; interval and limit are applied by its states.
        same && (rule.alert.is_some() || grid(&old.group) == grid(group))
    }

    /// The view of the running rule, if it records the same series as the new one and its plan can
    /// be replaced.
    fn changing_view(&self, at: RulePosition, rule: &Rule, spec: &ViewSpec) -> Option<ViewId> {
        let running = self.running(at);
        // Other series have another past: the old ones must end with stale markers, which only a
        // new view does.
        let same_series = (&running.rule.name, &running.rule.labels) == (&rule.name, &rule.labels);
        let may = rule.alert.is_none() && same_series && self.ports.views.can_replace(running.view, spec);
        may.then_some(running.view)
    }

    fn adopt(
        &mut self,
        groups: Vec<RuleGroup>,
        keys: Vec<RuleKey>,
        parts: Vec<Option<AlertingRule>>,
        origins: Vec<RuleOrigin>,
        now: TimeMs,
    ) {
        let mut old = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for (g, group) in std::mem::take(&mut self.groups).into_iter().enumerate() {
            // All groups count as gone until they are found in the new set.
            gone.insert(group.counters.key);
            old.extend(
                group
                    .rules
                    .into_iter()
                    .enumerate()
                    .map(|(r, rule)| (RulePosition { group: g, rule: r }, rule)),
            );
        }
        let mut fresh = Vec::new();
        let mut changes = Vec::new();
        let mut sources = keys.into_iter().zip(parts).zip(origins);
        for group in groups {
            let mut rules = Vec::new();
            for rule in &group.rules {
                let Some(((key, part), origin)) = sources.next() else { break };
                let mut continued = origin.old.and_then(|position| old.remove(&position));
                if let Some(running) = continued.as_mut().filter(|running| running.key != key) {
                    // The saved states are under the old key; a restart would not find them.
                    running.move_saved(Some(key.clone()), &mut changes);
                }
                rules.push(match (continued, origin.view) {
                    (Some(running), view) => self.continue_rule(&group, running, rule, part, view, now),
                    (None, Some(view)) => {
                        let running = self.start(view, rule, key, part);
                        fresh.push(running.id);
                        running
                    }
                    // Cannot happen: a rule without a running one has a view.
                    (None, None) => continue,
                });
            }
            let counters = GroupMetrics::new(&self.ports.metrics, &group, rules.len(), now);
            gone.remove(&counters.key);
            self.groups.push(ActiveGroup { group, rules, counters, wrote: now });
        }
        for running in old.into_values() {
            self.end(running, &mut changes, now);
        }
        for key in gone.iter() {
            self.ports.metrics.forget(&[(RULE_GROUP, key)]);
        }
        self.index();
        self.restore(&fresh, &mut changes, now);
        self.save(changes, now);
        self.index();
    }

    fn index(&mut self) {
        self.positions.clear();
        self.wakeups.clear();
        self.group_evaluations.clear();
        for (g, group) in self.groups.iter_mut().enumerate() {
            self.group_evaluations.insert((group.counters.next_evaluation(), g));
            for (r, running) in group.rules.iter_mut().enumerate() {
                // Remembered, because the set is searched by the old time when the rule gets
                // another one.
                running.wake = running.next_wake();
                self.positions.insert(running.id, RulePosition { group: g, rule: r });
                self.wakeups.insert((running.wake, running.id));
            }
        }
    }

    /// Continues a rule with a new definition, and with another `view` if the plan has changed.
    fn continue_rule(
        &mut self,
        group: &RuleGroup,
        mut running: ActiveRule,
        rule: &Rule,
        part: Option<AlertingRule>,
        view: Option<ViewId>,
        now: TimeMs,
    ) -> ActiveRule {
        let old = running.alerting.take();
        running.rule = rule.clone();
        // With evaluation times the rule keeps the rows itself, so a change of the mode needs a
        // snapshot.
        let is_interval_mode =
            |part: &Option<AlertingRule>| part.as_ref().is_some_and(AlertingRule::is_interval_mode);
        let needs_snapshot = view.is_some() || is_interval_mode(&part) != is_interval_mode(&old);
        if needs_snapshot {
            // Events that the old tap has queued are not for the new definition.
            running.id = self.new_id();
        }
        running.alerting = match (part, old, &rule.alert) {
            (Some(mut part), Some(old), Some(options)) => {
                part.continue_from(
                    old,
                    timing(group, options, self.options.resend_delay),
                    needs_snapshot,
                    now,
                );
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
            // A new tap begins with a snapshot.
            None if needs_snapshot => self.tap_again(&mut running),
            None => {}
        }
        running
    }

    fn new_id(&mut self) -> RuleId {
        self.next_id += 1;
        RuleId(self.next_id)
    }

    fn tap(&self, running: &ActiveRule) -> TapId {
        // A recording rule shows only whether it works; its rows would be copied for nothing.
        let outcome_only = running.alerting.is_none();
        let sink = RuleSink { events: self.events.clone(), rule: running.id, outcome_only };
        self.ports.views.tap(running.view, Box::new(sink))
    }

    fn tap_again(&self, running: &mut ActiveRule) {
        self.ports.views.untap(running.tap);
        running.tap = self.tap(running);
    }

    fn start(
        &mut self,
        view: ViewId,
        rule: &Rule,
        key: RuleKey,
        alerting: Option<AlertingRule>,
    ) -> ActiveRule {
        let mut running = ActiveRule {
            id: self.new_id(),
            view,
            tap: TapId(0),
            rule: rule.clone(),
            key,
            saved_key: None,
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

    /// Ends a removed rule and its series.
    fn end(&self, mut running: ActiveRule, changes: &mut Vec<MapChange>, now: TimeMs) {
        self.ports.views.remove(running.view);
        if let Some(alerting) = &mut running.alerting {
            alerting.alerts.report_removal(now);
            changes.extend(self.history.add(&running.key, alerting.alerts.changes.take_transitions()));
        }
        running.move_saved(None, changes);
        if let Some(alerting) = &mut running.alerting
            && let Err(error) = alerting.writer.write(&*self.ports.store, now, &[])
        {
            tracing::warn!(target: "rules", rule = %running.rule.name, %error, "the ALERTS series of a removed rule cannot be ended; they disappear with the lookback");
        }
    }

    /// Gives rules their saved alerts at the first call. Rules that a reload adds have none.
    fn restore(&mut self, fresh: &[RuleId], changes: &mut Vec<MapChange>, now: TimeMs) {
        if !std::mem::take(&mut self.before_first_apply) {
            return;
        }
        let past = self.ports.memory.load_saved();
        if let Some(entries) = &past {
            let states = entries.keys().filter(|key| !alert_persistence::is_history(key));
            changes.extend(states.map(|key| (key.clone(), None)));
        }
        changes.extend(self.history.load(past.as_ref(), now));
        let positions = fresh.iter().filter_map(|id| self.positions.get(id)).copied();
        let positions: Vec<RulePosition> =
            positions.filter(|at| self.running(*at).alerting.is_some()).collect();
        if !positions.is_empty() {
            let restart = restore::AlertRestore { ports: &self.ports, options: &self.options, now };
            restart.run(&mut self.groups, &positions, past.as_ref());
        }
        let kept = past.as_ref().map(|entries| restore::orphans(entries, &self.groups));
        for orphan in kept.into_iter().flatten() {
            changes.extend(self.history.add(&orphan.rule, orphan.ends(now)));
        }
    }

    /// Saves `changes` and all alerts that have changed. Returns a number to wait for.
    fn save(&mut self, mut changes: Vec<MapChange>, now: TimeMs) -> u64 {
        for rule in self.groups.iter_mut().flat_map(|group| &mut group.rules) {
            changes.extend(rule.take_changes(&self.history, now));
        }
        self.ports.memory.save(changes)
    }

    /// Does what is due at `now`: events, timers, evaluation times, sends. Returns when it must be
    /// called again.
    pub fn step(&mut self, now: TimeMs) -> TimeMs {
        let _span = tracing::debug_span!(target: "rules", "rules", t = now).entered();
        // What was written in a step counts as written before the next one.
        for g in std::mem::take(&mut self.wrote) {
            // A reload may have removed the group meanwhile.
            if let Some(group) = self.groups.get_mut(g) {
                group.wrote = now;
            }
        }
        let DrainedRuleEvents { events, lagging, delivered } = self.events.drain();
        tracing::debug!(target: "rules", events = events.len(), lagging = lagging.len(), "events of views arrive");
        let mut touched = BTreeSet::new();
        let mut outgoing = Vec::new();
        for (id, event) in events {
            let Some(position) = self.positions.get(&id).copied() else { continue };
            touched.insert(position);
            let tools = StepContext { expander: &self.expander, store: &*self.ports.store };
            let group = &mut self.groups[position.group];
            group.follow(position.rule, self.wrote.contains(&position.group));
            let running = &mut group.rules[position.rule];
            let evaluation_time = running.next_evaluation();
            let tally = running.on_event(&tools, event);
            if running.next_evaluation() != evaluation_time {
                self.wrote.insert(position.group);
            }
            group.counters.count_event(running, tally, self.ports.views.cost(running.view), &self.durations);
            // Sent immediately, so that an alert that fires and ends within one step is sent in
            // both states.
            outgoing.extend(running.outgoing(&self.expander, &self.options.external_url, &self.events, now));
        }
        let mut changes = Vec::new();
        for delivered in delivered {
            changes.extend(self.history.note_delivery(&delivered, now));
            let Some(position) = self.positions.get(&delivered.rule).copied() else { continue };
            if let Some(alerting) = self.groups[position.group].rules[position.rule]
                .alerting
                .as_mut()
                .filter(|_| delivered.outcome.error.is_empty())
            {
                alerting.alerts.mark_delivered(&delivered);
                touched.insert(position);
            }
        }
        let due = self.wakeups.range(..=(now, RuleId(u64::MAX)));
        touched.extend(due.filter_map(|(_, id)| self.positions.get(id)));
        for position in touched {
            self.advance_rule(position, now, &mut outgoing, &mut changes);
        }
        self.save_and_send(outgoing, changes);
        // After the alerts were sent, which must not wait for it.
        let explained = causes::explain_changes(&self.history, &self.groups, &*self.ports.store);
        if !explained.is_empty() {
            self.ports.memory.save(explained);
        }
        self.pass_evaluations(now);
        if self.ports.views.awaits_alert_series() {
            self.ports.views.alert_series_written(self.written_before());
        }
        for id in lagging.into_iter() {
            self.resubscribe(id);
        }
        if self.history.has_unexplained() {
            return now + 1;
        }
        let evaluation_time = self.group_evaluations.first().map_or(TimeMs::MAX, |(t, _)| *t);
        self.wakeups.first().map_or(TimeMs::MAX, |(t, _)| *t).min(evaluation_time).min(now + MAX_SLEEP_MS)
    }

    /// Counts the evaluation times of groups that have passed.
    fn pass_evaluations(&mut self, now: TimeMs) {
        while let Some((_, g)) = self.group_evaluations.first().copied().filter(|(t, _)| *t <= now) {
            self.group_evaluations.pop_first();
            let ActiveGroup { rules, counters, .. } = &mut self.groups[g];
            counters.record_evaluation(rules, &*self.ports.views, &self.durations, now);
            self.group_evaluations.insert((counters.next_evaluation(), g));
        }
    }

    /// The time before which the `ALERTS` samples of all evaluation times are written.
    fn written_before(&self) -> TimeMs {
        let group = self.group_evaluations.first().map_or(TimeMs::MAX, |(t, _)| *t - TIMER_SLACK_MS);
        let rules = self.groups.iter().flat_map(|group| &group.rules);
        rules
            .filter_map(ActiveRule::next_evaluation)
            .min()
            .map_or(group, |evaluation_time| evaluation_time.min(group))
    }

    /// Processes the timers of one rule.
    fn advance_rule(
        &mut self,
        at: RulePosition,
        now: TimeMs,
        outgoing: &mut Vec<AlertNotification>,
        changes: &mut Vec<MapChange>,
    ) {
        let tools = StepContext { expander: &self.expander, store: &*self.ports.store };
        let group = &mut self.groups[at.group];
        let running = &mut group.rules[at.rule];
        if running.next_wake() <= now {
            let evaluation_time = running.next_evaluation();
            group.counters.failed(running.on_time(&tools, now).failures);
            if running.next_evaluation() != evaluation_time {
                self.wrote.insert(at.group);
            }
        }
        outgoing.extend(running.outgoing(&self.expander, &self.options.external_url, &self.events, now));
        changes.extend(running.take_changes(&self.history, now));
        let wake = running.next_wake();
        if wake != running.wake {
            self.wakeups.remove(&(running.wake, running.id));
            self.wakeups.insert((wake, running.id));
            running.wake = wake;
        }
    }

    /// Sends alerts, after their changed states are saved durably.
    fn save_and_send(&self, outgoing: Vec<AlertNotification>, changes: Vec<MapChange>) {
        if !changes.is_empty() {
            let number = self.ports.memory.save(changes);
            if !outgoing.is_empty() {
                self.ports.memory.wait(number, Duration::from_millis(KEEP_WAIT_MS));
            }
        }
        if !outgoing.is_empty() {
            self.ports.notify.send(outgoing);
        }
    }

    /// Taps the view of a rule again that lost events; it gets a new snapshot.
    fn resubscribe(&mut self, id: RuleId) {
        let Some(at) = self.positions.get(&id).copied() else { return };
        let running = self.running(at);
        // Nothing is lost, and what to do about it is shown by the durations of the groups.
        tracing::info!(target: "rules", rule = %running.rule.name, "the rules thread is behind, so a rule continues from a snapshot");
        self.ports.views.untap(running.tap);
        let tap = self.tap(running);
        self.groups[at.group].rules[at.rule].tap = tap;
    }

    /// The state of all groups for the API.
    pub fn snapshot(&self, now: TimeMs) -> Vec<GroupSnapshot> {
        let one = |group: &ActiveGroup| GroupSnapshot {
            name: group.group.name.clone(),
            file: group.group.file.clone(),
            interval: group.group.interval,
            limit: group.group.limit,
            rules: group.rules.iter().map(|r| r.snapshot(&self.expander, &*self.ports.views, now)).collect(),
            last_evaluation: group.rules.iter().filter_map(|r| r.last_evaluation).max(),
            evaluation_time: group.rules.iter().map(|r| r.took(self.ports.views.cost(r.view))).sum(),
        };
        self.groups.iter().map(one).collect()
    }
}

/// A rule for [`views::recording`]. The key does not include the expression: what was computed
/// stays when that changes.
fn recorded_rule_of(group: &RuleGroup, running: &ActiveRule) -> RecordedRule {
    let rule = &running.rule;
    let spec = view_of(group, &running.rule);
    let RuleGroup { file, name, interval, query_offset, .. } = group;
    let key = format!("{file};{name};{interval};{query_offset};{};{:?}", rule.name, rule.labels);
    RecordedRule { view: running.view, key, spec, backfill: rule.backfill, lateness: group.lateness }
}

/// The view of a rule.
pub(super) fn view_of(group: &RuleGroup, rule: &Rule) -> ViewSpec {
    let kind = match rule.alert {
        Some(_) => ViewKind::Continuous { query_offset: group.query_offset },
        None => ViewKind::Recorded {
            record: rule.name.clone(),
            labels: rule.labels.clone(),
            interval: group.interval,
            offset: EvaluationGrid::new(group.interval, 0).offset,
            query_offset: group.query_offset,
            limit: group.limit,
        },
    };
    ViewSpec { name: rule.name.clone(), plan: rule.expr.plan.clone(), kind }
}
