//! The storage engine: what samples are, and where they are stored.
//!
//! Modules: [`model`] (labels, matchers, samples), [`wal`] (the write-ahead log), [`head`] (the
//! recent hours, in memory), [`block`] (immutable Parquet files), [`exemplars`] (a ring in memory),
//! [`durable_map`] (a small file of keys and values), and [`store`], the entry point that owns the
//! others.
//!
//! This crate knows nothing of PromQL or HTTP. It does not read the clock: times come in as
//! arguments.

#![warn(unreachable_pub)]
// Tests may use the disk and the clock directly; the crate may not (clippy.toml).
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests drive the real world"))]

pub mod block;
pub mod checksummed_file;
pub mod clock;
pub mod codec;
pub mod disk;
pub mod durable_map;
mod encoding;
pub mod error;
pub mod execution;
pub mod exemplars;
pub mod head;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod object_store;
pub mod shared_metrics;
pub mod spans;
pub mod store;
pub mod vec_growth;
pub mod wal;
