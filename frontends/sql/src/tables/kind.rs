//! [`ColumnType`]: the types that a column of a table can have, under PostgreSQL's names; and
//! [`ColumnBuilder`]: a column that is filled from texts. [`super::appender`] has one for each
//! column.

use crate::error::SqlError;
use crate::relations::timestamp;
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use datafusion::arrow::datatypes::DataType;
use std::sync::Arc;
use storage::model::TimeMs;

/// The type of a column of a table.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// Yes or no.
    Bool,
    /// A time.
    Time,
}

impl ColumnType {
    /// The type with this PostgreSQL name, in lower case and without a length.
    pub fn named(name: &str) -> Option<ColumnType> {
        Some(match name {
            "text" | "varchar" | "character varying" | "char" | "character" | "bpchar" | "name" | "uuid"
            | "json" | "jsonb" => ColumnType::Text,
            "int8" | "bigint" | "int4" | "int" | "integer" | "int2" | "smallint" => ColumnType::Integer,
            "float8" | "double precision" | "double" | "float" | "float4" | "real" | "numeric"
            | "decimal" => ColumnType::Float,
            "bool" | "boolean" => ColumnType::Bool,
            "timestamptz" | "timestamp with time zone" | "timestamp" | "timestamp without time zone" => {
                ColumnType::Time
            }
            _ => return None,
        })
    }

    /// The type of a column of this type in memory.
    pub(super) fn from_arrow(kind: &DataType) -> ColumnType {
        match kind {
            DataType::Int64 => ColumnType::Integer,
            DataType::Float64 => ColumnType::Float,
            DataType::Boolean => ColumnType::Bool,
            DataType::Timestamp(..) => ColumnType::Time,
            _ => ColumnType::Text,
        }
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            ColumnType::Text => DataType::Utf8,
            ColumnType::Integer => DataType::Int64,
            ColumnType::Float => DataType::Float64,
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Time => timestamp(),
        }
    }

    /// Its name in lists: one of those that [`ColumnType::named`] knows.
    pub fn name(self) -> &'static str {
        crate::output::type_name(&self.data_type())
    }

    /// Its name in errors: PostgreSQL's.
    fn long_name(self) -> &'static str {
        match self {
            ColumnType::Text => "text",
            ColumnType::Integer => "bigint",
            ColumnType::Float => "double precision",
            ColumnType::Bool => "boolean",
            ColumnType::Time => "timestamp with time zone",
        }
    }
}

/// The time that a text names: RFC 3339, or as PostgreSQL prints times. Without a zone it is UTC.
pub(super) fn time(text: &str) -> Option<TimeMs> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    // `+00` is how PostgreSQL writes the zone, which chrono reads with minutes only.
    let zoned = format!("{text}:00");
    for form in ["%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f %:z"] {
        for text in [text, zoned.as_str()] {
            if let Ok(time) = DateTime::parse_from_str(text, form) {
                return Some(time.timestamp_millis());
            }
        }
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, form) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "on" | "yes" | "y" | "1" => Some(true),
        "f" | "false" | "off" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A column that is being filled from texts.
pub(super) enum ColumnBuilder {
    Text(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Time(TimestampMillisecondBuilder),
}

impl ColumnBuilder {
    pub(super) fn new(kind: ColumnType) -> ColumnBuilder {
        match kind {
            ColumnType::Text => ColumnBuilder::Text(StringBuilder::new()),
            ColumnType::Integer => ColumnBuilder::Integer(Int64Builder::new()),
            ColumnType::Float => ColumnBuilder::Float(Float64Builder::new()),
            ColumnType::Bool => ColumnBuilder::Bool(BooleanBuilder::new()),
            ColumnType::Time => ColumnBuilder::Time(
                TimestampMillisecondBuilder::new().with_data_type(ColumnType::Time.data_type()),
            ),
        }
    }

    fn kind(&self) -> ColumnType {
        match self {
            ColumnBuilder::Text(_) => ColumnType::Text,
            ColumnBuilder::Integer(_) => ColumnType::Integer,
            ColumnBuilder::Float(_) => ColumnType::Float,
            ColumnBuilder::Bool(_) => ColumnType::Bool,
            ColumnBuilder::Time(_) => ColumnType::Time,
        }
    }

    /// Adds a value; `None`: NULL.
    ///
    /// # Errors
    ///
    /// If the text is no value of the type. Nothing is added then.
    pub(super) fn add(&mut self, text: Option<&str>) -> Result<(), SqlError> {
        let kind = self.kind();
        let refused = |text: &str| {
            let shown: String = text.chars().take(60).collect();
            SqlError::bad(format!("invalid input syntax for type {}: \"{shown}\"", kind.long_name()))
        };
        let Some(text) = text else {
            self.add_null();
            return Ok(());
        };
        match self {
            ColumnBuilder::Text(builder) => builder.append_value(text),
            ColumnBuilder::Integer(builder) => {
                builder.append_value(text.trim().parse().map_err(|_| refused(text))?);
            }
            ColumnBuilder::Float(builder) => {
                builder.append_value(text.trim().parse().map_err(|_| refused(text))?);
            }
            ColumnBuilder::Bool(builder) => builder.append_value(truth(text).ok_or_else(|| refused(text))?),
            ColumnBuilder::Time(builder) => builder.append_value(time(text).ok_or_else(|| refused(text))?),
        }
        Ok(())
    }

    fn add_null(&mut self) {
        match self {
            ColumnBuilder::Text(builder) => builder.append_null(),
            ColumnBuilder::Integer(builder) => builder.append_null(),
            ColumnBuilder::Float(builder) => builder.append_null(),
            ColumnBuilder::Bool(builder) => builder.append_null(),
            ColumnBuilder::Time(builder) => builder.append_null(),
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Text(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Integer(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Float(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Bool(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Time(builder) => Arc::new(builder.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_forms_that_clients_write() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02 03:04:05+00",
            "2026-01-02 03:04:05.000+00:00",
            "2026-01-02 03:04:05 +00:00",
            "2026-01-02 05:04:05+02",
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05",
        ] {
            assert_eq!(time(text), Some(1_767_323_045_000), "{text}");
        }
        assert_eq!(time("2026-01-02"), Some(1_767_312_000_000));
        assert_eq!(time("yesterday"), None);
    }
}
