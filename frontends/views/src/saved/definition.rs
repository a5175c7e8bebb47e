//! The definition of a saved query: a view that a user has created by name through the API.
//! [`super`] has all saved queries.

use crate::limits::{STANDING_INTERVAL, STANDING_LABEL_BYTES, STANDING_LABELS, STANDING_QUERY_BYTES};
use engine::live::ViewKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use storage::model::labels::METRIC_NAME;

/// A saved query without its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedQueryDefinition {
    /// Text of the query.
    pub query: String,
    /// The language of the text.
    pub lang: Language,
    /// How its answers are recorded; `None`: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordOptions>,
}

/// The language of an expression.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// PromQL.
    #[default]
    Promql,
    /// SQL.
    Sql,
}

/// How answers are recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordOptions {
    /// The metric name of the recorded series.
    pub record: String,
    /// Labels set on them; an empty value removes a label.
    pub labels: BTreeMap<String, String>,
    /// Time between samples, in ms.
    pub interval: i64,
}

/// What is wrong with a definition; clients see the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// There is no expression.
    #[error("`query` must not be empty")]
    EmptyQuery,
    /// The expression is too long.
    #[error("`query` must not have more than {STANDING_QUERY_BYTES} bytes")]
    LongQuery,
    /// The name of the recorded series.
    #[error("`record` must be a metric name without braces, of 1 to {STANDING_LABEL_BYTES} bytes")]
    Record,
    /// There are too many labels.
    #[error("`labels` must not have more than {STANDING_LABELS} entries")]
    LabelCount,
    /// The name of a label is empty, or the one that holds the metric name.
    #[error("invalid label name: {0:?}")]
    LabelName(String),
    /// The name or value of a label is too long.
    #[error("names and values of `labels` must not exceed {STANDING_LABEL_BYTES} bytes")]
    LongLabel,
    /// The time between samples is too short or too long.
    #[error(
        "`interval` must be from {} ms to {} days",
        STANDING_INTERVAL.start(),
        STANDING_INTERVAL.end() / 86_400_000
    )]
    Interval,
}

impl SavedQueryDefinition {
    /// Validates everything but the query itself.
    pub fn check(&self) -> Result<(), DefinitionError> {
        if self.query.trim().is_empty() {
            return Err(DefinitionError::EmptyQuery);
        }
        if self.query.len() > STANDING_QUERY_BYTES {
            return Err(DefinitionError::LongQuery);
        }
        self.recording.as_ref().map_or(Ok(()), RecordOptions::check)
    }

    /// Whether its rows are those of a statement, of any columns; otherwise they are samples.
    pub fn has_cells(&self) -> bool {
        self.lang == Language::Sql && self.recording.is_none()
    }

    /// The kind of its view.
    pub fn kind(&self) -> ViewKind {
        match &self.recording {
            None => ViewKind::NOW,
            Some(recording) => ViewKind::Recorded {
                record: recording.record.clone(),
                labels: recording.labels.clone().into_iter().collect(),
                interval: recording.interval,
                offset: 0,
                query_offset: 0,
                limit: 0,
            },
        }
    }
}

impl RecordOptions {
    fn check(&self) -> Result<(), DefinitionError> {
        let short = |text: &str| text.len() <= STANDING_LABEL_BYTES;
        if self.record.is_empty() || self.record.contains(['{', '}']) || !short(&self.record) {
            return Err(DefinitionError::Record);
        }
        if self.labels.len() > STANDING_LABELS {
            return Err(DefinitionError::LabelCount);
        }
        for (name, value) in &self.labels {
            if name.is_empty() || name == METRIC_NAME {
                return Err(DefinitionError::LabelName(name.clone()));
            }
            if !short(name) || !short(value) {
                return Err(DefinitionError::LongLabel);
            }
        }
        if STANDING_INTERVAL.contains(&self.interval) { Ok(()) } else { Err(DefinitionError::Interval) }
    }
}
