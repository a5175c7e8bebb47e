//! The head: the recent hours of samples, in memory. Each shard (a fixed share of the series) has
//! one [`Head`], with its series, postings and samples. Read [`shard`] first: [`Head`] and the
//! append path.
//!
//! The words of this folder:
//!
//! - A *slot* is the number of a series in its shard; it is never given to another series.
//! - A *column group* ([`group`]) is the series that one scrape target or rule writes together,
//!   with one timestamp for all. A *batch* is one scrape of it; its *layout* says which series its
//!   values are.
//! - A *column set* ([`columns`]) is one numbering of the group's series as columns. A new set
//!   begins when the series of a target change much.
//! - An *open row* ([`open_rows`]) is a batch that is not compressed yet. *Sealing* compresses open
//!   rows to a *group chunk* ([`group_chunk`]).
//! - An *implicit group* ([`implicit_groups`]) is a column group that the head makes of
//!   remote-write samples which arrive together.
//! - *Ungrouped samples* ([`ungrouped`]) are those of one series that are in no column.
//! - A *sparse column* ([`sparse_column`]) has what only some samples of a series have: native
//!   histograms and start timestamps.
//! - An *inactive series* ([`inactive_labels`]) has no samples in the head and no writer.
//!
//! [`Head`] consists of [`HeadSeriesTable`] (which slot is which series), [`GroupTable`] (which
//! columns a group has) and [`AppendLimits`]. [`postings`] finds series, [`ranks`] sorts them.
//! [`snapshot`] is what readers get, [`stored_series`] what new samples are compared with.
//! [`restore`] fills the head from the log, and [`scrape_run`] is the replay's direct way from
//! logged scrapes to chunks.

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
mod stored_series;
pub mod ungrouped;
mod xor;

pub use crate::model::slot_samples::{SlotFloat, SlotHistogram, SlotStart};
pub use append_decision::{AppendCounts, AppendDecision, AppendLimits, Refusal, RefusedSample};
pub use group_table::{GroupTable, group_id, group_of};
pub use implicit_groups::RowsAppended;
pub use scrape_run::{ScrapeRun, Transposer};
pub(crate) use series_table::full;
pub use series_table::{HeadSeriesTable, SlotLabels};
pub use shard::{AppendedBatch, Head, TimeRange};
pub use snapshot::HeadSnapshot;
pub use sparse_column::SparseColumn;
pub use stored_series::StoredSeries;
