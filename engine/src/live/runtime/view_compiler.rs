//! Compiles the plans of views into physical plans, which are lists of steps
//! ([`crate::plan::physical`]), and knows how far back the views read.

use super::super::views::ViewRequest;
use super::super::{ViewError, ViewSpec};
use crate::plan::Dialect;
use crate::plan::physical::StoreQueries;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Compiles plans of views with the settings of the runtime.
pub(super) struct ViewCompiler {
    dialect: Dialect,
    /// How far back an instant selector looks, in ms.
    lookback: i64,
    queries: StoreQueries,
    /// How far back any view so far has looked, in ms.
    reach: AtomicI64,
}

impl ViewCompiler {
    /// A compiler for a cluster of `processes` processes. `lookback` in ms.
    pub(super) fn new(dialect: Dialect, lookback: i64, processes: usize) -> ViewCompiler {
        // In a cluster a step would have to query the other processes in the middle of their ticks,
        // which would wait for each other.
        let queries = if processes == 1 { StoreQueries::Allowed } else { StoreQueries::Refused };
        ViewCompiler { dialect, lookback, queries, reach: AtomicI64::new(0) }
    }

    /// Whether a plan can be a view; the error says why not.
    pub(super) fn check(&self, view: &ViewSpec) -> Result<(), ViewError> {
        super::super::check(view, self.dialect, self.queries)
    }

    /// Compiles the plan of a view into steps, once for all workers of this process.
    pub(super) fn compile(&self, view: ViewSpec) -> Result<ViewRequest, ViewError> {
        super::super::check_kind(&view)?;
        let request = ViewRequest::new(view, self.dialect, self.queries);
        let request = request.map_err(|e| ViewError::Unsupported(e.0))?;
        self.reach.fetch_max(request.reach(self.lookback), Relaxed);
        Ok(request)
    }

    /// How far back any view so far has looked, in ms.
    pub(super) fn reach(&self) -> i64 {
        self.reach.load(Relaxed)
    }
}
