//! The recent hours, in memory: per shard a registry, postings, and samples in target columns.
//!
//! Start at [`Head`] (the append path); [`columns`] and [`group_chunk`] hold what came by scrape,
//! [`implicit_groups`] puts there what came together without one, [`ungrouped`] has what came
//! alone, [`sparse_append`] the native histograms and start timestamps, [`postings`] finds series,
//! [`ranks`] has their order, [`snapshot`] is what readers take away, [`scrape_run`] a replay's
//! short cut to windows.

mod append_decision;
mod chunk_merge;
mod column;
mod columns;
mod corrections;
mod decimals;
mod group;
mod group_chunk;
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
mod shard;
mod snapshot;
mod sparse_append;
mod sparse_column;
pub mod ungrouped;
mod xor;

pub use append_decision::{AppendCounts, AppendDecision, Refusal, RefusedSample};
pub use implicit_groups::RowsAppended;
pub use restore::{group_id, group_of};
pub use scrape_run::{ScrapeRun, Transposer};
pub use shard::{AppendedBatch, Head, SlotFloat};
pub use snapshot::HeadSnapshot;
pub use sparse_append::{SlotHistogram, SlotStart};
pub use sparse_column::SparseColumn;
