//! What data is, and where it stays.
//!
//! Rooms: [`model`] (labels, matchers, samples), [`wal`] (the log), [`head`] (the recent hours),
//! [`block`] (immutable Parquet files), [`exemplars`] (a ring in memory), [`durable_map`] (a small
//! durable map), [`store`] (the door: one object that owns them).
//! This crate knows no PromQL and no HTTP. It reads no clock: time comes in with the calls.

// Tests may touch the disk and the clock; the crate may not (clippy.toml).
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests drive the real world"))]

pub mod block;
pub mod checksummed_file;
pub mod clock;
pub mod codec;
pub mod disk;
pub mod durable_map;
pub mod execution;
pub mod exemplars;
pub mod head;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod object_store;
pub mod store;
pub mod vec_growth;
pub mod wal;
