//! [`RowTemplate`]: an empty row of a table of the catalogs, and where its columns are.

use super::tables::{CatalogTable, PG_CATALOG};
use super::value::Value;
use postgres_types::Type;
use std::collections::HashMap;

/// Where the columns of a table are in its rows.
pub(super) struct RowTemplate {
    empty: Vec<Value>,
    places: HashMap<&'static str, usize>,
}

impl RowTemplate {
    pub(super) fn new(table: &CatalogTable) -> RowTemplate {
        let default = |kind: &Type| match *kind {
            Type::BOOL => Value::Bool(false),
            Type::OID | Type::INT2 | Type::INT4 | Type::INT8 => Value::Int(0),
            Type::FLOAT4 => Value::Float(0.0),
            Type::CHAR => Value::text(""),
            _ => Value::Null,
        };
        RowTemplate {
            // The lengths of information_schema are unknown where they are 0.
            empty: match table.schema {
                PG_CATALOG => table.columns.iter().map(|column| default(&column.kind)).collect(),
                _ => vec![Value::Null; table.columns.len()],
            },
            places: table.columns.iter().enumerate().map(|(at, column)| (column.name, at)).collect(),
        }
    }

    /// A row with these values; the others are empty. Names that the table lacks are left out.
    pub(super) fn row(&self, values: &[(&str, Value)]) -> Vec<Value> {
        let mut row = self.empty.clone();
        for (name, value) in values {
            self.set(&mut row, name, value.clone());
        }
        row
    }

    pub(super) fn set(&self, row: &mut [Value], name: &str, value: Value) {
        if let Some(at) = self.places.get(name) {
            row[*at] = value;
        }
    }
}
