//! The record batches of `meta.series` and `meta.label_pairs`, made of label sets directly.
//!
//! A million series have tens of millions of label pairs, so there is no JSON object for each row
//! as for the other lists of [`super::meta`].

use super::rows::labels_json;
use crate::limits::{BATCH_ROWS, COLUMNS_WINDOW_MS, SERIES_LIST_STEP_MS};
use datafusion::arrow::array::{ArrayRef, Int64Array, StringBuilder};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, TimeMs};

/// The begin of the time in which a series has samples, if it is in the list at `now`.
///
/// It moves in steps: between them series leave the list only if the store loses them, so who
/// follows the list need not ask for what has become too old.
pub(crate) fn begin_of_list(now: TimeMs) -> TimeMs {
    (now - COLUMNS_WINDOW_MS).div_euclid(SERIES_LIST_STEP_MS) * SERIES_LIST_STEP_MS
}

/// A row: a series, or one of its pairs.
struct ListRow<'a> {
    labels: &'a Labels,
    metric: &'a str,
    id: i64,
    pair: Option<(&'a str, &'a str)>,
}

/// Label sets in pieces whose rows fit into a batch; at least one a piece.
pub(crate) fn pieces(series: &[Labels], has_pairs: bool) -> impl Iterator<Item = &[Labels]> {
    let mut rest = series;
    std::iter::from_fn(move || {
        let mut rows = 0;
        let fits = |labels: &&Labels| {
            rows += if has_pairs { labels.len() } else { 1 };
            rows <= BATCH_ROWS
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (piece, left) = rest.split_at(count);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Bytes of a text of a label, mostly.
const TEXT_BYTES: usize = 16;

/// The columns with these names of the rows of some series, and how many rows there are.
pub(crate) fn columns(series: &[Labels], has_pairs: bool, names: &[&str]) -> (Vec<ArrayRef>, usize) {
    let mut rows = Vec::new();
    for labels in series {
        let metric = labels.name();
        let id = labels.hash64().cast_signed();
        if has_pairs {
            let pairs = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
            rows.extend(pairs.map(|pair| ListRow { labels, metric, id, pair: Some(pair) }));
        } else {
            rows.push(ListRow { labels, metric, id, pair: None });
        }
    }
    let text = |text: &dyn Fn(&ListRow<'_>, &mut StringBuilder)| -> ArrayRef {
        let mut out = StringBuilder::with_capacity(rows.len(), rows.len() * TEXT_BYTES);
        for row in &rows {
            text(row, &mut out);
        }
        Arc::new(out.finish())
    };
    let column = |name: &&str| -> ArrayRef {
        match *name {
            "series" => Arc::new(rows.iter().map(|row| Some(row.id)).collect::<Int64Array>()),
            "metric" => text(&|row, out| out.append_value(row.metric)),
            "name" => text(&|row, out| out.append_option(row.pair.map(|pair| pair.0))),
            "value" => text(&|row, out| out.append_option(row.pair.map(|pair| pair.1))),
            _ => text(&|row, out| out.append_value(labels_json(row.labels))),
        }
    };
    (names.iter().map(column).collect(), rows.len())
}
