//! Annotations: what a query's answer should be read with. Warnings say that something is wrong
//! with the data or the query, infos that something may be.
//!
//! Operators leave [`StepAnnotation`]s (see [`crate::annotations::step`]), which know the
//! step but not the text of the query: a step may serve several. [`StepOrigin`] says where a step
//! stood in one query; the two make an [`Annotation`]. Front ends add the prefix and turn the place
//! into line and column.

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

/// How grave it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Something is wrong.
    Warning,
    /// Something may be.
    Info,
}

/// What it is about.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AnnotationTarget {
    /// The whole expression of the step.
    #[default]
    Whole,
    /// Its operand of that number, in the order of the inputs of the plan's node.
    Operand(u8),
    /// An expression inside it, by its number in the order of `plan::parts`; beyond the last: no position is known.
    Part(u32),
}

/// What an operator has to remark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepAnnotation {
    /// How grave it is.
    pub level: Severity,
    /// Prometheus' text, without prefix and position. Notes of one text are one.
    pub text: Arc<str>,
    /// What it is about.
    pub place: AnnotationTarget,
    /// What is merged when the same is remarked again.
    pub extent: Occurrences,
}

/// How far something extends that was remarked several times.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Occurrences {
    /// It is not said.
    #[default]
    Untold,
    /// So many times.
    Times(u64),
    /// Bucket counts that fell where they must not.
    Buckets {
        /// Lowest bound of a repaired bucket.
        low: f64,
        /// Highest.
        high: f64,
        /// Largest difference.
        difference: f64,
        /// Samples.
        samples: u64,
        /// First evaluation time.
        from: TimeMs,
        /// Last evaluation time.
        to: TimeMs,
    },
    /// Parameters out of bounds: the text is told of the highest and of the lowest, or if one is
    /// NaN, of NaN alone.
    Parameter {
        /// Lowest.
        low: f64,
        /// Highest.
        high: f64,
        /// The bounds.
        bounds: [f64; 2],
        /// The bound counts instead.
        capped: bool,
    },
}

impl Occurrences {
    /// Both together.
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
                let nan = low.is_nan() || l.is_nan();
                let [low, high] = if nan { [f64::NAN; 2] } else { [low.min(l), high.max(h)] };
                Occurrences::Parameter { low, high, bounds, capped }
            }
            (Occurrences::Untold, other) => other,
            (this, _) => this,
        }
    }

    /// What is told behind the text; of a parameter out of bounds in one text for each bound.
    fn suffixes(self) -> Vec<(String, Occurrences)> {
        let Occurrences::Parameter { low, high, bounds: [least, most], capped } = self else {
            return vec![(String::new(), self)];
        };
        let capping =
            |bound: f64| if capped { format!(", capping to {}", general(bound)) } else { String::new() };
        let out = [(low, least, low < least || low.is_nan()), (high, most, high > most)];
        let out = out.into_iter().filter(|(_, _, out)| *out);
        out.map(|(v, bound, _)| (format!("{}{}", general(v), capping(bound)), Occurrences::Untold)).collect()
    }
}

/// Where a step stood in a query: its expression and its operands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepOrigin {
    /// The expression.
    pub(crate) whole: Span,
    /// Its operands, in order.
    pub(crate) operands: Vec<Span>,
    /// Of a step that answers the whole expression by itself: all expressions inside it.
    pub(crate) parts: Vec<Span>,
}

impl StepOrigin {
    /// The text that a note is about.
    pub fn span(&self, place: AnnotationTarget) -> Span {
        match place {
            AnnotationTarget::Whole => self.whole,
            AnnotationTarget::Part(number) => self.parts.get(number as usize).copied().unwrap_or_default(),
            AnnotationTarget::Operand(i) => self.operands.get(usize::from(i)).copied().unwrap_or(self.whole),
        }
    }
}

/// A note with its place in the query.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// How grave it is.
    pub level: Severity,
    /// See [`StepAnnotation::text`].
    pub text: Arc<str>,
    /// See [`StepAnnotation::extent`].
    pub extent: Occurrences,
    /// What it is about.
    pub span: Span,
}

/// Annotations of one query: of equal texts one remains, at the place of the expression that is
/// evaluated last, whatever order they come in: shards and steps know nothing of each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnnotationSet(BTreeMap<Key, AnnotationEntry>);

/// What is one annotation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Key {
    level: Severity,
    text: Arc<str>,
    /// Where parameters of different places must not be merged.
    place: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AnnotationEntry {
    extent: Occurrences,
    span: Span,
    turn: EvaluationOrder,
}

/// When an expression is evaluated: behind what ends before it and what it consists of.
type EvaluationOrder = (u32, Reverse<u32>);

impl AnnotationSet {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a note of a step with this origin.
    pub fn add(&mut self, note: &StepAnnotation, origin: &StepOrigin) {
        let turn = (origin.whole.end, Reverse(origin.whole.start));
        let remark = AnnotationEntry { extent: note.extent, span: origin.span(note.place), turn };
        let apart = matches!(note.extent, Occurrences::Parameter { .. });
        let place = apart.then_some((remark.span.start, remark.span.end));
        self.insert(Key { level: note.level, text: note.text.clone(), place }, remark);
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: AnnotationSet) {
        for (key, remark) in other.0 {
            self.insert(key, remark);
        }
    }

    fn insert(&mut self, key: Key, remark: AnnotationEntry) {
        match self.0.entry(key) {
            Entry::Vacant(vacant) => drop(vacant.insert(remark)),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let extent = known.extent.merge(remark.extent);
                if remark.turn >= known.turn {
                    *known = remark;
                }
                known.extent = extent;
            }
        }
    }

    /// All of them, warnings first, by text.
    pub fn into_list(self) -> Vec<Annotation> {
        let mut told = AnnotationSet::default();
        for (Key { level, text, .. }, remark) in self.0 {
            for (more, extent) in remark.extent.suffixes() {
                let text = if more.is_empty() { text.clone() } else { format!("{text}{more}").into() };
                told.insert(Key { level, text, place: None }, AnnotationEntry { extent, ..remark.clone() });
            }
        }
        let annotation = |(Key { level, text, .. }, AnnotationEntry { extent, span, .. })| Annotation {
            level,
            text,
            extent,
            span,
        };
        told.0.into_iter().map(annotation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two expressions remark the same, and shards tell of them in any order.
    #[test]
    fn the_place_of_a_remark_does_not_depend_on_who_comes_first() {
        let origin = |start: u32, end: u32| StepOrigin {
            whole: Span { start, end },
            operands: Vec::new(),
            parts: Vec::new(),
        };
        let note = StepAnnotation {
            level: Severity::Info,
            text: Arc::from("metric might not be a counter"),
            place: AnnotationTarget::Whole,
            extent: Occurrences::Times(1),
        };
        let remarks = |origin: &StepOrigin| {
            let mut remarks = AnnotationSet::default();
            remarks.add(&note, origin);
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
