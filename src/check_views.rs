//! The subcommand `perennial check views`: checks that the answers of a running server's views are
//! those of queries over its history.
//!
//! It goes through all pages of `/api/v1/views` and requests `/api/v1/views/{id}/check` for each
//! view. Exit code 1: some differ.

use crate::config::ConfigError;
use crate::server_client::{self, AskError, ServerClient};
use crate::subcommand::{Argument, Arguments, Help, read_arguments};
use crate::usage_error::UsageError;
use crate::{UNUSABLE, say};
use reqwest::Method;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

const HELP: Help = Help {
    command: "perennial check views",
    usage: "usage: perennial check views --url=URL [--http.config.file=FILE]\n",
    text: "
Asks a running server whether each of its views is right: rules, conditions of alerts, subscriptions and saved queries. The
server evaluates the view in a tick, and the same expression from scratch over what it has stored, at the same time. Floats
must have the same bits, but for functions that may round differently; those are named. Nothing is changed.

  perennial check views --url=http://localhost:9090
  perennial check views --url=https://monitoring.example/prometheus

Each view is one line:

  same       both answers are the same
  differs    they are not: the lines below say which rows, what the live runtime has and what history gives, and when and
             why the series below the row were last evaluated (load, sample, timer, parameter)
  unsettled  they differed, but each time samples arrived in between; try again when the server has less to do
  pending    the view has no answer yet, because it was just installed
  scheduled  the view is not live: it is evaluated from history each time, so there is nothing to compare

A wrong value is a defect of the server. Keep the output, and report it with the expression.

Flags:
  --url=URL                 where the server is, with its prefix if it has one
  --http.config.file=FILE   user, certificates and so on for the server, in the form of promtool

Exit code: 0 if no view differs, 1 if one does, 2 if the command line or the server cannot be used.
",
};
/// Time that the server has for one request: more than a check may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `perennial check` with the arguments after it.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let asked = match read_arguments(args, &HELP, arguments) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let done = match server_client::block_on(check_all(&asked)) {
        Ok(done) => done,
        Err(code) => return code,
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => say(&mut std::io::stderr(), &format!("{error}\n"), UNUSABLE),
    }
}

/// Which server is checked.
#[derive(Debug, PartialEq, Eq)]
struct CheckViewsArgs {
    /// Its URL, without a slash at its end.
    url: String,
    /// The file of HTTP options; "": none.
    http_config: String,
}

fn arguments(args: &[String]) -> Result<CheckViewsArgs, UsageError> {
    let missing = UsageError::Missing("--url is missing: it says where the server is");
    let Some((kind, flags)) = args.split_first() else { return Err(missing) };
    if kind != "views" {
        return Err(UsageError::UnknownKind { word: kind.clone(), possible: "views" });
    }
    let mut parsed = CheckViewsArgs { url: String::new(), http_config: String::new() };
    for argument in Arguments::new(flags) {
        let (name, value) = match argument? {
            Argument::Flag { name, value } => (name, value),
            Argument::Word(word) => return Err(UsageError::Unexpected(word.clone())),
        };
        match name {
            "url" => value.trim_end_matches('/').clone_into(&mut parsed.url),
            server_client::FLAG => parsed.http_config = value,
            _ => return Err(UsageError::UnknownFlag(format!("--{name}"))),
        }
    }
    if parsed.url.is_empty() {
        return Err(missing);
    }
    server_client::check_url(&parsed.url)?;
    Ok(parsed)
}

/// Why the views of a server cannot be checked.
#[derive(Debug, thiserror::Error)]
enum CheckViewsError {
    /// The file of HTTP options cannot be used.
    #[error(transparent)]
    Options(#[from] ConfigError),
    /// The server does not answer.
    #[error("{url} cannot be asked: {source}")]
    Request {
        /// What was requested.
        url: String,
        /// What the HTTP client said.
        source: AskError,
    },
    /// The server has no views.
    #[error("{0} is not there: is it a Perennial server?")]
    NotFound(String),
    /// The answer is not one of this server's API.
    #[error("{url} answered {status}, and no JSON: is it a Perennial server?")]
    NoJson {
        /// What was requested.
        url: String,
        /// The status of the answer.
        status: reqwest::StatusCode,
    },
    /// The server refused the request.
    #[error("{url} answered {status}: {reason}")]
    Refused {
        /// What was requested.
        url: String,
        /// The status of the answer.
        status: reqwest::StatusCode,
        /// The error text of the answer.
        reason: String,
    },
}

/// Checks all views and prints the results; returns how many differ.
async fn check_all(asked: &CheckViewsArgs) -> Result<usize, CheckViewsError> {
    let client = ServerClient::new(&asked.http_config)?;
    let url = &asked.url;
    let mut counts = [("same", 0), ("differs", 0), ("unsettled", 0), ("pending", 0), ("scheduled", 0)];
    let mut from = String::new();
    loop {
        let page = get(&client, &format!("{url}/api/v1/views?from={from}")).await?;
        for view in page["views"].as_array().into_iter().flatten() {
            let id = view["id"].as_str().unwrap_or_default();
            let Some(check) = get_if_there(&client, &format!("{url}/api/v1/views/{id}/check")).await? else {
                // The view is gone since the list was made: subscriptions come and go.
                continue;
            };
            say(&mut std::io::stdout(), &text_of(&check), 0);
            for (result, count) in &mut counts {
                *count += usize::from(check["result"] == *result);
            }
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut from),
            None => break,
        }
    }
    let words: Vec<String> = counts.iter().map(|(result, count)| format!("{count} {result}")).collect();
    say(&mut std::io::stdout(), &format!("{}\n", words.join(", ")), 0);
    Ok(counts[1].1)
}

