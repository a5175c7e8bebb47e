//! The receiver of remote write. [`receiver`] handles requests; [`v1`] and [`v2`] decode the two
//! versions of the message; [`request`] stores what they contain. `connectors/remote` has the
//! sender.

pub mod labels;
pub mod receiver;
mod refused_samples;
pub mod request;
#[cfg(test)]
pub(crate) mod test_store;
mod v1;
mod v2;

pub use receiver::{MessageVersion, RemoteWriteError, RemoteWriteReceiver, WriteOutcome};
