//! How an operator keeps to the limits of those it works for: it says how many rows it goes
//! through, and what labels it makes. Every so many rows the query's time and its client's patience
//! are looked at, so that no loop outlives them.
//!
//! A view has no deadline: there a row costs a subtraction, and nothing is looked at; the labels
//! count all the same.

use super::EvalError;
use crate::limits::{CHECK_SAMPLES, LABELS_BYTES, ROW_BYTES, ROW_SAMPLES};
use crate::memory::MemoryReservation;
use storage::limits::LABEL_SET_BYTES;
use storage::model::Labels;

/// Whom an operator works for.
pub trait Limits {
    /// Fails when it must stop.
    fn check(&self) -> Result<(), EvalError>;
    /// So many bytes more are held; fails if that is too much.
    fn grow(&self, bytes: usize) -> Result<(), EvalError>;
}

/// A view has time, but no endless memory.
impl Limits for MemoryReservation {
    fn check(&self) -> Result<(), EvalError> {
        Ok(())
    }

    fn grow(&self, bytes: usize) -> Result<(), EvalError> {
        MemoryReservation::grow(self, bytes).map_err(|e| EvalError(e.to_string()))
    }
}

/// Counts the work of operators between two looks at the limits. See the module.
pub struct EvaluationGuard<'a> {
    limits: Option<&'a dyn Limits>,
    /// Samples until the next look.
    left: usize,
    /// Samples from one look to the next.
    stride: usize,
    /// Bytes that were made and are not counted yet.
    made: usize,
    /// So many are counted at once. A step that is refused is evaluated again and again in a view:
    /// each label must count before it is there.
    batch: usize,
    /// Bytes that a new row counts, beside its labels.
    row_bytes: usize,
}

impl<'a> EvaluationGuard<'a> {
    /// For a query.
    pub fn of_query(limits: &'a dyn Limits) -> EvaluationGuard<'a> {
        let left = CHECK_SAMPLES;
        let stride = CHECK_SAMPLES;
        EvaluationGuard {
            limits: Some(limits),
            left,
            stride,
            made: 0,
            batch: CHECK_SAMPLES,
            row_bytes: ROW_BYTES,
        }
    }

    /// For a step of a view: only the labels that it makes count.
    pub fn of_view(labels: Option<&'a MemoryReservation>) -> EvaluationGuard<'a> {
        let limits = labels.map(|labels| labels as &dyn Limits);
        EvaluationGuard { limits, left: usize::MAX, stride: usize::MAX, made: 0, batch: 1, row_bytes: 0 }
    }

    /// For work without limits.
    pub fn free() -> EvaluationGuard<'static> {
        EvaluationGuard::of_view(None)
    }

    /// So many samples were looked at, or are about to be.
    #[inline]
    pub fn samples(&mut self, samples: usize) -> Result<(), EvalError> {
        match self.left.checked_sub(samples) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => self.check_limits(),
        }
    }

    /// A row is worked at.
    #[inline]
    pub fn row(&mut self) -> Result<(), EvalError> {
        self.samples(ROW_SAMPLES)
    }

    /// So many rows are.
    #[inline]
    pub fn rows(&mut self, rows: usize) -> Result<(), EvalError> {
        self.samples(rows.saturating_mul(ROW_SAMPLES))
    }

    /// `made` are new labels for a row that had `of`; where they are the same, they count nothing.
    pub fn relabelled(&mut self, made: &Labels, of: &Labels) -> Result<(), EvalError> {
        if made.shares_memory(of) { Ok(()) } else { self.labels(made) }
    }

    /// New labels were made. All of a series are as long as those of a stored one at most: a rule
    /// records them.
    pub fn labels(&mut self, made: &Labels) -> Result<(), EvalError> {
        let bytes = made.encoded().len();
        if bytes > LABEL_SET_BYTES {
            let text = format!("a series would have {bytes} bytes of labels: the limit is {LABEL_SET_BYTES}");
            return Err(EvalError(text));
        }
        self.bytes(bytes + LABELS_BYTES)
    }

    /// An operator's answer has so many rows more.
    pub fn new_rows(&mut self, rows: usize) -> Result<(), EvalError> {
        self.bytes(rows * self.row_bytes)
    }

    /// So many bytes were made that stay.
    pub fn bytes(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.made += bytes;
        if self.made >= self.batch {
            self.count_pending()?;
        }
        // To make them took some time, too.
        self.samples(bytes / size_of::<f64>())
    }

    /// Counts what was made and is not counted yet.
    pub fn count_pending(&mut self) -> Result<(), EvalError> {
        let made = std::mem::take(&mut self.made);
        match self.limits {
            Some(limits) if made > 0 => limits.grow(made),
            _ => Ok(()),
        }
    }

    #[cold]
    fn check_limits(&mut self) -> Result<(), EvalError> {
        self.left = self.stride;
        self.limits.map_or(Ok(()), Limits::check)
    }
}
