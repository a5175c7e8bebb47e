//! The schema `meta`: what the server knows about its series, targets, rules, alerts and views, as
//! tables.
//!
//! [`META`] has one entry for each table, with its columns. The rows come from [`MetaSource`] as
//! JSON objects with the same names. Lists of series come from the series catalog instead
//! ([`super::series_list`]).

use crate::error::{SqlError, SqlErrorKind};
use datafusion::arrow::datatypes::DataType;
use serde_json::{Map, Value};
use std::sync::{Arc, OnceLock, Weak};

/// A row of a list: its columns by their names.
pub type MetaRow = Map<String, Value>;

/// Gives the rows of lists of the server.
///
/// # Contract
///
/// 1. Keys of a row that are no columns of [`META`] are ignored; a column without a key is NULL.
/// 2. Two calls without a change in between return equal rows: standing statements compare them.
///    The order of the rows does not matter.
/// 3. A list that cannot be read is an error, never an empty list.
pub trait MetaSource: Send + Sync {
    /// The rows of relation `name`, with its columns by their names. A column that is missing is
    /// NULL. May block.
    fn rows(&self, name: &str) -> Result<Vec<MetaRow>, SqlError>;
}

/// A [`MetaSource`] that is connected after the engine was built. The lists may end before the
/// engine.
#[derive(Default)]
pub struct LateLists(OnceLock<Weak<dyn MetaSource>>);

impl LateLists {
    /// Connects the lists. Only the first call has an effect.
    pub fn connect(&self, lists: &Arc<dyn MetaSource>) {
        let _ = self.0.set(Arc::downgrade(lists));
    }
}

impl MetaSource for LateLists {
    fn rows(&self, name: &str) -> Result<Vec<MetaRow>, SqlError> {
        match self.0.get().and_then(Weak::upgrade) {
            Some(lists) => lists.rows(name),
            None => {
                let error = format!("meta.{name} cannot be read while the server starts or stops");
                Err(SqlError::new(SqlErrorKind::Unavailable, error))
            }
        }
    }
}

/// The type of a column.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MetaKind {
    /// A text; objects as JSON.
    Text,
    /// A number.
    Float,
    /// A whole number.
    Integer,
    /// Yes or no.
    Bool,
    /// A time: ms since 1970, or a text in RFC 3339.
    Time,
}

impl MetaKind {
    pub(crate) fn data_type(self) -> DataType {
        match self {
            // Plain `Utf8`, not a dictionary: these relations have few rows, and clients need no
            // conversion.
            MetaKind::Text => DataType::Utf8,
            MetaKind::Float => DataType::Float64,
            MetaKind::Integer => DataType::Int64,
            MetaKind::Bool => DataType::Boolean,
            MetaKind::Time => super::timestamp(),
        }
    }
}

/// A column.
#[derive(Debug)]
pub struct MetaColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: MetaKind,
}

/// A relation.
#[derive(Debug)]
pub struct MetaTable {
    /// Its name in the schema `meta`.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [MetaColumn],
    /// Whether rows have labels, each of which is a column if a statement names it.
    pub is_open: bool,
    /// Whether rows are series. A condition on `metric` is then passed to the store.
    pub lists_series: bool,
    /// Whether little changes in the list and reading it does not delay a tick. A standing
    /// statement over such lists is a dataflow.
    pub is_quiet: bool,
}

const fn column(name: &'static str, kind: MetaKind) -> MetaColumn {
    MetaColumn { name, kind }
}

const fn list(name: &'static str, columns: &'static [MetaColumn]) -> MetaTable {
    MetaTable { name, columns, is_open: false, lists_series: false, is_quiet: true }
}

use MetaKind::{Bool, Float, Integer, Text, Time};

/// All relations of `meta`.
pub static META: &[MetaTable] = &[
    MetaTable {
        lists_series: true,
        ..list(
            "series",
            &[
                column("series", Integer),
                column("metric", Text),
                column("labels", Text),
                column("first_ts", Time),
                column("last_ts", Time),
            ],
        )
    },
    MetaTable {
        lists_series: true,
        ..list(
            "label_pairs",
            &[column("series", Integer), column("metric", Text), column("name", Text), column("value", Text)],
        )
    },
    MetaTable {
        lists_series: true,
        is_open: true,
        is_quiet: false,
        ..list(
            "exemplars",
            &[
                column("ts", Time),
                column("metric", Text),
                column("value", Float),
                column("trace_id", Text),
                column("labels", Text),
                column("exemplar_labels", Text),
            ],
        )
    },
    list(
        "metadata",
        &[
            column("metric", Text),
            column("type", Text),
            column("unit", Text),
            column("help", Text),
            column("job", Text),
            column("instance", Text),
        ],
    ),
    MetaTable {
        is_open: true,
        ..list(
            "targets",
            &[
                column("pool", Text),
                column("job", Text),
                column("instance", Text),
                column("url", Text),
                column("health", Text),
                column("last_error", Text),
                column("last_scrape", Time),
                column("last_scrape_seconds", Float),
                column("interval", Text),
                column("timeout", Text),
                column("labels", Text),
                column("discovered_labels", Text),
            ],
        )
    },
    list("dropped_targets", &[column("pool", Text), column("discovered_labels", Text)]),
    list(
        "rules",
        &[
            column("file", Text),
            column("group", Text),
            column("name", Text),
            column("kind", Text),
            column("query", Text),
            column("labels", Text),
            column("annotations", Text),
            column("for_seconds", Float),
            column("health", Text),
            column("last_error", Text),
            column("evaluation_seconds", Float),
            column("last_evaluation", Time),
        ],
    ),
    MetaTable {
        is_open: true,
        ..list(
            "alerts",
            &[
                column("alertname", Text),
                column("state", Text),
                column("active_at", Time),
                column("value", Float),
                column("labels", Text),
                column("annotations", Text),
                column("rule", Text),
            ],
        )
    },
    MetaTable {
        is_open: true,
        ..list(
            "alert_history",
            &[
                column("ts", Time),
                column("alertname", Text),
                column("state", Text),
                column("from_ts", Time),
                column("to_ts", Time),
                column("fingerprint", Text),
                column("file", Text),
                column("group", Text),
                column("rule", Text),
                column("from", Text),
                column("to", Text),
                column("reason", Text),
                column("value", Float),
                column("labels", Text),
                column("cause", Text),
                column("sent", Text),
            ],
        )
    },
    list(
        "uses",
        &[column("metric", Text), column("kind", Text), column("name", Text), column("matchers", Text)],
    ),
    MetaTable {
        is_quiet: false,
        ..list(
            "views",
            &[
                column("id", Text),
                column("name", Text),
                column("query", Text),
                column("taps", Integer),
                column("rows", Integer),
                column("last_change", Time),
                column("frontier", Time),
                column("last_error", Text),
                column("steps", Integer),
                column("shared_steps", Integer),
                column("state_bytes", Integer),
                column("recorded", Bool),
            ],
        )
    },
    // Each read differs, because the query that reads is one of the rows.
    MetaTable {
        is_quiet: false,
        ..list(
            "queries",
            &[
                column("id", Text),
                column("kind", Text),
                column("query", Text),
                column("client", Text),
                column("since", Time),
                column("elapsed_seconds", Float),
                column("state", Text),
                column("samples", Integer),
                column("limit_samples", Integer),
            ],
        )
    },
    list("flags", &[column("name", Text), column("value", Text)]),
];
