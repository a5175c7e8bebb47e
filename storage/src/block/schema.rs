//! The Parquet schemas of the files of a block, and how they are written: encodings, compression,
//! size of pages (`docs/format/block.md`). Readers rely on these: a page has a fixed number of
//! rows, so that a row is found by its number.

use crate::limits::{
    BLOCK_GROUP_ROWS, BLOCK_PAGE_ROWS, BLOCK_SPARSE_PAGE_ROWS, BLOCK_ZSTD_LEVEL, SERIES_PAGE_ROWS,
};
use arrow::array::{ArrayRef, ListBuilder, PrimitiveBuilder};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Fields, Schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

pub(super) const SAMPLES: &str = "samples.parquet";
pub(super) const CHECKSUMS: &str = "samples.crc";
pub(super) const CLOCKS: &str = "clocks.parquet";
pub(super) const SERIES: &str = "series.parquet";
pub(super) const SERIES_CHECKSUMS: &str = "series.crc";
pub(super) const TERMS: &str = "terms.tantivy";
pub(super) const TERMS_CHECKSUMS: &str = "terms.crc";
pub(super) const POSTINGS: &str = "postings.tantivy";
pub(super) const POSTINGS_CHECKSUMS: &str = "postings.crc";
pub(super) const HISTOGRAMS: &str = "histograms.parquet";
pub(super) const HISTOGRAMS_CHECKSUMS: &str = "histograms.crc";
pub(super) const STARTS: &str = "starts.parquet";
pub(super) const STARTS_CHECKSUMS: &str = "starts.crc";

fn list(name: &str, of: DataType, nullable: bool, elements_nullable: bool) -> Field {
    let element = Field::new("element", of, elements_nullable);
    Field::new(name, DataType::List(Arc::new(element)), nullable)
}

/// A builder for the list columns made by [`list`].
pub(super) fn list_builder<T: ArrowPrimitiveType>(
    elements_nullable: bool,
) -> ListBuilder<PrimitiveBuilder<T>> {
    ListBuilder::new(PrimitiveBuilder::new()).with_field(Field::new(
        "element",
        T::DATA_TYPE,
        elements_nullable,
    ))
}

pub(super) fn samples() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("series_id", DataType::UInt32, false),
        Field::new("clock_id", DataType::UInt32, false),
        Field::new("exp", DataType::Int8, false),
        Field::new("n", DataType::UInt32, false),
        Field::new("vmin", DataType::Float64, true),
        Field::new("vmax", DataType::Float64, true),
        list("gaps", DataType::UInt32, false, false),
        list("m", DataType::Int64, true, true),
        list("raw", DataType::Float64, true, true),
    ]))
}

pub(super) fn clocks() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("clock_id", DataType::UInt32, false),
        list("ts", DataType::Int64, false, false),
    ]))
}

/// The fields of an entry in the `labels` map.
pub(super) fn label_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)])
}

pub(super) fn series() -> Arc<Schema> {
    let entries = Field::new("key_value", DataType::Struct(label_fields()), false);
    Arc::new(Schema::new(vec![
        Field::new("series_id", DataType::UInt32, false),
        Field::new("__name__", DataType::Utf8, false),
        Field::new("labels", DataType::Map(Arc::new(entries), false), false),
    ]))
}

pub(super) fn histograms() -> Arc<Schema> {
    let number = |name: &str| Field::new(name, DataType::Float64, false);
    let mut fields = vec![
        Field::new("series_id", DataType::UInt32, false),
        Field::new("ts", DataType::Int64, false),
        Field::new("schema", DataType::Int8, false),
        Field::new("hint", DataType::Int8, false),
        number("count"),
        number("sum"),
        number("zero_threshold"),
        number("zero_count"),
    ];
    for sign in ["positive", "negative"] {
        fields.push(list(&format!("{sign}_offsets"), DataType::Int32, false, false));
        fields.push(list(&format!("{sign}_lengths"), DataType::UInt32, false, false));
        fields.push(list(&format!("{sign}_counts"), DataType::Float64, false, false));
    }
    fields.push(list("bounds", DataType::Float64, false, false));
    Arc::new(Schema::new(fields))
}

pub(super) fn starts() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("series_id", DataType::UInt32, false),
        Field::new("ts", DataType::Int64, false),
        Field::new("start", DataType::Int64, false),
    ]))
}

