//! Transfers the late samples of the other processes to process 0. A *late sample* arrives after
//! the rules that read it were evaluated; process 0 runs the rules, so it computes again what they
//! recorded. Which series matter is a list of selectors, the watch list.
//!
//! Process 0 sends the version of its list of selectors, and the list itself if the other process
//! does not have it. It receives the late samples and confirms them. The heartbeat
//! ([`super::heartbeat`]) signals which process has late samples.

use super::handshake::ConnectionPurpose;
use super::peer_client::{PeerCall, PeerClient};
use crate::limits::LATE_SAMPLES_TIMEOUT;
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
        let guard =
            QueryGuard::new(&QueryOptions { timeout: LATE_SAMPLES_TIMEOUT, ..QueryOptions::default() });
        let call = self.0.call(process, ConnectionPurpose::LateSamples, &guard)?;
        request(call, watched, &guard)
    }
}

fn request(
    mut call: PeerCall,
    watched: &WatchList,
    guard: &QueryGuard,
) -> Result<LateSampleReport, QueryError> {
    send_message(&mut call, &watched.number, guard)?;
    let has_watch_list: bool = receive_message(&mut call, guard)?;
    // The list of selectors is long and seldom changes, so its number is compared first.
    if !has_watch_list {
        send_message(&mut call, watched, guard)?;
    }
    let report = receive_message(&mut call, guard)?;
    // If this confirmation is lost, the samples are sent again, and their slots are computed twice.
    send_message(&mut call, &(), guard)?;
    Ok(report)
}

/// Receives a request on `call` and answers it.
pub(crate) fn answer(
    late_samples: &LateSampleMonitor,
    call: &mut dyn PeerChannel,
    cancel: Arc<AtomicBool>,
) -> Result<(), QueryError> {
    let guard =
        QueryGuard::new(&QueryOptions { timeout: LATE_SAMPLES_TIMEOUT, cancel, ..QueryOptions::default() });
    let number = receive_message(call, &guard)?;
    late_samples.answer(number, &mut CoordinatorExchange { call, guard: &guard, has_watch_list: true })
}

/// The exchange with process 0 over a connection.
struct CoordinatorExchange<'a> {
    call: &'a mut dyn PeerChannel,
    guard: &'a QueryGuard,
    has_watch_list: bool,
}

impl LateSampleExchange for CoordinatorExchange<'_> {
    fn watched(&mut self) -> Result<WatchList, QueryError> {
        self.has_watch_list = false;
        send_message(self.call, &false, self.guard)?;
        receive_message(self.call, self.guard)
    }

    fn deliver(&mut self, report: &LateSampleReport) -> Result<(), QueryError> {
        if self.has_watch_list {
            send_message(self.call, &true, self.guard)?;
        }
        send_message(self.call, report, self.guard)?;
        receive_message(self.call, self.guard)
    }
}

/// Sends a message at once.
fn send_message<T: Serialize>(
    call: &mut dyn PeerChannel,
    message: &T,
    guard: &QueryGuard,
) -> Result<(), QueryError> {
    let bytes = codec::encode_within(MESSAGE_BYTES, message);
    let bytes = bytes.map_err(|e| QueryError::Internal(format!("a message to {}: {e}", call.name())))?;
    call.send(&bytes, guard).and_then(|()| call.flush(guard))
}

fn receive_message<T: DeserializeOwned>(
    call: &mut dyn PeerChannel,
    guard: &QueryGuard,
) -> Result<T, QueryError> {
    let bytes = call.receive(guard)?;
    let wrong = |e| QueryError::Internal(format!("{} sent a message that cannot be read: {e}", call.name()));
    codec::decode_within(MESSAGE_BYTES, &bytes).map_err(wrong)
}
