//! Operators between two vectors, such as `a / on (x) b`: one-to-one, many-to-one and one-to-many
//! matching.
//!
//! The match key of a row is its labels as far as `on` or `ignoring` says. It is computed once, as
//! a dense number, when the row is added. An evaluation visits only the keys of changed rows, each
//! with its row of the "one" side and its rows of the "many" side. The output row of each pair is
//! remembered, so a tick (an evaluation of views) touches no labels.

use super::evaluation_guard::EvaluationGuard;
use super::group_index::{DirtyGroups, GroupMembers, GroupResult, GroupRows, all_changed};
use super::grouping::MatchNames;
use super::metric_names::FlaggedLabels;
use super::{ChangedRows, DuplicateLabels, EvalError, Operator, StepInput, StepOutput, binary};
use crate::annotations::StepAnnotation;
use crate::heap_size::HeapSize;
use crate::plan::{BinaryOp, BitFloat, Cardinality, Dialect, VectorMatching};
use crate::types::go_text::braces;
use crate::types::histogram_column::{Sample, SampleRef};
use std::collections::{BTreeMap, HashMap, HashSet};
use storage::model::labels::describes_metric;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, TimeMs};

const NO_ROW: u32 = u32::MAX;

/// Dense numbers for match keys, and the rows of both sides by key.
pub(super) struct MatchIndex {
    names: MatchNames,
    ids: HashMap<Labels, u32>,
    /// The labels of each key.
    labels: Vec<Labels>,
    /// By row: its key.
    left_keys: Vec<u32>,
    right_keys: Vec<u32>,
    /// By key: its rows.
    pub(super) left: GroupMembers,
    pub(super) right: GroupMembers,
    /// Keys to compute.
    pub(super) dirty: DirtyGroups,
}

impl HeapSize for MatchIndex {
    fn heap(&self) -> usize {
        let keys = self.names.heap()
            + self.ids.heap()
            + self.labels.heap()
            + self.left_keys.heap()
            + self.right_keys.heap();
        keys + self.left.heap() + self.right.heap() + self.dirty.heap()
    }
}

impl MatchIndex {
    /// An index without rows.
    pub(super) fn new(matching: &VectorMatching) -> MatchIndex {
        MatchIndex {
            names: MatchNames::from_matching(matching),
            ids: HashMap::new(),
            labels: Vec::new(),
            left_keys: Vec::new(),
            right_keys: Vec::new(),
            left: GroupMembers::default(),
            right: GroupMembers::default(),
            dirty: DirtyGroups::default(),
        }
    }

    /// Adds the rows that the inputs got since the last call, and marks the keys of new and of
    /// changed rows.
    pub(super) fn add_rows(
        &mut self,
        left: &StepInput,
        right: &StepInput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let ids = &mut self.ids;
        let labels = &mut self.labels;
        let sides = [
            (left.out, &mut self.left_keys, &mut self.left),
            (right.out, &mut self.right_keys, &mut self.right),
        ];
        for (side, keys, members) in sides {
            for row in keys.len()..side.labels.len() {
                eval_guard.row()?;
                let next = labels.len() as u32;
                let key = self.names.key(&side.labels[row]);
                // Not by `entry`: the guard must have counted the labels before they are stored.
                let known = ids.get(&key).copied();
                if known.is_none() {
                    eval_guard.relabelled(&key, &side.labels[row])?;
                    labels.push(key.clone());
                    ids.insert(key, next);
                }
                let key = known.unwrap_or(next);
                keys.push(key);
                members.add(key, row as u32);
                self.dirty.mark(key);
            }
        }
        if all_changed(left) || all_changed(right) {
            self.dirty.mark_all(self.labels.len());
        }
        self.dirty.mark_changed(left, &self.left_keys);
        self.dirty.mark_changed(right, &self.right_keys);
        Ok(())
    }

    /// Number of rows with a key.
    pub(super) fn members(&self, key: u32) -> usize {
        self.left.rows_of(key).count() + self.right.rows_of(key).count()
    }
}

