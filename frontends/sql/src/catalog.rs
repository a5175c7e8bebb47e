//! Lists the relations that a statement can read, with their columns and types.
//!
//! For `pg_catalog` and `information_schema` ([`super::relations`] has the same relations for
//! queries), and for the completion of an editor.

use super::SqlEngine;
use super::error::SqlError;
use super::functions;
use super::limits;
use super::output::type_name;
use super::planner;
use super::relations::META;
use super::session::SqlRequest;
use super::tables::TableColumn;
use engine::query::QueryOptions;
use storage::model::TimeMs;
use storage::model::labels::METRIC_NAME;

/// What a relation is to PostgreSQL's clients.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// A metric, its samples, a list of the server, a table of people.
    Table,
    /// A query with a name.
    View,
    /// A query with a name that is kept current.
    MaterializedView,
}

/// A relation that statements can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRelation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedColumn {
    /// Its name.
    pub name: String,
    /// The name that PostgreSQL has for its type, such as `float8`.
    pub kind: &'static str,
    /// Whether it may be NULL.
    pub is_nullable: bool,
}

/// A table of people: what the catalogs say of it besides its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTable {
    /// Its name.
    pub name: String,
    /// The number of its rows.
    pub rows: usize,
    /// The columns of its primary key, in the order of the key; none: it has no key.
    pub key: Vec<KeyColumn>,
}

/// A column of a primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// The number that it has in its table, from 1.
    pub number: i64,
}

impl SqlEngine {
    /// The tables of people.
    pub fn listed_tables(&self) -> Vec<ListedTable> {
        let tables = &self.sources.tables;
        let listed = |name: String| {
            let table = tables.table(&name)?;
            Some(ListedTable { rows: table.batch().num_rows(), key: table.key(), name })
        };
        tables.names().into_iter().filter_map(listed).collect()
    }

    /// All relations that had samples in the day before `now`, and those of the server. May block.
    pub fn listed_relations(&self, now: TimeMs) -> Result<Vec<ListedRelation>, SqlError> {
        let from = now - limits::COLUMNS_WINDOW_MS;
        let metrics = self.sources.catalog.label_values(METRIC_NAME, &[], from, TimeMs::MAX)?;
        let listed = |schema: &str, name: &str| ListedRelation {
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: RelationKind::Table,
        };
        let mut all: Vec<ListedRelation> = META.iter().map(|table| listed("meta", table.name)).collect();
        all.extend(self.sources.tables.names().iter().map(|name| listed("public", name)));
        let view =
            |name: String| ListedRelation { schema: "public".to_owned(), name, kind: RelationKind::View };
        all.extend(self.sources.tables.view_names().into_iter().map(view));
        for schema in ["metrics", "samples"] {
            all.extend(metrics.iter().map(|name| listed(schema, name)));
        }
        Ok(all)
    }

    /// The columns of a relation; none if there is no such relation. May block.
    pub fn listed_columns(
        &self,
        schema: &str,
        name: &str,
        now: TimeMs,
    ) -> Result<Vec<ListedColumn>, SqlError> {
        if let Some(table) = self.sources.tables.table(name).filter(|_| schema == "public") {
            let column = |column: TableColumn| ListedColumn {
                name: column.name,
                kind: column.kind,
                is_nullable: !column.is_key,
            };
            return Ok(table.columns().into_iter().map(column).collect());
        }
        let request = SqlRequest { time: now, ..SqlRequest::default() };
        let context = self.context(&request, &QueryOptions::default());
        if schema == "public"
            && let Some(columns) = self.view_columns(name, &context)
        {
            let column = |field: &datafusion::arrow::datatypes::FieldRef| ListedColumn {
                name: field.name().clone(),
                kind: type_name(field.data_type()),
                is_nullable: true,
            };
            return Ok(columns.fields().iter().map(column).collect());
        }
        let Ok(relation) = planner::relation_named(self, &context, schema, name) else {
            return Ok(Vec::new());
        };
        Ok(relation.listed_columns(type_name))
    }

    /// The names of the functions of PromQL that statements may call, in order.
    pub fn function_names(&self) -> Vec<String> {
        functions::of_columns().into_iter().collect()
    }
}
