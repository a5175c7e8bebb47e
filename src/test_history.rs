//! The subcommand `perennial test history FILE…`: what the alerts of rule files would have done in
//! the past, computed by a running server (`/api/v1/rules/test`).

use crate::server_client::{self, AskError, ServerClient};
use crate::statements::RuleLanguages;
use crate::subcommand::{Argument, Arguments, Help, read_arguments};
use crate::usage_error::UsageError;
use crate::{UNUSABLE, query_language, say};
use api::limits::RULE_TEST_BODY_BYTES;
use reqwest::Method;
use rules::file::{self, GroupDefaults};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use storage::model::time::{format_duration, parse_duration};

const HELP: Help = Help {
    command: "perennial test history",
    usage: "usage: perennial test history [--url=URL] [--http.config.file=FILE] [--since=30d] [--step=STEP] [--alert=NAME] [--format=text|json] FILE…\n",
    text: "
Asks a running server what the alerts of rule files would have done in its past: when each would have been pending and
have fired, how often, how long, and how many notifications that makes. The server evaluates each condition from history,
step by step, and gives the answers to the states that its own alerts have. Nothing is stored and nothing is sent. The
rules need not be loaded in the server; what they read must be there, also what other rules record.

  perennial test history alerts.yml
  perennial test history --since 7d --alert HighLatency --url https://monitoring.example/prometheus alerts.yml

Flags:
  --url=URL       where the server is, with its prefix if it has one; http://localhost:9090 by default
  --http.config.file=FILE   user, certificates and so on for the server, in the form of promtool
  --since=TIME    how far back; 30d by default
  --step=TIME     the time between two evaluations; by default the interval of the rule's group. What was shorter may be
                  missing, as it would be in Prometheus. `for` ends at its exact time.
  --alert=NAME    only alerts of this name
  --format=json   the answers of the server, a line for each alert

Exit code: 0 if all alerts could be evaluated, 1 if the evaluation of one failed at some time, 2 if the command line, a file
or the server cannot be used.
",
};
/// The interval of groups that have none, ms: the default of Prometheus. The server takes its own.
const INTERVAL_MS: i64 = 60_000;
/// Stretches of one alert that are printed.
const STRETCHES: usize = 10;
/// Alerts of one rule that are printed.
const ALERTS: usize = 20;

#[derive(Debug, PartialEq, Eq)]
struct HistoryArgs {
    url: String,
    http_config: String,
    since: i64,
    step: Option<i64>,
    alert: Option<String>,
    json: bool,
    files: Vec<String>,
}

/// Runs `perennial test history` with the arguments after it.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let asked = match read_arguments(args, &HELP, arguments) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let done = match server_client::block_on(test_all(&asked)) {
        Ok(done) => done,
        Err(code) => return code,
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => say(&mut std::io::stderr(), &format!("{error}\n"), UNUSABLE),
    }
}

fn arguments(args: &[String]) -> Result<HistoryArgs, UsageError> {
    let mut parsed = HistoryArgs {
        url: "http://localhost:9090".to_owned(),
        http_config: String::new(),
        since: 30 * 86_400_000,
        step: None,
        alert: None,
        json: false,
        files: Vec::new(),
    };
    for argument in Arguments::new(args) {
        let (name, value) = match argument? {
            Argument::Flag { name, value } => (name, value),
            Argument::Word(file) => {
                parsed.files.push(file.clone());
                continue;
            }
        };
        let length = |value: &str| {
            let ms = parse_duration(value).map_err(|e| UsageError::unparsed(&format!("--{name}"), e))?;
            if ms > 0 {
                Ok(ms)
            } else {
                Err(UsageError::bad_value(&format!("--{name}"), value, "it must be positive"))
            }
        };
        match name {
            "url" => value.trim_end_matches('/').clone_into(&mut parsed.url),
            server_client::FLAG => parsed.http_config = value,
            "since" => parsed.since = length(&value)?,
            "step" => parsed.step = Some(length(&value)?),
            "alert" => parsed.alert = Some(value),
            "format" if value == "text" || value == "json" => parsed.json = value == "json",
            "format" => return Err(UsageError::bad_value("--format", &value, "it must be text or json")),
            _ => return Err(UsageError::UnknownFlag(format!("--{name}"))),
        }
    }
    if parsed.files.is_empty() {
        return Err(UsageError::Missing("no rule file is named"));
    }
    server_client::check_url(&parsed.url)?;
    Ok(parsed)
}

