//! Samples by push: [`write`] takes Prometheus' remote write, [`version1`] and [`version2`] read its two messages.

mod message;
mod refused;
mod version1;
mod version2;
pub mod write;

pub use write::{Proto, RemoteError, RemoteWriter, RemoteWritten};
