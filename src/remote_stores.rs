//! [`RemoteStoresAdapter`]: lets queries read the samples of the `remote_read` servers beside those
//! of the own store.

use engine::memory::MemoryReservation;
use engine::query::guard::QueryGuard;
use engine::query::{QueryError, RemoteAnswer, RemoteSelection, RemoteStores};
use remote_storage::read::request::ReadHints;
use remote_storage::read::{MemoryRefused, ReadMemory, ReadSelection, RemoteRead};
use std::sync::Arc;
use storage::clock::Clock;
use storage::model::TimeMs;
use storage::store::Store;

/// What label names and values say of other servers, in Prometheus' words.
const NO_LABELS: &str = "not implemented";

/// Asks the servers of `remote_read`.
pub(crate) struct RemoteStoresAdapter {
    /// The servers.
    pub read: Arc<RemoteRead>,
    /// The own store.
    pub store: Arc<Store>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// So long after the beginning of the oldest block the own store counts as complete, ms.
    pub margin: i64,
}

/// The memory of a query.
struct QueryMemory(Arc<MemoryReservation>);

impl ReadMemory for QueryMemory {
    fn grow(&self, bytes: usize) -> Result<(), MemoryRefused> {
        self.0.grow(bytes).map_err(|error| MemoryRefused(error.to_string()))
    }

    fn shrink(&self, bytes: usize) {
        self.0.shrink(bytes);
    }
}

/// What stops a query while it asks.
struct QueryStopped(QueryError);

impl From<MemoryRefused> for QueryStopped {
    fn from(refused: MemoryRefused) -> QueryStopped {
        QueryStopped(QueryError::LimitReached(refused.0))
    }
}

impl RemoteStoresAdapter {
    /// From when on the own store has what others have: as in Prometheus a while after the
    /// beginning of its oldest block, or of now if there is none.
    fn local_start(&self) -> TimeMs {
        let oldest = self.store.status().blocks().first().map(|block| block.from);
        oldest.unwrap_or_else(|| self.clock.now()).saturating_add(self.margin)
    }
}

impl RemoteStores for RemoteStoresAdapter {
    fn read(&self, selections: &[RemoteSelection], guard: &QueryGuard) -> Result<RemoteAnswer, QueryError> {
        let selection = |asked: &RemoteSelection| ReadSelection {
            matchers: asked.matchers.clone(),
            from: asked.from,
            to: asked.to,
            hints: ReadHints { step: asked.step, function: asked.function.to_owned(), range: asked.range },
        };
        let selections: Vec<ReadSelection> = selections.iter().map(selection).collect();
        let memory = QueryMemory(guard.memory().clone());
        let check = || guard.check().map_err(QueryStopped);
        let answer = self.read.read(&selections, self.local_start(), &memory, check).map_err(|e| e.0)?;
        Ok(RemoteAnswer { series: answer.series, warnings: answer.warnings })
    }

    fn label_warnings(&self, from: TimeMs, _to: TimeMs) -> Vec<String> {
        let reads = self.read.reads(from, self.local_start());
        reads.then(|| NO_LABELS.to_owned()).into_iter().collect()
    }
}
