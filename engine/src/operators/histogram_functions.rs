//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`: over classic histograms,
//! whose buckets find each other by all labels but `le`, and over native ones. Where both have the
//! same labels, neither is answered.
//!
//! Rows of one histogram are a *family*. A row's family depends on what it holds: as a float it is
//! a bucket, as a native histogram it stands for itself. Only families of rows that changed are
//! asked again. The kernels are in [`crate::functions::histogram`] and
//! [`crate::functions::native`].

use super::evaluation_guard::EvaluationGuard;
use super::group_index::{DirtyGroups, GroupMembers, GroupResult, GroupRows, all_changed};
use super::metric_names::computed;
use super::{
    ChangedRows, DuplicateLabels, EvalError, Operator, StepInput, StepOutput, same_labelset,
    scalar::scalar_of,
};
use crate::annotations::texts;
use crate::annotations::{AnnotationTarget, StepAnnotation};
use crate::functions::histogram::{ClassicBucket, bucket_fraction, bucket_quantile};
use crate::functions::labels::check_name;
use crate::functions::native::{NanObservations, fraction, quantile};
use crate::heap_size::HeapSize;
use crate::plan::Dialect;
use crate::plan::details::HistogramFunction;
use crate::types::histogram_column::SampleRef;
use std::collections::HashMap;
use storage::model::number::{self, general};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// A row that has never held a native histogram.
const NOT_NATIVE: u32 = u32::MAX;

/// See the module.
pub struct HistogramQuery {
    function: HistogramFunction,
    dialect: Dialect,
    families: HistogramFamilies,
    /// Output rows by family and bits of the quantile (0 where there is one answer a family).
    rows: HashMap<(u32, (u64, u32)), u32>,
    /// The parameters of the latest evaluation.
    params: Vec<f64>,
    answers: GroupRows,
    duplicates: DuplicateLabels,
    checks_duplicates: bool,
}

/// The histograms of one input.
#[derive(Default)]
struct HistogramFamilies {
    ids: HashMap<Labels, u32>,
    labels: Vec<Labels>,
    /// Family of each input row, while it holds a float.
    classic: Vec<u32>,
    /// And while it holds a histogram.
    native: Vec<u32>,
    /// Upper bound of each input row; `None`: `le` is missing or malformed.
    bounds: Vec<Option<f64>>,
    /// Rows by the family that they are buckets of, or stand for where they have no bound.
    members: GroupMembers,
    /// Rows with a bound that have held a native histogram, by the family that they stand for then.
    natives: GroupMembers,
    dirty: DirtyGroups,
}

/// What the rows of one family hold.
#[derive(Default)]
struct HistogramFamily {
    /// Buckets of a classic histogram.
    buckets: Vec<ClassicBucket>,
    /// Rows with native ones that are to be answered.
    natives: Vec<usize>,
    /// What is to be remarked.
    notes: Vec<StepAnnotation>,
}

/// What remarks on a family's rows point at, and whether they name the metric.
#[derive(Copy, Clone)]
struct AnnotatedFamily {
    place: AnnotationTarget,
    named: bool,
}

impl HeapSize for HistogramFamilies {
    fn heap(&self) -> usize {
        let rows = self.classic.heap() + self.native.heap() + self.bounds.heap();
        let members = self.members.heap() + self.natives.heap() + self.dirty.heap();
        self.ids.heap() + self.labels.heap() + rows + members
    }
}

impl HistogramFamilies {
    fn id(&mut self, labels: Labels) -> u32 {
        let next = self.labels.len() as u32;
        *self.ids.entry(labels).or_insert_with_key(|labels| {
            self.labels.push(labels.clone());
            next
        })
    }

