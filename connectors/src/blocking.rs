//! Where work is done that may block.

use storage::hands::Hands;
use tokio::task::JoinHandle;

/// Has `work` done on a thread that may block; where callers do all work, as a task when it is its turn.
pub fn run<T: Send + 'static>(hands: Hands, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match hands {
        Hands::Threads => tokio::task::spawn_blocking(work),
        Hands::Caller => tokio::spawn(async move { work() }),
    }
}
