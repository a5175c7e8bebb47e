//! `info(v, {…})`: adds the labels of info series (such as `target_info`) that have the same
//! identifying labels as a row.
//!
//! There are two inputs: the vector, and the info series ([`crate::plan::physical::Leaf::Info`]:
//! the time of the newest sample, under all labels of the series). Rows and info series with the
//! same identifying labels are a group, which is computed again when one of its members changed.
//! The resulting labels of a row and its info series are computed once.

use super::evaluation_guard::EvaluationGuard;
use super::group_index::{DirtyGroups, GroupMembers, GroupResult, GroupRows, all_changed};
use super::metric_names::FlaggedLabels;
use super::{ChangedRows, DuplicateLabels, EvalError, Operator, StepInput, StepOutput};
use crate::heap_size::HeapSize;
use crate::plan::details::InfoSelector;
use crate::types::go_text::braces;
use std::collections::{BTreeMap, HashMap, HashSet};
use storage::model::labels::METRIC_NAME;
use storage::model::value::{is_absent, is_histogram};
use storage::model::{Labels, TimeMs};

/// The labels that identify a target.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The operator of `info`.
pub struct Info {
    selector: InfoSelector,
    /// In a range query: rows of the vector count even without a value now, because they may have
    /// one at another step.
    over_range: bool,
    keys: HashMap<Labels, u32>,
    base: KeyedRows,
    info: KeyedRows,
    /// By row of the vector: whether it is an info series itself. Those are left unchanged.
    is_info_series: Vec<bool>,
    /// The values of the identifying labels in the vector: info series with other values are
    /// ignored.
    values: [HashSet<String>; 2],
    /// By info series: whether it is used.
    is_used: Vec<bool>,
    dirty: DirtyGroups,
    /// Groups that would be rejected if some row of the vector needed their info series. Any row
    /// may begin to.
    conflicting_groups: HashSet<u32>,
    /// At the latest evaluation the vector had no values.
    empty: bool,
    /// Output rows by row of the vector and its info series.
    rows: HashMap<(u32, Vec<u32>), Option<u32>>,
    answers: GroupRows,
    duplicates: DuplicateLabels,
}

/// The rows of both operands.
#[derive(Copy, Clone)]
struct InfoOperands<'a> {
    /// The vector that gets labels.
    base: &'a StepOutput,
    /// The info series.
    info: &'a StepOutput,
}

/// The group of each row of an input, and the rows of each group.
#[derive(Default)]
struct KeyedRows {
    keys: Vec<u32>,
    members: GroupMembers,
}

/// By metric: the newest info series of a group, as row and time of its sample.
type NewestInfoSeries<'a> = BTreeMap<&'a str, (u32, f64)>;

/// An error, with the row at which it is found: that of the first row is returned.
type InfoConflict = (usize, EvalError);

impl Info {
    /// The operator for [`crate::plan::physical::StepOp::Info`].
    pub fn new(selector: InfoSelector) -> Info {
        Info {
            selector,
            over_range: false,
            keys: HashMap::new(),
            base: KeyedRows::default(),
            info: KeyedRows::default(),
            is_info_series: Vec::new(),
            values: Default::default(),
            is_used: Vec::new(),
            dirty: DirtyGroups::default(),
            conflicting_groups: HashSet::new(),
            empty: true,
            rows: HashMap::new(),
            answers: GroupRows::default(),
            duplicates: DuplicateLabels::default(),
        }
    }

    /// The operator for a query with more than one step.
    pub fn over_range(selector: InfoSelector) -> Info {
        Info { over_range: true, ..Info::new(selector) }
    }

