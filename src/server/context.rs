//! [`ServerContext`]: what every part of the server is given: flags, clock, disk, metrics, runtime.

use crate::flags::Flags;
use std::sync::Arc;
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::TimeMs;
use storage::spans::Tracer;

/// The command line, and what the process has once: it does not change while the server runs.
pub struct ServerContext {
    /// The command line.
    pub flags: Flags,
    /// The self-metrics.
    pub metrics: Metrics,
    /// What spans are started with.
    pub tracer: Tracer,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The start of the process, ms.
    pub started: TimeMs,
    /// Whether work runs on threads or in the caller.
    pub execution: Execution,
}
