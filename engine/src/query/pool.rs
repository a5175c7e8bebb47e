//! Threads for queries, and for reading the past of views: niced, so that the live runtime's ticks come first.
//!
//! Measured (reference/engine.md, C3): a 20 ms query in the live pool moves the tick's p99 from 1 ms to 30 ms,
//! in a niced pool to 3-4 ms.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a thread is to do.
pub type Job = Box<dyn FnOnce() + Send>;

struct Queue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    ready: Condvar,
}

/// A fixed set of niced threads. Dropping it ends them after the jobs at hand.
pub struct Pool {
    queue: Arc<Queue>,
    threads: usize,
}

impl Pool {
    /// Starts `threads` threads (at least one) for queries.
    pub fn new(threads: usize) -> Pool {
        Pool::named("query", threads)
    }

    /// Starts `threads` threads (at least one) with a name of their own.
    pub fn named(name: &str, threads: usize) -> Pool {
        let queue = Arc::new(Queue { jobs: Mutex::new((VecDeque::new(), false)), ready: Condvar::new() });
        let threads = threads.max(1);
        for i in 0..threads {
            let queue = queue.clone();
            let spawned = std::thread::Builder::new().name(format!("{name}-{i}")).spawn(move || work(&queue));
            if let Err(error) = spawned {
                tracing::error!(%error, name, "cannot start a thread");
            }
        }
        Pool { queue, threads }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Has one of the threads run `job` when it comes to it. The caller sees to it that not too many wait.
    pub fn submit(&self, job: Job) {
        self.queue.jobs.lock().0.push_back(job);
        self.queue.ready.notify_one();
    }

    /// Runs `jobs` and returns their results in order. The calling thread only waits. The number of jobs
    /// waiting is bounded by the callers: each waits for its own.
    pub fn run<T: Send + 'static>(&self, jobs: Vec<Box<dyn FnOnce() -> T + Send>>) -> Vec<Option<T>> {
        let (send, receive) = std::sync::mpsc::channel();
        let count = jobs.len();
        for (i, job) in jobs.into_iter().enumerate() {
            let send = send.clone();
            self.submit(Box::new(move || drop(send.send((i, job())))));
        }
        drop(send);
        let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
        receive.iter().for_each(|(i, result)| results[i] = Some(result));
        results
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.jobs.lock().1 = true;
        self.queue.ready.notify_all();
    }
}

fn work(queue: &Queue) {
    nice();
    loop {
        let job = {
            let mut jobs = queue.jobs.lock();
            loop {
                if let Some(job) = jobs.0.pop_front() {
                    break job;
                }
                if jobs.1 {
                    return;
                }
                queue.ready.wait(&mut jobs);
            }
        };
        job();
    }
}

/// Lowers the priority of the calling thread. A refusal only costs fairness.
#[allow(unsafe_code, reason = "setpriority has no safe wrapper; it takes plain integers")]
pub fn nice() {
    const NICENESS: i32 = 10;
    // SAFETY: no pointers are passed; 0 names the calling thread on Linux.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}
