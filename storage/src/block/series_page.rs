//! A page of `series.parquet`: label sets, made when they are first asked for. Of the series of a
//! page mostly few are, or all again and again.

use super::small_files::labels_of;
use crate::limits::SERIES_LABEL_BYTES;
use crate::model::Labels;
use arrow::array::RecordBatch;
use std::sync::OnceLock;

/// The series of one page.
pub(super) struct SeriesPage {
    /// Name and other labels.
    batch: RecordBatch,
    labels: Vec<OnceLock<Labels>>,
}

impl SeriesPage {
    pub(super) fn new(batch: RecordBatch) -> SeriesPage {
        let labels = (0..batch.num_rows()).map(|_| OnceLock::new()).collect();
        SeriesPage { batch, labels }
    }

    /// The labels in a row; `None`: they are none.
    pub(super) fn labels(&self, row: usize) -> Option<Labels> {
        let place = self.labels.get(row)?;
        if let Some(known) = place.get() {
            return Some(known.clone());
        }
        let labels = labels_of(&self.batch, row)?;
        Some(place.get_or_init(|| labels).clone())
    }

    /// Bytes of memory, about, when all are made.
    pub(super) fn size(&self) -> usize {
        self.batch.get_array_memory_size() + self.labels.len() * SERIES_LABEL_BYTES
    }
}
