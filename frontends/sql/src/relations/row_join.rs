//! The rows of a metric for which a statement shows several numbers, such as `value` and
//! `rate(value, '5m')`.
//!
//! Each number is a plan of its own. [`RowJoin`] joins their results by labels and time, and makes
//! one row for each series. The results come from history or from live views.

use super::rows::{Batches, histogram_json, labels_json, sliced, times};
use super::{Field, Relation, Scan};
use crate::error::SqlError;
use crate::standing::leaf_rows::LeafRows;
use crate::standing::leaves::leaf_name;
use datafusion::arrow::array::{ArrayRef, Float64Array, StringArray, new_null_array};
use datafusion::arrow::datatypes::DataType;
use engine::plan::Plan;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// The numbers of a metric that a scan asks for.
pub(super) struct Numbers {
    pub(super) plans: Vec<Plan>,
    /// The first one is the value.
    pub(super) has_value: bool,
}

/// The key of a row: labels and evaluation time, ms.
#[derive(Clone, Debug)]
pub(super) struct RowKey {
    pub(super) labels: Labels,
    pub(super) t: TimeMs,
}

impl RowKey {
    pub(super) fn new(labels: &Labels, t: TimeMs) -> RowKey {
        RowKey { labels: labels.clone(), t }
    }
}

/// Rows of several answers, joined by their labels and sorted by them.
#[derive(Debug)]
pub(super) struct RowJoin {
    pub(super) keys: Vec<RowKey>,
    /// For each result and each row: the index of the result's row; `None`: the result has no such
    /// row.
    pub(super) picks: Vec<Vec<Option<u32>>>,
}

/// Rows of live views, joined.
#[derive(Clone, Debug)]
pub(super) struct LeafJoin {
    /// [`LeafRows::shape`] of each view. If one differs, the join is computed again.
    shapes: Vec<u64>,
    joined: Arc<RowJoin>,
    /// Columns of labels, by their names.
    columns: Arc<Mutex<HashMap<String, ArrayRef>>>,
}

impl LeafJoin {
    /// The numbers of view `n`, by row.
    fn numbers(&self, leaves: &[Arc<LeafRows>], n: usize) -> ArrayRef {
        let (Some(leaf), Some(picks)) = (leaves.get(n), self.joined.picks.get(n)) else {
            return new_null_array(&DataType::Float64, self.joined.keys.len());
        };
        if leaves.len() == 1 && leaf.histograms.is_empty() {
            return Arc::new(Float64Array::from(leaf.values.clone()));
        }
        let value = |at: &Option<u32>| at.and_then(|at| leaf.value(at as usize));
        Arc::new(picks.iter().map(value).collect::<Float64Array>())
    }

    /// The histograms of the first view as JSON, by row.
    fn histograms(&self, leaves: &[Arc<LeafRows>]) -> ArrayRef {
        let (Some(leaf), Some(picks)) = (leaves.first(), self.joined.picks.first()) else {
            return new_null_array(&DataType::Utf8, self.joined.keys.len());
        };
        let histogram = |at: &Option<u32>| at.and_then(|at| leaf.histogram(at as usize));
        Arc::new(picks.iter().map(|at| histogram(at).as_deref().map(histogram_json)).collect::<StringArray>())
    }
}

/// A row while answers are joined.
struct JoinedRow {
    key: RowKey,
    /// For each answer: the number of its row.
    picks: Vec<Option<u32>>,
}

