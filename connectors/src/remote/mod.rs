//! Remote write: receives samples by push. [`receiver`] handles requests; [`v1`] and [`v2`] decode
//! the two versions of the message. [`labels`] is also for remote read.

pub mod labels;
pub mod receiver;
mod refused;
pub mod request;
#[cfg(test)]
pub(crate) mod test_store;
mod v1;
mod v2;

pub use receiver::{MessageVersion, RemoteWriteError, RemoteWriteReceiver, WriteOutcome};
