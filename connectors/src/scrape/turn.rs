//! How long a thread works at one scrape: until its timeout, until nobody wants it any more, or until other scrapes have
//! waited long enough.

use crate::limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Why a scrape ended before its body did.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// Its timeout is over.
    #[error("context deadline exceeded while the body was read")]
    Timeout,
    /// The target goes to another loop, or the server stops: nothing is reported.
    #[error("the scrape was stopped")]
    Stopped,
}

/// Whether a thread may go on for now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It may.
    GoOn,
    /// It is another scrape's turn.
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
    /// A turn that begins now, of a scrape that has time until `deadline` unless it is `stopped`.
    pub fn new(deadline: Instant, stopped: Arc<AtomicBool>) -> Turn {
        let end = Instant::now() + Duration::from_millis(limits::SCRAPE_TURN_MS);
        Turn { deadline: Some(deadline), end: Some(end), stopped }
    }

    /// A turn without an end.
    pub fn endless() -> Turn {
        Turn { deadline: None, end: None, stopped: Arc::default() }
    }

    /// Looks at the clock.
    pub fn look(&self) -> Result<Look, Interrupted> {
        let now = Instant::now();
        self.interrupted(now)?;
        let over = self.end.is_some_and(|end| now >= end);
        Ok(if over { Look::Yield } else { Look::GoOn })
    }

    /// Whether the scrape itself may go on, whosever turn it is.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.interrupted(Instant::now())
    }

    fn interrupted(&self, now: Instant) -> Result<(), Interrupted> {
        if self.stopped.load(Relaxed) {
            return Err(Interrupted::Stopped);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Interrupted::Timeout);
        }
        Ok(())
    }
}
