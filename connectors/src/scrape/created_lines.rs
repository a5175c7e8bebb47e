//! `_created` lines of OpenMetrics, read as start timestamps of the samples of their metric, as in
//! Prometheus.
//!
//! The line comes after its samples. A sample gets the start timestamp of the next `_created` line
//! of its family with the family's name and the labels of the sample except `le` and `quantile`; or
//! that of the sample before, if it is of the same metric. Samples wait here for the line, so that
//! no line is read twice.

use crate::exposition::series::{self, SeriesError};
use crate::exposition::{Context, ExposedSample, MetricType, TextFormat};
use crate::limits::SCRAPE_WAITING_STARTS_BYTES;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, TimeMs};

const SUFFIX: &[u8] = b"_created";

/// Whether samples of this type can have start timestamps.
fn has_start(context: Context<'_>) -> bool {
    context.format == TextFormat::OpenMetrics
        && matches!(context.kind, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
}

/// The samples of a body that wait for `_created` lines; `T` identifies a sample.
#[derive(Debug)]
pub(super) struct CreatedLines<T> {
    /// Length of the name in the last metadata line, bytes.
    family: usize,
    /// The metric of the sample before, and its start timestamp.
    known: Option<(Labels, TimeMs)>,
    /// Samples for which no `_created` line has come, by metric.
    waiting: Vec<(Labels, Vec<T>)>,
    waiting_bytes: usize,
}

impl<T> Default for CreatedLines<T> {
    fn default() -> Self {
        CreatedLines { family: 0, known: None, waiting: Vec::new(), waiting_bytes: 0 }
    }
}

impl<T> CreatedLines<T> {
    /// Processes a metadata line for the family `name`, as written: samples that wait get no start
    /// timestamp.
    pub(super) fn family(&mut self, name: &[u8]) {
        let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
        self.family = name.len();
        self.give_up();
    }

    fn give_up(&mut self) {
        if !self.waiting.is_empty() {
            self.known = None;
            self.waiting.clear();
            self.waiting_bytes = 0;
        }
    }

    /// Whether a line is a `_created` line. If so, calls `found` with the samples that wait for it,
    /// and their start timestamp.
    pub(super) fn take(
        &mut self,
        sample: &ExposedSample<'_>,
        context: Context<'_>,
        mut found: impl FnMut(T, TimeMs),
    ) -> Result<bool, SeriesError> {
        // Nearly no line has the ending, so the labels are parsed only for those that have it
        // somewhere.
        if !has_start(context) || memchr::memmem::find(sample.series, SUFFIX).is_none() {
            return Ok(false);
        }
        let labels = series::parse(sample.series, context)?;
        // The ending was in a label and not in the name.
        let Some(base) = labels.get(METRIC_NAME).as_bytes().strip_suffix(SUFFIX) else { return Ok(false) };
        let base = String::from_utf8_lossy(base).into_owned();
        let metric = metric(labels, base, context.kind);
        // A time that is none is as if the line were not there; the samples are stored without it.
        let start = if sample.value.is_finite() { (sample.value * 1000.0) as TimeMs } else { 0 };
        self.waiting_bytes = 0;
        let mut waiting = std::mem::take(&mut self.waiting);
        // Samples of the same metric that follow the line get its time, too: Prometheus looks ahead
        // to the line for each sample, which gives the same to all of them.
        if let Some((last, _)) = waiting.last() {
            self.known = (*last == metric && start > 0).then(|| (metric.clone(), start));
        }
        let are_meant = |(of, _): &(Labels, Vec<T>)| *of == metric && start != 0;
        for (_, samples) in waiting.drain(..).filter(are_meant) {
            for sample in samples.into_iter() {
                found(sample, start);
            }
        }
        self.waiting = waiting;
        Ok(true)
    }

    /// The start timestamp of a sample, if it is known already. Otherwise `what` waits.
    pub(super) fn start(
        &mut self,
        sample: &ExposedSample<'_>,
        context: Context<'_>,
        what: impl FnOnce() -> T,
    ) -> Result<Option<TimeMs>, SeriesError> {
        if !has_start(context) {
            self.known = None;
            return Ok(None);
        }
        let labels = series::parse(sample.series, context)?;
        let name = labels.get(METRIC_NAME).as_bytes();
        // The name up to the length of the family's: without `_total`, `_bucket`, `_count` or
        // `_sum`, whichever it is.
        let base = String::from_utf8_lossy(&name[..self.family.min(name.len())]).into_owned();
        let metric = metric(labels, base, context.kind);
        if let Some((known, start)) = &self.known {
            if *known == metric {
                return Ok(Some(*start));
            }
            self.known = None;
        }
        // A body without `_created` lines must not keep all of its series here. What is given up is
        // only the start, never a sample.
        if self.waiting_bytes >= SCRAPE_WAITING_STARTS_BYTES {
            self.give_up();
        }
        if self.waiting.last().is_none_or(|(last, _)| *last != metric) {
            self.waiting_bytes += size_of::<(Labels, Vec<T>)>() + metric.encoded().len();
            self.waiting.push((metric, Vec::new()));
        }
        self.waiting_bytes += size_of::<T>();
        if let Some((_, samples)) = self.waiting.last_mut() {
            samples.push(what());
        }
        Ok(None)
    }
}

/// The labels that the samples and the `_created` line of one metric share.
fn metric(mut labels: storage::model::LabelsBuilder, base: String, kind: MetricType) -> Labels {
    let own = if kind == MetricType::Summary { "quantile" } else { "le" };
    if kind != MetricType::Counter {
        // Buckets of a histogram and quantiles of a summary share the `_created` line of their
        // metric.
        labels.remove(own);
    }
    labels.set(METRIC_NAME, base);
    labels.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{ExpositionEntry, ExpositionParser};

    /// The lines of a body that get a start timestamp, with it.
    fn starts(body: &str) -> Vec<(String, TimeMs)> {
        let mut parser = ExpositionParser::new(body.as_bytes(), TextFormat::OpenMetrics);
        let mut created = CreatedLines::default();
        let mut all = Vec::new();
        while let Some(entry) = parser.next(&[]).unwrap() {
            match entry {
                ExpositionEntry::Meta(meta) => created.family(meta.name),
                ExpositionEntry::Sample(sample) => {
                    let context = parser.context();
                    if created.take(&sample, context, |of, start| all.push((of, start))).unwrap() {
                        continue;
                    }
                    let name = String::from_utf8_lossy(sample.series).into_owned();
                    let start = created.start(&sample, context, || name.clone()).unwrap();
                    all.extend(start.map(|start| (name, start)));
                }
            }
        }
        all
    }

    fn some(expected: &[(&str, TimeMs)]) -> Vec<(String, TimeMs)> {
        expected.iter().map(|(name, start)| ((*name).to_owned(), *start)).collect()
    }

    #[test]
    fn samples_count_since_the_created_line_of_their_metric() {
        let counter = "# TYPE a counter\na_total{x=\"1\"} 5\na_created{x=\"1\"} 1.5\na_total{x=\"2\"} 6\n\
                       a_created{x=\"2\"} 2.5\n# EOF\n";
        assert_eq!(starts(counter), some(&[("a_total{x=\"1\"}", 1500), ("a_total{x=\"2\"}", 2500)]));
        let histogram = "# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_created 3\nh_bucket{le=\"+Inf\"} 5\nh_sum 1\n\
                         # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 7\ns_created 4\n# EOF\n";
        let expected = some(&[
            ("h_bucket{le=\"1\"}", 3000),
            ("h_bucket{le=\"+Inf\"}", 3000),
            ("h_sum", 3000),
            ("s{quantile=\"0.5\"}", 4000),
            ("s_sum", 4000),
        ]);
        assert_eq!(starts(histogram), expected);
        let quoted =
            "# TYPE \"a.b\" counter\n{\"a.b_total\",x=\"1\"} 5\n{\"a.b_created\",x=\"1\"} 1.5\n# EOF\n";
        assert_eq!(starts(quoted), some(&[("{\"a.b_total\",x=\"1\"}", 1500)]));
    }

    #[test]
    fn only_the_next_created_line_counts() {
        for body in [
            "# TYPE a gauge\na 5\na_created 1\n# EOF\n",
            "a_total 5\na_created 1\n# EOF\n",
            "# TYPE a counter\na_total 5\n# TYPE b counter\na_created 1\n# EOF\n",
            "# TYPE a counter\na_created 1\na_total 5\n# EOF\n",
            "# TYPE a counter\na_total 5\nb_created 2\na_created 1\n# EOF\n",
            "# TYPE a counter\na_total 5\na_created 0\n# EOF\n",
        ] {
            assert_eq!(starts(body), [], "{body}");
        }
        let all_behind = "# TYPE a counter\na_total{x=\"1\"} 5\na_total{x=\"2\"} 6\na_created{x=\"1\"} 1\n\
                          a_created{x=\"2\"} 2\n# EOF\n";
        assert_eq!(starts(all_behind), some(&[("a_total{x=\"1\"}", 1000)]), "as in Prometheus");
    }
}
