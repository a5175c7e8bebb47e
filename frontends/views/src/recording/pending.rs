//! The evaluation times of rules that must be computed again, because a sample that they read
//! arrived after their evaluation. [`super::corrector`] works them off.

use super::RecordedRule;
use super::backfill_plan::reaches;
use super::late_queue::RuleSchedule;
use super::limits::{PASS_MS, RECORDED_AFTER};
use super::recorded_samples::RecordingSpec;
use super::selector_index::SelectorIndex;
use engine::live::ViewId;
use engine::live::views::{dependencies_of, rounds_of};
use engine::plan::Plan;
use engine::query::{QueryOptions, SelectorVisibility, visibilities};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// A rule whose recorded samples are corrected.
pub(super) struct CorrectedRule {
    /// The view that records the rule.
    pub view: ViewId,
    /// The recorded metric.
    pub name: String,
    /// What the rule evaluates.
    pub plan: Plan,
    /// How its answers become samples.
    pub recording: RecordingSpec,
    /// The rule has existed since before this time. Of earlier times, only those with recorded
    /// samples are corrected: it is not known whether the others were evaluated.
    pub since: TimeMs,
    /// What was recorded before this time stays: it came from another expression, or from other
    /// evaluation times.
    pub from: TimeMs,
    /// How late a sample may be, in ms.
    lateness: i64,
    selectors_read: Vec<SelectorVisibility>,
    /// The length of the longest chain of recorded rules below it.
    round: u64,
    /// No other rule records series that may be mistaken for its own.
    pub exclusive_name: bool,
}

/// Evaluation times from the first to the second, both included; ranges neither overlap nor touch.
type TimeRanges = BTreeMap<TimeMs, TimeMs>;
/// The numbers of a rule and of one of its selectors.
type SelectorUse = (u32, u32);

/// The rules, and their evaluation times to compute again.
#[derive(Default)]
pub(super) struct PendingCorrections {
    rules: Vec<Arc<CorrectedRule>>,
    ranges: HashMap<ViewId, TimeRanges>,
    selectors: SelectorIndex,
    /// By selector: the rules that use it.
    readers: Vec<Vec<SelectorUse>>,
}

impl PendingCorrections {
    /// Sets the rules. Pending times of a rule stay if its plan and times are the same. `all`:
    /// every recording rule.
    pub(super) fn replace(&mut self, all: &[RecordedRule], options: &QueryOptions, now: TimeMs) {
        let specs = || all.iter().map(|rule| (rule.view, &rule.spec));
        let late: Vec<&RecordedRule> = all.iter().filter(|rule| rule.lateness.is_some()).collect();
        let before: HashMap<ViewId, Arc<CorrectedRule>> =
            self.rules.iter().map(|rule| (rule.view, rule.clone())).collect();
        let ranges = std::mem::take(&mut self.ranges);
        *self = PendingCorrections::default();
        // Most servers: no index, and nothing is watched.
        if late.is_empty() {
            return;
        }
        let reads = dependencies_of(specs());
        let rounds = rounds_of(&reads);
        let recordings: Vec<(ViewId, RecordingSpec)> = all
            .iter()
            .filter_map(|rule| Some((rule.view, RecordingSpec::from_kind(&rule.spec.kind)?)))
            .collect();
        for rule in late {
            let Some(recording) = RecordingSpec::from_kind(&rule.spec.kind) else { continue };
            // Only then may samples without a counterpart be taken back: otherwise they may be
            // another rule's.
            let alone =
                !recordings.iter().any(|(view, other)| *view != rule.view && recording.may_share(other));
            if reaches(rule.view, &reads) {
                tracing::warn!(
                    target: "views",
                    rule = rule.spec.name,
                    "a rule reads the series that it records, so it is not corrected after late samples; give it another name, or remove `late_samples: correct`"
                );
                continue;
            }
            // The first time that is evaluated with the new definition.
            let next = recording.sample_time_at(now - recording.delay) + recording.interval;
            let old = before.get(&rule.view);
            let (since, from) = match old {
                None => (next, TimeMs::MIN),
                Some(old) if old.is(&rule.spec.plan, &recording) => (old.since, old.from),
                Some(_) => (next, next),
            };
            self.rules.push(Arc::new(CorrectedRule {
                view: rule.view,
                since,
                from,
                name: rule.spec.name.clone(),
                plan: rule.spec.plan.clone(),
                recording,
                lateness: rule.lateness.unwrap_or(0),
                selectors_read: visibilities(&rule.spec.plan, options),
                round: rounds.get(&rule.view).copied().unwrap_or(0),
                exclusive_name: alone,
            }));
        }
        // Pending times of a changed rule go: what was recorded before the change stays.
        let goes_on = |view: &ViewId| before.get(view).is_some_and(|old| self.is_current(old));
        self.ranges = ranges.into_iter().filter(|(view, _)| goes_on(view)).collect();
        self.index();
    }

