//! The query runtime: a plan's answer over a stretch of history.

use crate::plan::Plan;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use storage::model::{Labels, TimeMs};
use storage::store::Store;

/// Limits and settings of one query.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// How far back an instant selector looks, ms.
    pub lookback: i64,
    /// Step of subqueries that name none, ms.
    pub default_step: i64,
    /// Samples it may hold in memory.
    pub max_samples: usize,
    /// Time it may take.
    pub timeout: Duration,
    /// Set by the client's going away: the query stops soon after.
    pub cancel: Arc<AtomicBool>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        QueryOptions {
            lookback: 300_000,
            default_step: 60_000,
            max_samples: crate::limits::QUERY_SAMPLES,
            timeout: Duration::from_secs(120),
            cancel: Arc::default(),
        }
    }
}

/// Why there is no answer. The text is Prometheus'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the variants are the errorTypes of the API")]
pub enum QueryError {
    #[error("{0}")]
    BadData(String),
    #[error("{0}")]
    Execution(String),
    #[error("{0}")]
    Timeout(String),
    #[error("{0}")]
    Canceled(String),
    #[error("{0}")]
    Internal(String),
}

/// A plan's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result.
    pub value: Value,
    /// Annotations of level warning.
    pub warnings: Vec<String>,
    /// Annotations of level info.
    pub infos: Vec<String>,
    /// Samples read.
    pub samples: usize,
}

/// One sample of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// Evaluation time.
    pub t: TimeMs,
    /// Its value.
    pub v: f64,
}

/// One series of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its points, in time order.
    pub points: Vec<(TimeMs, f64)>,
}

/// A result.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the resultTypes of the API")]
pub enum Value {
    Scalar(TimeMs, f64),
    Text(TimeMs, String),
    Vector(Vec<VectorSample>),
    Matrix(Vec<Series>),
}

/// Answers queries on threads of its own. All methods block: call them off the async runtime.
pub struct Querier {
    store: Arc<Store>,
}

impl Querier {
    /// A querier over `store` with `threads` worker threads.
    pub fn new(store: Arc<Store>, threads: usize) -> Querier {
        let _ = threads;
        Querier { store }
    }

    /// The answer at time `t`.
    pub fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<Answer, QueryError> {
        let _ = (plan, t, options, &self.store);
        unimplemented!()
    }

    /// The answers at `start, start + step, … ≤ end`, as a matrix.
    pub fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<Answer, QueryError> {
        let _ = (plan, start, end, step, options);
        unimplemented!()
    }
}
