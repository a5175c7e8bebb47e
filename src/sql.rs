//! The subcommand `perennial sql`: sends a SQL statement to a running server, and prints the rows
//! as a table, or in another format.

use crate::server_client::{self, AskError, ServerClient};
use crate::subcommand::{Argument, Arguments, Help, read_arguments};
use crate::usage_error::UsageError;
use crate::{UNUSABLE, say};
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

const HELP: Help = Help {
    command: "perennial sql",
    usage: "usage: perennial sql [--url=URL] [--http.config.file=FILE] [--format=table|csv|json|ndjson|arrow] [--time=TIME] [STATEMENT]\n",
    text: "
Asks a running server. Without a statement it is read from standard input.

  perennial sql 'SELECT job, sum(rate(value, '\\''5m'\\'')) FROM http_requests_total GROUP BY job'
  perennial sql --format=csv < report.sql > report.csv

A statement that ends with \\watch is followed: its rows are printed again whenever they change, until Ctrl-C.

  perennial sql 'SELECT job, count(*) FROM up WHERE value = 0 GROUP BY job \\watch'

Flags:
  --url=URL         where the server is, with its prefix if it has one; http://localhost:9090 by default
  --http.config.file=FILE   user, certificates and so on for the server, in the form of promtool
  --format=FORMAT   table (default), csv, json, ndjson, or arrow (a stream of record batches)
  --time=TIME       the time of now(): RFC 3339 or seconds since 1970

Exit code: 0 if there is an answer, 1 if the statement has none, 2 if the command line or the server cannot be used.
",
};
/// Time that the server has: as long as its own limit, and some.
const PATIENCE: Duration = Duration::from_secs(300);
/// Characters of a cell of a table; longer texts are cut.
const CELL_WIDTH: usize = 60;

#[derive(Debug, PartialEq)]
struct SqlArgs {
    url: String,
    http_config: String,
    format: String,
    time: Option<String>,
    statement: Option<String>,
}

/// Runs `perennial sql` with the given arguments.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let asked = match read_arguments(args, &HELP, arguments) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let done = match server_client::block_on(ask(asked)) {
        Ok(done) => done,
        Err(code) => return code,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, code }) => say(&mut std::io::stderr(), &format!("{text}\n"), code),
    }
}

fn arguments(args: &[String]) -> Result<SqlArgs, UsageError> {
    let mut parsed = SqlArgs {
        url: "http://localhost:9090".to_owned(),
        http_config: String::new(),
        format: "table".to_owned(),
        time: None,
        statement: None,
    };
    for argument in Arguments::new(args) {
        let (name, value) = match argument? {
            Argument::Flag { name, value } => (name, value),
            Argument::Word(text) => {
                if parsed.statement.replace(text.clone()).is_some() {
                    let why = format!("{text}: put the whole statement into quotes");
                    return Err(UsageError::Unexpected(why));
                }
                continue;
            }
        };
        match name {
            "url" => value.trim_end_matches('/').clone_into(&mut parsed.url),
            server_client::FLAG => parsed.http_config = value,
            "format" => parsed.format = value,
            "time" => parsed.time = Some(value),
            _ => return Err(UsageError::UnknownFlag(format!("--{name}"))),
        }
    }
    if !["table", "csv", "json", "ndjson", "arrow"].contains(&parsed.format.as_str()) {
        let possible = "it must be table, csv, json, ndjson or arrow";
        return Err(UsageError::bad_value("--format", &parsed.format, possible));
    }
    server_client::check_url(&parsed.url)?;
    Ok(parsed)
}

/// Why there is no answer, and the exit code.
struct Failure {
    text: String,
    code: u8,
}

fn unusable(text: String) -> Failure {
    Failure { text, code: UNUSABLE }
}

/// Asks, and writes the answer to standard output.
async fn ask(asked: SqlArgs) -> Result<(), Failure> {
    let statement = match asked.statement {
        Some(statement) => statement,
        None => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| unusable(format!("standard input: {e}")))?;
            text
        }
    };
    let url = format!("{}/api/v1/sql", asked.url);
    let client = ServerClient::new(&asked.http_config).map_err(|error| unusable(error.to_string()))?;
    if let Some(followed) = followed(&statement) {
        return follow(&client, &url, followed, asked.format == "table").await;
    }
    let failed = |error: AskError| unusable(format!("{url} cannot be asked: {error}"));
    let broken = |error: reqwest::Error| failed(error.into());
    let is_table = asked.format == "table";
    let mut body =
        serde_json::json!({ "sql": statement, "format": if is_table { "json" } else { &asked.format } });
    if let Some(time) = asked.time {
        body["time"] = Value::from(time);
    }
    let request = client.request(Method::POST, &url).map_err(failed)?.timeout(PATIENCE);
    let request = request.header("content-type", "application/json").body(body.to_string());
    let mut response = client.send(request).await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        let bytes = response.bytes().await.map_err(broken)?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let Some(why) = answer["error"].as_str() else {
            return Err(unusable(format!("{url} answered {status}: is it a Perennial server with SQL?")));
        };
        return Err(Failure { text: why.to_owned(), code: 1 });
    }
    let write = |bytes: &[u8]| {
        std::io::stdout().write_all(bytes).map_err(|e| unusable(format!("standard output: {e}")))
    };
    if !is_table {
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            write(&piece)?;
        }
        return Ok(());
    }
    let bytes = response.bytes().await.map_err(broken)?;
    let answer: Value =
        serde_json::from_slice(&bytes).map_err(|e| unusable(format!("{url} answered no JSON: {e}")))?;
    write(table(&answer).as_bytes())
}

