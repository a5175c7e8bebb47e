//! What made an alert change its state: the series that its condition reads and that got a sample
//! at that tick (evaluation), with their values before and after.
//!
//! They are looked up in the store right after the tick, and kept with the change in
//! [`super::alert_history`]. In a cluster only the series of this process are seen.

use super::active_rules::ActiveGroup;
use super::alert_history::{AlertHistory, AlertTransition, ChangeCause, RuleName, SeriesMove};
use super::file::{EvaluationMode, Rule, RuleGroup};
use super::limits::{CAUSE_REACH_MS, CAUSE_SERIES, CAUSE_SERIES_READ, CAUSES_PER_STEP};
use super::restore;
use super::services::AlertSeriesStore;
use engine::plan::{PlanNode, PlanOp, Selector};
use storage::durable_map::MapChange;
use storage::model::labels::METRIC_NAME;
use storage::model::value::is_stale;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{RecentSamples, RecentSeries, StoreError};

/// Looks up the causes of some changes. Returns what is to be saved.
pub(super) fn explain_changes(
    history: &AlertHistory,
    groups: &[ActiveGroup],
    store: &dyn AlertSeriesStore,
) -> Vec<MapChange> {
    let mut saves = Vec::new();
    for _ in 0..CAUSES_PER_STEP {
        let together = history.take_unexplained();
        let Some(first) = together.first() else { break };
        let Some((group, rule)) = rule_of(groups, first) else { continue };
        let times = CauseTimes {
            at: first.change.at,
            query_offset: group.query_offset,
            interval: (group.evaluation == EvaluationMode::Interval).then_some(group.interval),
        };
        let rows: Vec<&Labels> = together.iter().map(|transition| &transition.change.row).collect();
        match CauseFinder::read(store, &rule.expr.plan, times, &rows) {
            Ok(finder) => {
                let explained = together.iter().filter_map(|transition| {
                    history.explain(transition.number, finder.cause(&transition.change.row))
                });
                saves.extend(explained);
            }
            Err(error) => {
                tracing::warn!(target: "rules", rule = %rule.name, %error, "the cause of a change of alerts cannot be read; the history shows the change without it");
            }
        }
    }
    saves
}

/// The rule of a change; `None`: it does not run any more.
fn rule_of<'a>(groups: &'a [ActiveGroup], transition: &AlertTransition) -> Option<(&'a RuleGroup, &'a Rule)> {
    let RuleName { file, group, name } = &transition.rule;
    let same = groups.iter().filter(|g| g.group.file == *file && g.group.name == *group);
    let rules = same.flat_map(|g| g.rules.iter().map(move |running| (&g.group, &running.rule)));
    // Several rules of a group may have one name and differ in their labels.
    let mut own = rules.filter(|(_, rule)| {
        rule.alert.is_some() && rule.name == *name && restore::owns(rule, &transition.change.labels)
    });
    own.next()
}

/// A selector of a condition, and how far in the past it reads, in ms.
struct ReadSelector<'a> {
    matchers: &'a [Matcher],
    offset: i64,
}

/// The selectors of a plan that read what is new.
fn selectors<'a>(node: &'a PlanNode, offset: i64, found: &mut Vec<ReadSelector<'a>>) {
    let add = |selector: &'a Selector, found: &mut Vec<ReadSelector<'a>>| {
        // With `@` it reads the same whatever comes.
        if selector.at.is_none() {
            found.push(ReadSelector { matchers: &selector.matchers, offset: offset + selector.offset });
        }
    };
    match &node.op {
        PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => add(selector, found),
        PlanOp::Subquery { at: Some(_), .. } => {}
        PlanOp::Subquery { input, offset: shift, .. } => selectors(input, offset + shift, found),
        _ => {
            for input in node.inputs() {
                selectors(input, offset, found);
            }
        }
    }
}

/// The samples that changes of one rule at one time may be caused by.
pub(super) struct CauseFinder {
    series: Vec<RecentSeries>,
    truncated: bool,
}

