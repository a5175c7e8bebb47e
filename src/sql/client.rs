//! [`SqlClient`]: sends statements to a server (`/api/v1/sql`), and follows the changes of one
//! (`\watch`). [`super`] and [`super::terminal`] use it.

use super::Failure;
use super::shown::{Shape, table};
use super::unusable;
use crate::server_client::{AskError, ServerClient};
use reqwest::{Method, Response};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;
use url::Url;

/// Timeout of a statement: longer than the server's own limit, so that its error arrives.
const PATIENCE: Duration = Duration::from_secs(300);
/// Timeout of a list for completion: the user is typing meanwhile.
const LIST_PATIENCE: Duration = Duration::from_secs(2);

/// A server that answers statements.
pub(super) struct SqlClient {
    client: ServerClient,
    /// Its URL, without a slash at the end.
    server: String,
    /// The time of `now()`, as the user wrote it; `None`: the current one.
    time: Option<String>,
}

impl SqlClient {
    pub(super) fn new(client: ServerClient, server: String, time: Option<String>) -> SqlClient {
        SqlClient { client, server, time }
    }

    /// The URL of the server.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    fn url(&self) -> String {
        format!("{}/api/v1/sql", self.server)
    }

    fn failed(&self, error: &AskError) -> Failure {
        unusable(format!("{} cannot be asked: {error}", self.url()))
    }

    /// The error of a connection that broke in an answer.
    pub(super) fn broken(&self, error: reqwest::Error) -> Failure {
        self.failed(&error.into())
    }

    /// Sends a statement, and returns its answer in a format.
    pub(super) async fn ask(&self, statement: &str, format: &str) -> Result<Response, Failure> {
        let mut body = serde_json::json!({ "sql": statement, "format": format });
        if let Some(time) = &self.time {
            body["time"] = Value::from(time.as_str());
        }
        let request = self.client.request(Method::POST, &self.url()).map_err(|e| self.failed(&e))?;
        let request = request.timeout(PATIENCE).header("content-type", "application/json");
        let response = self.client.send(request.body(body.to_string())).await;
        self.answered(response.map_err(|e| self.failed(&e))?).await
    }

    /// The answer of a statement in JSON.
    pub(super) async fn json(&self, statement: &str) -> Result<Value, Failure> {
        let response = self.ask(statement, "json").await?;
        let bytes = response.bytes().await.map_err(|e| self.broken(e))?;
        serde_json::from_slice(&bytes).map_err(|e| unusable(format!("{} answered no JSON: {e}", self.url())))
    }

    /// The response, unless it is an error.
    async fn answered(&self, response: Response) -> Result<Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(|e| self.broken(e))?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match answer["error"].as_str() {
            Some(why) => Err(Failure { text: why.to_owned(), code: 1 }),
            None => {
                let url = self.url();
                Err(unusable(format!("{url} answered {status}: is it a Perennial server with SQL?")))
            }
        }
    }

    /// A list of the API, such as `/api/v1/labels`, as texts; empty if there is none in time.
    pub(super) async fn list(&self, path: &str, parameters: &[(&str, &str)]) -> Vec<String> {
        let url = Url::parse_with_params(&format!("{}{path}", self.server), parameters);
        let Ok(url) = url else { return Vec::new() };
        let Ok(request) = self.client.request(Method::GET, url.as_str()) else { return Vec::new() };
        let Ok(response) = self.client.send(request.timeout(LIST_PATIENCE)).await else { return Vec::new() };
        let Ok(bytes) = response.bytes().await else { return Vec::new() };
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |value: &Value| value.as_str().or(value["name"].as_str()).map(str::to_owned);
        answer["data"].as_array().into_iter().flatten().filter_map(text).collect()
    }

    /// Prints the rows of a statement whenever they change; `None` for `shape`: each message of the
    /// subscription. Ends with an error only.
    pub(super) async fn follow(&self, statement: &str, shape: Option<Shape>) -> Result<(), Failure> {
        let request = self.client.request(Method::POST, &self.url()).map_err(|e| self.failed(&e))?;
        let request = request.header("content-type", "application/sql");
        let response = self.client.send(request.body(format!("SUBSCRIBE {statement}"))).await;
        let mut response = self.answered(response.map_err(|e| self.failed(&e))?).await?;
        let mut rows = FollowedRows::default();
        let mut pending = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| self.broken(e))? {
            pending.extend_from_slice(&piece);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let message: Value = serde_json::from_slice(&line).unwrap_or_default();
                let shown = match shape {
                    Some(shape) => rows.apply(&message, shape)?,
                    None => String::from_utf8_lossy(&line).into_owned(),
                };
                let mut out = std::io::stdout();
                let written = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
                written.map_err(|e| unusable(format!("standard output: {e}")))?;
            }
        }
        Err(unusable(format!("{} ended the subscription", self.url())))
    }
}

