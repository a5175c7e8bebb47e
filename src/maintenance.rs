//! The maintenance of the store: the tasks that run once a minute.
//!
//! A task that fails is retried after increasing pauses, because it may be expensive and probably
//! fails again. The log has one line when a task begins to fail, with what to do, and one when it
//! works again.

use crate::flags::mode::AgentRetention;
use crate::limits::MAINTENANCE_PAUSE_MINUTES;
use engine::query::pool::Pool;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::metrics::{MetricHistogram, MetricSummary, Metrics};
use storage::store::{Store, StoreError};

/// Runs the maintenance once a minute: writes complete ranges as blocks and truncates the WAL,
/// removes expired blocks, merges blocks, and moves old blocks to the object store. `took` has the
/// times of what wrote or merged blocks.
pub(crate) async fn run_maintenance(store: Arc<Store>, clock: Arc<dyn Clock>, took: Arc<MetricHistogram>) {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    // A merge may take minutes, so it runs on a low-priority thread of its own while the other
    // tasks continue.
    let merger = Pool::named("compaction", 1);
    let merging = Arc::new(AtomicBool::new(false));
    let quick = Arc::new(Mutex::new([Task::new("written"), Task::new("removed")]));
    let slow = ["merged", "trimmed", "moved to the object store"].map(Task::new);
    let slow = Arc::new(Mutex::new(slow));
    loop {
        minute.tick().await;
        let flushing = store.clone();
        let now = clock.now();
        let tasks = quick.clone();
        let writing_took = took.clone();
        let flushed = tokio::task::spawn_blocking(move || {
            let [written, removed] = &mut *tasks.lock();
            // Writing comes before removing: what is in a block can go from the log, and only
            // blocks can go by age.
            written.run(|| timed(&writing_took, || flushing.maintenance().write_blocks(now)));
            removed.run(|| flushing.maintenance().remove_blocks(now).map(|()| 0));
        });
        if let Err(error) = flushed.await {
            tracing::error!(target: "maintenance", %error, "the maintenance ended with a panic; report it, the next one runs in a minute");
        }
        if !merging.swap(true, SeqCst) {
            let store = store.clone();
            let merging = CompactionGuard(merging.clone());
            let tasks = slow.clone();
            let merging_took = took.clone();
            merger.submit(Box::new(move || {
                let [merged, trimmed, moved] = &mut *tasks.lock();
                merged.run(|| timed(&merging_took, || store.maintenance().compact()));
                trimmed.run(|| store.maintenance().drop_expired_series(now));
                // After merging, so that small blocks are not uploaded, only to be replaced.
                moved.run(|| store.maintenance().move_to_cold(now));
                drop(merging);
            }));
        }
    }
}

/// The metric of how long it takes to write and to merge blocks, with Prometheus' buckets.
pub(crate) fn compaction_time(metrics: &Metrics) -> Arc<MetricHistogram> {
    let bounds: Vec<f64> = (0..14).map(|n| f64::from(1 << n)).collect();
    let help = "Duration of runs of the maintenance that wrote or merged blocks.";
    metrics.histogram("prometheus_tsdb_compaction_duration_seconds", help, &[], &bounds)
}

/// Observes how long `work` takes, if it did something to blocks or failed.
fn timed(
    took: &MetricHistogram,
    work: impl FnOnce() -> Result<usize, StoreError>,
) -> Result<usize, StoreError> {
    let began = Instant::now();
    let outcome = work();
    if !matches!(outcome, Ok(0)) {
        took.observe(began.elapsed().as_secs_f64());
    }
    outcome
}

/// Forgets what an agent need not keep: regularly, by the retention of its flags. `took` has the
/// time that this takes, seconds.
pub(crate) async fn run_agent_maintenance(
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    retention: AgentRetention,
    took: Arc<MetricSummary>,
) {
    let mut turns = tokio::time::interval(retention.every);
    let forgetting = Arc::new(Mutex::new(Task::new("forgotten")));
    loop {
        turns.tick().await;
        let store = store.clone();
        let now = clock.now();
        let task = forgetting.clone();
        let took = took.clone();
        let forgotten = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            store.wal().hold_since(now.saturating_sub(retention.most));
            let until = now.saturating_sub(retention.least);
            task.lock().run(|| store.maintenance().write_blocks(until).map(|_| 0));
            took.observe(began.elapsed().as_secs_f64());
        });
        if let Err(error) = forgotten.await {
            tracing::error!(target: "maintenance", %error, "the maintenance ended with a panic; report it, the next one runs soon");
        }
    }
}