    /// Learns the rows that the input got since the last call; marks the families of new rows and
    /// of those that changed.
    fn learn(&mut self, input: &StepInput, eval_guard: &mut EvaluationGuard) -> Result<(), EvalError> {
        let known = self.classic.len();
        for labels in &input.out.labels[known..] {
            eval_guard.row()?;
            let bound = labels.get("le");
            let of = labels.filter(|n| n != "le");
            let families = self.labels.len();
            let classic = self.id(of);
            if families < self.labels.len() {
                eval_guard.relabelled(&self.labels[classic as usize], labels)?;
            }
            // Without a bound it has no `le`: both families are one.
            let native = if bound.is_some() { None } else { Some(classic) };
            self.bounds.push(bound.and_then(|bound| number::parse(bound).ok()));
            self.members.add(classic, self.classic.len() as u32);
            // A histogram with a label `le` is its own family; it is seldom, so it is looked up
            // once it is there.
            self.native.push(native.unwrap_or(NOT_NATIVE));
            self.classic.push(classic);
        }
        for row in (known..self.classic.len()).chain(input.rows()) {
            eval_guard.row()?;
            self.mark(row, input.out);
        }
        if all_changed(input) {
            self.dirty.mark_all(self.labels.len());
        }
        Ok(())
    }

    /// Marks the families that a row belongs to, or may have belonged to.
    fn mark(&mut self, row: usize, input: &StepOutput) {
        if self.native[row] == NOT_NATIVE && matches!(input.cell(row), SampleRef::Histogram(_)) {
            let native = self.id(input.labels[row].clone());
            self.native[row] = native;
            self.natives.add(native, row as u32);
        }
        self.dirty.mark(self.classic[row]);
        if self.native[row] != NOT_NATIVE {
            self.dirty.mark(self.native[row]);
        }
    }

    /// Collects what the rows of a family hold. Where there is a classic and a native histogram, both go.
    fn collect(
        &self,
        family: u32,
        input: &StepOutput,
        at: AnnotatedFamily,
        into: &mut HistogramFamily,
    ) -> usize {
        let AnnotatedFamily { place, named } = at;
        let name = |row: usize| if named { input.labels[row].name() } else { "" };
        into.buckets.clear();
        into.natives.clear();
        let mut looked_at = 0;
        let mut natives = Vec::new();
        for row in self.members.of(family) {
            looked_at += 1;
            match (input.cell(row), self.bounds[row]) {
                (SampleRef::Float(count), Some(bound)) => into.buckets.push((bound, count)),
                (SampleRef::Float(_), None) => {
                    let labels = &input.labels[row];
                    let le = labels.get("le").unwrap_or("");
                    into.notes.push(texts::bad_bucket_label(place, name(row), le));
                }
                (SampleRef::Histogram(_), _) if self.native[row] == family => natives.push(row),
                (SampleRef::Histogram(_) | SampleRef::Absent, _) => {}
            }
        }
        let named = self.natives.of(family).filter(|row| matches!(input.cell(*row), SampleRef::Histogram(_)));
        natives.extend(named);
        natives.sort_unstable();
        for row in natives {
            if into.buckets.is_empty() {
                into.natives.push(row);
                continue;
            }
            into.buckets.clear();
            into.notes.push(texts::mixed_classic_native(place, name(row)));
        }
        looked_at
    }
}

impl HistogramQuery {
    /// An operator that asks this.
    pub fn new(ask: HistogramFunction, dialect: Dialect) -> HistogramQuery {
        HistogramQuery {
            function: ask,
            dialect,
            families: HistogramFamilies::default(),
            rows: HashMap::new(),
            params: Vec::new(),
            answers: GroupRows::default(),
            duplicates: DuplicateLabels::default(),
            // With delayed names rows that are alike are refused where names go, at one time; over
            // a range here, too.
            checks_duplicates: !dialect.delayed_names,
        }
    }

    /// The same for a query of more than one step.
    pub fn over_range(ask: HistogramFunction, dialect: Dialect) -> HistogramQuery {
        HistogramQuery { checks_duplicates: true, ..HistogramQuery::new(ask, dialect) }
    }

