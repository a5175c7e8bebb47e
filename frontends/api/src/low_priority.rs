//! Threads on which answers are gathered: niced, so that the live runtime's ticks come first.
//!
//! The pieces of a query are worked at in the query runtime's pool ([`engine::query::pool`]);
//! whoever asks waits for them and puts them together, which for a query over everything takes a
//! third as much time again. So these threads are niced, too. They are a runtime of their own,
//! because threads of the async one also scrape and send alerts, and a thread that was niced stays
//! so.

use engine::query::pool::nice;
use storage::execution::Execution;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Has `work` done on a thread that may block; where callers do all work, as a task when it is its turn.
pub fn blocking<T: Send + 'static>(
    execution: Execution,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    match execution {
        Execution::Threads => tokio::task::spawn_blocking(work),
        Execution::Caller => tokio::spawn(async move { work() }),
    }
}

/// See the module. Threads come as they are needed, and go when they are not.
pub struct LowPriorityThreads {
    runtime: Option<Runtime>,
    execution: Execution,
}

impl LowPriorityThreads {
    /// No thread yet.
    pub fn new(execution: Execution) -> LowPriorityThreads {
        let build =
            || Builder::new_current_thread().thread_name("query-gather").on_thread_start(nice).build();
        let runtime = match execution {
            Execution::Threads => build().ok(),
            Execution::Caller => None,
        };
        LowPriorityThreads { runtime, execution }
    }

    /// Runs `work`, which may block. Without a runtime of its own it runs as well, only without
    /// yielding to ticks.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(work),
            None => blocking(self.execution, work),
        }
    }
}

impl Drop for LowPriorityThreads {
    /// The last state goes in an async task, where nothing may wait for threads.
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
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
