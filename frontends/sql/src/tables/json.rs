//! Parses uploaded tables in JSON (a list of objects) and NDJSON (an object in each line).
//!
//! Each object is a row. The columns are all keys, in the order in which they first occur. A row is
//! counted against the limits as soon as it is parsed, so that a text beyond a limit is refused
//! before all of it is in memory.

use super::{Texts, over};
use crate::error::SqlError;
use crate::limits;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// The table of a list of objects.
pub(super) fn list(text: &str) -> Result<Texts, SqlError> {
    let mut rows = RowCollector::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = (&mut rows).deserialize(&mut reader).and_then(|()| reader.end());
    match rows.refused {
        Some(error) => Err(error),
        None => {
            read.map_err(|e| SqlError::bad(format!("no list of objects in JSON: {e}")))?;
            Ok(rows.texts)
        }
    }
}

/// The table of lines with an object each; empty lines are skipped.
pub(super) fn lines(text: &str) -> Result<Texts, SqlError> {
    let mut rows = RowCollector::default();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: JsonRow =
            serde_json::from_str(line).map_err(|e| SqlError::bad(format!("line {}: {e}", at + 1)))?;
        rows.add(row)?;
    }
    Ok(rows.texts)
}

/// The rows so far.
#[derive(Default)]
struct RowCollector {
    texts: Texts,
    columns: BTreeMap<String, usize>,
    fields: usize,
    /// Why reading stopped, if that was not the fault of the JSON.
    refused: Option<SqlError>,
}

impl RowCollector {
    fn add(&mut self, object: JsonRow) -> Result<(), SqlError> {
        if self.texts.rows.len() == limits::TABLE_ROWS {
            return Err(over(limits::TABLE_ROWS, "rows"));
        }
        let mut row = vec![None; self.texts.names.len()];
        for (name, field) in object.0 {
            let column = match self.columns.get(&name) {
                Some(column) => *column,
                None => self.add_column(name, &mut row)?,
            };
            row[column] = field.0;
        }
        self.fields += row.len();
        if self.fields > limits::TABLE_FIELDS {
            return Err(over(limits::TABLE_FIELDS, "fields"));
        }
        self.texts.rows.push(row);
        Ok(())
    }

    fn add_column(&mut self, name: String, row: &mut Vec<Option<String>>) -> Result<usize, SqlError> {
        let column = self.texts.names.len();
        if column == limits::TABLE_COLUMNS {
            return Err(over(limits::TABLE_COLUMNS, "columns"));
        }
        self.columns.insert(name.clone(), column);
        self.texts.names.push(name);
        row.push(None);
        Ok(column)
    }
}

impl<'de> DeserializeSeed<'de> for &mut RowCollector {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut RowCollector {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(row) = list.next_element()? {
            if let Err(error) = self.add(row) {
                let text = error.to_string();
                self.refused = Some(error);
                return Err(A::Error::custom(text));
            }
        }
        Ok(())
    }
}

/// The fields of an object, in its order.
struct JsonRow(Vec<(String, JsonField)>);

impl<'de> Deserialize<'de> for JsonRow {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<JsonRow, D::Error> {
        json.deserialize_map(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = JsonRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<JsonRow, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = object.next_entry()? {
            // One more is let through: it may be a name that occurs twice.
            if fields.len() > limits::TABLE_COLUMNS {
                return Err(A::Error::custom(over(limits::TABLE_COLUMNS, "columns").text));
            }
            fields.push(field);
        }
        Ok(JsonRow(fields))
    }
}

/// The value of a field as text; `None`: null.
struct JsonField(Option<String>);

impl<'de> Deserialize<'de> for JsonField {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<JsonField, D::Error> {
        json.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl Visitor<'_> for FieldVisitor {
    type Value = JsonField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true, false or null")
    }

    fn visit_unit<E: Error>(self) -> Result<JsonField, E> {
        Ok(JsonField(None))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<JsonField, E> {
        Ok(JsonField(Some(text.to_owned())))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<JsonField, E> {
        Ok(JsonField(Some(value.to_string())))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<JsonField, E> {
        Ok(JsonField(Some(value.to_string())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<JsonField, E> {
        Ok(JsonField(Some(value.to_string())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<JsonField, E> {
        Ok(JsonField(Some(Value::from(value).to_string())))
    }
}