    /// Whether a rule still has the same plan and evaluation times.
    fn is_current(&self, rule: &CorrectedRule) -> bool {
        self.rules.iter().any(|known| known.view == rule.view && known.is(&rule.plan, &rule.recording))
    }

    fn index(&mut self) {
        for (r, rule) in self.rules.iter().enumerate() {
            for (s, visibility) in rule.selectors_read.iter().enumerate() {
                let selector = self.selectors.add(&visibility.matchers) as usize;
                self.readers.resize_with(self.readers.len().max(selector + 1), Vec::new);
                self.readers[selector].push((r as u32, s as u32));
            }
        }
    }

    /// The selectors of all rules.
    pub(super) fn selectors(&self) -> &SelectorIndex {
        &self.selectors
    }

    /// The schedules of the rules.
    pub(super) fn schedules(&self) -> Vec<RuleSchedule> {
        let of = |rule: &Arc<CorrectedRule>| {
            let RecordingSpec { interval, offset, delay, .. } = rule.recording;
            let ahead = rule
                .selectors_read
                .iter()
                .map(|visibility| -visibility.from.max(-MOST_AHEAD))
                .max()
                .unwrap_or(0);
            RuleSchedule { interval, offset, delay, look_ahead: ahead.max(0) }
        };
        let mut all: Vec<RuleSchedule> = self.rules.iter().map(of).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// A sample at `t` that these selectors match arrived at `now`; evaluations up to `by` may have
    /// missed it. Returns for how many rules it is too late.
    pub(super) fn sample(&mut self, selectors: &[u32], t: TimeMs, now: TimeMs, by: TimeMs) -> u64 {
        let mut beyond = 0;
        for (rule, visibility) in self.readers(selectors) {
            if t < now - rule.lateness - rule.recording.delay {
                beyond += 1;
            } else {
                self.mark(&rule, visibility, t, now, by);
            }
        }
        beyond
    }

    /// A recorded sample at `t` was corrected: marks the rules that read it, whose evaluations up
    /// to `by` may have missed it.
    pub(super) fn mark_readers(&mut self, labels: &Labels, t: TimeMs, now: TimeMs, by: TimeMs) {
        let seen = self.selectors.seen(labels);
        for (rule, visibility) in self.readers(&seen) {
            self.mark(&rule, visibility, t, now, by);
        }
    }

    /// The rules that use these selectors, with their selectors.
    fn readers(&self, selectors: &[u32]) -> Vec<(Arc<CorrectedRule>, u32)> {
        let readers = selectors.iter().filter_map(|selector| self.readers.get(*selector as usize)).flatten();
        readers.map(|(rule, visibility)| (self.rules[*rule as usize].clone(), *visibility)).collect()
    }

    /// Marks everything that was evaluated after `from`.
    pub(super) fn since(&mut self, from: TimeMs, now: TimeMs) {
        for rule in self.rules.clone() {
            let first = rule.evaluated(from) + rule.recording.interval;
            self.add(&rule, first, rule.evaluated(now));
        }
    }

    /// These times of a rule could not be computed: they are tried again, while late samples could
    /// still affect them.
    pub(super) fn again(&mut self, rule: &CorrectedRule, first: TimeMs, last: TimeMs, now: TimeMs) {
        if self.is_current(rule) {
            self.add(rule, first.max(rule.oldest_sample_time(now)), last);
        }
    }

    /// Marks everything within the bounds.
    pub(super) fn all(&mut self, now: TimeMs) {
        for rule in self.rules.clone() {
            let last = rule.evaluated(now);
            self.add(&rule, rule.oldest_sample_time(now), last);
        }
    }

    /// A sample at `t` arrived at `now`; evaluations up to `by` may have missed it.
    fn mark(&mut self, rule: &CorrectedRule, visibility: u32, t: TimeMs, now: TimeMs, by: TimeMs) {
        let visibility = &rule.selectors_read[visibility as usize];
        let last = rule.evaluated(by);
        // Saturating, because selectors with `@` see every time.
        let from = t.saturating_add(visibility.from).max(rule.oldest(now));
        let to = t.saturating_add(visibility.to);
        let first = rule.recording.sample_time_at(from - 1) + rule.recording.interval;
        self.add(rule, first, rule.recording.sample_time_at(to - 1).min(last));
    }

    fn add(&mut self, rule: &CorrectedRule, first: TimeMs, last: TimeMs) {
        if first <= last {
            insert(self.ranges.entry(rule.view).or_default(), first, last, rule.recording.interval);
        }
    }

    /// The next rule with pending times that are recorded by `now`, with these times. Rules that
    /// others read come first.
    pub(super) fn take(&mut self, now: TimeMs) -> Option<(Arc<CorrectedRule>, TimeRanges)> {
        let due = |rule: &&Arc<CorrectedRule>| {
            let first = self.ranges.get(&rule.view).and_then(|ranges| ranges.keys().next());
            first.is_some_and(|first| *first <= rule.recorded(now))
        };
        // From the bottom: a correction of a rule changes what the rules above it read.
        let rule = self.rules.iter().filter(due).min_by_key(|rule| rule.round)?.clone();
        let mut due = self.ranges.remove(&rule.view)?;
        let last = rule.recorded(now);
        let mut later = due.split_off(&(last + 1));
        // A range that ends after what is recorded yet is cut in two.
        if let Some((_, end)) = due.iter_mut().next_back().filter(|(_, end)| **end > last) {
            later.insert(last + rule.recording.interval, *end);
            *end = last;
        }
        if !later.is_empty() {
            self.ranges.insert(rule.view, later);
        }
        Some((rule, due))
    }

    /// The first evaluation time after `t` must be checked when it is recorded.
    pub(super) fn check_next(&mut self, rule: &CorrectedRule, t: TimeMs) {
        let next = t + rule.recording.interval;
        if self.is_current(rule) {
            self.add(rule, next, next);
        }
    }

    /// Whether there are no pending times.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// How far after their evaluation time selectors may read, in ms; further only if they read any
/// time.
const MOST_AHEAD: i64 = 86_400_000;

impl CorrectedRule {
    /// Whether it has this plan and records it like this.
    fn is(&self, plan: &Plan, recording: &RecordingSpec) -> bool {
        self.plan == *plan && self.recording == *recording
    }

    /// The last time that is recorded by `now`.
    pub(super) fn recorded(&self, now: TimeMs) -> TimeMs {
        self.evaluated(now - RECORDED_AFTER)
    }

    /// Evaluation times before this are not computed again.
    fn oldest(&self, now: TimeMs) -> TimeMs {
        now - self.lateness - self.recording.delay - self.recording.interval - PASS_MS
    }

    /// The first evaluation time that is still computed again.
    fn oldest_sample_time(&self, now: TimeMs) -> TimeMs {
        self.recording.sample_time_at(self.oldest(now)) + self.recording.interval
    }

    /// The last time that may have been evaluated by `now`.
    pub(super) fn evaluated(&self, now: TimeMs) -> TimeMs {
        self.recording.sample_time_at(now - self.recording.delay)
    }
}

/// Adds evaluation times, and joins ranges that touch.
fn insert(ranges: &mut TimeRanges, mut first: TimeMs, mut last: TimeMs, interval: i64) {
    while let Some((from, to)) = ranges.range(..=last + interval).next_back().map(|(f, t)| (*f, *t)) {
        if to < first - interval {
            break;
        }
        ranges.remove(&from);
        first = first.min(from);
        last = last.max(to);
    }
    ranges.insert(first, last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined() {
        let mut ranges = TimeRanges::new();
        for (first, last) in [(10, 20), (50, 50), (0, 0), (30, 30), (40, 40), (80, 90)] {
            insert(&mut ranges, first, last, 10);
        }
        assert_eq!(ranges.into_iter().collect::<Vec<_>>(), [(0, 50), (80, 90)]);
    }
}
