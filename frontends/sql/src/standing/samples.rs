//! Converts the rows of a standing statement to the samples of a view: labels and a value.
//!
//! For a rule, texts are labels and the one number is the value. For a subscription, each cell is a
//! label and the value counts equal rows. [`super`] converts them back for the client.

use crate::error::{SqlError, SqlErrorKind};
use crate::limits::STANDING_ROWS;
use crate::output::Cells;
use crate::session::RowSink;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Schema, SchemaRef};
use engine::plan::statement::RowForm;
use std::collections::BTreeMap;
use storage::model::Labels;

/// The role of a column where rows are series.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum ColumnRole {
    /// A label.
    Label,
    /// An object of JSON with all labels.
    AllLabels,
    /// The value.
    Number,
    /// A time or a distance: neither.
    Nothing,
}

/// The role of a column with this name and type.
pub(super) fn role(name: &str, kind: &DataType) -> ColumnRole {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => match name {
            "labels" => ColumnRole::AllLabels,
            // Of a native histogram; alerts and series have floats.
            "histogram" => ColumnRole::Nothing,
            _ => ColumnRole::Label,
        },
        DataType::Boolean | DataType::Decimal128(..) | DataType::Decimal256(..) => ColumnRole::Number,
        kind if kind.is_floating() || kind.is_integer() => ColumnRole::Number,
        _ => ColumnRole::Nothing,
    }
}

/// The name of the label that has the cell of column `i`: the order of names is that of columns.
pub(super) fn cell_name(i: usize) -> String {
    format!("{i:04}")
}

/// The rows of an evaluation.
pub(crate) type Samples = BTreeMap<Labels, f64>;

/// Adds a row that is there `count` times.
pub(crate) fn add(
    samples: &mut Samples,
    form: RowForm,
    labels: Labels,
    value: f64,
    count: i64,
) -> Result<(), SqlError> {
    match form {
        RowForm::Cells => *samples.entry(labels).or_insert(0.0) += value * count as f64,
        RowForm::Series => {
            let known = samples.insert(labels.clone(), value);
            if known.is_some() || count > 1 {
                let error = format!("two rows have the same labels {labels}");
                return Err(SqlError::new(SqlErrorKind::Execution, error)
                    .hint("select what tells them apart, or GROUP BY"));
            }
        }
    }
    Ok(())
}

/// Turns rows into samples.
pub(crate) struct RowSampler {
    form: RowForm,
    names: Vec<String>,
    roles: Vec<ColumnRole>,
    /// The label names for cells.
    cells: Vec<String>,
}

impl RowSampler {
    /// For rows with these columns.
    pub(crate) fn new(form: RowForm, schema: &Schema) -> RowSampler {
        let fields = schema.fields().iter();
        RowSampler {
            form,
            names: fields.clone().map(|field| field.name().clone()).collect(),
            roles: fields.map(|field| role(field.name(), field.data_type())).collect(),
            cells: (0..schema.fields().len()).map(cell_name).collect(),
        }
    }

    /// The sample of each row; `None`: the value is NULL.
    pub(crate) fn samples(&self, batch: &RecordBatch) -> Result<Vec<Option<(Labels, f64)>>, SqlError> {
        let cells = batch.columns().iter().map(Cells::from_array).collect::<Result<Vec<_>, _>>()?;
        let number = self.roles.iter().position(|role| *role == ColumnRole::Number);
        let numbers = number.and_then(|i| batch.columns().get(i));
        let numbers = numbers.filter(|_| self.form == RowForm::Series);
        let numbers = numbers.map(|column| cast(column, &DataType::Float64)).transpose();
        let numbers = numbers.map_err(|e| SqlError::new(SqlErrorKind::Internal, e.to_string()))?;
        let mut samples = Vec::with_capacity(batch.num_rows());
        let mut texts = vec![String::new(); cells.len()];
        for row in 0..batch.num_rows() {
            samples.push(match (self.form, &numbers) {
                (RowForm::Cells, _) => Some((self.cell_labels(&cells, row, &mut texts), 1.0)),
                (RowForm::Series, None) => Some((self.series_labels(&cells, row), 1.0)),
                // Without a value there is no sample.
                (RowForm::Series, Some(numbers)) if numbers.is_null(row) => None,
                (RowForm::Series, Some(numbers)) => {
                    let value = numbers.as_primitive::<Float64Type>().value(row);
                    Some((self.series_labels(&cells, row), value))
                }
            });
        }
        Ok(samples)
    }

    /// The cells of a row as labels. `texts` has room for one text a column, so that no row needs
    /// memory of its own for them.
    fn cell_labels(&self, cells: &[Cells], row: usize, texts: &mut [String]) -> Labels {
        for (column, text) in cells.iter().zip(texts.iter_mut()) {
            text.clear();
            column.json(row, text);
        }
        // No cell is empty in JSON, and the names are in the order of the columns.
        Labels::from_sorted(
            self.cells.iter().zip(texts.iter()).map(|(name, text)| (name.as_str(), text.as_str())),
        )
    }

    fn series_labels(&self, cells: &[Cells], row: usize) -> Labels {
        let mut pairs: BTreeMap<String, String> = BTreeMap::new();
        for ((name, role), column) in self.names.iter().zip(&self.roles).zip(cells) {
            match (role, column.text(row)) {
                (ColumnRole::Label, Some(text)) if !text.is_empty() => {
                    pairs.insert(name.clone(), text);
                }
                (ColumnRole::AllLabels, Some(text)) => {
                    pairs.extend(serde_json::from_str::<BTreeMap<String, String>>(&text).unwrap_or_default());
                }
                _ => {}
            }
        }
        Labels::from_pairs(pairs)
    }
}

/// Collects the rows of one evaluation.
pub(super) struct SampleSink {
    form: RowForm,
    sampler: RowSampler,
    samples: Samples,
}

impl SampleSink {
    pub(super) fn new(form: RowForm) -> SampleSink {
        SampleSink { form, sampler: RowSampler::new(form, &Schema::empty()), samples: Samples::new() }
    }

    /// The samples, in the order of their labels.
    pub(super) fn into_samples(self) -> Samples {
        self.samples
    }
}

impl RowSink for SampleSink {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), SqlError> {
        self.sampler = RowSampler::new(self.form, schema);
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        for (labels, value) in self.sampler.samples(batch)?.into_iter().flatten() {
            add(&mut self.samples, self.form, labels, value, 1)?;
        }
        if self.samples.len() > STANDING_ROWS {
            let error = format!("a statement that runs again has at most {STANDING_ROWS} rows");
            return Err(SqlError::new(SqlErrorKind::LimitReached, error).hint("filter or group more"));
        }
        Ok(())
    }
}
