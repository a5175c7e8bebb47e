//! Computes the newest time that an expression reads. While the write-ahead log is replayed, a
//! query that reads only older samples need not wait.

use engine::plan::{AtTime, Plan, PlanOp};
use engine::query::{QueryOptions, depends_on_query_times, visibilities};
use storage::model::TimeMs;

/// The time of the newest sample that `plan` can read when it is evaluated up to `end`, or a later
/// time.
pub(super) fn newest_time_read(plan: &Plan, end: TimeMs, options: &QueryOptions) -> TimeMs {
    match &plan.op {
        // A range selector is evaluated at one time, `end`.
        PlanOp::Range { selector, .. } => {
            let ahead = if selector.extension.is_some() { options.lookback } else { 0 };
            window_end(selector.at, selector.offset, end).saturating_add(ahead)
        }
        PlanOp::Subquery { input, .. } if depends_on_query_times(input) => TimeMs::MAX,
        PlanOp::Subquery { input, offset, at, .. } => {
            newest_time_read(input, window_end(*at, *offset, end), options)
        }
        _ => {
            let newest = visibilities(plan, options).into_iter().map(|sight| end.saturating_sub(sight.from));
            newest.max().unwrap_or(TimeMs::MIN)
        }
    }
}

/// The right end of the window of an evaluation at `end`.
fn window_end(at: Option<AtTime>, offset: i64, end: TimeMs) -> TimeMs {
    let at = match at {
        Some(AtTime::Time(t)) => t,
        None | Some(AtTime::Start | AtTime::End) => end,
    };
    at.saturating_sub(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use promql::{PromqlOptions, compile};

    #[test]
    fn of_windows_and_what_is_in_them() {
        let end = 1_000_000_000;
        for (query, newest) in [
            ("x[5m]", end),
            ("x[5m] offset 1h", end - 3_600_000),
            ("x[5m] @ 5000", 5_000_000),
            ("x[5m] @ 5000 offset 1s", 4_999_000),
            ("x[5m] @ end()", end),
            ("x[1h:1m] offset 1h", end - 3_600_000),
            ("x[1h:1m] @ 5000", 5_000_000),
            ("(x offset 1h)[1h:1m] offset 1h", end - 7_200_000),
            ("rate(x[5m])[1h:1m] offset 1h", end - 3_600_000),
            ("(x @ end())[1h:1m] offset 1h", TimeMs::MAX),
            ("x offset 1h", end - 3_600_000),
            ("1", TimeMs::MIN),
        ] {
            let plan = compile(query, &PromqlOptions::default());
            assert_eq!(newest_time_read(&plan.unwrap(), end, &QueryOptions::default()), newest, "{query}");
        }
    }
}