    /// Where the vector stands among the function's arguments.
    fn vector(&self) -> AnnotationTarget {
        AnnotationTarget::Operand(match self.function {
            HistogramFunction::Quantile => 1,
            HistogramFunction::Quantiles(_) => 0,
            HistogramFunction::Fraction => 2,
        })
    }

    /// Warns of quantiles that are none.
    fn check(&self, params: &[f64]) -> Vec<StepAnnotation> {
        let first = match self.function {
            HistogramFunction::Quantile => 0,
            HistogramFunction::Quantiles(_) => 2,
            HistogramFunction::Fraction => return Vec::new(),
        };
        let invalid = params.iter().enumerate().filter(|(_, q)| !(0.0..=1.0).contains(*q));
        invalid
            .map(|(i, q)| texts::invalid_quantile(AnnotationTarget::Operand(first + i as u8), *q))
            .collect()
    }

    /// The metric's name for remarks on a result: results have one only while names go at the end.
    fn name(&self, family: u32) -> &str {
        if self.dialect.delayed_names { self.families.labels[family as usize].name() } else { "" }
    }

    /// The answers of a native histogram, with the bits of the quantile.
    fn evaluate_native(
        &self,
        params: &[f64],
        family: u32,
        h: &NativeHistogram,
    ) -> (Vec<(u64, f64)>, Vec<StepAnnotation>) {
        let place = self.vector();
        let name = self.name(family);
        let mut notes = Vec::new();
        if self.function == HistogramFunction::Fraction {
            let share = fraction(params[0], params[1], h);
            if share.excludes_nan {
                notes.push(texts::fraction_leaves_out_nan(place, name));
            }
            return (vec![(0, share.value)], notes);
        }
        let answer = |q: &f64| {
            let found = quantile(*q, h);
            match found.nan {
                NanObservations::None => {}
                NanObservations::Result => notes.push(texts::quantile_is_nan(place, name)),
                NanObservations::Skew => notes.push(texts::quantile_is_skewed(place, name)),
            }
            (self.key(*q), found.value)
        };
        (params.iter().map(answer).collect(), notes)
    }

    /// The answers of a classic histogram.
    fn evaluate_classic(
        &self,
        params: &[f64],
        family: u32,
        t: TimeMs,
        of: &mut HistogramFamily,
    ) -> Vec<(u64, f64)> {
        let buckets = &mut of.buckets;
        if self.function == HistogramFunction::Fraction {
            return vec![(0, bucket_fraction(params[0], params[1], buckets))];
        }
        let mut answers = Vec::with_capacity(params.len());
        let mut fixed = None;
        for (i, q) in params.iter().enumerate() {
            // The kernel rearranges: only the last quantile may have the buckets themselves.
            let found = if i + 1 == params.len() {
                bucket_quantile(*q, buckets)
            } else {
                bucket_quantile(*q, &mut buckets.clone())
            };
            fixed = fixed.or(found.fixed);
            answers.push((self.key(*q), found.value));
        }
        if let Some(f) = fixed {
            let place = self.vector();
            let name = self.name(family);
            of.notes.push(texts::forced_monotonicity(place, name, f.from, f.to, f.max_diff, t));
        }
        answers
    }

    /// What tells the answers of one family apart.
    fn key(&self, q: f64) -> u64 {
        // Adding zero makes -0 a 0: they are the same quantile.
        if matches!(self.function, HistogramFunction::Quantiles(_)) { (q + 0.0).to_bits() } else { 0 }
    }

    /// Refuses a quantile that is asked for twice: its answers would have the same labels.
    fn check_distinct(&self, answers: &[(u64, f64)], natives: usize) -> Result<(), EvalError> {
        if !self.checks_duplicates || !matches!(self.function, HistogramFunction::Quantiles(_)) || natives > 1
        {
            return Ok(());
        }
        let twice = |i: usize, key: u64| answers[..i].iter().any(|(other, _)| *other == key);
        let any = answers.iter().enumerate().any(|(i, (key, _))| twice(i, *key));
        if any { Err(same_labelset()) } else { Ok(()) }
    }

