//! Low-priority ("niced") threads that gather query results, so that the ticks of live views come
//! first.
//!
//! A query's pieces are computed in the query runtime's pool ([`engine::query::pool`]). The thread
//! that asks waits for the pieces and merges them, which for a query over all series takes another
//! third of the time. So that thread has a low priority too. It belongs to its own tokio runtime,
//! because threads of the main runtime also scrape and send alerts, and a thread cannot raise its
//! priority again.

use engine::query::pool::nice;
use storage::execution::Execution;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Runs `work` on a thread that may block; with [`Execution::Caller`], as a task.
pub(crate) fn blocking<T: Send + 'static>(
    execution: Execution,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    match execution {
        Execution::Threads => tokio::task::spawn_blocking(work),
        Execution::Caller => tokio::spawn(async move { work() }),
    }
}

/// Threads of low priority. They start on demand and end when idle.
pub(crate) struct LowPriorityThreads {
    runtime: Option<Runtime>,
    execution: Execution,
}

impl LowPriorityThreads {
    /// Starts no thread yet.
    pub(crate) fn new(execution: Execution) -> LowPriorityThreads {
        let build =
            || Builder::new_current_thread().thread_name("query-gather").on_thread_start(nice).build();
        let runtime = match execution {
            Execution::Threads => build().ok(),
            Execution::Caller => None,
        };
        LowPriorityThreads { runtime, execution }
    }

    /// Runs `work`, which may block. If the runtime could not be built, `work` runs at normal
    /// priority.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(work),
            None => blocking(self.execution, work),
        }
    }
}

impl Drop for LowPriorityThreads {
    /// Does not wait for the threads: the last clone of the state may be dropped in an async task,
    /// which must not block.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn yields_to_others_and_nobody_else_does() {
        let before = niceness();
        let aside = LowPriorityThreads::new(Execution::Threads);
        assert!(aside.run(niceness).await.unwrap() > before);
        assert_eq!(tokio::task::spawn_blocking(niceness).await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_costs_no_thread() {
        let aside = LowPriorityThreads::new(Execution::Threads);
        assert!(aside.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(aside.run(|| 1).await.unwrap(), 1);
    }
}
