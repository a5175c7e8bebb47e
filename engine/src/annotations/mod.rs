//! Annotations of an answer. A warning says that something is wrong with the data or the query, an
//! info that something may be.
//!
//! Operators, the code of a plan's steps, create [`StepAnnotation`]s (kept by
//! [`crate::annotations::step`]). They do not have the position in the query text, because several
//! queries may share a step. [`StepOrigin`] says where in one query a step comes from; both
//! together make an [`Annotation`]. Front ends add Prometheus' prefix, and line and column of the
//! position.

pub mod step;
pub mod texts;

use crate::types::Span;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use storage::model::TimeMs;
use storage::model::number::general;

/// How severe an annotation is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Something is wrong.
    Warning,
    /// Something may be wrong.
    Info,
    /// Some of the data could not be read: a warning about no place of the query.
    Storage,
}

impl Severity {
    /// Whether it is shown among the warnings.
    pub fn is_warning(self) -> bool {
        matches!(self, Severity::Warning | Severity::Storage)
    }
}

/// What an annotation is about.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AnnotationTarget {
    /// The whole expression of the step.
    #[default]
    Whole,
    /// The operand with that number, in the order of the inputs of the plan's node.
    Operand(u8),
    /// An expression inside it, by its number in the order of `plan::expression_spans`; a number
    /// after the last means that no position is known.
    Inner(u32),
}

/// An annotation of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepAnnotation {
    /// How severe it is.
    pub level: Severity,
    /// The text of Prometheus, without prefix and position. Annotations with equal texts are one.
    pub text: Arc<str>,
    /// What it is about.
    pub target: AnnotationTarget,
    /// The details that are merged when the annotation occurs again.
    pub extent: Occurrences,
}

/// The details of an annotation that occurred several times.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Occurrences {
    /// None.
    #[default]
    Once,
    /// How many times it occurred.
    Times(u64),
    /// Bucket counts that were not monotonic.
    Buckets {
        /// Lowest bound of a repaired bucket.
        low: f64,
        /// Highest bound of a repaired bucket.
        high: f64,
        /// Largest difference.
        difference: f64,
        /// Number of samples.
        samples: u64,
        /// First evaluation time.
        from: TimeMs,
        /// Last evaluation time.
        to: TimeMs,
    },
    /// Parameters out of bounds. The text names the highest and the lowest value; if one is NaN,
    /// only NaN.
    Parameter {
        /// Lowest value.
        low: f64,
        /// Highest value.
        high: f64,
        /// Lowest and highest valid value.
        bounds: [f64; 2],
        /// Whether the bound is used instead.
        capped: bool,
    },
}

impl Occurrences {
    /// The details of both together.
    #[must_use]
    pub fn merge(self, other: Occurrences) -> Occurrences {
        match (self, other) {
            (Occurrences::Times(a), Occurrences::Times(b)) => Occurrences::Times(a + b),
            (
                Occurrences::Buckets { low, high, difference, samples, from, to },
                Occurrences::Buckets { low: l, high: h, difference: d, samples: s, from: f, to: t },
            ) => Occurrences::Buckets {
                low: low.min(l),
                high: high.max(h),
                difference: difference.max(d),
                samples: samples + s,
                from: from.min(f),
                to: to.max(t),
            },
            (
                Occurrences::Parameter { low, high, bounds, capped },
                Occurrences::Parameter { low: l, high: h, .. },
            ) => {
                // `min` and `max` ignore a NaN, but a parameter that was NaN once must be named.
                let nan = low.is_nan() || l.is_nan();
                let [low, high] = if nan { [f64::NAN; 2] } else { [low.min(l), high.max(h)] };
                Occurrences::Parameter { low, high, bounds, capped }
            }
            // Equal texts with different kinds of details do not occur.
            (Occurrences::Once, other) => other,
            (this, _) => this,
        }
    }

    /// What is added to the text, with the remaining details. A parameter that is out of both
    /// bounds gives two texts.
    fn suffixes(self) -> Vec<(String, Occurrences)> {
        let Occurrences::Parameter { low, high, bounds: [least, most], capped } = self else {
            return vec![(String::new(), self)];
        };
        let capping =
            |bound: f64| if capped { format!(", capping to {}", general(bound)) } else { String::new() };
        // A NaN is reported once, as the lowest value.
        let out = [(low, least, low < least || low.is_nan()), (high, most, high > most)];
        let out = out.into_iter().filter(|(_, _, out)| *out);
        out.map(|(v, bound, _)| (format!("{}{}", general(v), capping(bound)), Occurrences::Once)).collect()
    }
}

/// Where in a query a step comes from: its expression and its operands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepOrigin {
    /// The whole expression, in bytes of the query text.
    pub(crate) whole: Span,
    /// Its operands, in order.
    pub(crate) operands: Vec<Span>,
    /// For a step that evaluates the whole expression by itself: all expressions inside it.
    pub(crate) inner: Vec<Span>,
}

