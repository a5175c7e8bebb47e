//! [`ReportTimer`]: when a list that changes by events is published, and how soon a server is asked
//! again after a failure. For the mechanisms that follow changes (Kubernetes, Consul, Kuma).

use crate::limits::{
    DISCOVERY_FIRST_LIST_SECONDS, DISCOVERY_PAUSE_MS, DISCOVERY_SETTLE_MS, DISCOVERY_SHORT_PAUSE_MS,
};
use std::time::Duration;
use tokio::time::Instant;

/// Decides when a list is reported: soon after a change, and not again before a pause. The first
/// one waits for all of its parts, but not for ever.
pub(super) struct ReportTimer {
    patience: Instant,
    rested: Option<Instant>,
    settled: Option<Instant>,
}

impl ReportTimer {
    /// Begins now.
    pub(super) fn new() -> ReportTimer {
        let patience = Instant::now() + Duration::from_secs(DISCOVERY_FIRST_LIST_SECONDS);
        ReportTimer { patience, rested: None, settled: None }
    }

    /// Says whether there is anything to report.
    pub(super) fn set_changed(&mut self, is_changed: bool) {
        let settle = Duration::from_millis(DISCOVERY_SETTLE_MS);
        // From the first change on: changes that go on and on must not put the report off.
        self.settled = is_changed.then(|| self.settled.unwrap_or_else(|| Instant::now() + settle));
    }

    /// Waits until the list is to be reported; for ever without a change. `is_complete`: whether
    /// all of its parts are known.
    pub(super) async fn wait(&self, is_complete: bool) {
        let Some(settled) = self.settled else { return std::future::pending().await };
        // `patience` ends at some time, so that a part that never comes does not hold up the rest.
        let begin = if is_complete { settled } else { self.patience };
        // After the first report nothing waits for parts: what is there is better than the list
        // before.
        tokio::time::sleep_until(self.rested.unwrap_or(begin).max(settled)).await;
    }

    /// Begins the pause after a report.
    pub(super) fn set_reported(&mut self) {
        self.rested = Some(Instant::now() + Duration::from_millis(DISCOVERY_PAUSE_MS));
        self.settled = None;
    }
}

/// The pauses between requests that a server answers when something changes: short ones, so that
/// changes are seen at once, and longer ones while it changes all the time.
pub(super) struct RequestPauses {
    longest: Duration,
    next: Duration,
}

impl RequestPauses {
    /// `longest` is the configured interval.
    pub(super) fn new(longest: Duration) -> RequestPauses {
        RequestPauses { longest, next: Duration::ZERO }.rested()
    }

    fn rested(self) -> RequestPauses {
        let next = Duration::from_millis(DISCOVERY_SHORT_PAUSE_MS).min(self.longest);
        RequestPauses { next, ..self }
    }

    /// The pause after a request that took `time`.
    pub(super) fn after(&mut self, time: Duration) -> Duration {
        // The server waited for a change, as it should: it is not changing all the time.
        if time > self.longest {
            *self = RequestPauses { longest: self.longest, next: self.next }.rested();
        }
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_changes_all_the_time_is_asked_less_often() {
        let mut pauses = RequestPauses::new(Duration::from_secs(30));
        let found: Vec<u64> = (0..9).map(|_| pauses.after(Duration::ZERO).as_millis() as u64).collect();
        assert_eq!(found, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(pauses.after(Duration::from_secs(31)).as_millis(), 250);
        assert_eq!(RequestPauses::new(Duration::from_millis(10)).after(Duration::ZERO).as_millis(), 10);
    }
}
