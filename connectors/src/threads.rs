//! Low-priority threads for long work whose result is not urgent: large scrapes, large remote
//! writes.
//!
//! The threads have a higher nice value, so that ticks, small scrapes and requests come first, and
//! a light query shares a core with them instead of waiting. They belong to a runtime of their own,
//! because a thread cannot lower its nice value again.

use crate::blocking;
use storage::execution::Execution;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// A pool of low-priority threads. Threads are started on demand and end when idle.
pub struct LowPriorityPool {
    execution: Execution,
    runtime: Option<Runtime>,
}

impl LowPriorityPool {
    /// A pool without threads; they will have the name `name`, and `niceness` is added to the nice
    /// value of the process.
    pub fn new(execution: Execution, name: &str, niceness: i32) -> LowPriorityPool {
        let nice = move || {
            // If the call fails, the threads only run at normal priority.
            let _ = rustix::process::nice(niceness);
        };
        let runtime = match execution {
            Execution::Threads => {
                Builder::new_current_thread().thread_name(name).on_thread_start(nice).build().ok()
            }
            Execution::Caller => None,
        };
        LowPriorityPool { execution, runtime }
    }

    /// Runs `work`, which may block. Without a runtime of its own it runs at normal priority.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(work),
            None => blocking::run(self.execution, work),
        }
    }
}

impl Drop for LowPriorityPool {
    /// The last owner may be an async task, which must not wait for threads.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::nice(0).expect("a nice value")
    }

    #[tokio::test]
    async fn its_threads_give_way_and_no_others() {
        let niced = LowPriorityPool::new(Execution::Threads, "large", 5);
        let before = niceness();
        assert_eq!(niced.run(niceness).await.expect("it ran"), (before + 5).min(19));
        assert_eq!(tokio::task::spawn_blocking(niceness).await.expect("it ran"), before);
        assert_eq!(niceness(), before);
    }
}