impl StepOrigin {
    /// The position of what an annotation is about.
    pub fn span(&self, target: AnnotationTarget) -> Span {
        match target {
            AnnotationTarget::Whole => self.whole,
            AnnotationTarget::Inner(number) => self.inner.get(number as usize).copied().unwrap_or_default(),
            AnnotationTarget::Operand(i) => self.operands.get(usize::from(i)).copied().unwrap_or(self.whole),
        }
    }
}

/// An annotation with its position in the query.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// How severe it is.
    pub level: Severity,
    /// As [`StepAnnotation::text`].
    pub text: Arc<str>,
    /// As [`StepAnnotation::extent`].
    pub extent: Occurrences,
    /// The position of what it is about.
    pub span: Span,
}

/// The annotations of one query. Of equal texts one is kept, with the position of the expression
/// that is evaluated last. The result does not depend on the order in which shards and steps add
/// them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnnotationSet(BTreeMap<AnnotationKey, AnnotationEntry>);

/// Annotations with equal keys are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct AnnotationKey {
    level: Severity,
    text: Arc<str>,
    /// The position, if parameters of different positions must not be merged.
    target: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AnnotationEntry {
    extent: Occurrences,
    span: Span,
    turn: EvaluationOrder,
}

/// The order in which expressions are evaluated: after those that end earlier, and after their own
/// parts.
type EvaluationOrder = (u32, Reverse<u32>);

impl AnnotationSet {
    /// Whether there are no annotations.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an annotation of a step with this origin.
    pub fn add(&mut self, annotation: &StepAnnotation, origin: &StepOrigin) {
        // Prometheus evaluates inner expressions first, and its last message wins.
        let turn = (origin.whole.end, Reverse(origin.whole.start));
        let entry = AnnotationEntry { extent: annotation.extent, span: origin.span(annotation.target), turn };
        // Two aggregations with different parameters must not be merged to one range of values.
        let by_position = matches!(annotation.extent, Occurrences::Parameter { .. });
        let target = by_position.then_some((entry.span.start, entry.span.end));
        self.insert(AnnotationKey { level: annotation.level, text: annotation.text.clone(), target }, entry);
    }

    /// Adds a warning that some of the data could not be read.
    pub fn add_storage_warning(&mut self, text: &str) {
        let annotation = StepAnnotation {
            level: Severity::Storage,
            text: Arc::from(text),
            target: AnnotationTarget::Whole,
            extent: Occurrences::Once,
        };
        self.add(&annotation, &StepOrigin::default());
    }

    /// Adds all annotations of `other`.
    pub fn extend(&mut self, other: AnnotationSet) {
        for (key, entry) in other.0 {
            self.insert(key, entry);
        }
    }

    fn insert(&mut self, key: AnnotationKey, entry: AnnotationEntry) {
        match self.0.entry(key) {
            Entry::Vacant(vacant) => drop(vacant.insert(entry)),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let extent = known.extent.merge(entry.extent);
                // Not "if it came later": shards come in any order, the place in the text is the
                // same everywhere.
                if entry.turn >= known.turn {
                    *known = entry;
                }
                // The details belong to all occurrences, wherever the message points.
                known.extent = extent;
            }
        }
    }

    /// All annotations, warnings first, by text.
    pub fn into_list(self) -> Vec<Annotation> {
        let mut merged = AnnotationSet::default();
        for (AnnotationKey { level, text, .. }, entry) in self.0 {
            // Only now the texts become different, and with them the keys; so they are merged once
            // more.
            for (more, extent) in entry.extent.suffixes() {
                let text = if more.is_empty() { text.clone() } else { format!("{text}{more}").into() };
                merged.insert(
                    AnnotationKey { level, text, target: None },
                    AnnotationEntry { extent, ..entry.clone() },
                );
            }
        }
        let annotation = |(AnnotationKey { level, text, .. }, AnnotationEntry { extent, span, .. })| {
            Annotation { level, text, extent, span }
        };
        merged.0.into_iter().map(annotation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two expressions have the same annotation, and shards add them in any order.
    #[test]
    fn the_position_of_an_annotation_does_not_depend_on_the_order() {
        let origin = |start: u32, end: u32| StepOrigin {
            whole: Span { start, end },
            operands: Vec::new(),
            inner: Vec::new(),
        };
        let annotation = StepAnnotation {
            level: Severity::Info,
            text: Arc::from("metric might not be a counter"),
            target: AnnotationTarget::Whole,
            extent: Occurrences::Times(1),
        };
        let remarks = |origin: &StepOrigin| {
            let mut remarks = AnnotationSet::default();
            remarks.add(&annotation, origin);
            remarks
        };
        let first = origin(0, 7);
        let last = origin(10, 17);
        for order in [[&first, &last], [&last, &first]] {
            let mut all = AnnotationSet::default();
            for origin in order.iter() {
                all.extend(remarks(origin));
            }
            let list = all.into_list();
            assert_eq!((list.len(), list[0].span, list[0].extent), (1, last.whole, Occurrences::Times(2)));
        }
    }
}
