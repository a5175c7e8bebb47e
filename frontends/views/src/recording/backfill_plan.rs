//! Plans backfill (the samples that recording rules would have recorded before they existed): which
//! evaluation times of which rules must be computed next. Oldest first, and within one range of
//! time rules that others read first. [`super::backfill`] computes them.

use super::limits::{ALIVE_EVERY, BACKFILL_RANGE_MS, BACKFILL_TIMES, RETRY_AFTER};
use super::progress_file::{BackfillProgress, RuleProgress};
use super::recorded_samples::{EvaluationRange, RecordingSpec};
use super::{BackfillState, BackfillStatus, RecordedRule};
use engine::live::ViewId;
use engine::live::views::{ViewDependencies, dependencies_of, rounds_of};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};

/// How long before the last sign of life a restart checks again, in ms.
const ALIVE_SLACK_MS: i64 = 120_000;

/// The rules and their progress.
pub(super) struct BackfillPlan {
    /// By view.
    rules: BTreeMap<ViewId, PlannedRule>,
    /// Progress from before the start that no rule has claimed yet.
    saved: HashMap<String, RuleProgress>,
    /// When complete rules were last known to be recorded.
    last_alive: TimeMs,
    /// There is, or should be, a progress file.
    on_disk: bool,
    /// The progress file is not up to date.
    unwritten: bool,
    /// Whether rules have been set since the start.
    has_rules: bool,
    /// The latest number of a definition.
    turns: u64,
    /// The thread must end.
    pub ended: bool,
}

/// One rule.
struct PlannedRule {
    rule: RecordedRule,
    /// Number of its definition: results of an earlier one are ignored.
    definition_number: u64,
    recording: RecordingSpec,
    entry: RuleProgress,
    /// The last evaluation time before the rule was installed.
    base: TimeMs,
    /// The first time that is recorded live.
    handover_time: Option<TimeMs>,
    /// The rules of the plan that it reads, and the length of the longest chain of them.
    reads: Vec<ViewId>,
    round: u64,
    /// It reads itself, directly or through other rules.
    cyclic: bool,
    error: String,
    /// Its history could not be read: not tried before this time.
    paused_until: Option<Instant>,
    /// Series with a value at time `entry.done`, if known.
    present: Option<BTreeSet<Labels>>,
    /// Evaluation times per query.
    times_per_query: usize,
}

/// Evaluation times of one rule to compute.
pub(super) struct BackfillTask {
    /// The rule's view.
    pub view: ViewId,
    /// Number of the rule's definition.
    pub turn: u64,
    /// The recording rule to evaluate.
    pub rule: RecordedRule,
    /// What it records.
    pub recording: RecordingSpec,
    /// The evaluation times.
    pub times: EvaluationRange,
    /// The first evaluation time of the rule's history.
    pub from: TimeMs,
    /// At the last time only stale markers are written: everything else is recorded live.
    pub ends_at_handover: bool,
    /// Series with a value at the time before, if known; empty if there is no time before.
    pub present: Option<BTreeSet<Labels>>,
    /// Evaluation times per query.
    pub at_once: usize,
}

/// The times of one block.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockRange {
    /// The first time.
    pub begin: TimeMs,
    /// The first time after it.
    pub end: TimeMs,
}

/// Rules that do not read each other, over one range of time.
pub(super) struct BackfillBatch {
    /// The range of the block.
    pub range: BlockRange,
    /// What must be computed.
    pub tasks: Vec<BackfillTask>,
}

/// A rule is computed up to a time.
pub(super) struct TaskProgress {
    /// The view that records the rule.
    pub view: ViewId,
    /// Number of its definition.
    pub turn: u64,
    /// The evaluation time, ms.
    pub time: TimeMs,
    /// Series with a value at that time.
    pub present: BTreeSet<Labels>,
    /// Evaluation times per query from now on.
    pub at_once: usize,
    /// An error on the way.
    pub error: Option<String>,
}

impl BackfillPlan {
    /// A plan without rules, with the saved progress.
    pub(super) fn new(progress: BackfillProgress) -> BackfillPlan {
        let on_disk = !progress.rules.is_empty();
        let saved = progress.rules.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        BackfillPlan {
            rules: BTreeMap::new(),
            saved,
            last_alive: progress.alive,
            on_disk,
            unwritten: false,
            has_rules: false,
            turns: 0,
            ended: false,
        }
    }

