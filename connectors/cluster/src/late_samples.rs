//! What comes late to the other processes, on its way to process 0, where recorded series are corrected.
//!
//! Process 0 says which list of selectors it goes by, and the list itself if that is news; it hears
//! what came late, and says that it has it. It asks who has rung ([`super::heartbeat`]).

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

/// The way to ask the others.
pub struct PeerLateSamples(pub Arc<PeerClient>);

impl LateSampleClient for PeerLateSamples {
    fn processes(&self) -> Vec<usize> {
        self.0.others().collect()
    }

    fn ask(&self, process: usize, watched: &WatchList) -> Result<LateSampleReport, String> {
        let guard = QueryGuard::new(&QueryOptions { timeout: LATE_PATIENCE, ..QueryOptions::default() });
        let call = self.0.call(process, ConnectionPurpose::Late, &guard);
        call.and_then(|call| ask(call, watched, &guard)).map_err(|e| e.to_string())
    }
}

fn ask(mut line: PeerCall, watched: &WatchList, guard: &QueryGuard) -> Result<LateSampleReport, QueryError> {
    say(&mut line, &watched.number, guard)?;
    let knows: bool = hear(&mut line, guard)?;
    if !knows {
        say(&mut line, watched, guard)?;
    }
    let report = hear(&mut line, guard)?;
    // If this is not heard there, it is told once more: then slots are computed twice.
    say(&mut line, &(), guard)?;
    Ok(report)
}

/// Answers the question that comes first on `line`.
pub fn answer(
    lookout: &LateSampleMonitor,
    line: &mut dyn PeerChannel,
    cancel: Arc<AtomicBool>,
) -> Result<(), QueryError> {
    let guard = QueryGuard::new(&QueryOptions { timeout: LATE_PATIENCE, cancel, ..QueryOptions::default() });
    let number = hear(line, &guard)?;
    lookout.answer(number, &mut CoordinatorExchange { line, guard: &guard, knows: true })
}

/// Process 0 at the other end of a line.
struct CoordinatorExchange<'a> {
    line: &'a mut dyn PeerChannel,
    guard: &'a QueryGuard,
    knows: bool,
}

impl LateSampleExchange for CoordinatorExchange<'_> {
    fn watched(&mut self) -> Result<WatchList, QueryError> {
        self.knows = false;
        say(self.line, &false, self.guard)?;
        hear(self.line, self.guard)
    }

    fn tell(&mut self, report: &LateSampleReport) -> Result<(), QueryError> {
        if self.knows {
            say(self.line, &true, self.guard)?;
        }
        say(self.line, report, self.guard)?;
        hear(self.line, self.guard)
    }
}

/// Sends a message at once.
fn say<T: Serialize>(line: &mut dyn PeerChannel, message: &T, guard: &QueryGuard) -> Result<(), QueryError> {
    let bytes = codec::encode_within(MESSAGE_BYTES, message);
    let bytes = bytes.map_err(|e| QueryError::Internal(format!("a message to {}: {e}", line.name())))?;
    line.say(&bytes, guard).and_then(|()| line.flush(guard))
}

fn hear<T: DeserializeOwned>(line: &mut dyn PeerChannel, guard: &QueryGuard) -> Result<T, QueryError> {
    let bytes = line.hear(guard)?;
    let wrong = |e| QueryError::Internal(format!("{} sent a message that cannot be read: {e}", line.name()));
    codec::decode_within(MESSAGE_BYTES, &bytes).map_err(wrong)
}