/// The `data` of an answer.
async fn get(client: &ServerClient, url: &str) -> Result<Value, CheckViewsError> {
    get_if_there(client, url).await?.ok_or_else(|| CheckViewsError::NotFound(url.to_owned()))
}

/// The same; `None`: 404.
async fn get_if_there(client: &ServerClient, url: &str) -> Result<Option<Value>, CheckViewsError> {
    let failed = |source: AskError| CheckViewsError::Request { url: url.to_owned(), source };
    let request = client.request(Method::GET, url).map_err(failed)?.timeout(PATIENCE);
    let response = client.send(request).await.map_err(failed)?;
    if response.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let status = response.status();
    let body = response.bytes().await.map_err(|error| failed(error.into()))?;
    let answer: Value =
        serde_json::from_slice(&body).map_err(|_| CheckViewsError::NoJson { url: url.to_owned(), status })?;
    if answer["status"] == "success" {
        return Ok(Some(answer["data"].clone()));
    }
    let reason = answer["error"].as_str().unwrap_or("without a reason").to_owned();
    Err(CheckViewsError::Refused { url: url.to_owned(), status, reason })
}

/// What came of one check, in lines.
fn text_of(check: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let result = text(&check["result"]);
    let mut out = format!("{result:<10} {} {}\n", text(&check["id"]), text(&check["name"]));
    if result != "differs" && result != "unsettled" {
        return out;
    }
    let rows = check["differentRows"].as_u64().unwrap_or(0);
    let _ = writeln!(
        out,
        "  at {}, after {} attempts: {rows} rows differ",
        text(&check["time"]),
        check["attempts"]
    );
    for (field, who) in [("liveError", "the live runtime"), ("historyError", "the query over history")] {
        if let Some(error) = check[field].as_str() {
            let _ = writeln!(out, "  {who} fails: {error}");
        }
    }
    if let Some(function) = check["tolerance"]["function"].as_str() {
        let relative = &check["tolerance"]["relative"];
        let _ = writeln!(out, "  {function} may round differently, by {relative} of its values");
    }
    for row in check["differences"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "  {} live {} history {}", row["labels"], row["live"], row["history"]);
        for last in row["evaluations"].as_array().into_iter().flatten() {
            let series = &last["series"];
            let step = text(&last["step"]);
            let cause = text(&last["cause"]);
            let time = text(&last["time"]);
            let _ = writeln!(out, "    {series} by {step}: last evaluated at {time}, because of: {cause}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(args: &str) -> Result<String, UsageError> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        arguments(&args).map(|asked| asked.url)
    }

    #[test]
    fn the_url_may_stand_apart_and_have_a_prefix() {
        assert_eq!(read("views --url=http://a:1/").unwrap(), "http://a:1");
        assert_eq!(read("views --url https://a/b").unwrap(), "https://a/b");
        assert_eq!(read("views --http.config.file http.yml --url=http://a").unwrap(), "http://a");
        for bad in
            ["", "views", "rules --url=http://a", "views --url=a:1", "views http://a", "views --uri=x y"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_difference_says_what_each_path_gives_and_why() {
        let same = json!({"result": "same", "id": "3", "name": "up", "differences": []});
        assert_eq!(text_of(&same), "same       3 up\n");
        let last = json!({"series": {"a": "b"}, "step": "rate over 5m of {a=\"b\"}", "time": "T0", "cause": "timer"});
        let row = json!({"labels": {"a": "b"}, "live": "1", "history": null, "evaluations": [last]});
        let differs = json!({"result": "differs", "id": "4", "name": "r", "time": "T1", "attempts": 1,
            "differentRows": 1, "differences": [row], "tolerance": {"function": "rate", "relative": 1e-13}});
        let expected = "\
differs    4 r
  at T1, after 1 attempts: 1 rows differ
  rate may round differently, by 1e-13 of its values
  {\"a\":\"b\"} live \"1\" history null
    {\"a\":\"b\"} by rate over 5m of {a=\"b\"}: last evaluated at T0, because of: timer
";
        assert_eq!(text_of(&differs), expected);
    }
}
