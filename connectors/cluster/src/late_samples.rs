//! Transfers the late samples of the other processes to process 0, where recorded series are
//! corrected.
//!
//! Process 0 sends the version of its list of selectors, and the list itself if the other process
//! does not have it. It receives the late samples and confirms them. The heartbeat
//! ([`super::heartbeat`]) signals which process has late samples.

use super::handshake::ConnectionPurpose;
use super::peer_client::{PeerCall, PeerClient};
use crate::limits::LATE_PATIENCE;
use engine::limits::MESSAGE_BYTES;
use engine::query::guard::QueryGuard;
use engine::query::peers::PeerChannel;
use engine::query::{QueryError, QueryOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use storage::codec;
use views::recording::{
    LateSampleClient, LateSampleExchange, LateSampleMonitor, LateSampleReport, WatchList,
};

/// Requests late samples from the other processes.
pub struct PeerLateSamples(pub Arc<PeerClient>);

impl LateSampleClient for PeerLateSamples {
    fn processes(&self) -> Vec<usize> {
        self.0.others().collect()
    }

    fn poll(&self, process: usize, watched: &WatchList) -> Result<LateSampleReport, QueryError> {
        let guard = QueryGuard::new(&QueryOptions { timeout: LATE_PATIENCE, ..QueryOptions::default() });
        let call = self.0.call(process, ConnectionPurpose::Late, &guard)?;
        request(call, watched, &guard)
    }
}

fn request(
    mut line: PeerCall,
    watched: &WatchList,
    guard: &QueryGuard,
) -> Result<LateSampleReport, QueryError> {
    send_message(&mut line, &watched.number, guard)?;
    let knows: bool = receive_message(&mut line, guard)?;
    // The list of selectors is long and seldom changes, so its number is compared first.
    if !knows {
        send_message(&mut line, watched, guard)?;
    }
    let report = receive_message(&mut line, guard)?;
    // If this confirmation is lost, the samples are sent again, and their slots are computed twice.
    send_message(&mut line, &(), guard)?;
    Ok(report)
}

/// Receives a request on `line` and answers it.
pub(crate) fn answer(
    late_samples: &LateSampleMonitor,
    line: &mut dyn PeerChannel,
    cancel: Arc<AtomicBool>,
) -> Result<(), QueryError> {
    let guard = QueryGuard::new(&QueryOptions { timeout: LATE_PATIENCE, cancel, ..QueryOptions::default() });
    let number = receive_message(line, &guard)?;
    late_samples.answer(number, &mut CoordinatorExchange { line, guard: &guard, has_watch_list: true })
}

/// The exchange with process 0 over a connection.
struct CoordinatorExchange<'a> {
    line: &'a mut dyn PeerChannel,
    guard: &'a QueryGuard,
    has_watch_list: bool,
}

impl LateSampleExchange for CoordinatorExchange<'_> {
    fn watched(&mut self) -> Result<WatchList, QueryError> {
        self.has_watch_list = false;
        send_message(self.line, &false, self.guard)?;
        receive_message(self.line, self.guard)
    }

    fn deliver(&mut self, report: &LateSampleReport) -> Result<(), QueryError> {
        if self.has_watch_list {
            send_message(self.line, &true, self.guard)?;
        }
        send_message(self.line, report, self.guard)?;
        receive_message(self.line, self.guard)
    }
}

/// Sends a message at once.
fn send_message<T: Serialize>(
    line: &mut dyn PeerChannel,
    message: &T,
    guard: &QueryGuard,
) -> Result<(), QueryError> {
    let bytes = codec::encode_within(MESSAGE_BYTES, message);
    let bytes = bytes.map_err(|e| QueryError::Internal(format!("a message to {}: {e}", line.name())))?;
    line.send(&bytes, guard).and_then(|()| line.flush(guard))
}

fn receive_message<T: DeserializeOwned>(
    line: &mut dyn PeerChannel,
    guard: &QueryGuard,
) -> Result<T, QueryError> {
    let bytes = line.receive(guard)?;
    let wrong = |e| QueryError::Internal(format!("{} sent a message that cannot be read: {e}", line.name()));
    codec::decode_within(MESSAGE_BYTES, &bytes).map_err(wrong)
}
