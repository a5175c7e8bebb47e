//! The questions of docs/sql.md that PromQL cannot answer: each statement of the page, asked of
//! fixed data, has the rows that stand below it; and so it has where it stands.

mod support;

use engine::query::{QueryEngine, QueryOptions, QueryValue, StandingTimes};
use engine::types::histogram_column::Sample;
use serde_json::{Value, json};
use sql::relations::{MetaRow, MetaSource};
use sql::standing::{StandingClass, StatementAnswers};
use sql::tables::{Table, TableFormat, TableList};
use sql::{SqlEngine, SqlError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use support::{NOW, SqlFixture};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What the server of the questions knows about itself.
struct Lists;

/// A stretch of the history of an alert; `to`: how long ago it ended, ms.
fn stretch(name: &str, state: &str, from: i64, to: Option<i64>) -> Value {
    json!({ "alertname": name, "state": state, "from_ts": NOW - from, "to_ts": to.map(|to| NOW - to) })
}

impl MetaSource for Lists {
    fn rows(&self, name: &str) -> Result<Vec<MetaRow>, SqlError> {
        let rows = match name {
            "alerts" => json!([
                { "alertname": "HighErrors", "state": "firing", "active_at": NOW - HOUR, "value": 0.03,
                  "labels": { "alertname": "HighErrors", "job": "api" } },
                { "alertname": "HighErrors", "state": "pending", "active_at": NOW - MINUTE, "value": 0.1,
                  "labels": { "alertname": "HighErrors", "job": "web" } },
            ]),
            "alert_history" => json!([
                stretch("HighErrors", "firing", HOUR, None),
                stretch("HighErrors", "pending", HOUR + 5 * MINUTE, Some(HOUR)),
                stretch("HighErrors", "firing", 2 * DAY, Some(2 * DAY - 30 * MINUTE)),
                stretch("Down", "firing", 5 * DAY, Some(5 * DAY - HOUR)),
                stretch("HighErrors", "firing", 10 * DAY, Some(10 * DAY - 10 * MINUTE)),
                stretch("Old", "firing", 40 * DAY, Some(39 * DAY)),
            ]),
            "metadata" => json!([
                { "metric": "http_requests_total", "type": "counter", "help": "Requests." },
                { "metric": "errors", "type": "counter", "help": "Errors." },
                { "metric": "node_load1", "type": "gauge", "help": "" },
            ]),
            "uses" => json!([
                { "metric": "up", "kind": "rule", "name": "Down" },
                { "metric": "http_requests_total", "kind": "rule", "name": "HighErrors" },
            ]),
            _ => json!([]),
        };
        let rows = rows.as_array().cloned().unwrap_or_default();
        Ok(rows.iter().filter_map(|row| row.as_object().cloned()).collect())
    }
}

/// The tables that people brought.
struct Brought(BTreeMap<&'static str, Arc<Table>>);

impl TableList for Brought {
    fn table(&self, name: &str) -> Option<Arc<Table>> {
        self.0.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().map(|name| (*name).to_owned()).collect()
    }
}

fn brought() -> Brought {
    let tables = [
        ("owners", "job,owner,slack\napi,ana,#api\nweb,bo,#web\n"),
        ("prices", "instance_type,usd_per_hour,vcpus\nsmall,0.02,2\nlarge,0.096,4\n"),
        ("slos", "job,objective\napi,0.995\nweb,0.99\n"),
    ];
    let table = |text: &str| Arc::new(Table::read(text, TableFormat::Csv).expect("a table"));
    Brought(tables.into_iter().map(|(name, text)| (name, table(text))).collect())
}

/// Samples that are added in the order of their times.
#[derive(Default)]
struct Samples(Vec<NewSample>);

struct NewSample {
    /// How long ago, ms.
    ago: i64,
    labels: Vec<(&'static str, &'static str)>,
    value: f64,
}

impl Samples {
    /// A series with a sample each 15 s from `from` to `to` ago.
    fn add(
        &mut self,
        labels: &[(&'static str, &'static str)],
        from: i64,
        to: i64,
        value: impl Fn(i64) -> f64,
    ) {
        let times = (0..).map(|k| from - k * 15 * SECOND).take_while(|ago| *ago >= to);
        self.0.extend(times.map(|ago| NewSample { ago, labels: labels.to_vec(), value: value(ago) }));
    }
}

/// Requests of a job until so long ago, of all instances: steep in three short times of a month.
fn requests(rates: [f64; 3], ago: i64) -> f64 {
    let windows = [7 * DAY, DAY, 0];
    let grown = windows.iter().zip(rates).map(|(end, rate)| {
        let since = (end + 10 * MINUTE - ago).clamp(0, 10 * MINUTE);
        rate * since as f64 / 1e3
    });
    1_000.0 + grown.sum::<f64>()
}

fn world() -> SqlFixture {
    let world = SqlFixture::with(Arc::new(Lists), Arc::new(brought()));
    let mut samples = Samples::default();
    for (job, instance, value) in
        [("api", "a:1", 1.0), ("api", "a:2", 0.0), ("web", "w:1", 0.0), ("web", "w:2", 0.0)]
    {
        samples.add(&[("__name__", "up"), ("job", job), ("instance", instance)], 2 * HOUR, 0, |_| value);
    }
    for (team, kind, cpu, rate) in
        [("search", "small", "0", 0.25), ("search", "small", "1", 0.75), ("shop", "large", "0", 0.5)]
    {
        for mode in ["idle", "user"] {
            let labels = [
                ("__name__", "node_cpu_seconds_total"),
                ("team", team),
                ("instance_type", kind),
                ("cpu", cpu),
                ("mode", mode),
            ];
            samples.add(&labels, 2 * HOUR, 0, |ago| rate * (2 * HOUR - ago) as f64 / 1e3);
        }
    }
    for (job, instance, rates, share, errors) in [
        ("api", "a:1", [15.0, 20.0, 30.0], 0.4, 0.001),
        ("api", "a:2", [15.0, 20.0, 30.0], 0.3, 0.001),
        ("api", "a:3", [15.0, 20.0, 30.0], 0.2, 0.001),
        ("api", "a:4", [15.0, 20.0, 30.0], 0.1, 0.001),
        ("web", "w:1", [10.0, 5.0, 5.0], 1.0, 0.02),
    ] {
        for (status, part) in [("200", 1.0 - errors), ("500", errors)] {
            let labels = [
                ("__name__", "http_requests_total"),
                ("job", job),
                ("instance", instance),
                ("status", status),
            ];
            for end in [29 * DAY, 7 * DAY, DAY, 0] {
                samples.add(&labels, end + 5 * MINUTE, end, |ago| requests(rates, ago) * share * part);
            }
        }
    }
    for (job, instance, value) in [
        ("api", "a:1", 1.0),
        ("api", "a:2", 2.0),
        ("api", "a:3", 3.0),
        ("api", "a:4", 9.0),
        ("web", "w:1", 4.0),
    ] {
        let labels = [("__name__", "node_load1"), ("job", job), ("instance", instance)];
        samples.add(&labels, 2 * HOUR, 0, |_| value);
    }
    let with_gap = [("__name__", "node_load1"), ("job", "web"), ("instance", "w:2")];
    samples.add(&with_gap, 2 * HOUR, 2 * MINUTE, |_| 4.0);
    samples.add(&with_gap, MINUTE, 0, |_| 4.0);
    for (instance, version) in [("a:1", "v1"), ("a:2", "v1"), ("a:3", "v2"), ("a:4", "v2")] {
        let labels =
            [("__name__", "build_info"), ("job", "api"), ("instance", instance), ("version", version)];
        samples.add(&labels, 2 * HOUR, 0, |_| 1.0);
    }
    for (pod, begin) in [("p-1", 3 * HOUR), ("p-2", 20 * MINUTE)] {
        samples.add(&[("__name__", "pod_cpu"), ("pod", pod)], begin, 0, |_| 0.5);
    }
    for (instance, sign) in [("a:1", 1.0), ("a:2", -1.0)] {
        let seconds = |ago: i64| (2 * HOUR - ago) as f64 / 1e3;
        samples.add(&[("__name__", "queue_length"), ("instance", instance)], 2 * HOUR, 0, seconds);
        let labels = [("__name__", "requests_in_flight"), ("instance", instance)];
        samples.add(&labels, 2 * HOUR, 0, |ago| 10_000.0 + sign * seconds(ago));
        world.add_exemplar(&labels, if sign > 0.0 { "4bf92f35" } else { "00f067aa" });
    }
    // The store takes no samples that are much older than those that it has.
    samples.0.sort_by_key(|sample| -sample.ago);
    for NewSample { ago, labels, value } in &samples.0 {
        world.add_at(labels, NOW - ago, *value);
    }
    world
}

/// A question of the page: its statement and its rows.
struct Question {
    statement: String,
    names: String,
    rows: Vec<String>,
}

/// The questions of the page, which stand in blocks `sql`, each with a block `answer` behind it.
fn questions() -> Vec<Question> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let page = std::fs::read_to_string(page).expect("UTF-8");
    let block = |text: &str| text.split("```").next().expect("an end").trim().to_owned();
    let mut found = Vec::new();
    for part in page.split("```sql\n").skip(1) {
        let statement = block(part);
        let answer = part.split("```answer\n").nth(1).map(block);
        let answer = answer.unwrap_or_else(|| panic!("{statement} has no answer"));
        let mut lines = answer.lines().map(str::to_owned);
        let names = lines.next().expect("the names of the columns");
        found.push(Question { statement, names, rows: lines.collect() });
    }
    found
}

/// A cell as the page shows it: numbers have at most six digits behind the point.
fn shown(cell: &str) -> String {
    match cell.parse::<f64>() {
        Ok(number) if cell.contains('.') && number.is_finite() => {
            let text = format!("{number:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => cell.to_owned(),
    }
}

fn line(cells: &[String]) -> String {
    cells.iter().map(|cell| shown(cell)).collect::<Vec<_>>().join(" | ")
}

#[test]
fn the_questions_of_the_page_have_their_answers() {
    let world = world();
    let questions = questions();
    assert_eq!(questions.len(), 15, "the fifteen questions");
    let mut wrong = Vec::new();
    for Question { statement, names, rows } in &questions {
        let (json, _) = match world.ask_as(statement, sql::output::Format::Json) {
            Ok(answer) => answer,
            Err(e) => {
                wrong.push(format!("{statement}\n{e}"));
                continue;
            }
        };
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        let columns = json["data"]["columns"].as_array().expect("columns").iter();
        let named: Vec<&str> = columns.filter_map(|column| column["name"].as_str()).collect();
        let found: Vec<String> = world.rows(statement).expect("rows").iter().map(|row| line(row)).collect();
        if named.join(" | ") != *names || found != *rows {
            wrong.push(format!("{statement}\nis\n{}\n{}", named.join(" | "), found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The rows of a statement that stands, sorted.
fn standing(engine: &SqlEngine, answers: &StatementAnswers, text: &str) -> Vec<String> {
    let rows = engine.standing_rows(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let options = QueryOptions::default();
    let answer = match rows.class {
        // The live runtime has plans; its tests compare it with this.
        StandingClass::Plan(_) => answers.instant(&rows.plan, NOW, &options),
        _ => {
            let standing = answers.standing(&rows.plan, StandingTimes::Present).expect("it stands");
            let mut standing = standing.unwrap_or_else(|| panic!("{text} does not stand"));
            standing.at(NOW, &options).map(|answer| answer.expect("a first answer"))
        }
    };
    let answer = answer.unwrap_or_else(|e| panic!("{text}: {e}"));
    let QueryValue::Vector(samples) = answer.value else { panic!("{text}: no rows") };
    let mut lines = Vec::new();
    for sample in &samples {
        let (row, count) = rows.row(&sample.labels, &Sample::Float(sample.v));
        let row: Value = serde_json::from_str(&row).expect("JSON");
        let cell = |name: &str| match &row[name] {
            Value::String(text) => text.clone(),
            Value::Null => "NULL".to_owned(),
            other => other.to_string(),
        };
        let cells: Vec<String> = rows.columns.iter().map(|column| cell(&column.name)).collect();
        lines.extend(std::iter::repeat_n(line(&cells), usize::try_from(count).expect("rows")));
    }
    lines.sort();
    lines
}

/// Those that are about the present stand, and have the same rows. The others read times of their
/// own.
#[test]
fn the_questions_stand() {
    let world = world();
    let engine = Arc::new(world.engine);
    let answers = StatementAnswers::new(engine.clone(), world.querier.clone());
    let mut stood = 0;
    for Question { statement, rows, .. } in questions() {
        if statement.contains("samples.") {
            continue;
        }
        let found = standing(&engine, &answers, &statement);
        let mut wanted = rows.clone();
        wanted.sort();
        assert_eq!(found, wanted, "{statement}");
        stood += 1;
    }
    assert_eq!(stood, 12);
}