/// The statement that is followed, if `\watch` stands at its end.
fn followed(statement: &str) -> Option<&str> {
    let rest = statement.trim_end().trim_end_matches(';').trim_end().strip_suffix("\\watch")?;
    Some(rest.trim_end().trim_end_matches(';'))
}

/// Prints the rows of a statement whenever they change; not as a table: each message of the
/// subscription.
async fn follow(client: &ServerClient, url: &str, statement: &str, is_table: bool) -> Result<(), Failure> {
    let failed = |error: AskError| unusable(format!("{url} cannot be asked: {error}"));
    let broken = |error: reqwest::Error| failed(error.into());
    let request = client.request(Method::POST, url).map_err(failed)?;
    let request = request.header("content-type", "application/sql").body(format!("SUBSCRIBE {statement}"));
    let mut response = client.send(request).await.map_err(failed)?;
    if !response.status().is_success() {
        let answer: Value =
            serde_json::from_slice(&response.bytes().await.map_err(broken)?).unwrap_or_default();
        let why = answer["error"].as_str().unwrap_or("the server does not know SUBSCRIBE").to_owned();
        return Err(Failure { text: why, code: 1 });
    }
    let mut rows = FollowedRows::default();
    let mut pending = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        pending.extend_from_slice(&piece);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let message: Value = serde_json::from_slice(&line).unwrap_or_default();
            let shown =
                if is_table { rows.apply(&message)? } else { String::from_utf8_lossy(&line).into_owned() };
            let mut out = std::io::stdout();
            let written = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
            written.map_err(|e| unusable(format!("standard output: {e}")))?;
        }
    }
    Err(unusable(format!("{url} ended the subscription")))
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
    fn apply(&mut self, message: &Value) -> Result<String, Failure> {
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
        Ok(format!("{}\n{}\n", time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), self.table()))
    }

    fn table(&self) -> String {
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
        table(&serde_json::json!({ "data": { "columns": self.columns, "rows": rows } }))
    }
}

/// The answer as a table, numbers to the right; then warnings and the number of rows.
fn table(answer: &Value) -> String {
    let columns = answer["data"]["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = answer["data"]["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_number = |column: &Value| {
        let kind = column["type"].as_str().unwrap_or_default();
        kind.starts_with("int") || kind.starts_with("float") || kind == "numeric"
    };
    let right: Vec<bool> = columns.iter().map(is_number).collect();
    let mut lines = vec![columns.iter().map(|column| cell(&column["name"])).collect::<Vec<_>>()];
    // A plan, or another single text, is shown as a whole.
    let cell = if columns.len() == 1 { whole } else { cell };
    lines.extend(rows.iter().map(|row| row.as_array().into_iter().flatten().map(cell).collect()));
    let width =
        |i: usize| lines.iter().filter_map(|line| line.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(&widths).zip(&right).map(|((cell, width), right)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        out.push_str(padded.collect::<Vec<_>>().join(" | ").trim_end());
        out.push('\n');
        if number == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            out.push_str(&rules.join("-+-"));
            out.push('\n');
        }
    }
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        out.push_str(&format!("warning: {}\n", cell(warning)));
    }
    out.push_str(&format!("({} row{})\n", rows.len(), if rows.len() == 1 { "" } else { "s" }));
    out
}

/// A value in one line.
fn whole(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace(['\n', '\r'], " "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A value in one line, not too long for a table.
fn cell(value: &Value) -> String {
    let text = whole(value);
    if text.chars().count() <= CELL_WIDTH {
        return text;
    }
    text.chars().take(CELL_WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_numbers_to_the_right() {
        let answer = serde_json::json!({
            "data": {
                "columns": [{ "name": "job", "type": "text" }, { "name": "rps", "type": "float8" }],
                "rows": [["api", 12.5], ["a long name", null]],
            },
            "warnings": ["w"],
        });
        let wanted = "job         |  rps\n------------+-----\napi         | 12.5\na long name |\nwarning: w\n(2 rows)\n";
        assert_eq!(table(&answer), wanted);
    }

    #[test]
    fn a_statement_is_followed() {
        assert_eq!(followed("SELECT 1; \\watch\n"), Some("SELECT 1"));
        assert_eq!(followed("SELECT 1"), None);
        let mut rows = FollowedRows::default();
        let mut apply = |message: &str| {
            let message = serde_json::from_str(message).expect("JSON");
            rows.apply(&message).map_err(|failure| failure.text)
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

    #[test]
    fn arguments_are_read() {
        let read = |args: &[&str]| arguments(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        let asked = read(&["--url", "http://x:1/", "--format=csv", "SELECT 1"]).expect("arguments");
        assert_eq!((asked.url.as_str(), asked.format.as_str()), ("http://x:1", "csv"));
        assert_eq!(asked.statement.as_deref(), Some("SELECT 1"));
        assert!(read(&["SELECT", "1"]).is_err());
        assert!(read(&["--format=xml"]).is_err());
        assert!(read(&["--url=x"]).is_err());
        assert!(read(&["--time"]).is_err());
    }
}
