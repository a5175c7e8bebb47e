//! The worker threads of this process as the handle of the live runtime sees them: sends them
//! commands (tick, prepare), and stops them. [`super::workers`] is what runs in the threads.

use super::super::message::Control;
use crate::limits::STOP_TIMEOUT;
use parking_lot::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread::Thread;
use timely::communication::WorkerGuards;

/// A command to a worker.
pub(super) enum WorkerCommand {
    /// A tick or a preparation: its number and its control messages.
    Run(u64, Vec<Control>),
    Stop,
}

/// The worker threads of this process, and how they are started and stopped.
pub(super) struct WorkerPool {
    commands: Vec<Sender<WorkerCommand>>,
    threads: Mutex<Vec<Thread>>,
    /// `None`: the workers are not started, are stopped, or have no threads.
    guards: Mutex<Option<WorkerGuards<()>>>,
}

impl WorkerPool {
    /// The pool of the workers that receive these commands; their threads come later.
    pub(super) fn new(commands: Vec<Sender<WorkerCommand>>) -> WorkerPool {
        WorkerPool { commands, threads: Mutex::new(Vec::new()), guards: Mutex::new(None) }
    }

    /// The workers have been started in these threads.
    pub(super) fn set_threads(&self, guards: WorkerGuards<()>) {
        *self.threads.lock() = guards.guards().iter().map(|guard| guard.thread().clone()).collect();
        *self.guards.lock() = Some(guards);
    }

    /// Number of workers.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Has the workers run a tick or a preparation. Worker 0 broadcasts it to the others.
    pub(super) fn run(&self, number: u64, control: Vec<Control>) {
        // Fails only if the worker is gone; then it has aborted the process or was stopped.
        // Only worker 0 gets it: the dataflow's broadcast brings it to all workers, also in other
        // processes, in one order.
        let _ = self.commands[0].send(WorkerCommand::Run(number, control));
        if let Some(thread) = self.threads.lock().first() {
            // Workers are parked between ticks. An unpark before the park is not lost: the park
            // then returns at once.
            thread.unpark();
        }
    }

    /// Tells all workers to stop.
    pub(super) fn stop(&self) {
        for worker in &self.commands {
            // Fails only if the worker has ended already.
            let _ = worker.send(WorkerCommand::Stop);
        }
        for thread in self.threads.lock().iter() {
            thread.unpark();
        }
    }

    /// Waits for the workers to end. In a cluster of `processes` they end together, so the wait is
    /// limited: a worker that hangs in another process must not block this one.
    pub(super) fn join(&self, processes: usize) {
        let Some(guards) = self.guards.lock().take() else { return };
        // Workers of one process always end, because none of them waits for the network.
        if processes == 1 {
            return drop(guards);
        }
        let (sender, ended) = channel();
        std::thread::spawn(move || {
            drop(guards);
            // Fails only if nothing waits any more.
            let _ = sender.send(());
        });
        if ended.recv_timeout(STOP_TIMEOUT).is_err() {
            tracing::warn!(
                target: "live",
                "other processes of the cluster have not stopped: this one stops without them; \
                 nothing needs to be done here"
            );
        }
    }
}
