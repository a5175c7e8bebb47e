//! A page of `series.parquet`: the labels of some hundred series. The label set of a row is built
//! when it is first read: queries read either few series of a page, or all of them again and again.

use super::small_files::labels_of;
use crate::limits::SERIES_LABEL_BYTES;
use crate::model::Labels;
use arrow::array::RecordBatch;
use std::sync::OnceLock;

/// The series of one page.
pub(super) struct SeriesPage {
    /// The columns `__name__` and `labels`.
    batch: RecordBatch,
    labels: Vec<OnceLock<Labels>>,
}

impl SeriesPage {
    pub(super) fn new(batch: RecordBatch) -> SeriesPage {
        let labels = (0..batch.num_rows()).map(|_| OnceLock::new()).collect();
        SeriesPage { batch, labels }
    }

    /// The labels in row `row`; `None` if they are malformed.
    pub(super) fn labels(&self, row: usize) -> Option<Labels> {
        let place = self.labels.get(row)?;
        if let Some(known) = place.get() {
            return Some(known.clone());
        }
        let labels = labels_of(&self.batch, row)?;
        Some(place.get_or_init(|| labels).clone())
    }

    /// Approximate memory, bytes, when all label sets are built.
    pub(super) fn size(&self) -> usize {
        self.batch.get_array_memory_size() + self.labels.len() * SERIES_LABEL_BYTES
    }
}