fn properties() -> Result<WriterPropertiesBuilder, ParquetError> {
    Ok(WriterProperties::builder()
        .set_created_by("perennial".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(BLOCK_ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(BLOCK_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(false))
}

/// Uses delta packing for the columns with these paths.
fn packed(properties: WriterPropertiesBuilder, columns: &[&[&str]]) -> WriterPropertiesBuilder {
    encoded(properties, columns, Encoding::DELTA_BINARY_PACKED)
}

fn encoded(
    properties: WriterPropertiesBuilder,
    columns: &[&[&str]],
    encoding: Encoding,
) -> WriterPropertiesBuilder {
    columns.iter().fold(properties, |properties, path| {
        let path = ColumnPath::new(path.iter().map(|p| (*p).to_owned()).collect());
        properties.set_column_encoding(path, encoding)
    })
}

pub(super) fn samples_properties() -> Result<WriterProperties, ParquetError> {
    let lists: [&[&str]; 2] = [&["gaps", "list", "element"], &["m", "list", "element"]];
    let plain: [&[&str]; 4] = [&["series_id"], &["clock_id"], &["exp"], &["n"]];
    let page = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    let properties = packed(packed(properties()?, &lists), &plain)
        .set_data_page_row_count_limit(BLOCK_PAGE_ROWS)
        // The writer ends a page only at the end of a batch, and a batch is at least one row.
        .set_write_batch_size(BLOCK_PAGE_ROWS)
        .set_column_statistics_enabled(page("series_id"), EnabledStatistics::Page)
        .set_column_statistics_enabled(page("vmin"), EnabledStatistics::Page)
        .set_column_statistics_enabled(page("vmax"), EnabledStatistics::Page);
    Ok(properties.build())
}

/// The properties of files with histograms or start timestamps: pages of whole rows.
fn lane_properties() -> Result<WriterPropertiesBuilder, ParquetError> {
    let properties = packed(properties()?, &[&["series_id"], &["ts"]]);
    Ok(properties
        .set_data_page_row_count_limit(BLOCK_SPARSE_PAGE_ROWS)
        .set_write_batch_size(BLOCK_SPARSE_PAGE_ROWS))
}

pub(super) fn histograms_properties() -> Result<WriterProperties, ParquetError> {
    let lists = ["positive_offsets", "positive_lengths", "negative_offsets", "negative_lengths"];
    let lists = lists.map(|name| [name, "list", "element"]);
    let lists: Vec<&[&str]> = lists.iter().map(|path| &path[..]).collect();
    let properties = packed(packed(lane_properties()?, &[&["schema"], &["hint"]]), &lists);
    // Neighbouring values have the same exponents: split into byte streams they compress to half.
    let doubles: [&[&str]; 5] = [
        &["count"],
        &["sum"],
        &["zero_count"],
        &["positive_counts", "list", "element"],
        &["negative_counts", "list", "element"],
    ];
    Ok(encoded(properties, &doubles, Encoding::BYTE_STREAM_SPLIT).build())
}

pub(super) fn starts_properties() -> Result<WriterProperties, ParquetError> {
    Ok(packed(lane_properties()?, &[&["start"]]).build())
}

pub(super) fn clocks_properties() -> Result<WriterProperties, ParquetError> {
    Ok(packed(properties()?, &[&["clock_id"], &["ts", "list", "element"]]).build())
}

pub(super) fn series_properties() -> Result<WriterProperties, ParquetError> {
    let dictionary = |names: &[&str]| ColumnPath::new(names.iter().map(|n| (*n).to_owned()).collect());
    let properties = packed(properties()?, &[&["series_id"]])
        .set_data_page_row_count_limit(SERIES_PAGE_ROWS)
        .set_write_batch_size(SERIES_PAGE_ROWS)
        .set_column_dictionary_enabled(dictionary(&["__name__"]), true)
        // Not the values: their dictionary would have to be read with every page, and would not be
        // smaller.
        .set_column_dictionary_enabled(dictionary(&["labels", "key_value", "key"]), true);
    Ok(properties.build())
}

/// A finished column as an Arrow array.
pub(super) fn column(array: impl arrow::array::Array + 'static) -> ArrayRef {
    Arc::new(array)
}
