//! The recent hours, in memory: per shard a registry, postings, and samples in target columns.
//!
//! Start at [`Head`] (the append path); [`columns`] and [`window`] hold what came by scrape, [`rows`] what
//! came alone, [`postings`] finds series, [`snapshot`] is what readers take away.

mod columns;
mod group;
pub mod postings;
mod restore;
pub mod rows;
mod series;
mod shard;
mod snapshot;
mod window;
mod xor;

pub use restore::{group_id, group_of};
pub use series::compare_labels;
pub use shard::{Counts, Head, Taken, Verdict};
pub use snapshot::HeadSnapshot;