/// Why a rule cannot be tested.
#[derive(Debug, thiserror::Error)]
enum TestHistoryError {
    /// A file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no rule file.
    #[error("{0}")]
    Rules(#[from] rules::yaml::ConfigError),
    /// The file is too long for a request.
    #[error("{0} has more than {RULE_TEST_BODY_BYTES} bytes: divide it")]
    TooLong(String),
    /// The server does not answer.
    #[error("{url} cannot be asked: {source}")]
    Request {
        /// What was requested.
        url: String,
        /// What the HTTP client said.
        source: AskError,
    },
    /// The answer is not one of this server's API.
    #[error("{url} answered {status}, and nothing that can be read: is it a Perennial server?")]
    NoAnswer {
        /// What was requested.
        url: String,
        /// The status of the answer.
        status: reqwest::StatusCode,
    },
    /// The server refused the request, or the test failed.
    #[error("{alert}: {reason}")]
    Refused {
        /// The alert.
        alert: String,
        /// The error text of the answer.
        reason: String,
    },
}

/// Tests all alerts of the files; returns how many had evaluations that failed.
async fn test_all(asked: &HistoryArgs) -> Result<usize, TestHistoryError> {
    let client = ServerClient::new(&asked.http_config)?;
    let mut failing = 0;
    for file in &asked.files {
        let text = std::fs::read_to_string(file)
            .map_err(|source| TestHistoryError::File { file: file.clone(), source })?;
        if text.len() > RULE_TEST_BODY_BYTES / 2 {
            return Err(TestHistoryError::TooLong(file.clone()));
        }
        // Read here only for the names; the server reads it again with its own settings.
        let languages = RuleLanguages::new(query_language::options(|_| true), true);
        let defaults = GroupDefaults { interval: INTERVAL_MS, query_offset: 0 };
        let groups = file::parse(file, &text, defaults, &languages)?.groups;
        for group in &groups {
            for (index, rule) in group.rules.iter().enumerate() {
                let is_wanted = asked.alert.as_ref().is_none_or(|name| *name == rule.name);
                if rule.alert.is_none() || !is_wanted {
                    continue;
                }
                let mut body = json!({
                    "rule": text, "group": group.name, "alert": rule.name, "index": index,
                    "since": format!("{}ms", asked.since),
                });
                if let Some(step) = asked.step {
                    body["step"] = format!("{step}ms").into();
                }
                let result = test_one(&client, asked, &rule.name, &body).await?;
                let shown = if asked.json { format!("{result}\n") } else { text_of(&result, &group.name) };
                say(&mut std::io::stdout(), &shown, 0);
                failing += usize::from(result["failures"] != 0);
            }
        }
    }
    Ok(failing)
}

/// The result of one rule; how far it is goes to a terminal.
async fn test_one(
    client: &ServerClient,
    asked: &HistoryArgs,
    alert: &str,
    body: &Value,
) -> Result<Value, TestHistoryError> {
    let url = format!("{}/api/v1/rules/test", asked.url);
    let failed = |source: AskError| TestHistoryError::Request { url: url.clone(), source };
    let request = client
        .request(Method::POST, &url)
        .map_err(failed)?
        .header("content-type", "application/json")
        .header("accept", "application/x-ndjson")
        .body(body.to_string());
    let mut response = client.send(request).await.map_err(failed)?;
    let status = response.status();
    let mut received = Vec::new();
    let mut answer = None;
    while let Some(piece) = response.chunk().await.map_err(|error| failed(error.into()))? {
        received.extend_from_slice(&piece);
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            answer = take(alert, &line).or(answer);
        }
    }
    // An error before the first line is an answer as usual, without an end of line.
    let answer = take(alert, &received).or(answer);
    if std::io::stderr().is_terminal() {
        say(&mut std::io::stderr(), "\r\x1b[K", 0);
    }
    let Some(answer) = answer else { return Err(TestHistoryError::NoAnswer { url, status }) };
    if answer["status"] == "success" {
        return Ok(answer["data"].clone());
    }
    let reason = answer["error"].as_str().unwrap_or("without a reason").to_owned();
    Err(TestHistoryError::Refused { alert: alert.to_owned(), reason })
}

/// The answer, if the line is it; progress is shown.
fn take(alert: &str, line: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let Some(progress) = value.get("progress") else { return value.get("status").is_some().then_some(value) };
    if std::io::stderr().is_terminal() {
        let done = progress["done"].as_f64().unwrap_or(0.0) * 100.0;
        say(
            &mut std::io::stderr(),
            &format!("\r{alert}: {done:.0} %, fired {} times\x1b[K", progress["fired"]),
            0,
        );
    }
    None
}

