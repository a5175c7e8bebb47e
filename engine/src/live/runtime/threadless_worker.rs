//! A worker without a thread of its own, for simulations: it works while its caller waits for a
//! tick or a preparation, and so do the jobs that read history. Nothing else runs, so a simulation
//! controls the order of everything. Elsewhere workers are threads: [`super::workers`].
//!
//! Timely's worker cannot leave the thread that built it, but the handle can be anywhere. So
//! workers are kept in a thread-local table, by the address of their handle.

use super::workers::{WorkerEnds, send_control};
use super::{LiveShared, WorkerCommand};
use crate::query::pool::Pool;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::Thread;
use timely::worker::Worker;

struct ThreadlessWorker {
    worker: Worker,
    ends: WorkerEnds,
    /// The jobs that read history.
    pool: Arc<Pool>,
}

thread_local! {
    /// The workers of this thread, by the address of their handle.
    static WORKERS: RefCell<BTreeMap<usize, ThreadlessWorker>> = const { RefCell::new(BTreeMap::new()) };
}

fn key(shared: &Arc<LiveShared>) -> usize {
    Arc::as_ptr(shared) as usize
}

/// Builds the worker.
#[allow(clippy::disallowed_methods, reason = "timely counts delays from here; nothing uses one")]
pub(super) fn begin(
    shared: &Arc<LiveShared>,
    pool: Arc<Pool>,
    build: impl FnOnce(&mut Worker) -> Option<WorkerEnds>,
) {
    let allocator = Allocator::Thread(Thread::default());
    let mut worker = Worker::new(WorkerConfig::default(), allocator, Some(Instant::now()));
    if let Some(ends) = build(&mut worker) {
        WORKERS
            .with_borrow_mut(|workers| workers.insert(key(shared), ThreadlessWorker { worker, ends, pool }));
    }
}

/// Runs the worker until the tick or preparation with this number is finished.
pub(super) fn work(shared: &Arc<LiveShared>, number: u64) {
    // Taken out while it runs: a tap called from the worker may use another runtime of this thread,
    // which would borrow the map again.
    let worker = WORKERS.with_borrow_mut(|workers| workers.remove(&key(shared)));
    // On a thread that has no such worker there is nothing to run.
    let Some(mut worker) = worker else { return };
    // Also until nothing is left to run: operators may be activated once more after they have
    // reported the tick as done, and a simulation must not depend on when that happens.
    while !shared.barrier.is_finished(number) || worker.is_busy() {
        worker.step();
    }
    // Reads of history run after the tick, like background threads would, not inside it.
    worker.pool.turn();
    WORKERS.with_borrow_mut(|workers| workers.insert(key(shared), worker));
}

/// Drops the worker.
pub(super) fn end(shared: &Arc<LiveShared>) {
    drop(WORKERS.with_borrow_mut(|workers| workers.remove(&key(shared))));
}

impl ThreadlessWorker {
    fn step(&mut self) {
        if let Ok(WorkerCommand::Run(number, messages)) = self.ends.commands.try_recv()
            && let Some(control) = &mut self.ends.control
        {
            send_control(control, number, messages);
        }
        self.worker.step();
    }

    /// Whether an operator has work left without further input.
    fn is_busy(&self) -> bool {
        self.worker.activations().borrow().empty_for() == Some(Duration::ZERO)
    }
}