/// When the causes of a change came.
#[derive(Copy, Clone, Debug)]
pub(super) struct CauseTimes {
    /// The time of the change.
    pub at: TimeMs,
    /// How much older the condition's samples are: the query offset, in ms.
    pub query_offset: i64,
    /// For a condition that is looked at at evaluation times only: the time between them, in ms.
    pub interval: Option<i64>,
}

impl CauseFinder {
    /// Reads what `plan` reads. `rows`: the rows whose alerts changed.
    pub(super) fn read(
        store: &dyn AlertSeriesStore,
        plan: &PlanNode,
        times: CauseTimes,
        rows: &[&Labels],
    ) -> Result<CauseFinder, StoreError> {
        let mut read = Vec::new();
        selectors(plan, times.query_offset, &mut read);
        let shared = shared_labels(rows);
        let mut finder = CauseFinder { series: Vec::new(), truncated: false };
        for ReadSelector { matchers, offset } in read {
            let to = times.at - offset;
            let recent =
                |matchers: &[Matcher]| store.recent(matchers, to - CAUSE_REACH_MS, to, CAUSE_SERIES_READ);
            // First only the series that have the labels of the rows: of many, the condition of one
            // alert mostly reads few. Where there are none, labels were made or dropped by the
            // expression.
            let narrow: Vec<Matcher> = matchers.iter().cloned().chain(shared.iter().cloned()).collect();
            let mut found = recent(&narrow)?;
            if found.series.is_empty() && !shared.is_empty() {
                found = recent(matchers)?;
            }
            finder.add(found, times.interval.map(|interval| to - interval));
        }
        Ok(finder)
    }

    /// Adds the series whose newest sample came after `since`; `None`: those that came last.
    fn add(&mut self, found: RecentSamples, since: Option<TimeMs>) {
        self.truncated |= found.truncated;
        let last = found.series.iter().map(|series| series.newest.0).max();
        let is_new = |series: &RecentSeries| match since {
            Some(since) => series.newest.0 > since,
            None => Some(series.newest.0) == last,
        };
        self.series.extend(found.series.into_iter().filter(is_new));
    }

    /// The cause of the change of the alert with this row.
    pub(super) fn cause(&self, row: &Labels) -> ChangeCause {
        let last = self.series.iter().filter(|s| agrees(row, &s.labels)).map(|s| s.newest.0).max();
        let own = self.series.iter().filter(|s| agrees(row, &s.labels) && Some(s.newest.0) == last);
        let mut moves: Vec<SeriesMove> = own.map(moved).collect();
        // Two selectors may read one series.
        moves.sort_by(|a, b| (!a.has_moved(), &a.labels).cmp(&(!b.has_moved(), &b.labels)));
        moves.dedup_by(|a, b| a.labels == b.labels);
        let truncated = self.truncated || moves.len() > CAUSE_SERIES;
        moves.truncate(CAUSE_SERIES);
        ChangeCause { series: moves, truncated }
    }
}

/// What happened to a series.
fn moved(series: &RecentSeries) -> SeriesMove {
    let (t, value) = series.newest;
    SeriesMove {
        labels: series.labels.clone(),
        before: series.before,
        after: (!is_stale(value)).then_some(value),
        t,
    }
}

/// Whether no label that both have differs; the name of the metric does not count.
fn agrees(row: &Labels, series: &Labels) -> bool {
    row.iter().filter(|(name, _)| *name != METRIC_NAME).all(|(name, value)| {
        let other = series.get(name);
        other.is_none_or(|other| other == value)
    })
}

/// Matchers for the labels that all rows have with one value.
fn shared_labels(rows: &[&Labels]) -> Vec<Matcher> {
    let Some((first, others)) = rows.split_first() else { return Vec::new() };
    let shared = first.iter().filter(|(name, value)| {
        *name != METRIC_NAME && others.iter().all(|row| row.get(name) == Some(value))
    });
    shared.map(|(name, value)| Matcher::equal(name, value)).collect()
}