/// The rows of a statement that is followed.
#[derive(Default)]
struct FollowedRows {
    columns: Value,
    /// Each row, as JSON, and how many equal ones there are.
    rows: BTreeMap<String, i64>,
}

impl FollowedRows {
    /// Applies a message; what to print then.
    fn apply(&mut self, message: &Value, shape: Shape) -> Result<String, Failure> {
        if let Some(error) = message.get("error") {
            let text = error["error"].as_str().unwrap_or_default();
            return Ok(format!("error: {text}\n"));
        }
        if let Some(subscribed) = message.get("subscribed") {
            self.columns = subscribed["columns"].clone();
        }
        if let Some(end) = message.get("unsubscribed") {
            return Err(unusable(format!("the subscription has ended: {}", end["reason"])));
        }
        let changed = if let Some(snapshot) = message.get("snapshot") {
            self.rows.clear();
            snapshot
        } else if let Some(delta) = message.get("delta") {
            delta
        } else {
            return Ok(String::new());
        };
        for row in changed["rows"].as_array().into_iter().flatten() {
            let count = self.rows.entry(row["row"].to_string()).or_default();
            *count += row["diff"].as_i64().unwrap_or_default();
        }
        self.rows.retain(|_, count| *count > 0);
        let t = changed["t"].as_f64().unwrap_or_default();
        let time = chrono::DateTime::from_timestamp_millis((t * 1000.0) as i64).unwrap_or_default();
        Ok(format!("{}\n{}\n", time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), self.table(shape)))
    }

    fn table(&self, shape: Shape) -> String {
        let names = || self.columns.as_array().into_iter().flatten().map(|column| &column["name"]);
        let cells = |row: &String| {
            let row: Value = serde_json::from_str(row).unwrap_or_default();
            let cells: Vec<Value> =
                names().map(|name| row[name.as_str().unwrap_or_default()].clone()).collect();
            Value::from(cells)
        };
        let equal = |(row, count): (&String, &i64)| {
            let count = usize::try_from(*count).unwrap_or_default();
            std::iter::repeat_n(cells(row), count).collect::<Vec<_>>()
        };
        let rows: Vec<Value> = self.rows.iter().flat_map(equal).collect();
        table(&serde_json::json!({ "data": { "columns": self.columns, "rows": rows } }), shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_applied() {
        let mut rows = FollowedRows::default();
        let mut apply = |message: &str| {
            let message = serde_json::from_str(message).expect("JSON");
            rows.apply(&message, Shape::default()).map_err(|failure| failure.text)
        };
        let columns = r#"[{"name":"job","type":"text"},{"name":"n","type":"int8"}]"#;
        let subscribed = format!(r#"{{"subscribed":{{"id":"sql","columns":{columns}}}}}"#);
        assert_eq!(apply(&subscribed), Ok(String::new()));
        let snapshot = r#"{"snapshot":{"id":"sql","t":1.500,"rows":[{"row":{"job":"a","n":1},"diff":2}]}}"#;
        let shown = "1970-01-01T00:00:01.500Z\njob | n\n----+--\na   | 1\na   | 1\n(2 rows)\n\n";
        assert_eq!(apply(snapshot).as_deref(), Ok(shown));
        let delta = r#"{"delta":{"id":"sql","t":2,"rows":[{"row":{"job":"a","n":1},"diff":-2},{"row":{"job":"b","n":12},"diff":1}]}}"#;
        let shown = "1970-01-01T00:00:02.000Z\njob |  n\n----+---\nb   | 12\n(1 row)\n\n";
        assert_eq!(apply(delta).as_deref(), Ok(shown));
        assert_eq!(apply(r#"{"progress":{"id":"sql","t":3}}"#), Ok(String::new()));
        assert!(apply(r#"{"unsubscribed":{"id":"sql","reason":"slow"}}"#).is_err_and(|e| e.contains("slow")));
    }
}