fn length(value: &Value) -> String {
    format_duration((value.as_f64().unwrap_or(0.0) * 1000.0).round() as i64)
}

fn time(value: &Value) -> String {
    let ms = (value.as_f64().unwrap_or(0.0) * 1000.0).round() as i64;
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn count(value: &Value, one: &str, many: &str) -> String {
    let n = value.as_u64().unwrap_or(0);
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The result of one rule, in lines.
fn text_of(result: &Value, group: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!("{} (group {group}): {}\n", text(&result["alert"]), text(&result["query"]));
    let _ = writeln!(
        out,
        "  {} to {}, every {}: {}",
        time(&result["start"]),
        time(&result["end"]),
        length(&result["step"]),
        count(&result["evaluations"], "evaluation", "evaluations")
    );
    if result["fired"] == 0 {
        let _ = writeln!(out, "  would not have fired");
    } else {
        let _ = writeln!(
            out,
            "  would have fired {}, {} in all, {} the longest; {}",
            count(&result["fired"], "time", "times"),
            length(&result["firingSeconds"]),
            length(&result["longestSeconds"]),
            count(&result["notifications"], "notification", "notifications")
        );
    }
    if result["failures"] != 0 {
        let failed = count(&result["failures"], "evaluation", "evaluations");
        let _ = writeln!(out, "  {failed} failed: {}", text(&result["firstError"]));
    }
    let alerts = result["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    for alert in alerts.iter().take(ALERTS) {
        let _ = writeln!(out, "    {}", labels(&alert["labels"]));
        let stretches = alert["intervals"].as_array().map_or(&[][..], Vec::as_slice);
        // The latest ones: they are the ones that people remember.
        let left_out = stretches.len().saturating_sub(STRETCHES);
        if left_out > 0 {
            let _ = writeln!(out, "      … {left_out} before");
        }
        for stretch in &stretches[left_out..] {
            let seconds = stretch["to"].as_f64().unwrap_or(0.0) - stretch["from"].as_f64().unwrap_or(0.0);
            let still = if stretch["open"] == true { ", and still" } else { "" };
            let state = text(&stretch["state"]);
            let _ = writeln!(
                out,
                "      {} {state} for {}{still}",
                time(&stretch["from"]),
                length(&json!(seconds))
            );
        }
    }
    if alerts.len() > ALERTS || result["truncated"] == true {
        let _ = writeln!(out, "    … and others");
    }
    out
}

fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten().filter(|(name, _)| *name != "alertname");
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &str) -> Result<HistoryArgs, UsageError> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        arguments(&args)
    }

    #[test]
    fn flags_may_stand_anywhere() {
        let args =
            read("a.yml --since 7d --url=http://h:1/p/ --step=30s b.yml --alert X --format=json").unwrap();
        let wanted = HistoryArgs {
            http_config: String::new(),
            url: "http://h:1/p".to_owned(),
            since: 7 * 86_400_000,
            step: Some(30_000),
            alert: Some("X".to_owned()),
            json: true,
            files: vec!["a.yml".to_owned(), "b.yml".to_owned()],
        };
        assert_eq!(args, wanted);
        assert_eq!(read("a.yml").unwrap().since, 30 * 86_400_000);
        for bad in [
            "",
            "--since=7d",
            "a --since",
            "a --since=x",
            "a --since=0s",
            "a --url=h:1",
            "a --format=xml",
            "a --to=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_result_says_when_how_often_and_how_long() {
        let result = json!({"alert": "Down", "query": "up == 0", "start": 1_795_500_000, "end": 1_795_503_600, "step": 60,
            "evaluations": 61, "fired": 1, "firingSeconds": 90.5, "longestSeconds": 90.5, "notifications": 2, "failures": 0,
            "alerts": [{"labels": {"alertname": "Down", "job": "a"}, "intervals": [
                {"from": 1_795_500_060, "to": 1_795_500_120, "state": "pending", "open": false},
                {"from": 1_795_500_120, "to": 1_795_500_210.5, "state": "firing", "open": true}]}]});
        let expected = "\
Down (group g): up == 0
  2026-11-24 06:00:00Z to 2026-11-24 07:00:00Z, every 1m: 61 evaluations
  would have fired 1 time, 1m30s500ms in all, 1m30s500ms the longest; 2 notifications
    {job=\"a\"}
      2026-11-24 06:01:00Z pending for 1m
      2026-11-24 06:02:00Z firing for 1m30s500ms, and still
";
        assert_eq!(text_of(&result, "g"), expected);
    }
}