    /// Replaces the rules. Returns the views whose first recorded time is not known yet.
    /// `retention`: nothing older is computed, in ms; 0: no limit.
    pub(super) fn replace(&mut self, rules: Vec<RecordedRule>, now: TimeMs, retention: i64) -> Vec<ViewId> {
        let mut old = std::mem::take(&mut self.rules);
        let mut entries = std::mem::take(&mut self.saved);
        self.has_rules = true;
        self.unwritten = true;
        let mut fresh = Vec::new();
        // Rules without backfill have no progress; what they record begins live.
        for rule in rules.into_iter().filter(|rule| rule.backfill > 0) {
            let Some(recording) = RecordingSpec::from_kind(&rule.spec.kind) else { continue };
            let view = rule.view;
            self.turns += 1;
            if let Some(mut planned) = old.remove(&view) {
                // The same series at the same times: what is computed stays, even if the expression
                // has changed, as recorded samples stay in Prometheus.
                if planned.rule.backfill == rule.backfill && planned.recording == recording {
                    planned.continue_as(rule, self.turns);
                    self.rules.insert(view, planned);
                    continue;
                }
                entries.insert(planned.entry.key.clone(), planned.entry);
            // The rule has another view since a reload, but it is the same rule.
            } else if let Some(before) = same_key(&mut old, &rule.key) {
                entries.insert(before.entry.key.clone(), before.entry);
            }
            let entry = self.entry(&rule, &recording, entries.remove(&rule.key), now, retention);
            fresh.push(view);
            self.rules.insert(view, PlannedRule::new(rule, self.turns, recording, entry, now));
        }
        self.last_alive = now;
        // Every time: which rule reads which may have changed for all of them.
        self.order_rules();
        fresh
    }

    /// Where a rule begins: where it was, or at the beginning.
    fn entry(
        &self,
        rule: &RecordedRule,
        recording: &RecordingSpec,
        saved: Option<RuleProgress>,
        now: TimeMs,
        retention: i64,
    ) -> RuleProgress {
        let length = if retention > 0 { rule.backfill.min(retention) } else { rule.backfill };
        // The first evaluation time that is not older than the requested history.
        let first = recording.sample_time_at(now - recording.delay - length - 1) + recording.interval;
        let done = first - recording.interval;
        let new_progress = RuleProgress {
            key: rule.key.clone(),
            history_ms: rule.backfill,
            from: first,
            done,
            complete: false,
        };
        // More history than before begins again from its own start; samples that are stored are
        // skipped.
        let Some(mut entry) = saved.filter(|entry| entry.history_ms >= rule.backfill) else {
            return new_progress;
        };
        if std::mem::take(&mut entry.complete) {
            // It has been recorded live; only what came after the last sign of life may be missing.
            let alive =
                self.last_alive.saturating_sub(ALIVE_SLACK_MS + recording.delay + 2 * recording.interval);
            entry.done = entry.done.max(recording.sample_time_at(alive.max(entry.from)));
        }
        if retention > 0 {
            // What is older than the retention would be removed at once.
            entry.done = entry.done.max(recording.sample_time_at(now - recording.delay - retention));
        }
        entry
    }

    /// Computes which rule reads which.
    fn order_rules(&mut self) {
        let specs = || self.rules.iter().map(|(id, planned)| (*id, &planned.rule.spec));
        let reads = dependencies_of(specs());
        let rounds = rounds_of(&reads);
        for (id, planned) in &mut self.rules {
            planned.reads = reads.get(id).map(|reads| reads.all().collect()).unwrap_or_default();
            planned.round = rounds.get(id).copied().unwrap_or(0);
            // The rule was cyclic before: its error said so.
            if std::mem::replace(&mut planned.cyclic, reaches(*id, &reads)) {
                planned.error.clear();
            }
            if planned.cyclic {
                "the rule reads its own series: its past cannot be computed".clone_into(&mut planned.error);
            }
        }
    }

    /// The first evaluation of a view that succeeded was at `t`.
    pub(super) fn set_first_live_time(&mut self, view: ViewId, t: TimeMs) {
        if let Some(planned) = self.rules.get_mut(&view) {
            // After a change of the interval, the first answer may be for one of the old times.
            let time = planned.recording.sample_time_at(t - planned.recording.delay - 1)
                + planned.recording.interval;
            planned.handover_time.get_or_insert(time);
            planned.update_complete();
        }
    }

