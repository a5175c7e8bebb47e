//! Threads for queries, and for reading the past of views: niced, so that the live runtime's ticks
//! come first.
//!
//! Measured (reference/engine.md, C3): a 20 ms query in the live pool moves the tick's p99 from 1
//! ms to 30 ms, in a niced pool to 3-4 ms. With questions about everything on all cores at once it
//! is 5 to 8 ms, because a thread that wakes may wait for the turn of a niced one to end. The
//! kernel's idle threads give way at once (+2 ms to less than nothing), but get next to nothing
//! where others want all cores. So large queries have idle threads of their own ([`QueryPools`]),
//! which besides keeps them from standing in the way of small ones.

use super::QueryError;
use super::guard::QueryGuard;
use crate::limits::{LARGE_PLAN, LARGE_PLAN_VALUES, LARGE_QUERY, WAIT_LOOK};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SendError, channel};
use std::time::Duration;

/// What a thread is to do.
pub type Job = Box<dyn FnOnce() + Send>;

struct JobQueue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    ready: Condvar,
}

/// How threads give way to others.
#[derive(Copy, Clone)]
enum Priority {
    /// They get a tenth of a core that others want.
    Niced,
    /// They get a core that nobody else wants.
    Idle,
}

/// The threads of a querier.
///
/// A query that is over, because its time is or its client has gone, must not wait for a thread
/// that gets no core: who waits for jobs looks at the query's limits meanwhile, and leaves them
/// behind ([`Pool::run`]). A job ends at its next look at the limits, a millisecond of work away,
/// and hands what it holds to a niced thread, which frees it. The other way, to raise the thread's
/// priority when time is over, needs a privilege: the kernel lets nobody else leave the idle class
/// whose nice value is lowered.
pub struct QueryPools {
    usual: Pool,
    /// `None`: large queries are like the others.
    large: Option<Pool>,
    /// Whoever asks does the work.
    caller: Pool,
}

impl QueryPools {
    /// `threads` threads (at least one) for queries, and as many for large ones.
    pub fn new(threads: usize) -> QueryPools {
        let usual = Pool::named("query", threads);
        let mut large = Pool::start("large-query", threads, Priority::Idle);
        large.frees = usual.queue.clone();
        QueryPools { usual, large: Some(large), caller: Pool::of_the_caller() }
    }

    /// No threads: whoever asks does the work.
    pub fn of_the_caller() -> QueryPools {
        QueryPools { usual: Pool::of_the_caller(), large: None, caller: Pool::of_the_caller() }
    }

    /// For queries that are not large, and for finding out how large one is.
    pub fn usual(&self) -> &Pool {
        &self.usual
    }

    /// For what is less work than to wake a thread.
    pub fn caller(&self) -> &Pool {
        &self.caller
    }

    /// For a query of so many values, and of so many operators that they go through when they are
    /// gathered, if that is large.
    pub fn large(&self, values: usize, operators: usize) -> Option<&Pool> {
        let of_plan = operators >= LARGE_PLAN && values.saturating_mul(operators) >= LARGE_PLAN_VALUES;
        self.large.as_ref().filter(|_| values >= LARGE_QUERY || of_plan)
    }
}

/// A fixed set of niced threads. Dropping it ends them after the jobs at hand.
pub struct Pool {
    queue: Arc<JobQueue>,
    /// Whose threads free what nobody waits for any more.
    frees: Arc<JobQueue>,
    threads: usize,
}

impl Pool {
    /// Starts `threads` threads (at least one) with a name of their own.
    pub fn named(name: &str, threads: usize) -> Pool {
        Pool::start(name, threads, Priority::Niced)
    }

    fn start(name: &str, threads: usize, yields: Priority) -> Pool {
        let queue = Arc::new(JobQueue { jobs: Mutex::new((VecDeque::new(), false)), ready: Condvar::new() });
        let threads = threads.max(1);
        for i in 0..threads {
            let queue = queue.clone();
            let spawned =
                std::thread::Builder::new().name(format!("{name}-{i}")).spawn(move || work(&queue, yields));
            if let Err(error) = spawned {
                tracing::error!(%error, name, "cannot start a thread");
            }
        }
        Pool { frees: queue.clone(), queue, threads }
    }

    /// No threads: who hands in jobs does them.
    pub fn of_the_caller() -> Pool {
        let queue = Arc::new(JobQueue { jobs: Mutex::new((VecDeque::new(), false)), ready: Condvar::new() });
        Pool { frees: queue.clone(), queue, threads: 0 }
    }

    /// Number of threads that work at once.
    pub fn threads(&self) -> usize {
        self.threads.max(1)
    }

    /// Has one of the threads run `job` when it comes to it. The caller sees to it that not too many wait.
    pub fn submit(&self, job: Job) {
        self.queue.submit(job);
    }

    /// Does the jobs that wait, of a pool that has no threads.
    pub fn turn(&self) {
        while let Some(job) = self.take_as_caller() {
            let _ = catch_panic(job);
        }
    }

    fn take_as_caller(&self) -> Option<Job> {
        if self.threads == 0 { self.queue.jobs.lock().0.pop_front() } else { None }
    }

