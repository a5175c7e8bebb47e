//! Blocks: immutable directories of Parquet files, one per range of time (`docs/format/block.md`).
//! They hold what has left the head, which is the recent hours in memory.
//!
//! The words of this folder:
//!
//! - A *clock* is a list of timestamps that many series share, such as those of one scrape target
//!   ([`timestamp_table`]).
//! - A *row* of `samples.parquet` has the floats of one series in one window of two hours; a *page*
//!   is 64 rows, read and cached together.
//! - A *gap* is a time of the clock at which a series has no sample.
//! - A *cold block* is a block whose files are in an object store ([`cold`]).
//! - A *tombstone* is a deletion that the files of blocks do not show yet ([`tombstones`]).
//!
//! [`writer::write_block`] writes a block from sorted series, [`reader::Block`] reads one (start
//! there), and [`block_set::BlockSet`] manages all blocks of a data directory. Blocks are small
//! because series share their timestamps and values are stored as
//! [decimal](crate::encoding::decimal) mantissas. Native histograms and start timestamps are in
//! files of their own ([`histogram_rows`], [`sparse_file`]).

pub(crate) mod block_files;
pub mod block_set;
mod cache;
pub mod cold;
mod delta_binary_packed;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod histogram_rows;
mod index;
mod matcher_eval;
pub mod merge;
pub mod meta;
mod open_files;
mod page;
mod page_decoder;
mod page_header;
mod paged_file;
mod postings;
pub mod reader;
mod reserved_names;
mod sample_rows;
mod schema;
mod series_page;
mod series_table;
mod small_files;
mod sparse_file;
mod timestamp_table;
mod timestamps;
mod tombstones;
pub mod writer;

pub(crate) use block_set::remove_dir;
pub use block_set::{BlockHandle, BlockSet};
pub use cold::{ColdBlock, ColdOptions, ColdStore};
pub use merge::merge_blocks;
pub use meta::BlockMeta;
pub use reader::{Block, BlockSeriesHandle};
pub use reserved_names::{reserved_names, reserved_names_in};
pub use tombstones::{Tombstone, Tombstones};
pub use writer::{BlockSeries, BlockSpec, write_block, write_block_replacing};

use crate::error::StoreError;
use std::path::Path;

/// The DuckDB views over a data directory; written into the data directory, next to `blocks/`.
pub const OPEN_SQL: &str = include_str!("../../../docs/format/open.sql");

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> StoreError + '_ {
    |source| StoreError::Io { path: path.to_owned(), source }
}

fn damaged(path: &Path, reason: impl ToString) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