/// The operator of such a match.
pub struct VectorMatch {
    op: BinaryOp,
    return_bool: bool,
    matching: VectorMatching,
    dialect: Dialect,
    index: MatchIndex,
    /// Output row by (row of the "many" side, row of the "one" side). The latter matters only if
    /// labels are copied from it.
    pairs: HashMap<(u32, u32), u32>,
    /// For one-to-one: the last output row of each row of the "many" side, which saves a lookup in
    /// `pairs`.
    latest: Vec<(u32, u32)>,
    duplicates: DuplicateLabels,
    answers: GroupRows,
    last: LastAnnotation,
    /// One side had no values at the latest evaluation.
    empty: bool,
}

impl VectorMatch {
    /// The operator for [`crate::plan::physical::StepOp::VectorMatch`].
    pub fn new(op: BinaryOp, return_bool: bool, matching: VectorMatching, dialect: Dialect) -> VectorMatch {
        VectorMatch {
            op,
            return_bool,
            index: MatchIndex::new(&matching),
            matching,
            dialect,
            pairs: HashMap::new(),
            latest: Vec::new(),
            duplicates: DuplicateLabels::default(),
            answers: GroupRows::default(),
            last: LastAnnotation::default(),
            empty: true,
        }
    }

    fn swapped(&self) -> bool {
        self.matching.cardinality == Cardinality::OneToMany
    }

    fn one_to_one(&self) -> bool {
        self.matching.cardinality == Cardinality::OneToOne
    }

    /// The rows of the "many" side and of the "one" side, by key.
    fn members(&self) -> (&GroupMembers, &GroupMembers) {
        let left = &self.index.left;
        let right = &self.index.right;
        // From here on there is only a "many" and a "one" side. One-to-one has the left side as
        // "many".
        if self.swapped() { (right, left) } else { (left, right) }
    }

    /// The error of a match. If there are several, the first in label order, which is mostly the
    /// order of Prometheus' storage.
    fn ambiguity_error(
        &self,
        one: &StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<EvalError, EvalError> {
        let keys = if self.swapped() { &self.index.left_keys } else { &self.index.right_keys };
        // This is slow, but it runs once: an ambiguous match fails the evaluation.
        let mut first = vec![NO_ROW; self.index.labels.len()];
        for row in one.rows_by_labels(eval_guard)? {
            let key = keys[row as usize] as usize;
            let present = !is_absent(one.values[row as usize]);
            match first[key] {
                NO_ROW if present => first[key] = row,
                first if present => {
                    return Ok(self.duplicates(key, &one.labels[first as usize], &one.labels[row as usize]));
                }
                _ => {}
            }
        }
        let text =
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
        Ok(EvalError(text.to_owned()))
    }

    fn duplicates(&self, key: usize, first: &Labels, second: &Labels) -> EvalError {
        let side = if self.swapped() { "left" } else { "right" };
        EvalError(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            braces(&self.index.labels[key]),
            braces(first.min(second)),
            braces(first.max(second)),
        ))
    }

