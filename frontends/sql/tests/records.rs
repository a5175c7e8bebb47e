//! Runs the records of `tests/slt/*.slt`: statements with the expected rows or error, in the format
//! of sqllogictest.
//!
//! A record is `query` (or `query rowsort`), the statement, `----` and the rows, with two spaces
//! between cells; or `error`, a part of the error's text on the same line, and the statement.
//! `tests/postgres.rs` of the server runs the same records over the PostgreSQL wire, except those
//! that begin with `skipif wire`: a real server has other rows in these lists, or the wire itself
//! handles these statements.

mod support;

use sql::tables::{Table, TableFormat, TableList};
use std::path::Path;
use std::sync::Arc;
use support::{SqlFixture, table};

/// The data that the records are about. Everything is constant or grows by a constant, so the
/// numbers can be told without a computer.
fn world() -> SqlFixture {
    let world = SqlFixture::empty();
    fill(&world);
    world
}

fn fill(world: &SqlFixture) {
    let times = || (0..=240i64).rev().map(|k| k * 15);
    for series in table("world.tsv") {
        let [name, labels, kind, number] = series.as_slice() else { panic!("{series:?}") };
        let number: f64 = number.parse().expect("a number");
        let pairs = labels.split(',').map(|pair| pair.split_once('=').expect("a label"));
        let labels: Vec<(&str, &str)> = [("__name__", name.as_str())].into_iter().chain(pairs).collect();
        let value = |ago: i64| if kind == "grows" { number * (3_600 - ago) as f64 } else { number };
        world.add(&labels, times().map(|ago| (ago, value(ago))));
    }
}

/// Runs one record; why it fails.
fn run(world: &SqlFixture, record: &str) -> Result<(), String> {
    let (head, body) = record.split_once('\n').ok_or("a record has several lines")?;
    if let Some(part) = head.strip_prefix("error ") {
        return match world.rows(body) {
            Ok(rows) => Err(format!("{body}\nanswered {rows:?} instead of {part:?}")),
            Err(e) if e.to_string().contains(part) => Ok(()),
            Err(e) => Err(format!("{body}\n{e}\ndoes not say {part:?}")),
        };
    }
    let (statement, wanted) = body.split_once("\n----").ok_or("a query has ----")?;
    let mut wanted: Vec<String> = wanted.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
    let rows = world.rows(statement).map_err(|e| format!("{statement}\n{e}"))?;
    let mut rows: Vec<String> = rows.iter().map(|row| row.join("  ")).collect();
    match head {
        "query" => {}
        "query rowsort" => {
            rows.sort();
            wanted.sort();
        }
        other => return Err(format!("what is {other:?}?")),
    }
    if rows == wanted {
        Ok(())
    } else {
        Err(format!("{statement}\nis\n{}\nwant\n{}", rows.join("\n"), wanted.join("\n")))
    }
}

#[test]
fn records() {
    let world = world();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut total = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let records = text.split("\n\n").map(str::trim).filter(|record| !record.is_empty());
        for record in records {
            let is_said = |line: &&str| !line.starts_with('#') && *line != "skipif wire";
            let lines: Vec<&str> = record.lines().filter(is_said).collect();
            if lines.is_empty() {
                continue;
            }
            total += 1;
            if let Err(why) = run(&world, &lines.join("\n")) {
                wrong.push(format!("{}: {why}", path.file_name().expect("a name").display()));
            }
        }
    }
    eprintln!("records: {} of {total}", total - wrong.len());
    assert!(total >= 300, "{total} records");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The examples of the page that stand in the text run, and `EXPLAIN` says what the page says. Its
/// questions are in `questions.rs`.
#[test]
fn the_examples_of_the_page_run() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let page = std::fs::read_to_string(page).expect("UTF-8");
    let world = SqlFixture::with(Arc::new(sql::relations::LateLists::default()), Arc::new(Brought));
    fill(&world);
    let mut run = 0;
    for block in page.split("\n\n").filter(|block| block.starts_with("    ")) {
        let lines: Vec<&str> = block.lines().map(str::trim).collect();
        match lines[0].split(' ').next() {
            Some("EXPLAIN") => {
                let lists = ["stands: as a dataflow", "keeps: "];
                let rows = world.rows(lines[0]).unwrap_or_else(|e| panic!("{block}: {e}"));
                let said: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
                for line in lines[1..].iter().filter(|line| **line != "…") {
                    let is_said = said.contains(line) || lists.iter().any(|list| line.starts_with(list));
                    assert!(is_said, "{line} is not in {said:?}");
                }
                run += 1;
            }
            Some("SELECT") => {
                // As Grafana expands its macros.
                let text = lines
                    .join(" ")
                    .replace("$__timeGroup(ts, '1m')", "floor(extract(epoch from ts)/60)*60")
                    .replace(
                        "$__timeFilter(ts)",
                        "ts BETWEEN '2026-11-24T23:00:00Z' AND '2026-11-25T00:00:00Z'",
                    );
                world.rows(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
                run += 1;
            }
            _ => {}
        }
    }
    // How a statement begins in a command, and the quote that ends it.
    let commands =
        [("perennial sql \"", '"'), ("-d \"", '"'), ("\"sql=", '"'), ("psql -h 127.0.0.1 -U me -c '", '\'')];
    for line in page.lines() {
        let statement = |(begin, end): &(&str, char)| {
            line.split_once(*begin).and_then(|(_, rest)| rest.split(*end).next())
        };
        let Some(statement) = commands.iter().find_map(statement) else { continue };
        world.rows(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        run += 1;
    }
    assert!(run >= 9, "{run} examples");
}

/// What the examples of the page read.
struct Brought;

impl TableList for Brought {
    fn table(&self, name: &str) -> Option<Arc<Table>> {
        let text = "job,owner\napi,ana\n";
        (name == "owners").then(|| Arc::new(Table::read(text, TableFormat::Csv).expect("a table")))
    }

    fn names(&self) -> Vec<String> {
        vec!["owners".to_owned()]
    }

    fn view(&self, name: &str) -> Option<Arc<str>> {
        (name == "down").then(|| "SELECT job, instance FROM up WHERE value = 0".into())
    }
}