    /// Runs `jobs` and returns their results in order; `None`: the job panicked. The calling thread
    /// only waits, and no longer than `guard` lets it. The number of jobs waiting is bounded by the
    /// callers: each waits for its own.
    pub fn run<T: Send + 'static>(
        &self,
        jobs: Vec<Box<dyn FnOnce() -> T + Send>>,
        guard: &QueryGuard,
    ) -> Result<Vec<Option<T>>, QueryError> {
        if self.threads == 0 {
            let result = |job| guard.check().map(|()| catch_panic(job));
            return jobs.into_iter().map(result).collect();
        }
        let (send, receive) = channel();
        let mut results: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
        for (i, job) in jobs.into_iter().enumerate() {
            let send = send.clone();
            let frees = self.frees.clone();
            self.submit(Box::new(move || {
                if let Err(SendError(unwanted)) = send.send((i, job())) {
                    frees.submit(Box::new(move || drop(unwanted)));
                }
            }));
        }
        drop(send);
        loop {
            let (_, left) = guard.patience();
            match receive.recv_timeout(left.clamp(Duration::from_millis(1), WAIT_LOOK)) {
                Ok((i, result)) => results[i] = Some(result),
                Err(RecvTimeoutError::Timeout) => guard.check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(results),
            }
        }
    }
}

impl JobQueue {
    fn submit(&self, job: Job) {
        self.jobs.lock().0.push_back(job);
        self.ready.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.jobs.lock().1 = true;
        self.queue.ready.notify_all();
    }
}

fn work(queue: &JobQueue, yields: Priority) {
    nice();
    if matches!(yields, Priority::Idle) {
        idle();
    }
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
        // A job that panics is answered as lost (its sender is gone); the thread is needed for the next one.
        let _ = catch_panic(job);
    }
}

/// What `work` returns; `None`: it panicked.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Lowers the priority of the calling thread below that of the process. A refusal only costs fairness.
#[allow(
    unsafe_code,
    reason = "getpriority and setpriority have no safe wrappers here; they take plain integers"
)]
pub fn nice() {
    const NICENESS: i32 = 10;
    // SAFETY: no pointers are passed; on Linux the number of the process names its first thread, 0
    // the calling one.
    unsafe {
        let of_process = libc::getpriority(libc::PRIO_PROCESS, libc::getpid().cast_unsigned());
        libc::setpriority(libc::PRIO_PROCESS, 0, of_process + NICENESS);
    }
}

/// Has the calling thread run only when nobody else wants its core. A refusal only costs fairness.
#[allow(unsafe_code, reason = "sched_setscheduler has no safe wrapper; it reads one integer")]
fn idle() {
    // SAFETY: all of the structure is written, and outlives the call; 0 names the calling thread on Linux.
    unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = 0;
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters);
    }
}

#[cfg(test)]
mod tests {
    use super::super::QueryOptions;
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::mpsc::Sender;

    #[test]
    fn a_panic_costs_its_own_answer_only() {
        let pool = Pool::named("query", 1);
        let jobs = |n: usize| (0..n).map(|i| Box::new(move || assert!(i > 0, "on purpose")) as _).collect();
        let guard = QueryGuard::new(&QueryOptions::default());
        assert_eq!(pool.run::<()>(jobs(3), &guard), Ok(vec![None, Some(()), Some(())]));
    }

    #[test]
    fn many_operators_over_some_values_are_large() {
        let pools = QueryPools::new(1);
        for (values, operators, is_large) in [
            (LARGE_QUERY, 1, true),
            (LARGE_QUERY - 1, LARGE_PLAN - 1, false),
            (10_000, 50, true),
            (1_000, 50, false),
            (usize::MAX / 2, usize::MAX, true),
        ] {
            assert_eq!(pools.large(values, operators).is_some(), is_large, "{values} × {operators}");
        }
    }

    /// As on a machine whose cores all belong to others: the thread does not come to the job's end.
    #[test]
    fn nobody_waits_for_a_thread_beyond_the_time_or_the_client() {
        struct Freed(Sender<bool>);
        impl Drop for Freed {
            fn drop(&mut self) {
                let name = std::thread::current().name().map(str::to_owned);
                let _ = self.0.send(name.is_some_and(|name| name.starts_with("query")));
            }
        }
        for cancelled in [false, true] {
            let options = QueryOptions { timeout: Duration::from_millis(50), ..QueryOptions::default() };
            let options = if cancelled { QueryOptions::default() } else { options };
            options.cancel.store(cancelled, Relaxed);
            let pools = QueryPools::new(1);
            let ((go_on, held), (freed, told)) = (channel::<()>(), channel());
            let job = move || {
                let _ = held.recv();
                Freed(freed)
            };
            let large = pools.large(LARGE_QUERY, 1).expect("large enough");
            let waited = large.run::<Freed>(vec![Box::new(job)], &QueryGuard::new(&options)).map(|_| ());
            match waited {
                Err(QueryError::Canceled(_)) => assert!(cancelled),
                Err(QueryError::Timeout(_)) => assert!(!cancelled),
                other => panic!("{other:?}"),
            }
            drop(go_on);
            assert_eq!(told.recv(), Ok(true), "what the job held is freed by a thread that gets a core");
        }
    }
}
