//! Descriptions of refused samples: Prometheus' texts, with series and time.
//!
//! The first few samples are named, one line each; the others are counted. The sender's log then
//! shows which series are affected.

use crate::limits::{REFUSALS_NAMED, REFUSED_LINE_BYTES};
use chrono::{DateTime, SecondsFormat};
use std::fmt::Display;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{Refusal, RefusedRow, Store};

/// The lines for the answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedLines(Vec<String>);

impl RefusedLines {
    /// Adds a line, unless there are enough.
    pub fn name(&mut self, line: impl FnOnce() -> String) {
        // The text is made only if it is kept: a request can have a million refused samples.
        if self.0.len() < REFUSALS_NAMED {
            self.0.push(line());
        }
    }

    /// Adds a line for a series; `what` is wrong with it, or with a part of it.
    pub fn name_series(&mut self, series: SeriesRef, what: &dyn Display, store: &Store) {
        self.name(|| format!("{what} for series {}", braced(&store.series().labels(series))));
    }

    /// Adds a line for a sample that the store refused.
    pub fn name_refused(&mut self, refused: &RefusedRow, store: &Store) {
        self.name(|| line(refused, &braced(&store.series().labels(refused.series))));
    }

    /// Adds a line for a sample that is too far in the future.
    pub fn name_far_ahead(&mut self, series: SeriesRef, t: TimeMs, store: &Store) {
        self.name(|| {
            let series = braced(&store.series().labels(series));
            let date = date(t);
            format!(
                "out of bounds: timestamp is too far in the future for series {series}: timestamp {t}{date}"
            )
        });
    }

    /// The text for `total` refused samples; `rest` says how many there are of each kind.
    pub fn text(&self, total: usize, rest: &str) -> String {
        let mut lines = self.0.clone();
        if total > lines.len() {
            lines.push(format!("{total} samples refused: {rest}"));
        }
        lines.join("\n")
    }
}

fn line(refused: &RefusedRow, series: &str) -> String {
    let RefusedRow { t, why, oldest, .. } = refused;
    if *why == Refusal::Duplicate {
        return format!("{why} {t}; overrides not allowed for series {series}");
    }
    let what = format!("{why} for series {series}: timestamp {t}{}", date(*t));
    // Two reasons look alike to a user and need different remedies: older than the head takes at
    // all, or only older than the window of late samples.
    if t < oldest {
        return format!("{what} is out of bounds, the oldest that is taken is {oldest}{}", date(*oldest));
    }
    format!("{what} is too far behind the newest sample of its series")
}

/// The date of a timestamp, if it has one: confused units are then easy to see.
fn date(t: TimeMs) -> String {
    let date = DateTime::from_timestamp_millis(t);
    date.map_or_else(String::new, |date| format!(" ({})", date.to_rfc3339_opts(SecondsFormat::Millis, true)))
}

/// Labels as Prometheus writes them in such texts, with the name as an ordinary label.
fn braced(labels: &Labels) -> String {
    braced_pairs(labels.iter())
}

/// Label pairs in the form of [`Labels`], also if they are not valid labels; very long ones are
/// cut.
pub(super) fn braced_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = "{".to_owned();
    for (n, (name, value)) in pairs.enumerate() {
        // Labels of a refused series can be as large as the request.
        if text.len() > REFUSED_LINE_BYTES {
            text.push('…');
            break;
        }
        let comma = if n > 0 { ", " } else { "" };
        let value: String = value.chars().take(REFUSED_LINE_BYTES).collect();
        let name: String = name.chars().take(REFUSED_LINE_BYTES).collect();
        text.push_str(&format!("{comma}{name}={value:?}"));
    }
    text.push('}');
    text
}
