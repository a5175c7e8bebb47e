//! The recent hours, in memory: per shard a registry, postings, and samples in target columns.
//!
//! Start at [`Head`] (the append path); [`columns`] and [`window`] hold what came by scrape, [`rows`] what
//! came alone, [`lanes`] the native histograms and start timestamps, [`postings`] finds series, [`snapshot`] is what readers take away.

mod columns;
mod correct;
mod group;
mod hint;
mod lane;
mod lanes;
pub mod postings;
mod restore;
pub mod rows;
mod series;
mod shard;
mod snapshot;
mod verdict;
mod window;
mod xor;

pub use lane::Lane;
pub use lanes::{HistogramSample, Start};
pub use restore::{group_id, group_of};
pub use shard::{Head, Taken};
pub use snapshot::HeadSnapshot;
pub use verdict::{Counts, Verdict};
