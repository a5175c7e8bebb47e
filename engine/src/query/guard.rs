//! Limits of a running query: samples, time, the client's patience. Texts are Prometheus'.

use super::{QueryError, QueryOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Asked by every piece of work, often.
#[derive(Debug)]
pub struct Guard {
    cancel: Arc<AtomicBool>,
    started: Instant,
    timeout: Duration,
    max_samples: usize,
    samples: AtomicUsize,
}

impl Guard {
    /// A guard that starts counting now.
    #[allow(clippy::disallowed_methods, reason = "a timeout bounds work; no answer depends on this reading")]
    pub fn new(options: &QueryOptions) -> Guard {
        Guard {
            cancel: options.cancel.clone(),
            started: Instant::now(),
            timeout: options.timeout,
            max_samples: options.max_samples,
            samples: AtomicUsize::new(0),
        }
    }

    /// Fails when the query must stop.
    #[allow(clippy::disallowed_methods, reason = "as above")]
    pub fn check(&self) -> Result<(), QueryError> {
        if self.cancel.load(Relaxed) {
            return Err(QueryError::Canceled("query was canceled in expression evaluation".to_owned()));
        }
        if self.started.elapsed() > self.timeout {
            return Err(QueryError::Timeout("query timed out in expression evaluation".to_owned()));
        }
        Ok(())
    }

    /// Counts samples read; fails beyond the limit.
    pub fn read(&self, samples: usize) -> Result<(), QueryError> {
        let total = self.samples.fetch_add(samples, Relaxed) + samples;
        if total > self.max_samples {
            return Err(too_many());
        }
        Ok(())
    }

    /// Fails if an answer in the making holds too many points.
    pub fn hold(&self, points: usize) -> Result<(), QueryError> {
        if points > self.max_samples { Err(too_many()) } else { Ok(()) }
    }

    /// Samples read so far.
    pub fn samples(&self) -> usize {
        self.samples.load(Relaxed)
    }
}

fn too_many() -> QueryError {
    let text = "query processing would load too many samples into memory in query execution";
    QueryError::Execution(text.to_owned())
}
