//! Samples by push: [`write`] takes Prometheus' remote write 1.0, [`protobuf`] reads its encoding.

pub mod protobuf;
pub mod series_cache;
pub mod write;

pub use write::{RemoteError, RemoteWriter, RemoteWritten};
