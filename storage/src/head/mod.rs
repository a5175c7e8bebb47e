//! The recent hours, in memory: per shard a registry, postings, and samples in target columns.
//!
//! Start at [`Head`] (the append path); [`columns`] and [`window`] hold what came by scrape, [`cohort`] puts
//! there what came together without one, [`rows`] has what came alone, [`lanes`] the native histograms and start timestamps, [`postings`] finds series, [`snapshot`] is what readers take away,
//! [`stretch`] a replay's short cut to windows.

mod adopt;
mod cohort;
mod column;
mod columns;
mod correct;
mod decimals;
mod difference;
mod ended;
mod fold;
mod group;
mod hint;
mod lane;
mod lanes;
mod open;
mod pace;
pub mod postings;
mod registry;
mod restore;
pub mod rows;
mod series;
mod shard;
mod slots;
mod snapshot;
mod stretch;
mod verdict;
mod window;
mod xor;

pub use cohort::Together;
pub use lane::Lane;
pub use lanes::{HistogramSample, Start};
pub use restore::{group_id, group_of};
pub use shard::{Head, Sample, Taken};
pub use snapshot::HeadSnapshot;
pub use stretch::{Loom, Stretch};
pub use verdict::{Counts, Refusal, RefusedSample, Verdict};
