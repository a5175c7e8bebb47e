//! What bounds the work that requests cause at once: permits and turns that they wait for, the
//! memory of their bodies, and the threads that do what is not urgent.

use super::bodies::BodyMemory;
use super::low_priority::LowPriorityThreads;
use super::query::active_queries::ActiveQueryTracker;
use super::{ApiSettings, consoles, limits};
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};

/// What requests wait for before they work.
pub(crate) struct WorkLimits {
    /// Limits the number of queries that run at once.
    pub query_permits: Arc<ActiveQueryTracker>,
    /// The threads of queries, which yield to everything else.
    pub low_priority: LowPriorityThreads,
    /// The memory of the bodies of all requests.
    pub bodies: Arc<BodyMemory>,
    /// Held while the views are described, by one request at a time: a request that waits here
    /// occupies no thread.
    pub describe_lock: Arc<Mutex<()>>,
    /// The turn to check a view.
    pub check_lock: Arc<Mutex<()>>,
    /// Permits to follow notifications; their number bounds the listeners.
    pub notification_streams: Arc<Semaphore>,
    /// Permits to execute a console template.
    pub console_turns: Semaphore,
}

impl WorkLimits {
    /// The limits of a server with these settings.
    pub(crate) fn new(settings: &ApiSettings) -> WorkLimits {
        let queries = settings.queries.max_concurrency;
        WorkLimits {
            query_permits: Arc::new(match &settings.data_directory {
                Some(directory) => ActiveQueryTracker::in_directory(queries, directory),
                None => ActiveQueryTracker::unwritten(queries),
            }),
            low_priority: LowPriorityThreads::new(settings.execution),
            bodies: BodyMemory::new(settings.body_memory),
            describe_lock: Arc::default(),
            check_lock: Arc::default(),
            notification_streams: Arc::new(Semaphore::new(limits::NOTIFICATION_STREAMS)),
            console_turns: consoles::turns(),
        }
    }
}
