//! A worker on its caller's thread: it does its part of a tick or preparation while the caller
//! waits for it, and what reads the past does its part then, too. Nothing else happens, so that a
//! simulation decides about all that does.
//!
//! A worker cannot leave the thread that built it, and its handle can be anywhere: it is found by its handle.

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

/// What keeps a worker going: its control stream and what it is told.
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

/// Works until what has this number is finished.
pub(super) fn work(inner: &Arc<LiveShared>, number: u64) {
    let here = WORKERS.with_borrow_mut(|workers| workers.remove(&key(inner)));
    // Only the thread that has the worker can work; on another one there is nothing to wait for.
    let Some(mut here) = here else { return };
    while inner.finished.lock()[0] < number || here.is_busy() {
        here.step();
    }
    here.past.turn();
    WORKERS.with_borrow_mut(|workers| workers.insert(key(inner), here));
}

/// The worker ends.
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

    /// Whether an operator wants to go on by itself.
    fn is_busy(&self) -> bool {
        self.worker.activations().borrow().empty_for() == Some(Duration::ZERO)
    }
}
