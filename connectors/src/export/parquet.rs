//! Export as one flat Parquet file: one row per sample, one column per label, sorted by metric
//! name, labels and time.
//!
//! Columns: `timestamp` (ms, UTC), `value` (null for a stale marker or a histogram), `histogram`
//! (as PromQL prints it; only if there is any), then the labels by name, null if a series does not
//! have the label. Column names are those of [`super::csv`].

use super::csv::columns;
use super::{ExportCounts, ExportError, ExportSchema, ExportWriter, ExportedSeries};
use crate::limits::{EXPORT_COLUMNS, EXPORT_GROUP_ROWS};
use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray,
    new_null_array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::io::Write;
use std::sync::Arc;
use storage::model::Labels;
use storage::model::value::is_stale;

struct Parquet<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
    shape: ExportSchema,
}

/// A writer to `out`.
pub fn sink<'a>(
    out: impl Write + Send + 'a,
    shape: ExportSchema,
) -> Result<Box<dyn ExportWriter + 'a>, ExportError> {
    // Before anything is written: the writer holds a page of each column.
    if shape.labels.len() > EXPORT_COLUMNS {
        let why =
            format!("{} label names are more than {EXPORT_COLUMNS} columns: match less", shape.labels.len());
        return Err(ExportError::Unfit(why));
    }
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut fields = vec![
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("value", DataType::Float64, true),
    ];
    if shape.histograms {
        fields.push(Field::new("histogram", DataType::Utf8, true));
    }
    fields.extend(columns(&shape.labels).map(|column| Field::new(column, text.clone(), true)));
    let schema = Arc::new(Schema::new(fields));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(failed)?))
        .set_max_row_group_row_count(Some(EXPORT_GROUP_ROWS))
        .set_column_dictionary_enabled(ColumnPath::from("timestamp"), false)
        .set_column_encoding(ColumnPath::from("timestamp"), Encoding::DELTA_BINARY_PACKED)
        .build();
    let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(failed)?;
    Ok(Box::new(Parquet { writer, schema, shape }))
}

fn failed(error: parquet::errors::ParquetError) -> ExportError {
    ExportError::Io(std::io::Error::other(error))
}

impl<W: Write + Send> Parquet<W> {
    /// A column with the same text in all rows.
    fn label(labels: &Labels, name: &str, rows: usize) -> Result<ArrayRef, ExportError> {
        let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let Some(value) = labels.get(name) else { return Ok(new_null_array(&text, rows)) };
        // A dictionary of one text: a series has the same label in all its rows, and the writer
        // need not find that out.
        let keys = Int32Array::from(vec![0; rows]);
        let values = Arc::new(StringArray::from(vec![value]));
        let array = DictionaryArray::<Int32Type>::try_new(keys, values);
        Ok(Arc::new(array.map_err(|e| ExportError::Unfit(e.to_string()))?))
    }
}

impl<W: Write + Send> ExportWriter for Parquet<W> {
    fn series(
        &mut self,
        labels: &Labels,
        samples: &ExportedSeries,
        done: &mut ExportCounts,
    ) -> Result<(), ExportError> {
        let floats =
            samples.ts.iter().zip(&samples.vs).map(|(t, v)| (*t, Some(*v).filter(|v| !is_stale(*v)), None));
        let histograms = samples.histograms.iter().map(|(t, h)| (*t, None, Some(h.to_string())));
        let mut rows: Vec<(i64, Option<f64>, Option<String>)> = floats.chain(histograms).collect();
        rows.sort_by_key(|row| row.0);
        let times =
            TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0)).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(times), Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.1)))];
        if self.shape.histograms {
            columns.push(Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.as_deref()))));
        }
        for name in &self.shape.labels {
            columns.push(Self::label(labels, name, rows.len())?);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        self.writer.write(&batch.map_err(|e| ExportError::Unfit(e.to_string()))?).map_err(failed)?;
        done.samples += rows.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), ExportError> {
        Ok(self.writer.into_inner().map_err(failed)?.flush()?)
    }
}
