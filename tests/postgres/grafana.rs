//! Tests what Grafana's PostgreSQL data source sends for panels and variables
//! (`tests/data/wire_grafana.txt`). It uses the simple protocol, as psql does. What its query
//! builder asks the catalogs is in `frontends/postgres/tests/data/grafana.txt`.

use super::{local, served};
use chrono::{Duration, SecondsFormat, Utc};
use std::process::Command;

/// The answer of psql: the names of the columns, then each row once, with `*` for the time.
fn answer(port: u16, statement: &str) -> Result<Vec<String>, String> {
    let mut psql = Command::new(super::program("psql", "postgresql-client"));
    psql.args(["-X", "-A", "-P", "footer=off", "-d", &local(port), "-c", statement]);
    let output = psql.output().expect("psql");
    if !output.stderr.is_empty() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let has_time = lines.first().is_some_and(|names| names.starts_with("time|"));
        let line = match line.split_once('|') {
            Some((time, rest)) if has_time && !time.is_empty() => format!("*|{rest}"),
            _ => line.to_owned(),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.len() > 1 {
        lines[1..].sort();
    }
    Ok(lines)
}

#[test]
fn panels_and_variables_of_grafana_have_rows() {
    let served = served(&[]);
    // Whole seconds leave out the newest samples, and there may be no others yet.
    let to = Utc::now() + Duration::seconds(1);
    let from = to - Duration::minutes(1);
    let times = [
        ("{from}", from.to_rfc3339_opts(SecondsFormat::Nanos, true)),
        ("{to}", to.to_rfc3339_opts(SecondsFormat::Nanos, true)),
        ("{from_s}", from.timestamp().to_string()),
        ("{to_s}", to.timestamp().to_string()),
    ];
    let mut wrong = Vec::new();
    let mut run = 0;
    for case in include_str!("../data/wire_grafana.txt").split("\n== ").skip(1) {
        let (name, rest) = case.split_once('\n').expect("a name");
        let (text, want) = rest.split_once("\n----").expect("a statement");
        let statement = times.iter().fold(text.to_owned(), |text, (mark, time)| text.replace(mark, time));
        let want: Vec<&str> = want.lines().filter(|line| !line.is_empty()).collect();
        match answer(served.port, &statement) {
            Ok(found) if found == want => {}
            found => wrong.push(format!("{name}\n{statement}\n{found:#?}")),
        }
        run += 1;
    }
    assert!(run >= 14 && wrong.is_empty(), "{} of {run}:\n{}", wrong.len(), wrong.join("\n"));
}
