//! Views: queries whose results are kept up to date, and everything around them. Rules, saved
//! queries and subscriptions are views with consumers.
//!
//! A [`ViewRegistry`] installs views and attaches consumers to them by *taps* (read it first). The
//! usual registry is the live runtime of the engine, which updates a view with each sample. Plans
//! that it cannot maintain are [`scheduled`]: evaluated from history at an interval. [`saved`]
//! holds the views that users created through the API. [`recording`] computes what recording rules
//! would have recorded before they existed (backfill), and again after late samples arrived
//! (correction).

#![warn(unreachable_pub)]

pub mod alert_series;
pub mod check;
pub mod definition_file;
pub mod limits;
pub mod recording;
mod registry;
pub mod saved;
pub mod scheduled;

pub use registry::{ViewRegistry, check_live};
