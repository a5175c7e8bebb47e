//! The subcommand `perennial sql`: sends SQL statements to a running server, and prints the rows as
//! a table or in another format. The statement comes from the command line or from standard input;
//! without one, the user types statements at a terminal ([`terminal`]). [`client`] sends requests,
//! [`shown`] formats answers.

mod client;
mod shown;
mod terminal;

use crate::server_client::{self, ServerClient};
use crate::subcommand::{Argument, Arguments, Help, read_arguments};
use crate::usage_error::UsageError;
use crate::{UNUSABLE, say};
use client::SqlClient;
use shown::{Shape, table};
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

const HELP: Help = Help {
    command: "perennial sql",
    usage: "usage: perennial sql [--url=URL] [--http.config.file=FILE] [--format=table|csv|json|ndjson|arrow] [--time=TIME] [STATEMENT]\n",
    text: "
Asks a running server. Without a statement, at a terminal, statements are typed, with a history and completion
(\\? shows help); else the statement is read from standard input.

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
    let client = ServerClient::new(&asked.http_config).map_err(|error| unusable(error.to_string()))?;
    let client = SqlClient::new(client, asked.url, asked.time);
    let statement = match asked.statement {
        Some(statement) => statement,
        None if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => {
            return terminal::run(client, &asked.format).await;
        }
        None => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| unusable(format!("standard input: {e}")))?;
            text
        }
    };
    let is_table = asked.format == "table";
    if let Some(followed) = followed(&statement) {
        return client.follow(followed, is_table.then(Shape::default)).await;
    }
    let write = |bytes: &[u8]| {
        std::io::stdout().write_all(bytes).map_err(|e| unusable(format!("standard output: {e}")))
    };
    if is_table {
        let width = std::io::stdout().is_terminal().then(terminal::width);
        let answer = client.json(&statement).await?;
        return write(table(&answer, Shape { width, is_expanded: false }).as_bytes());
    }
    let mut response = client.ask(&statement, &asked.format).await?;
    while let Some(piece) = response.chunk().await.map_err(|e| client.broken(e))? {
        write(&piece)?;
    }
    Ok(())
}

/// The statement that is followed, if `\watch` stands at its end.
fn followed(statement: &str) -> Option<&str> {
    let rest = statement.trim_end().trim_end_matches(';').trim_end().strip_suffix("\\watch")?;
    Some(rest.trim_end().trim_end_matches(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_followed() {
        assert_eq!(followed("SELECT 1; \\watch\n"), Some("SELECT 1"));
        assert_eq!(followed("SELECT 1"), None);
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
