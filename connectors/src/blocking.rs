//! Where work is done that may block.

use storage::execution::Execution;
use tokio::task::JoinHandle;

/// Has `work` done on a thread that may block; where callers do all work, as a task when it is its turn.
pub fn run<T: Send + 'static>(hands: Execution, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match hands {
        Execution::Threads => tokio::task::spawn_blocking(work),
        Execution::Caller => tokio::spawn(async move { work() }),
    }
}
