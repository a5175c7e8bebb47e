//! The primary keys of tables, as the catalogs show them: an index in `pg_class` and `pg_index`, a
//! constraint in `pg_constraint` and `information_schema`. Nothing else here has an index or a
//! constraint.

use super::row_template::RowTemplate;
use super::rows::{DATABASE, schema_oid};
use super::value::Value;
use sql::catalog::{KeyColumn, ListedTable};
use std::fmt::Write;

/// The schema of all tables that may have keys.
const SCHEMA: &str = "public";
/// `pg_am.oid` of `btree`.
pub(super) const BTREE: i64 = 403;

/// The primary key of a table, with its object identifiers.
#[derive(Debug)]
pub(super) struct PrimaryKey {
    /// The name of the index and of the constraint.
    pub(super) name: String,
    /// The object identifier of the index.
    pub(super) index: i64,
    /// The object identifier of the constraint.
    pub(super) constraint: i64,
    /// The table, by object identifier and name.
    pub(super) table: i64,
    table_name: String,
    pub(super) columns: Vec<KeyColumn>,
}

impl PrimaryKey {
    /// The name of the index of the key of a table.
    pub(super) fn index_name(table: &str) -> String {
        format!("{table}_pkey")
    }

    pub(super) fn new(listed: ListedTable, table: i64, index: i64, constraint: i64) -> PrimaryKey {
        let name = PrimaryKey::index_name(&listed.name);
        PrimaryKey { name, index, constraint, table, table_name: listed.name, columns: listed.key }
    }

    /// The numbers of its columns.
    fn numbers(&self) -> Value {
        Value::List(self.columns.iter().map(|column| Value::Int(column.number)).collect())
    }

    /// As many zeros as it has columns.
    fn zeros(&self) -> Value {
        Value::List(self.columns.iter().map(|_| Value::Int(0)).collect())
    }

    fn column_names(&self) -> String {
        let mut text = String::new();
        for (at, column) in self.columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{}", super::functions::quoted_name(&column.name));
        }
        text
    }

    /// What `pg_get_constraintdef` says.
    pub(super) fn constraint_text(&self) -> String {
        format!("PRIMARY KEY ({})", self.column_names())
    }

    /// What `pg_get_indexdef` says.
    pub(super) fn index_text(&self) -> String {
        let name = super::functions::quoted_name(&self.name);
        let table = super::functions::quoted_name(&self.table_name);
        format!("CREATE UNIQUE INDEX {name} ON {SCHEMA}.{table} USING btree ({})", self.column_names())
    }

    /// The row of `pg_index`.
    pub(super) fn index_row(&self, template: &RowTemplate) -> Vec<Value> {
        let count = Value::Int(self.columns.len() as i64);
        let yes = Value::Bool(true);
        template.row(&[
            ("indexrelid", Value::Int(self.index)),
            ("indrelid", Value::Int(self.table)),
            ("indnatts", count.clone()),
            ("indnkeyatts", count),
            ("indisunique", yes.clone()),
            ("indisprimary", yes.clone()),
            ("indimmediate", yes.clone()),
            ("indisvalid", yes.clone()),
            ("indisready", yes.clone()),
            ("indislive", yes),
            ("indkey", self.numbers()),
            ("indcollation", self.zeros()),
            ("indclass", self.zeros()),
            ("indoption", self.zeros()),
        ])
    }

    /// The row of `pg_constraint`.
    pub(super) fn constraint_row(&self, template: &RowTemplate) -> Vec<Value> {
        let yes = Value::Bool(true);
        template.row(&[
            ("oid", Value::Int(self.constraint)),
            ("conname", Value::text(&self.name)),
            ("connamespace", Value::Int(schema_oid(SCHEMA))),
            ("contype", Value::text("p")),
            ("convalidated", yes.clone()),
            ("conrelid", Value::Int(self.table)),
            ("conindid", Value::Int(self.index)),
            ("confupdtype", Value::text(" ")),
            ("confdeltype", Value::text(" ")),
            ("confmatchtype", Value::text(" ")),
            ("conislocal", yes.clone()),
            ("connoinherit", yes),
            ("conkey", self.numbers()),
        ])
    }

    /// The row of `pg_indexes`.
    pub(super) fn indexes_row(&self, template: &RowTemplate) -> Vec<Value> {
        template.row(&[
            ("schemaname", Value::text(SCHEMA)),
            ("tablename", Value::text(&self.table_name)),
            ("indexname", Value::text(&self.name)),
            ("indexdef", Value::text(&self.index_text())),
        ])
    }

    /// The row of `information_schema.table_constraints`.
    pub(super) fn table_constraint_row(&self, template: &RowTemplate) -> Vec<Value> {
        let mut row = template.row(&self.names());
        for (column, value) in [
            ("constraint_type", "PRIMARY KEY"),
            ("is_deferrable", "NO"),
            ("initially_deferred", "NO"),
            ("enforced", "YES"),
        ] {
            template.set(&mut row, column, Value::text(value));
        }
        row
    }

    /// The rows of `key_column_usage` and `constraint_column_usage`, one for each column.
    pub(super) fn column_rows(&self, template: &RowTemplate) -> Vec<Vec<Value>> {
        let row = |(at, column): (usize, &KeyColumn)| {
            let mut row = template.row(&self.names());
            template.set(&mut row, "column_name", Value::text(&column.name));
            template.set(&mut row, "ordinal_position", Value::Int(at as i64 + 1));
            row
        };
        self.columns.iter().enumerate().map(row).collect()
    }

    /// The names that all of these tables have.
    fn names(&self) -> [(&'static str, Value); 6] {
        [
            ("constraint_catalog", Value::text(DATABASE)),
            ("constraint_schema", Value::text(SCHEMA)),
            ("constraint_name", Value::text(&self.name)),
            ("table_catalog", Value::text(DATABASE)),
            ("table_schema", Value::text(SCHEMA)),
            ("table_name", Value::text(&self.table_name)),
        ]
    }
}
