//! Makes a subscription's view of a SQL statement: plan, columns and the form of its rows
//! ([`sql::standing`]).

use crate::AppState;
use crate::response::{ApiError, ErrorType};
use crate::subscribe::server_message::RowFormat;
use ::sql::standing::{StandingClass, StandingRows};
use engine::plan::Plan;
use engine::query::QueryError;
use engine::types::histogram_column::Sample;
use serde_json::json;
use std::sync::Arc;
use storage::model::Labels;

/// The plan of a standing statement, and the form of its rows.
pub(crate) async fn rows(state: &AppState, text: &str) -> Result<(Plan, Arc<dyn RowFormat>), ApiError> {
    let engine = state.sql_engine();
    let statement = text.to_owned();
    let rows = state.blocking(move || engine.standing_rows(&statement)).await;
    let rows = rows.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    let rows = rows.map_err(|e| ApiError::from(QueryError::from(e)))?;
    Ok((rows.plan.clone(), Arc::new(rows)))
}

impl RowFormat for StandingRows {
    fn describe(&self) -> String {
        let columns: Vec<serde_json::Value> =
            self.columns.iter().map(|column| json!({ "name": column.name, "type": column.kind })).collect();
        let mut fields = vec![format!("\"columns\":{}", json!(columns))];
        match &self.class {
            StandingClass::Plan(promql) => {
                fields.push(format!("\"class\":\"plan\",\"promql\":{}", json!(promql)));
            }
            StandingClass::Dataflow(kept) => {
                fields.push(format!("\"class\":\"dataflow\",\"keeps\":{}", json!(kept)));
            }
            StandingClass::RunsAgain(why) => {
                fields.push(format!("\"class\":\"run_again\",\"why\":{}", json!(why)));
            }
        }
        if !self.warnings.is_empty() {
            fields.push(format!("\"warnings\":{}", json!(self.warnings)));
        }
        fields.join(",")
    }

    fn row(&self, labels: &Labels, sample: &Sample) -> (String, i64) {
        StandingRows::row(self, labels, sample)
    }

    fn over_nothing(&self) -> Option<&str> {
        StandingRows::over_nothing(self)
    }
}