    /// The output row of a pair, created when it first occurs. If one side is `NO_ROW`, it has the
    /// labels of the match key.
    fn row_of(
        &mut self,
        rows: MatchedRows,
        key: usize,
        sides: MatchSides,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<usize, EvalError> {
        let MatchedRows { many: many_row, one: one_row } = rows;
        if self.latest.len() < sides.many.labels.len() {
            // Resized here and not per pair, because rows are only added at the beginning of an
            // evaluation.
            self.latest.resize(sides.many.labels.len(), (NO_ROW, NO_ROW));
        }
        let latest = self.latest.get(many_row as usize);
        if let Some((_, row)) = latest.filter(|(one, row)| *one == one_row && *row != NO_ROW) {
            return Ok(*row as usize);
        }
        // Without copied labels, the partner has no part in the labels of the result: another
        // partner gives the same row, so a rolling restart of the "one" side adds none.
        let by_many_alone = self.matching.include.is_empty() && many_row != NO_ROW;
        let pair = (many_row, if by_many_alone { 0 } else { one_row });
        let known = self.pairs.get(&pair).copied();
        let row = match known {
            Some(row) => row,
            None => {
                let labels_of = |side: &StepOutput, row: u32| {
                    side.labels.get(row as usize).unwrap_or(&self.index.labels[key]).clone()
                };
                let many = labels_of(sides.many, many_row);
                // Labels of pairs are made once. `pairs` then finds the row by two numbers.
                let labels = self.result_labels(&many, &labels_of(sides.one, one_row));
                eval_guard.relabelled(&labels, &many)?;
                let row = out.add_row_with_name_flag(FlaggedLabels::new(labels, self.drops_later())) as u32;
                self.pairs.insert(pair, row);
                row
            }
        };
        if let Some(latest) = self.latest.get_mut(many_row as usize) {
            *latest = (one_row, row);
        }
        Ok(row as usize)
    }

    /// Arithmetic between vectors drops names immediately, even with delayed names; comparisons
    /// with `bool` drop them in the end.
    fn drops_later(&self) -> bool {
        self.dialect.delayed_names && self.return_bool
    }

    /// The labels of the result of a pair.
    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let drop_name = binary::drops_name(self.op, self.return_bool) && !self.drops_later();
        let names = &self.index.names;
        // With `group_left` or `group_right` the result has all labels of the "many" side.
        if !self.one_to_one() {
            let many = if drop_name { many.without_metric_labels() } else { many.clone() };
            return names.with_included(&many, one);
        }
        if self.matching.on {
            many.filter(|n| names.lists(n) && !(drop_name && describes_metric(n)))
        } else {
            many.filter(|n| {
                let goes = names.lists(n) || drop_name && describes_metric(n);
                !goes
            })
        }
    }

    /// Applies the operator to one pair; if one side is `NO_ROW`, its `fill` value is used. Returns
    /// whether the pair counts as a match: not if the operator does not support the types.
    fn pair(
        &mut self,
        rows: MatchedRows,
        key: usize,
        sides: MatchSides,
        found: &mut KeyMatches,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<bool, EvalError> {
        eval_guard.row()?;
        let many = sides.many_cell(rows.many);
        let one = sides.one_cell(rows.one);
        // The operator needs its operands in the order in which they are written.
        let (l, r) = if self.swapped() { (one, many) } else { (many, one) };
        let kept = if let SampleRef::Float(v) = l { v } else { ABSENT };
        let mut annotations = Vec::new();
        let sample = binary::apply_cells(self.op, self.return_bool, l, r, kept, &mut annotations);
        let unsupported = annotations.pop();
        let is_unsupported = unsupported.is_some();
        if let Some(annotation) = unsupported {
            found.annotate(sides.order(rows, key), annotation);
        }
        match sample {
            // With an annotation: the types are not supported. Without: a filter dropped the value.
            Sample::Float(v) if is_absent(v) => {
                let matches = !is_unsupported;
                // A dropped pair still has a row, so that equal labels are found whether or not the
                // filter holds.
                if matches && self.copies_labels() {
                    found.filtered.push(self.row_of(rows, key, sides, out, eval_guard)? as u32);
                }
                return Ok(matches);
            }
            Sample::Float(v) => {
                found.rows.values.push((self.row_of(rows, key, sides, out, eval_guard)? as u32, v));
            }
            Sample::Histogram(h) => {
                found.rows.histograms.push((self.row_of(rows, key, sides, out, eval_guard)? as u32, h));
            }
        }
        Ok(true)
    }

    /// Whether results get labels of the "one" side, so that results of one key may have the same
    /// labels.
    fn copies_labels(&self) -> bool {
        !self.one_to_one() && !self.matching.include.is_empty()
    }

    /// Rejects results of one key with the same labels, even if a filter dropped some of them:
    /// whether a query is rejected must not depend on values. In a tick this hashes only labels of
    /// changed keys, and only for filters with `group_left` or `group_right` with labels.
    fn check_grouping(&self, found: &KeyMatches, out: &StepOutput) -> Result<(), EvalError> {
        if found.filtered.is_empty() {
            // Without dropped results, equal labels are found by the check of all rows.
            return Ok(());
        }
        let values = found.rows.values.iter().map(|(row, _)| *row);
        let histograms = found.rows.histograms.iter().map(|(row, _)| *row);
        let mut rows = values.chain(histograms).chain(found.filtered.iter().copied());
        let mut seen = HashSet::new();
        if rows.all(|row| seen.insert(&out.labels[row as usize])) { Ok(()) } else { Err(grouping_labels()) }
    }

    /// Computes all pairs of one key. `false`: the match is ambiguous.
    fn key(
        &mut self,
        key: u32,
        sides: MatchSides,
        found: &mut KeyMatches,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<bool, EvalError> {
        let partner = {
            let (many, one) = self.members();
            found.many.clear();
            found.many.extend(present(many, key, sides.many));
            // Only rows with a value now: two series of one key may take turns, as after a
            // relabelling.
            let mut ones = present(one, key, sides.one);
            let partner = ones.next().unwrap_or(NO_ROW);
            if ones.next().is_some() {
                return Ok(false);
            }
            partner
        };
        // Without a partner and without a `fill`, rows of the "many" side have no result.
        let meets = partner != NO_ROW || sides.fill_one.is_some();
        found.filtered.clear();
        let mut matched = 0;
        if meets {
            for at in 0..found.many.len() {
                let rows = MatchedRows { many: found.many[at], one: partner };
                matched += usize::from(self.pair(rows, key as usize, sides, found, out, eval_guard)?);
                // Checked before the filter: whether a query is rejected must not depend on values.
                if self.one_to_one() && matched > 1 {
                    return Ok(false);
                }
            }
        }
        // The "one" row found nobody, so it gets the value that is filled in for the other side.
        if matched == 0 && partner != NO_ROW && sides.fill_many.is_some() {
            self.pair(
                MatchedRows { many: NO_ROW, one: partner },
                key as usize,
                sides,
                found,
                out,
                eval_guard,
            )?;
        }
        self.check_grouping(found, out)?;
        Ok(true)
    }

    /// The operands as "many" side and "one" side.
    fn sides<'a>(&self, inputs: &'a [StepInput]) -> MatchSides<'a> {
        let left = inputs[0].out;
        let right = inputs[1].out;
        let fill = |number: Option<BitFloat>| number.map(|n| n.0);
        // As in Prometheus, `fill_left` fills the "many" side even if `group_right` makes that the
        // right one.
        let fill_many = fill(self.matching.fill_left);
        let fill_one = fill(self.matching.fill_right);
        let (many, one) = if self.swapped() { (right, left) } else { (left, right) };
        MatchSides { many, one, fill_many, fill_one }
    }
}

