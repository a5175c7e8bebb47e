//! The annotations (warnings and infos) that one step of a plan has at one evaluation time, stored
//! by row, which is one series of its output. They are replaced when the row is evaluated again, so
//! an incremental evaluation has the same annotations as one from scratch. [`crate::annotations`]
//! explains the types.

use crate::annotations::StepAnnotation;
use crate::heap_size::HeapSize;
use std::collections::BTreeMap;

/// The annotations of one step at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepAnnotations {
    whole: Vec<StepAnnotation>,
    rows: BTreeMap<u32, Vec<StepAnnotation>>,
    version: u64,
}

impl HeapSize for StepAnnotations {
    fn heap(&self) -> usize {
        (self.whole.len() + self.rows.values().map(Vec::len).sum::<usize>()) * size_of::<StepAnnotation>()
    }
}

impl StepAnnotations {
    /// Whether there are no annotations.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.rows.is_empty()
    }

    /// Increases with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Removes all annotations; for operators that evaluate all rows every time.
    pub fn clear(&mut self) {
        if !self.is_empty() {
            self.version += 1;
            self.whole.clear();
            self.rows.clear();
        }
    }

    /// Adds an annotation of the whole step, unless it is there.
    pub fn add(&mut self, annotation: StepAnnotation) {
        if !self.whole.contains(&annotation) {
            self.whole.push(annotation);
            self.version += 1;
        }
    }

    /// Replaces the annotations of the whole step.
    pub fn replace(&mut self, annotations: Vec<StepAnnotation>) {
        if annotations.is_empty() && self.whole.is_empty() {
            return;
        }
        let mut unique: Vec<StepAnnotation> = Vec::with_capacity(annotations.len());
        for annotation in annotations {
            if !unique.contains(&annotation) {
                unique.push(annotation);
            }
        }
        if unique != self.whole {
            self.whole = unique;
            self.version += 1;
        }
    }

    /// Replaces the annotations of one row. Cheap if there are none before and after.
    #[inline]
    pub fn set_row(&mut self, row: usize, annotations: Vec<StepAnnotation>) {
        let row = row as u32;
        if !annotations.is_empty() {
            if self.rows.get(&row) != Some(&annotations) {
                self.rows.insert(row, annotations);
                self.version += 1;
            }
        } else if !self.rows.is_empty() && self.rows.remove(&row).is_some() {
            self.version += 1;
        }
    }

    /// All annotations.
    pub fn iter(&self) -> impl Iterator<Item = &StepAnnotation> {
        self.whole.iter().chain(self.rows.values().flatten())
    }
}
