//! Runs the sqllogictest records of `frontends/sql/tests/slt` over the PostgreSQL wire, in both
//! query protocols, and over HTTP, on a server with the same samples.

use crate::support;
use crate::support::daemon::{Daemon, free_port, python};
use crate::support::server::binary_under_test;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// A cell of an answer over the wire, as it is in JSON.
fn as_in_json(cell: &Value) -> String {
    let Some(text) = cell[1].as_str() else { return "NULL".to_owned() };
    match cell[0].as_u64() {
        Some(16) => (if text == "t" { "true" } else { "false" }).to_owned(),
        Some(701) => match text {
            "Infinity" => "+Inf".to_owned(),
            "-Infinity" => "-Inf".to_owned(),
            "NaN" => text.to_owned(),
            number => {
                let number: f64 = number.parse().expect("a number");
                if number.fract() == 0.0 && number.abs() < 1e15 {
                    format!("{number:.0}")
                } else {
                    json!(number).to_string()
                }
            }
        },
        // `now()` is a time without a zone, in UTC.
        Some(1114) => as_in_json(&json!([1184, format!("{text}+00")])),
        Some(1184) => {
            let time = chrono::DateTime::parse_from_str(&format!("{text}:00"), "%Y-%m-%d %H:%M:%S%.f%:z");
            time.expect("a time").to_utc().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
        }
        _ => text.to_owned(),
    }
}

/// What the server answers over HTTP, in the form of the answers over the wire: the type of a cell
/// is that of a text, as it is in JSON already.
fn over_http(port: u16, statement: &str, now: i64) -> Value {
    let body = json!({ "sql": statement, "time": now }).to_string();
    let head = [("content-type", "application/json")];
    let answer = support::http::send(port, "POST", "/api/v1/sql", &head, body.as_bytes());
    let answer = answer.expect("an answer").json();
    let Some(rows) = answer["data"]["rows"].as_array() else { return json!({ "error": answer["error"] }) };
    let cell = |cell: &Value| match cell {
        Value::Null => json!([25, null]),
        Value::String(text) => json!([25, text]),
        other => json!([25, other.to_string()]),
    };
    let row = |row: &Value| row.as_array().expect("a row").iter().map(cell).collect::<Value>();
    json!({ "rows": rows.iter().map(row).collect::<Value>() })
}