/// Marks that a merge is running. If the merge panics, the drop clears the mark, and the next
/// minute tries again.
struct CompactionGuard(Arc<AtomicBool>);

impl Drop for CompactionGuard {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// A task that runs once a minute.
struct Task {
    /// What the task does to blocks, a participle for log messages.
    what: &'static str,
    /// The number of consecutive failures.
    failures: u32,
    /// The minutes until the task is tried again.
    wait: u32,
    /// The reason of the last failure.
    reason: String,
}

impl Task {
    fn new(what: &'static str) -> Task {
        Task { what, failures: 0, wait: 0, reason: String::new() }
    }

    /// Runs the task, unless it pauses after a failure.
    fn run(&mut self, work: impl FnOnce() -> Result<usize, StoreError>) {
        // Counted in runs, not in time: a run that takes long must not use up the pause.
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        match work() {
            Ok(blocks) => self.succeeded(blocks),
            Err(error) => self.failed(&error),
        }
    }

    fn succeeded(&mut self, blocks: usize) {
        let what = self.what;
        if self.failures > 0 {
            // The pauses begin anew too, so a fault that comes back is told, and tried again soon.
            tracing::info!(target: "maintenance", failures = self.failures, "blocks are {what} again");
            *self = Task::new(what);
        }
        if blocks > 0 {
            tracing::info!(target: "maintenance", blocks, "blocks are {what}");
        }
    }

    fn failed(&mut self, error: &StoreError) {
        self.failures += 1;
        // 1, 2, 4 … minutes. `checked_shl` because the failures of a week are more than the bits of
        // a number.
        let pause = 1_u32
            .checked_shl(self.failures - 1)
            .map_or(MAINTENANCE_PAUSE_MINUTES, |minutes| minutes.min(MAINTENANCE_PAUSE_MINUTES));
        self.wait = pause - 1;
        let what = self.what;
        let reason = error.to_string();
        // Told once: as long as the reason is the same, another line would say nothing new.
        if reason == self.reason {
            tracing::debug!(target: "maintenance", reason, pause, "blocks are still not {what}");
            return;
        }
        let advice = advice(error);
        tracing::error!(
            target: "maintenance",
            reason,
            "blocks are not {what}: {advice}; nothing is lost, the server tries again in {pause} min, then less often"
        );
        self.reason = reason;
    }
}

/// What the user can do about an error.
fn advice(error: &StoreError) -> &'static str {
    match error {
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "make room on the disk, or keep less (storage.tsdb.retention)"
        }
        StoreError::Io { source, .. } if crate::descriptors::are_out(source) => {
            "raise the limit of open files (LimitNOFILE= of the service, ulimit -n)"
        }
        StoreError::Io { .. } => {
            "see whether the data directory can be read and written, and whether the disk fails"
        }
        StoreError::Damaged { .. } => "the file is damaged: restore it, or move its block away",
        StoreError::OwnedByOther { .. } => "two data directories must not share a prefix: give each its own",
        StoreError::LimitReached { remedy, .. } => remedy,
        StoreError::Invalid(_) | StoreError::Unavailable(_) | StoreError::Closed(_) => {
            "see the other lines of this log about the store"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_less_and_less_often_and_again_each_minute_when_it_works() {
        let mut task = Task::new("written");
        let full = || {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Err(StoreError::Io { path: "/data".into(), source })
        };
        let mut tried = Vec::new();
        for minute in 0..80 {
            task.run(|| {
                tried.push(minute);
                full()
            });
        }
        assert_eq!(tried, [0, 1, 3, 7, 15, 31, 47, 63, 79]);
        let mut tried = 0;
        for _ in 0..MAINTENANCE_PAUSE_MINUTES + 9 {
            task.run(|| {
                tried += 1;
                Ok(0)
            });
        }
        assert_eq!((tried, task.failures), (10, 0));
        assert!(advice(&full().unwrap_err()).starts_with("make room"));
    }
}