    /// What must be computed next.
    pub(super) fn next(&self) -> Option<BackfillBatch> {
        let resting = self.paused_rules(Instant::now());
        let ready = self.rules.iter().filter(|(view, _)| !resting.contains(view));
        let pending: Vec<(&PlannedRule, EvaluationRange, bool)> =
            ready.filter_map(|(_, k)| self.pending(k)).collect();
        // Pieces are aligned to fixed times, so that each becomes one block, whichever rules it is
        // of.
        let range_of = |times: &EvaluationRange| times.first.div_euclid(BACKFILL_RANGE_MS);
        let at = pending.iter().map(|(_, times, _)| range_of(times)).min()?;
        let among = || pending.iter().filter(|(_, times, _)| range_of(times) == at);
        // One round at a time: what a rule reads of others must be stored before it is computed.
        let round = among().map(|(planned, ..)| planned.round).min()?;
        let range = BlockRange { begin: at * BACKFILL_RANGE_MS, end: (at + 1) * BACKFILL_RANGE_MS };
        let tasks = among().filter(|(planned, ..)| planned.round == round).map(
            |(planned, times, ends_at_handover)| {
                let last = times.last.min(planned.recording.sample_time_at(range.end - 1));
                planned.task(EvaluationRange { last, ..*times }, *ends_at_handover && last == times.last)
            },
        );
        Some(BackfillBatch { range, tasks: tasks.collect() })
    }

    /// Rules that cannot be computed now, because their history, or that of a rule they read,
    /// cannot be read.
    fn paused_rules(&self, now: Instant) -> BTreeSet<ViewId> {
        let mut by_round: Vec<(&ViewId, &PlannedRule)> = self.rules.iter().collect();
        // From the bottom, so that one pass finds all that depend on a paused rule.
        by_round.sort_by_key(|(_, planned)| planned.round);
        let mut resting = BTreeSet::new();
        for (view, planned) in by_round {
            if planned.paused_until.is_some_and(|until| until > now)
                || planned.reads.iter().any(|id| resting.contains(id))
            {
                resting.insert(*view);
            }
        }
        resting
    }

    /// How long there is nothing to do, unless rules change.
    pub(super) fn idle_time(&self) -> Duration {
        let now = Instant::now();
        let rests =
            self.rules.values().filter_map(|planned| planned.paused_until).filter(|until| *until > now).min();
        rests.map_or(ALIVE_EVERY, |until| until - now)
    }

