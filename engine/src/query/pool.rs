//! Threads for queries and for reading the history of views. They have a lower priority than the
//! workers of the live runtime, so that ticks come first.
//!
//! Measured: a 20 ms query in the workers' threads moves the tick's p99 from 1 ms to 30 ms, in
//! niced threads to 3-4 ms. With large queries on all cores it is 5 to 8 ms, because a thread that
//! wakes may wait for the time slice of a niced one to end. Threads of the kernel's idle class give
//! way immediately (+2 ms or less), but get almost no time if others use all cores. So large
//! queries have idle threads of their own ([`QueryPools`]), which also keeps them from delaying
//! small ones.

use super::QueryError;
use super::guard::QueryGuard;
use crate::limits::{LARGE_PLAN, LARGE_PLAN_VALUES, LARGE_QUERY, WAIT_CHECK};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SendError, channel};
use std::time::Duration;

/// A job for a thread.
pub type Job = Box<dyn FnOnce() + Send>;

struct JobQueue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    ready: Condvar,
}

/// How threads give way to others.
#[derive(Copy, Clone)]
enum Priority {
    /// Niced: a tenth of a core that others want.
    Niced,
    /// Idle class: only a core that no other thread wants.
    Idle,
}

/// The threads of a querier.
///
/// A query whose time is over or whose client is gone must not wait for a thread that gets no core.
/// So the waiting side checks the query's limits and abandons its jobs ([`Pool::run`]). An
/// abandoned job ends at its next check of the limits, at most a millisecond of work later, and
/// passes its memory to a niced thread, which frees it. Why not raise the thread's priority
/// instead: without a privilege the kernel lets no thread of a process with a raised nice value
/// leave the idle class.
pub struct QueryPools {
    usual: Pool,
    /// `None`: large queries run like all others.
    large: Option<Pool>,
    /// The calling thread does the work.
    inline: Pool,
}

impl QueryPools {
    /// `threads` threads (at least one) for queries, and as many for large ones.
    pub fn new(threads: usize) -> QueryPools {
        let usual = Pool::named("query", threads);
        let mut large = Pool::start("large-query", threads, Priority::Idle);
        large.frees = usual.queue.clone();
        QueryPools { usual, large: Some(large), inline: Pool::on_calling_thread() }
    }

    /// No threads: the caller does the work.
    pub fn on_calling_thread() -> QueryPools {
        QueryPools { usual: Pool::on_calling_thread(), large: None, inline: Pool::on_calling_thread() }
    }

    /// For queries that are not large, and for selecting series, which finds out how large a query
    /// is.
    pub fn usual(&self) -> &Pool {
        &self.usual
    }

    /// For work that is less than waking a thread.
    pub fn inline(&self) -> &Pool {
        &self.inline
    }

    /// The threads for large queries, if a query with this many values, and this many operators
    /// that each value passes in the gather stage, is large.
    pub fn large(&self, values: usize, operators: usize) -> Option<&Pool> {
        let of_plan = operators >= LARGE_PLAN && values.saturating_mul(operators) >= LARGE_PLAN_VALUES;
        self.large.as_ref().filter(|_| values >= LARGE_QUERY || of_plan)
    }
}

/// A fixed number of niced threads. Dropping it ends them after the queued jobs.
pub struct Pool {
    queue: Arc<JobQueue>,
    /// The queue whose threads free the results of abandoned jobs.
    frees: Arc<JobQueue>,
    threads: usize,
}

impl Pool {
    /// Starts `threads` threads (at least one) with this name.
    pub fn named(name: &str, threads: usize) -> Pool {
        Pool::start(name, threads, Priority::Niced)
    }

    fn start(name: &str, threads: usize, priority: Priority) -> Pool {
        let queue = Arc::new(JobQueue { jobs: Mutex::new((VecDeque::new(), false)), ready: Condvar::new() });
        let threads = threads.max(1);
        for i in 0..threads {
            let queue = queue.clone();
            let spawned =
                std::thread::Builder::new().name(format!("{name}-{i}")).spawn(move || work(&queue, priority));
            if let Err(error) = spawned {
                tracing::error!(
                    target: "query",
                    %error,
                    name,
                    "the system starts no more threads: queries and reads of history are slower or stop; \
                     raise the limit of threads, then restart the process"
                );
            }
        }
        Pool { frees: queue.clone(), queue, threads }
    }

    /// No threads: the caller of [`Pool::run`] or [`Pool::turn`] runs the jobs.
    pub fn on_calling_thread() -> Pool {
        let queue = Arc::new(JobQueue { jobs: Mutex::new((VecDeque::new(), false)), ready: Condvar::new() });
        Pool { frees: queue.clone(), queue, threads: 0 }
    }

    /// Number of jobs that run at the same time.
    pub fn threads(&self) -> usize {
        self.threads.max(1)
    }

    /// Queues a job for one of the threads. The caller must limit the number of queued jobs.
    pub fn submit(&self, job: Job) {
        self.queue.submit(job);
    }

    /// Runs the queued jobs of a pool without threads.
    pub fn turn(&self) {
        while let Some(job) = self.take_inline_job() {
            let _ = catch_panic(job);
        }
    }

    fn take_inline_job(&self) -> Option<Job> {
        if self.threads == 0 { self.queue.jobs.lock().0.pop_front() } else { None }
    }

    /// Runs `jobs` and returns their results in order; `None`: the job panicked. The calling thread
    /// only waits, and no longer than `guard` allows. The queue is bounded by the number of
    /// callers, because each waits for its own jobs.
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
            let (_, left) = guard.time_left();
            match receive.recv_timeout(left.clamp(Duration::from_millis(1), WAIT_CHECK)) {
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

fn work(queue: &JobQueue, priority: Priority) {
    nice();
    if matches!(priority, Priority::Idle) {
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
        // A job that panics counts as lost, because its sender is dropped; the thread continues
        // with the next job.
        let _ = catch_panic(job);
    }
}

/// Runs `work` and returns its result; `None`: it panicked.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Lowers the priority of the calling thread below that of the process. If the kernel refuses, only
/// fairness suffers.
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

/// Lets the calling thread run only when no other thread wants its core. If the kernel refuses,
/// only fairness suffers.
#[allow(unsafe_code, reason = "sched_setscheduler has no safe wrapper; it reads one integer")]
fn idle() {
    // SAFETY: all of the structure is written, and outlives the call; 0 names the calling thread on
    // Linux.
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

    /// As on a machine whose cores are all busy: the thread does not finish the job.
    #[test]
    fn nobody_waits_for_a_thread_beyond_the_time_or_the_client() {
        struct DropReport(Sender<bool>);
        impl Drop for DropReport {
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
                DropReport(freed)
            };
            let large = pools.large(LARGE_QUERY, 1).expect("large enough");
            let waited = large.run::<DropReport>(vec![Box::new(job)], &QueryGuard::new(&options)).map(|_| ());
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
