//! The evaluation guard: what every loop over rows asks whether it may go on. Operators report how
//! many rows they process and which labels they create; every 65,536 samples the limits are checked
//! (deadline, cancellation), so that no loop runs on after them.
//!
//! Views have no deadline: there a row costs one subtraction, and only labels count. The limits of
//! queries are in [`crate::query::guard`].

use super::EvalError;
use crate::limits::{CHECK_SAMPLES, LABELS_BYTES, ROW_BYTES, ROW_SAMPLES};
use crate::memory::MemoryReservation;
use storage::limits::LABEL_SET_BYTES;
use storage::model::Labels;

/// What limits an operator: a query or a view.
///
/// # Contract
/// 1. Once [`Limits::check`] has failed it fails always: an operator that goes on after an error
///    must be stopped again. *Checked:* the tests of [`crate::query::guard`].
/// 2. [`Limits::grow`] counts either all of `bytes` or, if it fails, nothing.
/// 3. The text of an error is shown only if no better reason is known: the limits keep the first
///    reason themselves.
/// 4. Both may be called from any thread and must not block.
pub trait Limits {
    /// Fails when the operator must stop.
    fn check(&self) -> Result<(), EvalError>;
    /// Counts `bytes` more. Fails if that is too much.
    fn grow(&self, bytes: usize) -> Result<(), EvalError>;
}

/// Views have a limit of memory, but none of time.
impl Limits for MemoryReservation {
    fn check(&self) -> Result<(), EvalError> {
        Ok(())
    }

    fn grow(&self, bytes: usize) -> Result<(), EvalError> {
        MemoryReservation::grow(self, bytes).map_err(|e| EvalError(e.to_string()))
    }
}

/// Counts the work of operators between two checks of the limits.
pub struct EvaluationGuard<'a> {
    limits: Option<&'a dyn Limits>,
    /// Samples until the next check.
    left: usize,
    /// Samples between two checks.
    stride: usize,
    /// Bytes that were created and not counted yet.
    made: usize,
    /// This many bytes are counted at once. In views it is 1: a step that fails is evaluated in
    /// every tick, so each label must be counted before it is created.
    batch: usize,
    /// Bytes that a new row counts in addition to its labels.
    row_bytes: usize,
}

impl<'a> EvaluationGuard<'a> {
    /// The guard for a query.
    pub fn for_query(limits: &'a dyn Limits) -> EvaluationGuard<'a> {
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

    /// The guard for a step of a view: only the labels that it creates count.
    pub fn for_view(labels: Option<&'a MemoryReservation>) -> EvaluationGuard<'a> {
        let limits = labels.map(|labels| labels as &dyn Limits);
        EvaluationGuard { limits, left: usize::MAX, stride: usize::MAX, made: 0, batch: 1, row_bytes: 0 }
    }

    /// The guard for work without limits.
    pub fn free() -> EvaluationGuard<'static> {
        EvaluationGuard::for_view(None)
    }

    /// Reports that this many samples were processed, or are about to be.
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

    /// Reports that a row is processed.
    #[inline]
    pub fn row(&mut self) -> Result<(), EvalError> {
        self.samples(ROW_SAMPLES)
    }

    /// Reports that this many rows are processed.
    #[inline]
    pub fn rows(&mut self, rows: usize) -> Result<(), EvalError> {
        self.samples(rows.saturating_mul(ROW_SAMPLES))
    }

    /// Counts new labels `made` of a row that had labels `of`. If they share memory, nothing is
    /// counted.
    pub fn relabelled(&mut self, made: &Labels, of: &Labels) -> Result<(), EvalError> {
        if made.shares_memory(of) { Ok(()) } else { self.labels(made) }
    }

    /// Counts new labels. Fails if they are longer than those of a stored series may be, because a
    /// rule could record them.
    pub fn labels(&mut self, made: &Labels) -> Result<(), EvalError> {
        let bytes = made.encoded().len();
        if bytes > LABEL_SET_BYTES {
            let text = format!("a series would have {bytes} bytes of labels: the limit is {LABEL_SET_BYTES}");
            return Err(EvalError(text));
        }
        self.bytes(bytes + LABELS_BYTES)
    }

    /// Counts this many new rows of an operator's output.
    pub fn new_rows(&mut self, rows: usize) -> Result<(), EvalError> {
        self.bytes(rows * self.row_bytes)
    }

    /// Counts bytes that were allocated for longer than this evaluation.
    pub fn bytes(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.made += bytes;
        if self.made >= self.batch {
            self.count_pending()?;
        }
        // Creating them took time as well.
        self.samples(bytes / size_of::<f64>())
    }

    /// Counts what was created and not counted yet.
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
