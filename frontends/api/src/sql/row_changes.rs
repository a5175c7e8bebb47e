//! Changes of a subscription to a SQL statement as rows, for the PostgreSQL wire. They are read
//! back from the JSON messages of [`super::super::subscribe`], so that both protocols have the
//! same.

use crate::AppState;
use crate::response::{ApiError, ErrorType};
use crate::subscribe::client_message::SubscribeRequest;
use crate::subscribe::server_message::ServerMessage;
use crate::subscribe::subscription::Subscription;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::model::TimeMs;

/// How often a wait looks whether it is canceled.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A row that was inserted or deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// The time of the tick.
    pub t: TimeMs,
    /// How many equal rows came; negative: went.
    pub diff: i64,
    /// The cells by the names of their columns.
    pub row: Map<String, Value>,
}

/// The rows of a statement, and then what changes in them.
pub struct RowChanges {
    subscription: Subscription,
    ready: VecDeque<RowChange>,
    has_snapshot: bool,
    warnings: Vec<String>,
    cancel: Arc<AtomicBool>,
}

/// What is read of an error of the subscription.
#[derive(Deserialize)]
struct ErrorText {
    error: String,
    /// It is one of the evaluation at this time, and the next one may succeed.
    t: Option<f64>,
}

/// Rows of a snapshot, or those that changed.
#[derive(Deserialize)]
struct Rows {
    t: f64,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    row: Map<String, Value>,
    diff: i64,
}

impl RowChanges {
    pub(super) async fn open(
        state: &AppState,
        query: String,
        cancel: Arc<AtomicBool>,
    ) -> Result<RowChanges, ApiError> {
        let request = SubscribeRequest::from_statement(query);
        let subscription = Subscription::open(state, request, Arc::default(), None).await?;
        Ok(RowChanges {
            subscription,
            ready: VecDeque::new(),
            has_snapshot: false,
            warnings: Vec::new(),
            cancel,
        })
    }

    /// Whether [`RowChanges::take`] has a row.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next row, if one is ready.
    pub fn take(&mut self) -> Option<RowChange> {
        self.ready.pop_front()
    }

    /// Waits until there is a row for [`RowChanges::take`]; false: the subscription has ended.
    /// Returns also when there are warnings.
    pub async fn wait(&mut self) -> Result<bool, ApiError> {
        let wakeup = self.subscription.wakeup();
        loop {
            if !self.ready.is_empty() || !self.warnings.is_empty() {
                return Ok(true);
            }
            if self.cancel.load(Ordering::Relaxed) {
                return Err(ApiError::new(ErrorType::Canceled, "canceling statement due to user request"));
            }
            if let Some(outgoing) = self.subscription.next().await {
                self.read(&outgoing.message)?;
                continue;
            }
            if self.subscription.has_ended() {
                return Ok(false);
            }
            // Only this wait may end early: a message that is being made would be lost.
            drop(tokio::time::timeout(LOOK_EVERY, wakeup.notified()).await);
        }
    }

    /// What evaluations have failed with since the call before.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn read(&mut self, message: &ServerMessage) -> Result<(), ApiError> {
        match message.event {
            "snapshot" if std::mem::replace(&mut self.has_snapshot, true) => {
                let why = "the client read too slowly, and changes are lost: subscribe again";
                Err(ApiError::new(ErrorType::UnavailableNow, why))
            }
            "snapshot" | "delta" => {
                let rows: Rows = content(message)?;
                let t = (rows.t * 1_000.0).round() as TimeMs;
                let change = |row: Row| RowChange { t, diff: row.diff, row: row.row };
                self.ready.extend(rows.rows.into_iter().map(change));
                Ok(())
            }
            "error" => {
                let ErrorText { error, t } = content(message)?;
                if t.is_none() {
                    return Err(ApiError::new(ErrorType::Execution, error));
                }
                self.warnings.push(error);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What is under the only key of a message.
fn content<T: DeserializeOwned>(message: &ServerMessage) -> Result<T, ApiError> {
    let broken = |why: String| ApiError::new(ErrorType::Internal, why);
    let all: BTreeMap<String, T> = serde_json::from_str(&message.json).map_err(|e| broken(e.to_string()))?;
    all.into_values().next().ok_or_else(|| broken("a message without content".to_owned()))
}
