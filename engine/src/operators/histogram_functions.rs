//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, over classic and native
//! histograms. The buckets of a classic histogram are the rows with the same labels except `le`. If
//! a classic and a native histogram have the same labels, neither has a result.
//!
//! The rows of one histogram are a *family*. The family of a row depends on its sample: a float is
//! a bucket, a native histogram is a family of its own. Only families with changed rows are
//! computed again. The kernels are in [`crate::functions::histogram`] and
//! [`crate::functions::native`].

use super::evaluation_guard::EvaluationGuard;
use super::group_index::{DirtyGroups, GroupMembers, GroupResult, GroupRows, all_changed};
use super::metric_names::{FlaggedLabels, computed};
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

/// A row that has never had a native histogram.
const NOT_NATIVE: u32 = u32::MAX;

/// The operator of the three functions.
pub struct HistogramQuery {
    function: HistogramFunction,
    dialect: Dialect,
    families: HistogramFamilies,
    /// Output rows by family and bits of the quantile (0 if a family has one result).
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
    /// By input row: its family while it has a float.
    classic: Vec<u32>,
    /// By input row: its family while it has a histogram.
    native: Vec<u32>,
    /// By input row: its upper bound; `None` if `le` is missing or malformed.
    bounds: Vec<Option<f64>>,
    /// Rows by the family of which they are buckets; rows without a bound by their own.
    members: GroupMembers,
    /// Rows with a bound that have had a native histogram, by the family they form then.
    natives: GroupMembers,
    dirty: DirtyGroups,
}

/// The samples of one family.
#[derive(Default)]
struct HistogramFamily {
    /// Buckets of a classic histogram.
    buckets: Vec<ClassicBucket>,
    /// Rows with native histograms that have a result.
    natives: Vec<usize>,
    /// Annotations.
    annotations: Vec<StepAnnotation>,
}

/// What annotations on a family's rows refer to, and whether they name the metric.
#[derive(Copy, Clone)]
struct AnnotatedFamily {
    target: AnnotationTarget,
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

    /// Adds the rows that the input got since the last call, and marks the families of new and of
    /// changed rows.
    fn add_rows(&mut self, input: &StepInput, eval_guard: &mut EvaluationGuard) -> Result<(), EvalError> {
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
            // A row without a bound has no `le`, so both families are the same.
            let native = if bound.is_some() { None } else { Some(classic) };
            self.bounds.push(bound.and_then(|bound| number::parse(bound).ok()));
            self.members.add(classic, self.classic.len() as u32);
            // A native histogram with a label `le` is a family of its own. That is rare, so the
            // family is created only when the row has such a histogram.
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

    /// Collects the samples of a family. A classic and a native histogram with the same labels are
    /// both left out.
    fn collect(
        &self,
        family: u32,
        input: &StepOutput,
        at: AnnotatedFamily,
        into: &mut HistogramFamily,
    ) -> usize {
        let AnnotatedFamily { target, named } = at;
        let name = |row: usize| if named { input.labels[row].name() } else { "" };
        into.buckets.clear();
        into.natives.clear();
        let mut looked_at = 0;
        let mut natives = Vec::new();
        for row in self.members.rows_of(family) {
            looked_at += 1;
            match (input.cell(row), self.bounds[row]) {
                (SampleRef::Float(count), Some(bound)) => into.buckets.push((bound, count)),
                (SampleRef::Float(_), None) => {
                    let labels = &input.labels[row];
                    let le = labels.get("le").unwrap_or("");
                    into.annotations.push(texts::bad_bucket_label(target, name(row), le));
                }
                (SampleRef::Histogram(_), _) if self.native[row] == family => natives.push(row),
                (SampleRef::Histogram(_) | SampleRef::Absent, _) => {}
            }
        }
        let named =
            self.natives.rows_of(family).filter(|row| matches!(input.cell(*row), SampleRef::Histogram(_)));
        natives.extend(named);
        natives.sort_unstable();
        for row in natives {
            if into.buckets.is_empty() {
                into.natives.push(row);
                continue;
            }
            into.buckets.clear();
            into.annotations.push(texts::mixed_classic_native(target, name(row)));
        }
        looked_at
    }
}

impl HistogramQuery {
    /// An operator for this function.
    pub fn new(ask: HistogramFunction, dialect: Dialect) -> HistogramQuery {
        HistogramQuery {
            function: ask,
            dialect,
            families: HistogramFamilies::default(),
            rows: HashMap::new(),
            params: Vec::new(),
            answers: GroupRows::default(),
            duplicates: DuplicateLabels::default(),
            // With delayed names, rows with the same labels are rejected where names are dropped,
            // which is enough for one time; over a range they are rejected here, too.
            checks_duplicates: !dialect.delayed_names,
        }
    }

    /// An operator for a query with more than one step.
    pub fn over_range(ask: HistogramFunction, dialect: Dialect) -> HistogramQuery {
        HistogramQuery { checks_duplicates: true, ..HistogramQuery::new(ask, dialect) }
    }

    /// The vector's place among the function's arguments.
    fn vector(&self) -> AnnotationTarget {
        AnnotationTarget::Operand(match self.function {
            HistogramFunction::Quantile => 1,
            HistogramFunction::Quantiles(_) => 0,
            HistogramFunction::Fraction => 2,
        })
    }

    /// Warns of quantiles outside 0 to 1.
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

    /// The metric name for annotations on a result; results have one only with delayed names.
    fn name(&self, family: u32) -> &str {
        if self.dialect.delayed_names { self.families.labels[family as usize].name() } else { "" }
    }