    /// The output row of an answer, made when it is first given.
    fn row(
        &mut self,
        family: u32,
        key: (u64, u32),
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<u32, EvalError> {
        if let Some(row) = self.rows.get(&(family, key)) {
            return Ok(*row);
        }
        let of = &self.families.labels[family as usize];
        let (mut labels, drops) = computed(self.dialect, of, false, false);
        if let HistogramFunction::Quantiles(label) = &self.function {
            let text = quantile_text(f64::from_bits(key.0));
            labels = labels.with_sorted([(label.as_str(), text.as_str())]);
        }
        eval_guard.relabelled(&labels, of)?;
        let row = out.add_row_with_name_flag((labels, drops)) as u32;
        self.rows.insert((family, key), row);
        Ok(row)
    }
}

/// A quantile as a label value: as the text formats write it, `1` as `1.0`.
fn quantile_text(q: f64) -> String {
    let text = general(q);
    if !q.is_finite() || text.contains(['.', 'e']) { text } else { format!("{text}.0") }
}

impl Operator for HistogramQuery {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        t: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let Some((vector, params)) = inputs.split_last() else { return Ok(()) };
        let params: Vec<f64> = params.iter().map(scalar_of).collect();
        out.notes.replace(self.check(&params));
        if let HistogramFunction::Quantiles(label) = &self.function {
            check_name("histogram_quantiles()", label).map_err(|e| EvalError(e.to_string()))?;
        }
        self.families.learn(vector, eval_guard)?;
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        if params.len() != self.params.len() || !params.iter().zip(&self.params).all(same) {
            self.families.dirty.mark_all(self.families.labels.len());
            self.params.clone_from(&params);
        }
        let (mut of, mut found, mut touched) =
            (HistogramFamily::default(), GroupResult::default(), Vec::new());
        let remarked = AnnotatedFamily { place: self.vector(), named: self.dialect.delayed_names };
        for family in self.families.dirty.take() {
            let members = self.families.collect(family, vector.out, remarked, &mut of);
            eval_guard.rows(1 + members)?;
            out.rows_looked_at += members;
            let mut answers = Vec::new();
            for row in &of.natives {
                let SampleRef::Histogram(histogram) = vector.out.cell(*row) else { continue };
                eval_guard.rows(1 + params.len())?;
                let (answer, notes) = self.evaluate_native(&params, family, histogram);
                of.notes.extend(notes);
                answers.extend(answer);
            }
            if !of.buckets.is_empty() {
                // Each quantile walks over all buckets.
                eval_guard.samples(params.len() * of.buckets.len())?;
                answers.extend(self.evaluate_classic(&params, family, t, &mut of));
            }
            self.check_distinct(&answers, of.natives.len())?;
            for (at, (key, value)) in answers.iter().enumerate() {
                // A quantile that is asked for again has a row of its own.
                let before = answers[..at].iter().filter(|(other, _)| other == key).count();
                let again = if of.natives.len() > 1 { 0 } else { before as u32 };
                found.values.push((self.row(family, (*key, again), out, eval_guard)?, *value));
            }
            eval_guard.bytes(of.notes.iter().map(|note| note.text.len()).sum())?;
            out.notes.set_row(family as usize, std::mem::take(&mut of.notes));
            self.answers.replace(family, &mut found, out, &mut touched);
        }
        out.changed = ChangedRows::Rows(touched);
        if !self.checks_duplicates {
            return Ok(());
        }
        self.duplicates.learn(out, eval_guard)?;
        self.duplicates.check(out, eval_guard)
    }

    fn bytes(&self) -> usize {
        let rows = self.rows.heap() + self.answers.heap() + self.params.heap();
        self.families.heap() + rows + self.duplicates.heap()
    }
}