fn grouping_labels() -> EvalError {
    EvalError("multiple matches for labels: grouping labels must ensure unique matches".to_owned())
}

/// The rows of a pair; [`NO_ROW`]: that side has none.
#[derive(Copy, Clone)]
struct MatchedRows {
    many: u32,
    one: u32,
}

/// The operands of a match.
#[derive(Copy, Clone)]
struct MatchSides<'a> {
    /// The side that may have several series per match (left unless `group_right`).
    many: &'a StepOutput,
    one: &'a StepOutput,
    /// The value that is used where a side has no series.
    fill_many: Option<f64>,
    fill_one: Option<f64>,
}

impl<'a> MatchSides<'a> {
    fn many_cell(&self, row: u32) -> SampleRef<'a> {
        cell(self.many, row, self.fill_many)
    }

    fn one_cell(&self, row: u32) -> SampleRef<'a> {
        cell(self.one, row, self.fill_one)
    }

    /// The order of a pair: pairs with a "many" row first, then filled ones, each by labels. Not by
    /// row number, which differs between views and queries.
    fn order(&self, rows: MatchedRows, key: usize) -> PairOrder {
        let filled = rows.many == NO_ROW;
        let (side, row) = if filled { (self.one, rows.one) } else { (self.many, rows.many) };
        PairOrder { filled, labels: side.labels[row as usize].clone(), key: key as u32 }
    }

    /// Whether there can be no result. With a `fill`, rows of one side are checked for duplicates
    /// even if the other side is empty.
    fn is_empty(&self) -> bool {
        let empty = |side: &StepOutput| side.present().next().is_none();
        let fills = self.fill_many.is_some() || self.fill_one.is_some();
        match (empty(self.many), empty(self.one)) {
            (true, true) => true,
            (false, false) => false,
            _ => !fills,
        }
    }
}

