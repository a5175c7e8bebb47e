//! Blocks: immutable directories of Parquet files, one per time range (`docs/format/block.md`).
//!
//! [`writer::write_block`] makes one out of sorted series, [`reader::Block`] reads one, [`set::Blocks`] is
//! all of a data directory. What makes them small: shared [`clocks`] and [`decimal`] mantissas. Native histograms and start
//! timestamps are files of their own ([`histograms`], [`lane`]).

mod cache;
mod clock;
mod clocks;
pub(crate) mod decimal;
mod decoder;
mod deltas;
pub mod far;
mod files;
mod histograms;
mod index;
mod lane;
pub mod merge;
pub mod meta;
mod open_files;
mod packed;
mod page;
mod pages;
mod postings;
pub mod reader;
mod rows;
mod schema;
mod selection;
mod series;
mod series_page;
pub mod set;
pub(crate) mod source;
mod tables;
mod taken;
mod tombstones;
pub mod writer;

pub use far::{Far, FarBlock, FarOptions};
pub use merge::merge_blocks;
pub use meta::BlockMeta;
pub use reader::{Block, BlockSeriesHandle};
pub(crate) use set::remove_dir;
pub use set::{Blocks, Listed};
pub use taken::{taken, taken_in};
pub use tombstones::{Tombstone, Tombstones};
pub use writer::{BlockSeries, Origin, write_block, write_block_of};

use crate::store::StoreError;
use std::path::Path;

/// The DuckDB views over a data directory, to be written next to `blocks/`.
pub const OPEN_SQL: &str = include_str!("../../../docs/format/open.sql");

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> StoreError + '_ {
    |source| StoreError::Io { path: path.to_owned(), source }
}

fn damaged(path: &Path, reason: impl ToString) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
