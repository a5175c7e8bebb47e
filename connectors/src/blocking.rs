//! Runs work that may block the thread: on a thread of its own in the server, and as an ordinary
//! task in simulations, which have only one thread.

use storage::execution::Execution;
use tokio::task::JoinHandle;

/// Runs `work` on a thread that may block; with [`Execution::Caller`] as an ordinary task.
pub fn run<T: Send + 'static>(
    execution: Execution,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    match execution {
        Execution::Threads => tokio::task::spawn_blocking(work),
        Execution::Caller => tokio::spawn(async move { work() }),
    }
}
