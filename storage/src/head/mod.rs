//! The head: the recent hours, in memory. Each shard has one [`Head`], with its series, postings
//! and samples.
//!
//! Start at [`Head`] (the append path). It consists of [`HeadSeriesTable`] (which slot is which
//! series), [`GroupTable`] (which columns a group has) and [`AppendLimits`]. [`columns`] and
//! [`group_chunk`] hold scrapes. [`implicit_groups`] makes columns of remote-write samples that
//! arrive together, and [`ungrouped`] holds single samples. [`sparse_append`] is for native
//! histograms and start timestamps. [`postings`] finds series, [`ranks`] sorts them. [`snapshot`]
//! is what readers get. [`restore`] fills the head from the log, and [`scrape_run`] is the replay's
//! direct way from logged scrapes to chunks.

mod append_decision;
mod chunk_merge;
mod column;
mod columns;
mod corrections;
mod decimals;
mod group;
mod group_chunk;
mod group_table;
mod implicit_groups;
mod inactive_labels;
mod merge_overlay;
mod open_rows;
mod paged_vec;
pub mod postings;
mod ranks;
mod reset_hints;
mod restore;
mod row_delta;
mod scrape_run;
mod seal_schedule;
mod series;
mod series_index;
mod series_table;
mod shard;
mod snapshot;
mod sparse_append;
mod sparse_column;
pub mod ungrouped;
mod xor;

pub use crate::model::slot_samples::{SlotFloat, SlotHistogram, SlotStart};
pub use append_decision::{AppendCounts, AppendDecision, AppendLimits, Refusal, RefusedSample};
pub use group_table::{GroupTable, group_id, group_of};
pub use implicit_groups::RowsAppended;
pub use scrape_run::{ScrapeRun, Transposer};
pub use series_table::{HeadSeriesTable, SlotLabels};
pub use shard::{AppendedBatch, Head, TimeRange};
pub use snapshot::HeadSnapshot;
pub use sparse_column::SparseColumn;