fn cell(side: &StepOutput, row: u32, fill: Option<f64>) -> SampleRef<'_> {
    match row {
        NO_ROW => fill.map_or(SampleRef::Absent, SampleRef::Float),
        row => side.cell(row as usize),
    }
}

/// The rows of a key that have a value.
fn present<'a>(members: &'a GroupMembers, key: u32, side: &'a StepOutput) -> impl Iterator<Item = u32> + 'a {
    members.rows_of(key).filter(|row| !is_absent(side.values[*row])).map(|row| row as u32)
}

/// The order of a pair, see [`MatchSides::order`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PairOrder {
    filled: bool,
    labels: Labels,
    key: u32,
}

/// The annotations of pairs in their order. As in Prometheus, only the last one of a step is
/// returned; there the order of pairs is that of its storage.
#[derive(Default)]
struct LastAnnotation {
    annotations: BTreeMap<PairOrder, StepAnnotation>,
    orders: HashMap<u32, PairOrder>,
}

impl LastAnnotation {
    /// Replaces the annotation of a key.
    fn replace(&mut self, key: u32, annotation: Option<(PairOrder, StepAnnotation)>) {
        if let Some(order) = self.orders.remove(&key) {
            self.annotations.remove(&order);
        }
        if let Some((order, annotation)) = annotation {
            self.orders.insert(key, order.clone());
            self.annotations.insert(order, annotation);
        }
    }
}

impl HeapSize for LastAnnotation {
    fn heap(&self) -> usize {
        self.annotations.len() * 2 * size_of::<(PairOrder, StepAnnotation)>()
    }
}

/// The result of a key.
#[derive(Default)]
struct KeyMatches {
    rows: GroupResult,
    /// The annotation of the last pair.
    annotation: Option<(PairOrder, StepAnnotation)>,
    /// Rows of the "many" side that have a value.
    many: Vec<u32>,
    /// Rows that a filter dropped, if they may have the same labels as others of the key.
    filtered: Vec<u32>,
}

impl KeyMatches {
    fn annotate(&mut self, order: PairOrder, annotation: StepAnnotation) {
        if self.annotation.as_ref().is_none_or(|(last, _)| *last < order) {
            self.annotation = Some((order, annotation));
        }
    }
}

impl Operator for VectorMatch {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let sides = self.sides(inputs);
        self.index.add_rows(&inputs[0], &inputs[1], eval_guard)?;
        let empty = sides.is_empty();
        // If one side is empty and nothing is filled in, the other is not checked for duplicates.
        if std::mem::replace(&mut self.empty, empty) != empty {
            self.index.dirty.mark_all(self.index.labels.len());
        }
        let mut found = KeyMatches::default();
        let mut touched = Vec::new();
        for key in self.index.dirty.take() {
            let members = self.index.members(key);
            eval_guard.rows(1 + members)?;
            out.rows_looked_at += members;
            if !empty && !self.key(key, sides, &mut found, &mut *out, eval_guard)? {
                return Err(self.ambiguity_error(sides.one, eval_guard)?);
            }
            // Also without an annotation, because the key may have had one before.
            self.last.replace(key, found.annotation.take());
            // Rows of the key that are not in the result lose their value here.
            self.answers.replace(key, &mut found.rows, out, &mut touched);
        }
        out.annotations.replace(
            self.last
                .annotations
                .last_key_value()
                .map(|(_, annotation)| annotation.clone())
                .into_iter()
                .collect(),
        );
        out.changed = ChangedRows::Rows(touched);
        // Pairs of different keys may get the same labels, for example if `on` lists a label that
        // the other key lacks.
        self.duplicates.add_rows(out, eval_guard)?;
        // A timeout must not be reported as an ambiguous match, so time is checked before.
        eval_guard.rows(self.duplicates.pairs())?;
        let outcome = self.duplicates.check(out, &mut EvaluationGuard::free());
        if self.one_to_one() { outcome } else { outcome.map_err(|_| grouping_labels()) }
    }

    fn bytes(&self) -> usize {
        let rows = self.pairs.heap() + self.latest.heap() + self.answers.heap() + self.last.heap();
        self.index.heap() + rows + self.duplicates.heap()
    }
}
