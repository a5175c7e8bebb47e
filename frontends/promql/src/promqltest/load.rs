//! Parses the lines of a `load` command of a test file: series with samples, each with its start
//! timestamp if known.

use super::errors::{ScriptError, ScriptErrorKind};
use super::nhcb;
use super::start_timestamps::{self, StartOffsets};
use crate::series::{SequenceValue, parse_series};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::histogram::NativeHistogram;
use storage::model::value::HISTOGRAM;
use storage::model::{Labels, TimeMs};

/// One sample of a series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LoadedSample {
    pub t: TimeMs,
    /// The value; [`HISTOGRAM`] if the sample is a histogram.
    pub v: f64,
    pub histogram: Option<Arc<NativeHistogram>>,
    /// The start timestamp of the counter, if known.
    pub start: Option<TimeMs>,
}

/// The samples of one `load`, by series.
pub(super) type LoadedSeries = BTreeMap<Labels, Vec<LoadedSample>>;

/// Parses the lines after `load`. The first sample is at time 0, the next one `step` ms later. If
/// `native`, classic histograms are also stored as native ones. `first` is the number of the first
/// line.
pub(super) fn read(
    step: i64,
    native: bool,
    lines: &[&str],
    first: usize,
) -> Result<LoadedSeries, ScriptError> {
    let mut load = LoadedSeries::new();
    let mut default: StartOffsets = Vec::new();
    let mut own: Option<(Labels, StartOffsets, usize)> = None;
    for (number, line) in (first..).zip(lines) {
        let fault = |kind: ScriptErrorKind| ScriptError { line: number, kind };
        match start_timestamps::parse(line).transpose().map_err(fault)? {
            Some((None, distances)) => default = distances,
            Some((Some(labels), distances)) => {
                refuse_unused(own.replace((labels, distances, number)))?;
            }
            None => {
                let (labels, samples) = series(step, line, own.take(), &default).map_err(fault)?;
                // If a series is described several times, the last description counts.
                load.insert(labels, samples);
            }
        }
    }
    refuse_unused(own)?;
    if native {
        // The error belongs to no line of its own: it is that of the command.
        let line = first.saturating_sub(1);
        load.extend(nhcb::convert(&load).map_err(|kind| ScriptError { line, kind })?);
    }
    Ok(load)
}

/// Rejects a line of start timestamps without a line of samples.
fn refuse_unused(own: Option<(Labels, StartOffsets, usize)>) -> Result<(), ScriptError> {
    match own {
        Some((.., line)) => Err(ScriptError { line, kind: ScriptErrorKind::UnusedStartTimestamps }),
        None => Ok(()),
    }
}

fn series(
    step: i64,
    line: &str,
    own: Option<(Labels, StartOffsets, usize)>,
    default: &StartOffsets,
) -> Result<(Labels, Vec<LoadedSample>), ScriptErrorKind> {
    let described = parse_series(line).map_err(ScriptErrorKind::Notation)?;
    if let Some((labels, distances, _)) = &own {
        if *labels != described.labels {
            return Err(ScriptErrorKind::OtherSeries);
        }
        let starts = distances.len();
        let values = described.values.len();
        if starts != values {
            return Err(ScriptErrorKind::StartTimestampCount { starts, values });
        }
    }
    let distance = |i: usize| match &own {
        Some((_, distances, _)) => distances[i],
        None if default.is_empty() => None,
        None => default[i % default.len()],
    };
    let sample = |(i, point): (usize, SequenceValue)| {
        let t = i as i64 * step;
        let (v, histogram) = match point {
            SequenceValue::Gap => return None,
            SequenceValue::Float(v) => (v, None),
            SequenceValue::Histogram(literal) => (HISTOGRAM, Some(literal.histogram)),
        };
        // In received samples, 0 means an unknown start timestamp.
        let start = distance(i).map(|distance| t + distance).filter(|start| *start != 0);
        Some(LoadedSample { t, v, histogram, start })
    };
    Ok((described.labels, described.values.into_iter().enumerate().filter_map(sample).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(lines: &[&str]) -> Result<Vec<(TimeMs, Option<TimeMs>)>, ScriptError> {
        let load = read(60_000, false, lines, 1)?;
        Ok(load.values().flatten().map(|sample| (sample.t, sample.start)).collect())
    }

    #[test]
    fn samples_know_when_their_counter_began() {
        let own = starts(&["m@st _ -30s -2m _", "m 1 2 3 _"]).unwrap();
        assert_eq!(own, [(0, None), (60_000, Some(30_000)), (120_000, None)]);
        let default = starts(&["@st -1s -2s", "m _ 1 2"]).unwrap();
        assert_eq!(default, [(60_000, Some(58_000)), (120_000, Some(119_000))]);
    }

    #[test]
    fn faults_name_their_line() {
        for (lines, line) in [
            (&["m 1", "m 1 x"][..], 2),
            (&["m@st 1s"], 1),
            (&["m@st 1s", "m@st 1s", "m 1"], 1),
            (&["m@st 1s", "n 1"], 2),
            (&["m@st 1s 1s", "m 1"], 2),
        ] {
            assert_eq!(starts(lines).unwrap_err().line, line, "{lines:?}");
        }
    }
}