    /// Adds the rows that the inputs got since the last call, and marks the groups to compute
    /// again.
    fn add_rows(
        &mut self,
        base: &StepInput,
        info: &StepInput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let known = self.is_info_series.len();
        for labels in &base.out.labels[known..] {
            eval_guard.row()?;
            let names = &self.selector.names;
            let is_info = !names.is_empty() && names.iter().all(|m| m.matches(labels.name()));
            self.is_info_series.push(is_info);
            if !is_info {
                for (values, name) in self.values.iter_mut().zip(IDENTIFYING) {
                    // Only from rows that get labels: the values of info series themselves would
                    // match every info series.
                    values.extend(labels.get(name).map(str::to_owned));
                }
            }
        }
        for (side, input) in [(&mut self.base, base), (&mut self.info, info)] {
            for labels in &input.out.labels[side.keys.len()..] {
                eval_guard.row()?;
                let next = self.keys.len() as u32;
                // Rows without either label have the empty key and form a group too.
                let key = *self.keys.entry(labels.filter(|n| IDENTIFYING.contains(&n))).or_insert(next);
                side.members.add(key, side.keys.len() as u32);
                side.keys.push(key);
                self.dirty.mark(key);
            }
            self.dirty.mark_changed(input, &side.keys);
        }
        let grown = known < self.is_info_series.len();
        // New rows of the vector may have new values of identifying labels, so more info series may
        // be used.
        if grown {
            self.is_used.clear();
        }
        for labels in &info.out.labels[self.is_used.len()..] {
            eval_guard.row()?;
            self.is_used.push(self.may_match(labels));
        }
        // A new row changes which info series are used everywhere, not only in its own group.
        if grown || all_changed(base) || all_changed(info) {
            self.dirty.mark_all(self.keys.len());
        }
        // Whether a conflict is an error depends on rows of other groups, so these groups are
        // looked at every time.
        for group in &self.conflicting_groups {
            self.dirty.mark(*group);
        }
        Ok(())
    }

    /// Whether an info series is used: for each identifying label that any row of the vector has,
    /// some row has its value.
    fn may_match(&self, labels: &Labels) -> bool {
        let mut of_base = self.values.iter().zip(IDENTIFYING).filter(|(values, _)| !values.is_empty());
        self.values.iter().any(|values| !values.is_empty())
            && of_base.all(|(values, name)| labels.get(name).is_some_and(|value| values.contains(value)))
    }

    /// The same for the rows that have a value now. It iterates over them, so it is checked only
    /// before a series makes the evaluation fail.
    fn matches_now(&self, labels: &Labels, base: &StepOutput) -> bool {
        let rows = || base.present().filter(|row| !self.is_info_series[*row]).map(|row| &base.labels[row]);
        let mut any = false;
        let all = IDENTIFYING.iter().all(|name| {
            let mut values = rows().filter_map(|row| row.get(name)).peekable();
            let unset = values.peek().is_none();
            any |= !unset;
            unset || labels.get(name).is_some_and(|selector| values.any(|value| value == selector))
        });
        any && all
    }

    /// The newest info series of each metric of a group. Two with the same time, or a histogram,
    /// are an error if some row needs them; in any case the group becomes one of
    /// `conflicting_groups`.
    fn newest<'a>(
        &mut self,
        group: u32,
        base: &StepOutput,
        info: &'a StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<NewestInfoSeries<'a>, InfoConflict> {
        let mut newest = NewestInfoSeries::new();
        let mut conflicts = Vec::new();
        let rows = self.info.members.rows_of(group);
        for row in rows.filter(|row| self.is_used[*row] && !is_absent(info.values[*row])) {
            if is_histogram(info.values[row]) {
                conflicts.push((row, EvalError("info sample should be float".to_owned())));
                continue;
            }
            let labels = &info.labels[row];
            let found = (row as u32, info.values[row]);
            let best = newest.entry(labels.name()).or_insert(found);
            // `best` is `found` itself if it was just inserted.
            if best.0 != found.0 && best.1 == found.1 {
                conflicts.push((row, duplicates(&info.labels[best.0 as usize], labels, found.1)));
            }
            if best.1 < found.1 {
                *best = found;
            }
        }
        if conflicts.is_empty() {
            self.conflicting_groups.remove(&group);
        } else {
            self.conflicting_groups.insert(group);
        }
        for (row, error) in conflicts {
            // `matches_now` walks over all rows of the vector.
            eval_guard.rows(base.values.len()).map_err(|late| (row, late))?;
            if self.over_range || self.matches_now(&info.labels[row], base) {
                return Err((row, error));
            }
        }
        Ok(newest)
    }

    /// The labels of `base` with those of its info series; `None`: the row is dropped, because it
    /// lacks a required label.
    fn labels(&self, base: &Labels, found: &[u32], info: &StepOutput) -> Result<Option<Labels>, EvalError> {
        let data = &self.selector.data;
        // A matcher that the empty value satisfies is satisfied by a missing label.
        if found.is_empty() && !data.iter().all(|m| m.matches("")) {
            return Ok(None);
        }
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for row in found {
            let is_wanted = |name: &str| data.is_empty() || data.iter().any(|m| m.name == name);
            let labels = info.labels[*row as usize].iter();
            for (name, value) in labels.filter(|(name, _)| *name != METRIC_NAME && is_wanted(name)) {
                if added.get(name).is_some_and(|there| *there != value) {
                    return Err(EvalError(format!("conflicting label: {name}")));
                }
                // Labels of the row win over those of its info series.
                if base.get(name).is_none() {
                    added.insert(name, value);
                }
            }
        }
        Ok(Some(base.with_sorted(added)))
    }

