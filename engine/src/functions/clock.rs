//! The functions that read no series: `time()`, which is the evaluation time, the constant `pi()`,
//! and `start()`, `end()`, `range()` and `step()`, which are times of the query.

use super::{Function, Kernel};
use crate::types::ValueType::Scalar;
use storage::model::TimeMs;

/// The evaluation times of a query. For an instant query `start` equals `end`, and `step` is 0.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueryTimes {
    /// First evaluation, in ms.
    pub start: TimeMs,
    /// Last evaluation, in ms.
    pub end: TimeMs,
    /// Time between evaluations, in ms.
    pub step: i64,
}

impl QueryTimes {
    /// The times of an instant query.
    pub fn instant(t: TimeMs) -> QueryTimes {
        QueryTimes { start: t, end: t, step: 0 }
    }
}

const fn query_time(name: &'static str, kernel: fn(QueryTimes) -> f64) -> Function {
    Function::new(name, &[], Scalar, Kernel::Query(kernel)).experimental()
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    query_time("end", |query| seconds(query.end))
        .doc("Time of the last step of the query, in seconds.", "end()"),
    Function::new("pi", &[], Scalar, Kernel::Clock(|_| std::f64::consts::PI)).doc("The number pi.", "pi()"),
    query_time("range", |query| seconds(query.end - query.start))
        .doc("Length of the query's range, in seconds.", "range()"),
    query_time("start", |query| seconds(query.start))
        .doc("Time of the first step of the query, in seconds.", "start()"),
    query_time("step", |query| seconds(query.step))
        .doc("Distance of the query's steps, in seconds.", "step()"),
    Function::new("time", &[], Scalar, Kernel::Clock(seconds))
        .doc("The evaluation time, in seconds since the Unix epoch.", "time() - process_start_time_seconds"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::lookup;

    #[test]
    fn the_times_of_a_query_in_seconds() {
        let value = |name, times| match lookup(name).map(|f| f.kernel) {
            Some(Kernel::Query(kernel)) => kernel(times),
            other => panic!("{name}: {other:?}"),
        };
        let range = QueryTimes { start: 1_500, end: 61_500, step: 15_000 };
        let all = |times| ["start", "end", "range", "step"].map(|name| value(name, times));
        assert_eq!(all(range), [1.5, 61.5, 60.0, 15.0]);
        assert_eq!(all(QueryTimes::instant(2_000)), [2.0, 2.0, 0.0, 0.0]);
    }
}
