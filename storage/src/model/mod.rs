//! The data model: labels, matchers, values, native histograms and time. All other modules and
//! crates use these types.

pub mod columns;
pub mod histogram;
pub mod intervals;
pub mod labels;
pub mod matcher;
pub mod number;
pub mod regex;
pub mod runs;
pub mod shard;
pub mod slot_samples;
pub mod time;
pub mod value;

pub use histogram::NativeHistogram;
pub use intervals::Intervals;
pub use labels::{Labels, LabelsBuilder};
pub use matcher::{MatchOp, Matcher};
pub use shard::{SHARDS, SeriesRef, shard_of, shard_of_encoded};
pub use time::TimeMs;