    /// The output row of a row of the vector with these info series.
    fn row(
        &mut self,
        row: u32,
        found: Vec<u32>,
        base: &StepOutput,
        info: &StepOutput,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<Option<u32>, EvalError> {
        let key = (row, found);
        // The same info series as before: no label is touched, which is the usual tick.
        if let Some(known) = self.rows.get(&key) {
            return Ok(*known);
        }
        let of = &base.labels[row as usize];
        let labels =
            if self.is_info_series[row as usize] { Some(of.clone()) } else { self.labels(of, &key.1, info)? };
        labels.as_ref().map_or(Ok(()), |labels| eval_guard.relabelled(labels, of))?;
        let made = labels.map(|labels| {
            out.add_row_with_name_flag(FlaggedLabels::new(labels, base.drops(row as usize))) as u32
        });
        self.rows.insert(key, made);
        Ok(made)
    }

    /// The output rows of a group.
    fn group(
        &mut self,
        group: u32,
        newest: &NewestInfoSeries,
        operands: InfoOperands,
        found: &mut GroupResult,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), InfoConflict> {
        let InfoOperands { base, info } = operands;
        let rows: Vec<usize> =
            self.base.members.rows_of(group).filter(|r| !is_absent(base.values[*r])).collect();
        for row in rows {
            eval_guard.row().map_err(|error| (row, error))?;
            let series = newest.values().map(|(row, _)| *row).filter(|_| !self.is_info_series[row]).collect();
            let place =
                self.row(row as u32, series, base, info, out, eval_guard).map_err(|error| (row, error))?;
            if let Some(place) = place {
                found.add(place, base, row);
            }
        }
        Ok(())
    }
}

/// Keeps the error of the first row.
fn earliest(first_conflict: &mut Option<InfoConflict>, other: InfoConflict) {
    if first_conflict.as_ref().is_none_or(|(row, _)| other.0 < *row) {
        *first_conflict = Some(other);
    }
}

fn duplicates(first: &Labels, second: &Labels, t: f64) -> EvalError {
    EvalError(format!(
        "found duplicate series for info metric: existing {} @ {t}, new {} @ {t}",
        braces(first),
        braces(second)
    ))
}

impl Operator for Info {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let base = inputs[0].out;
        let info = inputs[1].out;
        self.add_rows(&inputs[0], &inputs[1], eval_guard)?;
        // If the vector has no values, no info series is needed.
        let empty = base.present().next().is_none();
        // Conflicts of info series count only while the vector has values, so all groups change
        // their meaning.
        if std::mem::replace(&mut self.empty, empty) != empty {
            self.dirty.mark_all(self.keys.len());
        }
        let groups = self.dirty.take();
        let mut first_conflict = None;
        let mut newest = Vec::new();
        for group in groups {
            let members = self.base.members.rows_of(group).count() + self.info.members.rows_of(group).count();
            eval_guard.rows(1 + members)?;
            out.rows_looked_at += members;
            match if empty { Ok(NewestInfoSeries::new()) } else { self.newest(group, base, info, eval_guard) }
            {
                Ok(of_group) => newest.push((group, of_group)),
                Err(other) => earliest(&mut first_conflict, other),
            }
        }
        // The errors of info series come first, as in Prometheus, which fetches all of them before
        // it looks at the vector.
        if let Some((_, error)) = first_conflict {
            return Err(error);
        }
        let mut found = GroupResult::default();
        let mut touched = Vec::new();
        for (group, of_group) in newest {
            match self.group(group, &of_group, InfoOperands { base, info }, &mut found, out, eval_guard) {
                Ok(()) => self.answers.replace(group, &mut found, out, &mut touched),
                Err(other) => earliest(&mut first_conflict, other),
            }
        }
        if let Some((_, error)) = first_conflict {
            return Err(error);
        }
        out.changed = ChangedRows::Rows(touched);
        self.duplicates.add_rows(out, eval_guard)?;
        self.duplicates.check(out, eval_guard)
    }

    fn bytes(&self) -> usize {
        let sides = [&self.base, &self.info].map(|side| side.keys.heap() + side.members.heap());
        let flags = self.is_info_series.heap()
            + self.is_used.heap()
            + self.dirty.heap()
            + self.conflicting_groups.heap();
        let keys = self.keys.heap() + self.values.heap() + sides.iter().sum::<usize>() + flags;
        keys + self.rows.heap() + self.answers.heap() + self.duplicates.heap()
    }
}