/// Joins answers by labels and time. The labels of a row are those of the first answer that has it.
pub(super) fn join(answers: Vec<Vec<RowKey>>, is_named: bool) -> RowJoin {
    if let [one] = answers.as_slice() {
        let picks = (0..one.len() as u32).map(Some).collect();
        return RowJoin { keys: answers.into_iter().flatten().collect(), picks: vec![picks] };
    }
    let mut places: HashMap<(Labels, TimeMs), usize> = HashMap::new();
    let mut rows: Vec<JoinedRow> = Vec::new();
    let width = answers.len();
    for (n, keys) in answers.into_iter().enumerate() {
        for (key, at) in keys.into_iter().zip(0..) {
            let labels = if is_named { key.labels.clone() } else { key.labels.without_name() };
            let place = *places.entry((labels, key.t)).or_insert(rows.len());
            if place == rows.len() {
                rows.push(JoinedRow { key, picks: vec![None; width] });
            }
            rows[place].picks[n] = Some(at);
        }
    }
    rows.sort_by(|a, b| (&a.key.labels, a.key.t).cmp(&(&b.key.labels, b.key.t)));
    let picks = (0..width).map(|n| rows.iter().map(|row| row.picks[n]).collect()).collect();
    RowJoin { keys: rows.into_iter().map(|row| row.key).collect(), picks }
}

/// A column of labels.
pub(super) fn label_column<'a>(field: &Field, labels: impl Iterator<Item = &'a Labels>) -> ArrayRef {
    Arc::new(match field {
        Field::Label(name) => StringArray::from_iter_values(labels.map(|l| l.get(name).unwrap_or(""))),
        Field::Metric => StringArray::from_iter_values(labels.map(Labels::name)),
        _ => StringArray::from_iter_values(labels.map(labels_json)),
    })
}

/// The current rows of plans, if all of them are there.
pub(super) fn live_rows(relation: &Relation, plans: &[Plan]) -> Option<Vec<Arc<LeafRows>>> {
    let current = relation.context.current.lock();
    if current.rows.is_empty() {
        return None;
    }
    plans.iter().map(|plan| current.rows.get(&leaf_name(plan)).cloned()).collect()
}

impl Scan {
    /// A metric from the current rows of live views.
    pub(super) fn of_leaves(&self, leaves: &[Arc<LeafRows>], has_value: bool) -> Result<Batches, SqlError> {
        let now = self.relation.context.now();
        let join = self.joined_leaves(leaves);
        let rows = join.joined.keys.len();
        let first = usize::from(has_value);
        let mut others = first..;
        let mut columns: Vec<ArrayRef> = Vec::new();
        for i in &self.projection {
            let Some((_, field)) = self.relation.fields.get(*i) else {
                columns.push(join.numbers(leaves, others.next().unwrap_or_default()));
                continue;
            };
            columns.push(match field {
                Field::Time => times(std::iter::repeat_n(now, rows)),
                Field::Value => join.numbers(leaves, 0),
                Field::Histogram => join.histograms(leaves),
                Field::Label(_) | Field::Metric | Field::Labels => {
                    let mut known = join.columns.lock();
                    let column = known.entry(format!("{field:?}")).or_insert_with(|| {
                        label_column(field, join.joined.keys.iter().map(|key| &key.labels))
                    });
                    column.clone()
                }
            });
        }
        // The same pieces as from history, so that what depends on them is the same.
        Ok(sliced(self.batch(columns, rows)?))
    }

    /// The join of the current rows of views, from the cache if the rows are the same.
    fn joined_leaves(&self, leaves: &[Arc<LeafRows>]) -> LeafJoin {
        let mut known = self.joined.lock();
        let shapes = || leaves.iter().map(|leaf| leaf.shape);
        if let Some(join) = known.as_ref().filter(|join| join.shapes.iter().copied().eq(shapes())) {
            return join.clone();
        }
        let now = self.relation.context.now();
        let keys =
            leaves.iter().map(|leaf| leaf.labels.iter().map(|labels| RowKey::new(labels, now)).collect());
        let columns = match leaves {
            // Other statements that read this view alone have the same columns.
            [leaf] => leaf.columns.clone(),
            _ => Arc::default(),
        };
        let joined = Arc::new(join(keys.collect(), self.tells_metrics_apart()));
        let join = LeafJoin { shapes: shapes().collect(), joined, columns };
        *known = Some(join.clone());
        join
    }
}