    /// The evaluation times that a rule is missing and that can be computed now; and whether the
    /// last one is the handover time.
    fn pending<'a>(&self, planned: &'a PlannedRule) -> Option<(&'a PlannedRule, EvaluationRange, bool)> {
        if planned.cyclic || planned.entry.complete {
            return None;
        }
        // A cyclic rule is never complete; whoever reads it gets what there is.
        let whole = |id: &ViewId| self.rules.get(id).is_none_or(|other| other.cyclic || other.entry.complete);
        let interval = planned.recording.interval;
        let (last, ends_at_handover) = match planned.handover_time {
            Some(ends_at_handover) if planned.reads.iter().all(whole) => (ends_at_handover, true),
            // Near the handover the rules that it reads may still lack samples, so the last times
            // wait.
            Some(ends_at_handover) => (planned.base.min(ends_at_handover - interval), false),
            None => (planned.base, false),
        };
        let times = EvaluationRange { first: planned.entry.done + interval, last, interval };
        (!times.is_empty()).then_some((planned, times, ends_at_handover))
    }

    /// Stores what is done. Returns the rules that are complete now.
    pub(super) fn reached(&mut self, reached: Vec<TaskProgress>) -> Vec<String> {
        let mut complete = Vec::new();
        for TaskProgress { view, turn, time, present, at_once, error } in reached {
            // The rule was replaced while this was computed: the result is of the old definition.
            let Some(planned) = self.rules.get_mut(&view).filter(|planned| planned.definition_number == turn)
            else {
                continue;
            };
            // Never back: a piece that is computed a second time must not make the next ones
            // pending again.
            planned.entry.done = planned.entry.done.max(time);
            planned.present = Some(present);
            planned.times_per_query = at_once;
            if let Some(error) = error {
                planned.error = error;
            } else if planned.paused_until.take_if(|until| *until <= Instant::now()).is_some() {
                planned.error.clear();
            }
            if planned.update_complete() {
                complete.push(planned.rule.spec.name.clone());
            }
        }
        complete
    }

    /// The history of a rule cannot be read now.
    pub(super) fn pause_rule(&mut self, view: ViewId, why: &str) {
        if let Some(planned) = self.rules.get_mut(&view) {
            planned.paused_until = Some(Instant::now() + RETRY_AFTER);
            why.clone_into(&mut planned.error);
        }
    }

    /// Stores why nothing could be written.
    pub(super) fn failed(&mut self, views: &[ViewId], error: &str) {
        for view in views {
            if let Some(planned) = self.rules.get_mut(view) {
                error.clone_into(&mut planned.error);
            }
        }
    }

    /// Whether rules changed since the last [`BackfillPlan::progress`].
    pub(super) fn is_unwritten(&self) -> bool {
        self.unwritten
    }

    /// The progress to save.
    pub(super) fn progress(&mut self, now: TimeMs) -> Option<BackfillProgress> {
        // Before the rules are known, nothing is known about them.
        if !self.has_rules {
            return None;
        }
        self.unwritten = false;
        // A server without backfill should have no file of it.
        if self.rules.is_empty() && !self.on_disk {
            return None;
        }
        self.last_alive = now;
        self.on_disk = !self.rules.is_empty();
        Some(BackfillProgress::new(now, self.rules.values().map(|planned| planned.entry.clone()).collect()))
    }

    /// Whether the history of all rules is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.rules.values().all(|planned| planned.entry.complete)
    }

    /// As [`super::RecordingHistory::backfill_status`].
    pub(super) fn report(&self, view: ViewId) -> Option<BackfillStatus> {
        let planned = self.rules.get(&view)?;
        let interval = planned.recording.interval;
        let state = if planned.entry.complete {
            BackfillState::Done
        } else if planned.cyclic {
            BackfillState::Failed
        } else if self.pending(planned).is_some() {
            // Asked of the plan and not remembered, so that the state cannot disagree with what is
            // done next.
            BackfillState::Running
        } else {
            BackfillState::Waiting
        };
        let done = planned.entry.done + interval;
        Some(BackfillStatus {
            from: planned.entry.from,
            to: planned.handover_time.unwrap_or(planned.base),
            done_until: planned
                .handover_time
                .map_or(done, |ends_at_handover| done.min(ends_at_handover))
                .max(planned.entry.from),
            state,
            error: planned.error.clone(),
        })
    }
}

impl PlannedRule {
    fn new(
        rule: RecordedRule,
        turn: u64,
        recording: RecordingSpec,
        entry: RuleProgress,
        now: TimeMs,
    ) -> PlannedRule {
        let base = recording.sample_time_at(now - recording.delay);
        PlannedRule {
            rule,
            definition_number: turn,
            recording,
            entry,
            base,
            handover_time: None,
            reads: Vec::new(),
            round: 0,
            cyclic: false,
            error: String::new(),
            paused_until: None,
            present: None,
            times_per_query: BACKFILL_TIMES,
        }
    }

    /// The rule has another position or another plan, with the same evaluation times: what was
    /// computed stays.
    fn continue_as(&mut self, rule: RecordedRule, turn: u64) {
        self.entry.key.clone_from(&rule.key);
        if self.rule.spec.plan != rule.spec.plan {
            // Series that only the old expression has end at the first time of the new one.
            self.definition_number = turn;
            self.times_per_query = BACKFILL_TIMES;
            self.paused_until = None;
            self.error = String::new();
        }
        self.rule = rule;
    }

    /// Whether it has just become complete.
    fn update_complete(&mut self) -> bool {
        let whole = self.handover_time.is_some_and(|ends_at_handover| self.entry.done >= ends_at_handover);
        !std::mem::replace(&mut self.entry.complete, whole) && whole
    }

    fn task(&self, times: EvaluationRange, ends_at_handover: bool) -> BackfillTask {
        let nothing_before = times.first <= self.entry.from;
        BackfillTask {
            view: self.rule.view,
            turn: self.definition_number,
            rule: self.rule.clone(),
            recording: self.recording.clone(),
            times,
            from: self.entry.from,
            ends_at_handover,
            present: self.present.clone().or_else(|| nothing_before.then(BTreeSet::new)),
            at_once: self.times_per_query,
        }
    }
}

/// The rule with this key, under another view.
fn same_key(planned: &mut BTreeMap<ViewId, PlannedRule>, key: &str) -> Option<PlannedRule> {
    let view = planned.iter().find(|(_, planned)| planned.rule.key == key).map(|(view, _)| *view)?;
    planned.remove(&view)
}

