//! The annotations (warnings and infos) of one leaf in the live runtime. They are kept from one
//! evaluation to the next, so a tick pays only for what changed.
//!
//! There are two kinds. *Findings* ([`crate::functions::findings`]) are what a window function
//! noticed in the samples of one series, which is a row of the leaf. The others belong to the whole
//! leaf, with the number of rows that cause them: `rate` of something that is no counter.

use crate::annotations::{AnnotationTarget, StepAnnotation};
use crate::functions::findings::{Findings, non_counter_annotation};
use crate::functions::{Function, Kernel};
use crate::heap_size::HeapSize;
use crate::operators::StepOutput;
use crate::plan::physical::Leaf;
use std::collections::BTreeMap;
use storage::model::Labels;
use storage::model::value::{is_absent, is_histogram};

/// The annotations of one leaf.
#[derive(Debug, Default)]
pub(super) struct LeafAnnotations {
    rows: BTreeMap<u32, Findings>,
    non_counters: Vec<NonCounterRows>,
    /// By row: the index of its entry in `non_counters`, if it has one.
    non_counter_of: Vec<Option<u32>>,
    /// How many rows [`LeafAnnotations::add_rows`] has seen.
    seen_rows: usize,
}

/// Rows of which `rate` or `increase` was computed although their name is not that of a counter.
#[derive(Debug)]
struct NonCounterRows {
    annotation: StepAnnotation,
    /// How many of these rows have a value now.
    rows: usize,
}

fn is_float(v: f64) -> bool {
    !is_absent(v) && !is_histogram(v)
}

impl LeafAnnotations {
    /// Whether there is nothing to update when values change.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        self.rows.is_empty() && self.non_counters.is_empty()
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.len() * size_of::<(u32, Findings)>();
        rows + self.non_counters.capacity() * size_of::<NonCounterRows>() + self.non_counter_of.heap()
    }

    /// Learns the rows that were added to the ring since the last call.
    pub(super) fn add_rows(&mut self, leaf: &Leaf, labels: &[Labels], typed: bool) {
        let wants_counter = matches!(leaf, Leaf::Window(function, _)
            if matches!(function.0.kernel, Kernel::Window(kernel) if kernel.expects_counter));
        for (row, labels) in labels.iter().enumerate().skip(self.seen_rows).filter(|_| wants_counter) {
            let Some(annotation) = non_counter_annotation(labels, typed, AnnotationTarget::Operand(0)) else {
                continue;
            };
            let same = self.non_counters.iter().position(|entry| entry.annotation == annotation);
            let number = same.unwrap_or_else(|| {
                self.non_counters.push(NonCounterRows { annotation, rows: 0 });
                self.non_counters.len() - 1
            });
            // Filled up lazily: in most leaves no row has an entry, and the list stays empty.
            self.non_counter_of.resize(row, None);
            self.non_counter_of.push(Some(number as u32));
        }
        self.seen_rows = labels.len();
    }

    /// A row's value was `before` and is `now`.
    #[inline]
    pub(super) fn value_changed(&mut self, row: u32, before: f64, now: f64) {
        if self.non_counters.is_empty() || is_float(before) == is_float(now) {
            return;
        }
        let Some(number) = self.non_counter_of.get(row as usize).copied().flatten() else { return };
        let entry = &mut self.non_counters[number as usize];
        if is_float(now) {
            entry.rows += 1;
        } else {
            entry.rows -= 1;
        }
    }

    /// Row `row` was evaluated with these findings.
    #[inline]
    pub(super) fn set_findings(
        &mut self,
        row: u32,
        findings: Findings,
        metric: &str,
        operand: AnnotationTarget,
        out: &mut StepOutput,
    ) {
        if findings.is_empty() && self.rows.is_empty() {
            return;
        }
        // Compared first, because making the texts of annotations allocates.
        let before = self.rows.get(&row).copied().unwrap_or_default();
        if before == findings {
            return;
        }
        if findings.is_empty() {
            self.rows.remove(&row);
        } else {
            self.rows.insert(row, findings);
        }
        out.annotations.set_row(row as usize, findings.annotations(metric, operand));
    }

    /// Updates the annotations of the whole leaf.
    pub(super) fn publish(&self, function: Option<&Function>, params: &[f64], out: &mut StepOutput) {
        let shown = self.non_counters.iter().filter(|entry| entry.rows > 0);
        let mut whole: Vec<StepAnnotation> = shown.map(|entry| entry.annotation.clone()).collect();
        if let Some(annotation) = function.and_then(|f| f.annotate_params).and_then(|annotate| annotate(params))
            // As in Prometheus, an annotation about parameters needs a result.
            && out.values.iter().any(|v| is_float(*v))
        {
            whole.push(annotation);
        }
        out.annotations.replace(whole);
    }
}
