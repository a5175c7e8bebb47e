//! Housekeeping of the store: what it has to do once a minute, and where that runs.

use engine::query::pool::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use storage::clock::Clock;
use storage::store::{Store, StoreError};

/// Once a minute: complete ranges become blocks, the log behind them goes, so do blocks that are due, others are
/// merged, and old ones move to the object store.
pub async fn keep_house(store: Arc<Store>, clock: Arc<dyn Clock>) {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    // A merge may take minutes: on a niced thread of its own, and what else there is to do goes on meanwhile.
    let (merger, merging) = (Pool::named("compaction", 1), Arc::new(AtomicBool::new(false)));
    loop {
        minute.tick().await;
        let (flushing, now) = (store.clone(), clock.now());
        let written = tokio::task::spawn_blocking(move || flushing.maintain(now)).await;
        tell("written", written.unwrap_or_else(|error| Err(StoreError::Refused(error.to_string()))));
        if !merging.swap(true, SeqCst) {
            let (store, merging) = (store.clone(), Merging(merging.clone()));
            merger.submit(Box::new(move || {
                tell("merged", store.compact());
                tell("trimmed", store.trim(now));
                tell("moved to the object store", store.move_far(now));
                drop(merging);
            }));
        }
    }
}

/// That a merge runs; should it panic, the next minute tries again.
struct Merging(Arc<AtomicBool>);

impl Drop for Merging {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

fn tell(what: &str, outcome: Result<usize, StoreError>) {
    match outcome {
        Ok(0) => {}
        Ok(blocks) => tracing::info!(blocks, "blocks {what}"),
        Err(error) => {
            tracing::error!(%error, "housekeeping failed; nothing is lost, it is tried again in a minute");
        }
    }
}
