//! The cost of a query: the time of each phase and the number of samples, for `stats` of the answer
//! and for the query log.

use super::super::query_json;
use super::super::self_metrics::ApiMetrics;
use super::log::QueryLogEntry;
use engine::query::QueryAnswer;
use engine::query::guard::SampleStats;
use std::fmt::Write;
use std::time::{Duration, Instant};
use storage::model::TimeMs;
use storage::spans::{SpanContext, SpanKind, Tracer};

/// The warning about a value of `stats` other than `true` and `all`: it means `true`.
pub fn deprecated(value: &str) -> Option<String> {
    // The text is Prometheus', which still accepts any other value.
    let known = matches!(value, "" | "true" | "all");
    let text = || {
        format!(
            "value {value:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, \
             use \"true\" or \"all\""
        )
    };
    (!known).then(text)
}

/// The statistics of one query.
#[derive(Clone, Debug, Default)]
pub struct QueryStats {
    /// Parsing and planning.
    pub prepared: Duration,
    /// Waiting for a turn.
    pub queued: Duration,
    /// Evaluation.
    pub evaluated: Duration,
    /// Sorting the series.
    pub sorted: Duration,
    /// The samples that were read.
    pub samples: SampleStats,
}

impl QueryStats {
    /// The time of all phases except the wait for a turn.
    fn total(&self) -> Duration {
        // As in Prometheus, `evalTotalTime` is without the wait and `execTotalTime` with it.
        self.prepared + self.evaluated + self.sorted
    }

    /// Takes the engine's counts for a query over the times of `logged`; with `steps`, adds steps
    /// without samples.
    pub fn count(&mut self, answer: &QueryAnswer, logged: &QueryLogEntry, steps: bool) {
        self.samples = answer.samples.clone();
        let counted = std::mem::take(&mut self.samples.steps);
        if steps {
            let of = |t: TimeMs| match counted.binary_search_by_key(&t, |step| step.0) {
                Ok(at) => counted[at],
                // The engine reports only steps that read something, Prometheus all of them.
                Err(_) => (t, 0, 0),
            };
            let times = (logged.start..=logged.end).step_by(logged.step.max(1) as usize);
            self.samples.steps = times.map(of).collect();
        }
    }

    /// Adds the query to the server's own metrics.
    pub fn observe(&self, telemetry: &ApiMetrics) {
        telemetry.prepare_time.observe(self.prepared.as_secs_f64());
        telemetry.queue_time.observe(self.queued.as_secs_f64());
        telemetry.inner_eval.observe(self.evaluated.as_secs_f64());
        telemetry.result_sort.observe(self.sorted.as_secs_f64());
        telemetry.query_samples.add(self.samples.total as u64);
        telemetry.query_samples_read.add(self.samples.read as u64);
    }

    /// Sends the phases of a query that ends now as spans.
    pub fn trace(&self, tracer: &Tracer, query: Option<SpanContext>) {
        let phases = [
            ("promqlPrepare", self.prepared),
            ("promqlExecQueue", self.queued),
            ("promqlEval", self.evaluated),
            ("promqlSort", self.sorted),
        ];
        let mut until_end: Duration = phases.iter().map(|(_, took)| *took).sum();
        for (name, took) in phases {
            let [before, took_ns] =
                [until_end, took].map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            drop(tracer.start(name, SpanKind::Internal, query).measured(before, took_ns));
            until_end -= took;
        }
    }

    /// The JSON of `data.stats`, fields in Prometheus' order.
    pub fn to_json(&self) -> String {
        let mut out = String::from(r#"{"timings":{"#);
        let slices = [
            ("evalTotalTime", self.total()),
            ("resultSortTime", self.sorted),
            ("queryPreparationTime", self.prepared),
            ("innerEvalTime", self.evaluated),
            ("execQueueTime", self.queued),
            ("execTotalTime", self.total() + self.queued),
        ];
        for (i, (name, time)) in slices.into_iter().enumerate() {
            let _ = write!(out, "{}\"{name}\":", if i > 0 { "," } else { "" });
            query_json::value(&mut out, time.as_secs_f64());
        }
        out.push_str(r#"},"samples":{"#);
        let SampleStats { total, read, peak, steps } = &self.samples;
        per_step(&mut out, "totalQueryableSamplesPerStep", steps.iter().map(|s| (s.0, s.1)));
        let _ = write!(out, r#""totalQueryableSamples":{total},"#);
        per_step(&mut out, "samplesReadPerStep", steps.iter().map(|s| (s.0, s.2)));
        let _ = write!(out, r#""samplesRead":{read},"peakSamples":{peak}}}}}"#);
        out
    }
}

/// Writes `"name":[[t,count],…],`, or nothing if nothing was counted per step.
fn per_step(out: &mut String, name: &str, steps: impl ExactSizeIterator<Item = (TimeMs, usize)>) {
    if steps.len() == 0 {
        return;
    }
    for (i, (t, count)) in steps.enumerate() {
        out.push_str(if i > 0 { ",[" } else { "" });
        if i == 0 {
            let _ = write!(out, "\"{name}\":[[");
        }
        query_json::value(out, t as f64 / 1000.0);
        let _ = write!(out, ",{count}]");
    }
    out.push_str("],");
}

/// Measures elapsed time.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts the measurement.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// The time since the start.
    pub fn read(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_as_prometheus_writes_them() {
        let ms = Duration::from_millis;
        let samples = SampleStats { total: 5, read: 4, peak: 3, steps: vec![(1_000, 2, 2), (2_500, 3, 2)] };
        let stats = QueryStats { prepared: ms(1), queued: ms(2), evaluated: ms(4), sorted: ms(8), samples };
        let timings = r#"{"timings":{"evalTotalTime":0.013,"resultSortTime":0.008,"queryPreparationTime":0.001,"innerEvalTime":0.004,"execQueueTime":0.002,"execTotalTime":0.015},"#;
        let samples = r#""samples":{"totalQueryableSamplesPerStep":[[1,2],[2.5,3]],"totalQueryableSamples":5,"samplesReadPerStep":[[1,2],[2.5,2]],"samplesRead":4,"peakSamples":3}}"#;
        assert_eq!(stats.to_json(), format!("{timings}{samples}"));
        let none = QueryStats::default().to_json();
        assert!(none.ends_with(r#""samples":{"totalQueryableSamples":0,"samplesRead":0,"peakSamples":0}}"#));
    }
}
