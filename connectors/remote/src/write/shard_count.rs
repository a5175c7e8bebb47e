//! Computes how many shards a queue should have: enough to send the incoming samples, and to work
//! off those that wait. The calculation is that of Prometheus.

/// The weight of the newest rate in its average.
const WEIGHT: f64 = 0.2;
/// A number of shards within this part of the current one is not worth a change.
const TOLERANCE: f64 = 0.3;
/// A queue that is so much behind does not get fewer shards, seconds.
const BEHIND_SECONDS: f64 = 10.0;

/// The weighted average of a rate per second.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct RateAverage {
    rate: f64,
    before: f64,
    has_begun: bool,
}

impl RateAverage {
    /// Takes the value of a counter after another `seconds`; returns the average.
    pub(super) fn add(&mut self, total: f64, seconds: f64) -> f64 {
        let now = (total - self.before) / seconds;
        self.before = total;
        if self.has_begun {
            self.rate += WEIGHT * (now - self.rate);
        } else if now > 0.0 {
            self.rate = now;
            self.has_begun = true;
        }
        self.rate
    }
}

/// The rates of a queue, per second.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct QueueRates {
    /// Items that are stored here.
    pub incoming: f64,
    /// Items that are sent.
    pub outgoing: f64,
    /// Items that are not to be sent.
    pub dropped: f64,
    /// Seconds of sending, over all shards.
    pub busy: f64,
    /// How much older the newest that was sent is than the newest that is stored, seconds.
    pub delay: f64,
}

impl QueueRates {
    /// The number of shards that would do, with a fraction; `None`: not known.
    pub(super) fn wanted(&self) -> Option<f64> {
        if self.outgoing <= 0.0 {
            return None;
        }
        let kept = self.outgoing / (self.dropped + self.outgoing);
        let seconds_per_item = self.busy / self.outgoing;
        let backlog = self.delay * self.incoming * kept;
        Some(seconds_per_item * (self.incoming * kept + 0.05 * backlog))
    }

    /// The number of shards to have, of `current` now.
    pub(super) fn shards(&self, wanted: f64, current: usize, least: usize, most: usize) -> usize {
        let rounded = wanted.ceil();
        let now = current as f64;
        let is_near = (now * (1.0 - TOLERANCE)..=now * (1.0 + TOLERANCE)).contains(&rounded);
        if is_near || (rounded < now && self.delay > BEHIND_SECONDS) {
            return current;
        }
        (rounded as usize).clamp(least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_follow_the_lag() {
        let rates = |delay| QueueRates { incoming: 1_000.0, outgoing: 500.0, dropped: 0.0, busy: 1.0, delay };
        let shards = |delay, current| {
            let rates = rates(delay);
            rates.shards(rates.wanted().unwrap(), current, 1, 50)
        };
        assert_eq!(shards(0.0, 1), 2, "half of what comes in is sent");
        assert_eq!(shards(1_000.0, 2), 50, "never more than may be");
        assert_eq!(shards(100.0, 2), 12);
        assert_eq!(shards(100.0, 20), 20, "not fewer while it is behind");
        assert_eq!(shards(1.0, 20), 3);
        assert_eq!(shards(5.0, 3), 3, "a small difference does not matter");
        assert_eq!(QueueRates::default().wanted(), None);
    }

    #[test]
    fn the_first_rate_counts_in_full() {
        let mut average = RateAverage::default();
        assert_eq!(average.add(0.0, 10.0), 0.0);
        assert_eq!(average.add(100.0, 10.0), 10.0);
        assert_eq!(average.add(100.0, 10.0), 8.0);
    }
}
