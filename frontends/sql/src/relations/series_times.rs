//! `first_ts` and `last_ts` of `meta.series`: the times of the first and the last sample of each
//! series in the time that the list is about, as `ts_of_first_over_time` and `ts_of_last_over_time`
//! find them.
//!
//! Samples are read for them, so they are only looked up where a statement names them.

use super::series_list::begin_of_list;
use super::{Scan, rows};
use crate::bind::call;
use crate::error::{SqlError, SqlErrorKind};
use datafusion::arrow::array::{ArrayRef, TimestampMillisecondArray};
use engine::plan::{Plan, PlanOp, Selector};
use engine::query::QueryValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, Matcher, TimeMs};

/// The columns that read samples, and the functions that find them.
const FUNCTIONS: &[(&str, &str)] =
    &[("first_ts", "ts_of_first_over_time"), ("last_ts", "ts_of_last_over_time")];

/// The times of some columns for each series of a list.
#[derive(Debug, Default)]
pub(crate) struct SeriesTimes(Vec<TimeColumn>);

#[derive(Debug)]
struct TimeColumn {
    name: &'static str,
    /// For each series; `None`: it has no sample, but the mark that it ended.
    times: Vec<Option<TimeMs>>,
}

/// Whether a column of `meta.series` is one of times.
pub(crate) fn is_time(column: &str) -> bool {
    FUNCTIONS.iter().any(|(name, _)| *name == column)
}

impl SeriesTimes {
    /// The column `name` of the series from `from` to `to`; `None`: it is none of times.
    pub(super) fn column(&self, name: &str, from: usize, to: usize) -> Option<ArrayRef> {
        let column = self.0.iter().find(|column| column.name == name)?;
        let times = column.times.get(from..to)?.iter().copied();
        Some(Arc::new(times.collect::<TimestampMillisecondArray>().with_timezone("UTC")))
    }
}

impl Scan {
    /// The times that this scan shows of these series.
    pub(super) fn series_times(&self, series: &[Labels]) -> Result<SeriesTimes, SqlError> {
        let mut columns = Vec::new();
        for (name, function) in FUNCTIONS {
            if self.columns().iter().any(|field| field.name() == name) {
                columns.push(TimeColumn { name, times: self.times_by(function, series)? });
            }
        }
        Ok(SeriesTimes(columns))
    }

    /// Asks a metric at a time: functions drop its name, and series of two metrics may differ in
    /// nothing else.
    fn times_by(&self, function: &str, series: &[Labels]) -> Result<Vec<Option<TimeMs>>, SqlError> {
        let context = &self.relation.context;
        let deadline = Instant::now() + context.options.timeout;
        let now = context.now();
        let range = now - begin_of_list(now) + 1;
        let mut of_metric: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, labels) in series.iter().enumerate() {
            of_metric.entry(labels.name()).or_default().push(at);
        }
        let mut times = vec![None; series.len()];
        for (metric, places) in of_metric {
            if Instant::now() >= deadline {
                let error = "the times of all series could not be read in time";
                return Err(SqlError::new(SqlErrorKind::Timeout, error).hint("add WHERE metric = '…'"));
            }
            let plan = self.times_plan(function, metric, range)?;
            let answer = context.sources.engine.instant(&plan, now, &context.options)?;
            let QueryValue::Vector(samples) = answer.value else { continue };
            let found: HashMap<Labels, f64> =
                samples.into_iter().map(|sample| (sample.labels, sample.v)).collect();
            for at in places {
                let seconds = found.get(&series[at].without_name());
                times[at] = seconds.map(|seconds| (seconds * 1000.0).round() as TimeMs);
            }
        }
        Ok(times)
    }

    fn times_plan(&self, function: &str, metric: &str, range: i64) -> Result<Plan, SqlError> {
        let mut matchers = self.matchers.clone();
        matchers.push(Matcher::equal(METRIC_NAME, metric));
        let selector = Selector { matchers, offset: 0, at: None, extension: None };
        let window = rows::node(PlanOp::Range { selector, range });
        call(function, vec![window]).map_err(|refusal| SqlError::internal(refusal.0))
    }
}