    /// The results of a native histogram, with the bits of the quantile.
    fn evaluate_native(
        &self,
        params: &[f64],
        family: u32,
        h: &NativeHistogram,
    ) -> (Vec<(u64, f64)>, Vec<StepAnnotation>) {
        let target = self.vector();
        let name = self.name(family);
        let mut annotations = Vec::new();
        if self.function == HistogramFunction::Fraction {
            let share = fraction(params[0], params[1], h);
            if share.excludes_nan {
                annotations.push(texts::fraction_leaves_out_nan(target, name));
            }
            return (vec![(0, share.value)], annotations);
        }
        let answer = |q: &f64| {
            let found = quantile(*q, h);
            match found.nan {
                NanObservations::None => {}
                NanObservations::Result => annotations.push(texts::quantile_is_nan(target, name)),
                NanObservations::Skew => annotations.push(texts::quantile_is_skewed(target, name)),
            }
            (self.key(*q), found.value)
        };
        (params.iter().map(answer).collect(), annotations)
    }

    /// The results of a classic histogram.
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
        let mut repaired = None;
        for (i, q) in params.iter().enumerate() {
            // The kernel sorts the buckets in place: only the last quantile may use the original.
            let found = if i + 1 == params.len() {
                bucket_quantile(*q, buckets)
            } else {
                bucket_quantile(*q, &mut buckets.clone())
            };
            repaired = repaired.or(found.repaired);
            answers.push((self.key(*q), found.value));
        }
        if let Some(f) = repaired {
            let target = self.vector();
            let name = self.name(family);
            of.annotations.push(texts::forced_monotonicity(target, name, f.from, f.to, f.max_diff, t));
        }
        answers
    }

    /// The part of the key by which results of one family differ.
    fn key(&self, q: f64) -> u64 {
        // Adding zero turns -0 into 0: they are the same quantile.
        if matches!(self.function, HistogramFunction::Quantiles(_)) { (q + 0.0).to_bits() } else { 0 }
    }

    /// Rejects a quantile that is listed twice: its results would have the same labels.
    fn check_distinct(&self, answers: &[(u64, f64)], natives: usize) -> Result<(), EvalError> {
        if !self.checks_duplicates || !matches!(self.function, HistogramFunction::Quantiles(_)) || natives > 1
        {
            return Ok(());
        }
        let twice = |i: usize, key: u64| answers[..i].iter().any(|(other, _)| *other == key);
        let any = answers.iter().enumerate().any(|(i, (key, _))| twice(i, *key));
        if any { Err(same_labelset()) } else { Ok(()) }
    }

    /// The output row of a result, created when it is first needed.
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
        let FlaggedLabels { mut labels, drops_name } = computed(self.dialect, of, false, false);
        if let HistogramFunction::Quantiles(label) = &self.function {
            let text = quantile_text(f64::from_bits(key.0));
            labels = labels.with_sorted([(label.as_str(), text.as_str())]);
        }
        eval_guard.relabelled(&labels, of)?;
        let row = out.add_row_with_name_flag(FlaggedLabels::new(labels, drops_name)) as u32;
        self.rows.insert((family, key), row);
        Ok(row)
    }
}

/// A quantile as a label value, like in the text formats: `1` is `1.0`.
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
        out.annotations.replace(self.check(&params));
        if let HistogramFunction::Quantiles(label) = &self.function {
            check_name("histogram_quantiles()", label).map_err(|e| EvalError(e.to_string()))?;
        }
        self.families.add_rows(vector, eval_guard)?;
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        if params.len() != self.params.len() || !params.iter().zip(&self.params).all(same) {
            self.families.dirty.mark_all(self.families.labels.len());
            self.params.clone_from(&params);
        }
        let (mut of, mut found, mut touched) =
            (HistogramFamily::default(), GroupResult::default(), Vec::new());
        let annotated = AnnotatedFamily { target: self.vector(), named: self.dialect.delayed_names };
        for family in self.families.dirty.take() {
            let members = self.families.collect(family, vector.out, annotated, &mut of);
            eval_guard.rows(1 + members)?;
            out.rows_looked_at += members;
            let mut answers = Vec::new();
            for row in &of.natives {
                let SampleRef::Histogram(histogram) = vector.out.cell(*row) else { continue };
                eval_guard.rows(1 + params.len())?;
                let (answer, annotations) = self.evaluate_native(&params, family, histogram);
                of.annotations.extend(annotations);
                answers.extend(answer);
            }
            if !of.buckets.is_empty() {
                // Each quantile iterates over all buckets.
                eval_guard.samples(params.len() * of.buckets.len())?;
                answers.extend(self.evaluate_classic(&params, family, t, &mut of));
            }
            self.check_distinct(&answers, of.natives.len())?;
            for (at, (key, value)) in answers.iter().enumerate() {
                // A quantile that is listed again has a row of its own.
                let before = answers[..at].iter().filter(|(other, _)| other == key).count();
                let again = if of.natives.len() > 1 { 0 } else { before as u32 };
                found.values.push((self.row(family, (*key, again), out, eval_guard)?, *value));
            }
            eval_guard.bytes(of.annotations.iter().map(|annotation| annotation.text.len()).sum())?;
            out.annotations.set_row(family as usize, std::mem::take(&mut of.annotations));
            self.answers.replace(family, &mut found, out, &mut touched);
        }
        out.changed = ChangedRows::Rows(touched);
        if !self.checks_duplicates {
            return Ok(());
        }
        self.duplicates.add_rows(out, eval_guard)?;
        self.duplicates.check(out, eval_guard)
    }

    fn bytes(&self) -> usize {
        let rows = self.rows.heap() + self.answers.heap() + self.params.heap();
        self.families.heap() + rows + self.duplicates.heap()
    }
}
