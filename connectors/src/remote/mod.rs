//! Samples by push: [`receiver`] takes Prometheus' remote write, [`v1`] and [`v2`] read its two messages.

pub mod receiver;
mod refused;
mod request;
mod v1;
mod v2;

pub use receiver::{MessageVersion, RemoteWriteError, RemoteWriteReceiver, WriteOutcome};
