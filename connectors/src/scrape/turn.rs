//! [`Turn`]: how long a thread may work on one scrape before it yields to others: until the turn is
//! over, the scrape timeout has passed, or the scrape is stopped. [`super::work`] checks it.

use crate::limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Why a scrape ended before its body did.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interruption {
    /// The scrape timeout has passed.
    #[error("context deadline exceeded while the body was read")]
    Timeout,
    /// The target changes to another loop, or the server stops: nothing is reported.
    #[error("the scrape was stopped")]
    Stopped,
}

/// Whether a thread may continue with a scrape.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TurnState {
    /// It may continue.
    GoOn,
    /// It should yield to another scrape.
    Yield,
}

/// One turn of a scrape on a thread.
#[derive(Clone, Debug)]
pub struct Turn {
    deadline: Option<Instant>,
    end: Option<Instant>,
    stopped: Arc<AtomicBool>,
}

impl Turn {
    /// A turn that begins now, for a scrape with this `deadline`, which `stopped` may stop earlier.
    pub fn new(deadline: Instant, stopped: Arc<AtomicBool>) -> Turn {
        let end = Instant::now() + Duration::from_millis(limits::SCRAPE_TURN_MS);
        Turn { deadline: Some(deadline), end: Some(end), stopped }
    }

    /// A turn without an end.
    pub fn endless() -> Turn {
        Turn { deadline: None, end: None, stopped: Arc::default() }
    }

    /// Checks the clock.
    pub fn look(&self) -> Result<TurnState, Interruption> {
        let now = Instant::now();
        self.interrupted(now)?;
        // A turn that is over only yields: the scrape goes on with its next turn, unlike after the
        // two reasons above.
        let over = self.end.is_some_and(|end| now >= end);
        Ok(if over { TurnState::Yield } else { TurnState::GoOn })
    }

    /// Checks whether the scrape may continue, even if its turn is over.
    pub fn check(&self) -> Result<(), Interruption> {
        self.interrupted(Instant::now())
    }

    fn interrupted(&self, now: Instant) -> Result<(), Interruption> {
        // First, because a scrape that was stopped must not report a timeout.
        if self.stopped.load(Relaxed) {
            return Err(Interruption::Stopped);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Interruption::Timeout);
        }
        Ok(())
    }
}