/// The records of sqllogictest, over the wire in both protocols and over HTTP, by a server that has
/// their samples.
#[test]
fn the_records_hold_over_the_wire_and_over_http() {
    const NOW: i64 = 1_795_564_800;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("frontends/sql/tests");
    let directory = tempfile::tempdir().expect("a directory");
    let mut samples = String::new();
    let world = std::fs::read_to_string(tests.join("data/world.tsv")).expect("UTF-8");
    let mut known = "";
    for line in world.lines().filter(|line| !line.starts_with('#')) {
        let [name, labels, kind, number] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let number: f64 = number.parse().expect("a number");
        let labels: Vec<String> = labels.split(',').map(|pair| pair.replacen('=', "=\"", 1) + "\"").collect();
        if name != known {
            samples.push_str(&format!("# TYPE {name} unknown\n"));
            known = name;
        }
        for ago in (0..=240).rev().map(|k| k * 15) {
            let value = if kind == "grows" { number * f64::from(3_600 - ago) } else { number };
            samples.push_str(&format!("{name}{{{}}} {value} {}\n", labels.join(","), NOW - i64::from(ago)));
        }
    }
    samples.push_str("# EOF\n");
    let file = directory.path().join("world.om");
    std::fs::write(&file, samples).expect("a file");
    let data = format!("--storage.tsdb.path={}", directory.path().join("data").display());
    let imported =
        Command::new(binary_under_test()).args(["import", "openmetrics", &data]).arg(&file).output();
    let imported = imported.expect("the program runs");
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let config = directory.path().join("p.yml");
    std::fs::write(&config, "global: {}\n").expect("a file");
    let port = free_port();
    let web = free_port();
    let arguments = [
        format!("--config.file={}", config.display()),
        data,
        "--storage.tsdb.retention.time=100y".to_owned(),
        format!("--web.listen-address=127.0.0.1:{web}"),
        format!("--sql.listen-address=127.0.0.1:{port}"),
    ];
    let _daemon = Daemon::start(&binary_under_test(), &arguments, directory.path());
    support::eventually("the wire is served", 60, || {
        TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
    });

    let mut records: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(tests.join("slt")).expect("a directory") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("UTF-8");
        let lines = |record: &str| {
            record.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
        };
        let all = text.split("\n\n").map(str::trim).map(lines);
        records.extend(all.filter(|record| !record.is_empty() && !record.starts_with("skipif wire")));
    }
    assert!(records.len() >= 300, "{} records", records.len());
    let body = |record: &String| record.split_once('\n').expect("several lines").1.to_owned();
    let statement = |record: &String| body(record).split("\n----").next().expect("a statement").to_owned();
    let mut statements: Vec<String> = records.iter().map(statement).collect();
    // The last one is no record, as the two protocols answer it differently.
    statements.push("SELECT $1".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire_records.py");
    let mut python = Command::new(python());
    python.arg(script).args([port.to_string(), NOW.to_string()]);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().expect("python");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(json!(statements).to_string().as_bytes()).expect("written");
    drop(input);
    let output = child.wait_with_output().expect("an end");
    let answers: Vec<[Value; 2]> = serde_json::from_slice(&output.stdout).expect("answers");

    let mut wrong = Vec::new();
    for ((record, statement), answers) in records.iter().zip(&statements).zip(&answers) {
        let [simple, extended] = answers;
        let http = over_http(web, statement, NOW);
        for (answer, protocol) in [(simple, "simple"), (extended, "extended"), (&http, "HTTP")] {
            if let Err(why) = check_record(record, answer) {
                wrong.push(format!("{protocol}: {record}\n{why}"));
            }
        }
    }
    let [simple, extended] = answers.last().expect("an answer").clone().map(|answer| answer.to_string());
    assert!(simple.contains("$1"), "{simple}");
    assert!(extended.contains("bind message supplies 0 parameters"), "{extended}");
    pyarrow_reads(web, NOW);
    eprintln!("records: {}, each in three ways; {} answers are wrong", records.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), 3 * records.len(), wrong.join("\n\n"));
}

/// Raw samples as a stream of Arrow, as pandas gets them.
fn pyarrow_reads(port: u16, now: i64) {
    let statement = "SELECT ts, instance, value FROM samples.node_load1 \
        WHERE ts > now() - interval '30 seconds' AND job = 'api' ORDER BY instance, ts";
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/read_stream.py");
    let arguments = [port.to_string(), now.to_string(), statement.to_owned()];
    let output = Command::new(python()).arg(script).args(arguments).output().expect("python");
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let row = |ts: &str, instance: &str, value: &str| json!([ts, instance, value]);
    let want = json!({
        "names": ["ts", "instance", "value"],
        "kinds": ["timestamp[ms, tz=UTC]", "dictionary<values=string, indices=int32, ordered=0>", "double"],
        "rows": [
            row("2026-11-24 23:59:45+00:00", "a:1", "1.0"),
            row("2026-11-25 00:00:00+00:00", "a:1", "1.0"),
            row("2026-11-24 23:59:45+00:00", "a:2", "2.0"),
            row("2026-11-25 00:00:00+00:00", "a:2", "2.0"),
        ],
    });
    assert_eq!(found, want);
}

/// Whether an answer is that of a record; why not.
fn check_record(record: &str, answer: &Value) -> Result<(), String> {
    let (head, body) = record.split_once('\n').expect("several lines");
    if let Some(part) = head.strip_prefix("error ") {
        let is_said = answer["error"].as_str().is_some_and(|error| error.contains(part));
        return if is_said { Ok(()) } else { Err(answer.to_string()) };
    }
    let (_, wanted) = body.split_once("\n----").expect("rows");
    let mut wanted: Vec<String> = wanted.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let Some(rows) = answer["rows"].as_array() else { return Err(answer.to_string()) };
    let cells =
        |row: &Value| -> Vec<String> { row.as_array().expect("a row").iter().map(as_in_json).collect() };
    let mut rows: Vec<String> = rows.iter().map(|row| cells(row).join("  ")).collect();
    if head == "query rowsort" {
        rows.sort();
        wanted.sort();
    }
    if rows == wanted { Ok(()) } else { Err(format!("is\n{}", rows.join("\n"))) }
}
