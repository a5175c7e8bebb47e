//! The write-ahead log. Format: `docs/format/wal.md`.

use std::sync::Arc;

/// What the log knows of a column group: enough to write its next scrape as a difference.
#[derive(Default)]
pub struct GroupLog {
    /// The latest logged row.
    pub previous: Option<Arc<[f64]>>,
}
