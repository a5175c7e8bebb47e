//! `rate_limit` of the web configuration file: a token bucket for all requests to the server. A
//! request without a token is answered with 429.

use super::RateLimit;
use std::time::{Duration, Instant};

/// Holds up to `burst` tokens, and gets one more each `interval`.
pub(super) struct TokenBucket {
    /// The limit that the tokens belong to; another one begins with a full bucket.
    limit: Option<RateLimit>,
    /// Tokens in the bucket, as time: tokens = `saved` / `interval`.
    saved: Duration,
    /// When the bucket was last looked at.
    last: Instant,
}

impl TokenBucket {
    pub(super) fn new(now: Instant) -> TokenBucket {
        TokenBucket { limit: None, saved: Duration::ZERO, last: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, limit: RateLimit, now: Instant) -> bool {
        let full = limit.interval.saturating_mul(u32::try_from(limit.burst).unwrap_or(u32::MAX));
        if self.limit != Some(limit) {
            self.limit = Some(limit);
            self.saved = full;
        } else {
            self.saved = self.saved.saturating_add(now.saturating_duration_since(self.last)).min(full);
        }
        self.last = now;
        if limit.burst == 0 || self.saved < limit.interval {
            return false;
        }
        self.saved -= limit.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_one_by_one() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start);
        let limit = RateLimit { interval: Duration::from_secs(1), burst: 2 };
        let mut at = |ms: u64| bucket.take(limit, start + Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(0)], [true, true, false]);
        assert_eq!([at(999), at(1_000), at(1_001)], [false, true, false]);
        assert_eq!([at(60_000), at(60_000), at(60_000)], [true, true, false], "no more than the burst");
    }

    #[test]
    fn an_empty_bucket_answers_nobody() {
        let start = Instant::now();
        let limit = RateLimit { interval: Duration::from_secs(1), burst: 0 };
        assert!(!TokenBucket::new(start).take(limit, start));
    }
}