/// Whether a rule can be reached from itself.
pub(super) fn reaches(id: ViewId, reads: &BTreeMap<ViewId, ViewDependencies>) -> bool {
    let mut seen = BTreeSet::new();
    let mut walk = vec![id];
    while let Some(at) = walk.pop() {
        for next in reads.get(&at).into_iter().flat_map(ViewDependencies::all) {
            if next == id {
                return true;
            }
            if seen.insert(next) {
                walk.push(next);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::live::{ViewKind, ViewSpec};

    const MINUTE: i64 = 60_000;
    const NOW: TimeMs = 1_000 * MINUTE;

    fn rule(expr: &str, interval: i64, key: &str) -> RecordedRule {
        let plan = promql::compile(expr, &Default::default()).unwrap();
        let record = "r".to_owned();
        let labels = Vec::new();
        let kind = ViewKind::Recorded { record, labels, interval, offset: 0, query_offset: 0, limit: 0 };
        let spec = ViewSpec { name: "r".to_owned(), plan, kind };
        RecordedRule { view: ViewId(1), key: key.to_owned(), spec, backfill: 600 * MINUTE, lateness: None }
    }

    /// The rule is done up to a time, with the definition of `batch`.
    fn reach(rules: &mut BackfillPlan, batch: &BackfillBatch, time: TimeMs) {
        let turn = batch.tasks[0].turn;
        let present = BTreeSet::from([Labels::from_pairs([("job", "a")])]);
        rules.reached(vec![TaskProgress { view: ViewId(1), turn, time, present, at_once: 1, error: None }]);
    }

    fn begun(expr: &str) -> (BackfillPlan, BackfillBatch) {
        let mut rules = BackfillPlan::new(BackfillProgress::new(0, Vec::new()));
        rules.replace(vec![rule(expr, MINUTE, "k")], NOW, 0);
        let batch = rules.next().unwrap();
        (rules, batch)
    }

    #[test]
    fn another_expression_goes_on_where_the_old_one_was() {
        let (mut rules, batch) = begun("a");
        reach(&mut rules, &batch, 500 * MINUTE);
        rules.replace(vec![rule("b", MINUTE, "moved")], NOW, 0);
        // Results of the old definition are stored, but do not count for the new one.
        reach(&mut rules, &batch, 600 * MINUTE);
        let stretch = &rules.next().unwrap().tasks[0];
        assert_eq!(stretch.rule.spec.plan, rule("b", MINUTE, "").spec.plan);
        assert_eq!(stretch.times.first, 501 * MINUTE);
        assert_eq!(
            stretch.present.as_ref().map(BTreeSet::len),
            Some(1),
            "its series end where they are gone"
        );
        assert_eq!(rules.progress(NOW).unwrap().rules[0].key, "moved");
    }

    #[test]
    fn another_interval_begins_anew() {
        let (mut rules, batch) = begun("a");
        reach(&mut rules, &batch, 500 * MINUTE);
        let fresh = rules.replace(vec![rule("a", 5 * MINUTE, "k5")], NOW, 0);
        reach(&mut rules, &batch, 600 * MINUTE);
        let times = rules.next().unwrap().tasks[0].times;
        assert_eq!((times.first, times.interval, fresh), (400 * MINUTE, 5 * MINUTE, vec![ViewId(1)]));
        // The view may still answer at the old times.
        rules.set_first_live_time(ViewId(1), 1_002 * MINUTE);
        assert_eq!(rules.report(ViewId(1)).unwrap().to, 1_005 * MINUTE);
    }

    #[test]
    fn a_rule_that_reads_itself_no_more_is_computed() {
        let (mut rules, _) = begun("a");
        rules.replace(vec![rule("r + a", MINUTE, "k")], NOW, 0);
        assert_eq!(rules.report(ViewId(1)).unwrap().state, BackfillState::Failed);
        assert!(rules.next().is_none());
        rules.replace(vec![rule("a", MINUTE, "k")], NOW, 0);
        let report = rules.report(ViewId(1)).unwrap();
        assert_eq!((report.state, report.error.as_str()), (BackfillState::Running, ""));
    }

    #[test]
    fn without_backfill_there_is_nothing_to_write() {
        let mut rules = BackfillPlan::new(BackfillProgress::new(0, Vec::new()));
        rules.replace(Vec::new(), 1_000, 0);
        assert!(rules.is_unwritten());
        assert!(rules.progress(1_000).is_none());
        assert!(!rules.is_unwritten(), "the thread would never sleep");
    }
}
