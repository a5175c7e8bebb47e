//! A worker without a thread of its own, for simulations: it works while its caller waits for a
//! tick or a preparation, and so do the jobs that read history. Nothing else runs, so a simulation
//! controls the order of everything.
//!
//! Timely's worker cannot leave the thread that built it, but the handle can be anywhere. So
//! workers are kept in a thread-local table, by the address of their handle.

use super::super::dataflow::ControlInput;
use super::workers::tell;
use super::{LiveShared, WorkerCommand};
use crate::query::pool::Pool;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::Thread;
use timely::worker::Worker;

/// A worker's control stream and its commands.
pub(super) type Ends = (Option<ControlInput>, Receiver<WorkerCommand>);

struct Here {
    worker: Worker,
    ends: Ends,
    past: Arc<Pool>,
}

thread_local! {
    /// The workers of this thread, by the address of their handle.
    static WORKERS: RefCell<BTreeMap<usize, Here>> = const { RefCell::new(BTreeMap::new()) };
}

fn key(inner: &Arc<LiveShared>) -> usize {
    Arc::as_ptr(inner) as usize
}

/// Builds the worker.
#[allow(clippy::disallowed_methods, reason = "timely counts delays from here; nothing asks for one")]
pub(super) fn begin(
    inner: &Arc<LiveShared>,
    past: Arc<Pool>,
    build: impl FnOnce(&mut Worker) -> Option<Ends>,
) {
    let alone = Allocator::Thread(Thread::default());
    let mut worker = Worker::new(WorkerConfig::default(), alone, Some(Instant::now()));
    if let Some(ends) = build(&mut worker) {
        WORKERS.with_borrow_mut(|workers| workers.insert(key(inner), Here { worker, ends, past }));
    }
}

/// Runs the worker until the tick or preparation with this number is finished.
pub(super) fn work(inner: &Arc<LiveShared>, number: u64) {
    let here = WORKERS.with_borrow_mut(|workers| workers.remove(&key(inner)));
    // On a thread that has no such worker there is nothing to run.
    let Some(mut here) = here else { return };
    while inner.finished.lock()[0] < number || here.is_busy() {
        here.step();
    }
    here.past.turn();
    WORKERS.with_borrow_mut(|workers| workers.insert(key(inner), here));
}

/// Drops the worker.
pub(super) fn end(inner: &Arc<LiveShared>) {
    drop(WORKERS.with_borrow_mut(|workers| workers.remove(&key(inner))));
}

impl Here {
    fn step(&mut self) {
        let (control, receiver) = &mut self.ends;
        match (receiver.try_recv(), control) {
            (Ok(WorkerCommand::Go(number, messages)), Some(control)) => tell(control, number, messages),
            (Ok(_) | Err(TryRecvError::Empty | TryRecvError::Disconnected), _) => {}
        }
        self.worker.step();
    }

    /// Whether an operator has work left without further input.
    fn is_busy(&self) -> bool {
        self.worker.activations().borrow().empty_for() == Some(Duration::ZERO)
    }
}
