//! Tests [`sql`] with random statements, drawn from a grammar, and with mutations of known ones.
//!
//! No text may end the process, panic, or take long. And where the binder makes a plan of a
//! statement, the result must be that of DataFusion over the raw samples.
//!
//! A case depends only on its seed and number: `SQL_TEXT_SEED=1 SQL_TEXT_CASE=17`;
//! `SQL_TEXTS=1000000` for a long run.

#[path = "../../../tests/differential/random.rs"]
#[allow(dead_code, reason = "made for another generator, too")]
mod random;
mod support;

use random::Random;
use sql::{SqlErrorKind, guard};
use std::time::{Duration, Instant};
use support::{SqlFixture, table};

const TEXTS: u64 = 400;
const COMPARED: u64 = 150;
/// What no text may take, on the slowest machine: one that hangs fails the test, a busy machine
/// does not.
const HANGS: Duration = Duration::from_secs(60);

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn cases(default: u64) -> std::ops::Range<u64> {
    match from_environment("SQL_TEXT_CASE") {
        Some(one) => one..one + 1,
        None => 0..from_environment("SQL_TEXTS").unwrap_or(default),
    }
}

fn seed() -> u64 {
    from_environment("SQL_TEXT_SEED").unwrap_or(1)
}

/// Statements that are known to be good, or to be refused.
fn known() -> Vec<String> {
    let files = ["golden.tsv", "more.tsv", "others.tsv", "fresh.tsv", "refused.tsv"];
    files.iter().flat_map(|file| table(file)).filter_map(|row| row.get(1).cloned()).collect()
}

/// A number of a row.
fn number(random: &mut Random, depth: u64) -> String {
    if depth == 0 {
        return random.pick(&["value", "1", "0.5", "-3", "1e308"]).to_owned();
    }
    let inner = |random: &mut Random| number(random, depth - 1);
    match random.below(14) {
        0..4 => "value".to_owned(),
        4 => format!("rate(value, '{}')", random.pick(&["30s", "5m", "1h"])),
        5 => format!("max_over_time(value, '{}')", random.pick(&["1m", "10m"])),
        6 => format!("ago({}, '1m')", inner(random)),
        7 => format!("({}) {} ({})", inner(random), random.pick(&["+", "-", "*", "/", "%"]), inner(random)),
        8 => format!("abs({})", inner(random)),
        9 => format!("CASE WHEN {} > 2 THEN {} ELSE 0 END", inner(random), inner(random)),
        10 => format!("({} {} 3)::float8", inner(random), random.pick(&[">", "<=", "=", "<>"])),
        11 => format!("coalesce({}, 0)", inner(random)),
        12 => "(SELECT sum(value) FROM up)".to_owned(),
        _ => format!("-{}", inner(random)),
    }
}

fn condition(random: &mut Random, depth: u64) -> String {
    match random.below(if depth == 0 { 8 } else { 11 }) {
        0 => format!("job = '{}'", random.pick(&["api", "web", ""])),
        1 => "instance ~ '^a:'".to_owned(),
        2 => "job IN ('api', 'x')".to_owned(),
        3 => "instance LIKE 'a%'".to_owned(),
        4 => format!("value {} {}", random.pick(&[">", "<", ">=", "<>"]), random.below(40)),
        5 => "path IS NULL".to_owned(),
        6 => "value BETWEEN 2 AND 90".to_owned(),
        7 => "job <> 'web'".to_owned(),
        8 => format!("NOT ({})", condition(random, depth - 1)),
        9 => format!("({} OR {})", condition(random, depth - 1), condition(random, depth - 1)),
        _ => format!("{} AND {}", condition(random, depth - 1), condition(random, depth - 1)),
    }
}

fn statement(random: &mut Random) -> String {
    let from = random.pick(&["up", "http_requests_total"]);
    let depth = random.below(3);
    let n = number(random, depth);
    let filter = if random.chance(60) { format!(" WHERE {}", condition(random, 2)) } else { String::new() };
    let by = random.pick(&["job", "instance", "job, instance"]);
    let of = random.pick(&["sum", "avg", "min", "max", "count", "stddev_pop"]);
    match random.below(12) {
        10 => joined(random, from),
        11 => {
            let exists = random.pick(&["EXISTS", "NOT EXISTS"]);
            let kept = condition(random, 0).replace("job", "b.job").replace("instance", "b.instance");
            let kept = kept.replace("value", "b.value").replace("path", "b.path");
            format!(
                "SELECT job, {of}(value) AS n FROM {from} a WHERE {exists} (SELECT 1 FROM up b WHERE b.job = a.job AND {kept}) GROUP BY job"
            )
        }
        0 => format!("SELECT job, instance, {n} AS n FROM {from}{filter}"),
        1 => format!("SELECT {by}, {of}({n}) AS n FROM {from}{filter} GROUP BY {by}"),
        2 => format!("SELECT {of}({n}) AS n FROM {from}{filter}"),
        3 => format!("SELECT {by}, {of}({n}) AS n FROM {from}{filter} GROUP BY {by} HAVING {of}({n}) > 3"),
        4 => format!("SELECT DISTINCT {by} FROM {from}{filter}"),
        5 => {
            let kept = condition(random, 0);
            let n = format!("{of}(value) FILTER (WHERE {kept})");
            match random.below(3) {
                0 => format!("SELECT {n} AS n FROM {from}{filter}"),
                1 => format!("SELECT {by}, {n} AS n FROM {from}{filter} GROUP BY {by}"),
                _ => format!("SELECT {by}, {n} AS n FROM {from}{filter} GROUP BY {by} HAVING {n} > 1"),
            }
        }
        6 => format!(
            "SELECT a.instance, a.value / b.value AS n FROM {from} a JOIN {from} b USING (labels){}",
            filter
                .replace("value", "a.value")
                .replace("job", "a.job")
                .replace("instance", "a.instance")
                .replace("path", "a.path")
        ),
        7 => format!(
            "SELECT instance, {n} AS n FROM {from} a WHERE EXISTS (SELECT 1 FROM up b WHERE b.instance = a.instance AND b.value > 0)"
        ),
        8 => format!(
            "WITH x AS (SELECT job, {of}({n}) AS n FROM {from}{filter} GROUP BY job) SELECT job, n FROM x WHERE n > 1"
        ),
        _ => format!(
            "SELECT job, instance, value FROM {from}{filter} ORDER BY value DESC LIMIT {}",
            random.below(5)
        ),
    }
}

/// Two relations, joined in one of the forms that SQL has for it.
fn joined(random: &mut Random, from: &str) -> String {
    let op = random.pick(&["+", "-", "*", "/"]);
    let of = random.pick(&["sum", "min", "count", "avg"]);
    let ago = random.pick(&["value", "ago(value, '1m')", "max_over_time(value, '5m')"]);
    let limit = random.pick(&["", " AND a.value > 2", " AND a.value < b.value", " AND a.job = 'api'"]);
    let group = format!("(SELECT job, {of}({ago}) AS n FROM {from} GROUP BY job)");
    match random.below(6) {
        0 => format!(
            "SELECT a.instance, a.value {op} b.value AS n FROM {from} a JOIN {from} b ON a.labels = b.labels{limit}"
        ),
        1 => format!(
            "SELECT a.instance, a.value {op} b.value AS n FROM {from} a, {from} b WHERE b.labels = a.labels{limit}"
        ),
        2 => {
            format!("SELECT a.instance, a.value {op} g.n AS n FROM {from} a JOIN {group} g ON g.job = a.job")
        }
        3 => format!(
            "SELECT a.instance, a.value {op} g.n AS n FROM {from} a JOIN {group} g USING (job) WHERE g.n > 2"
        ),
        4 => format!("SELECT a.job, a.n {op} b.n AS n FROM {group} a, {group} b WHERE a.job = b.job"),
        _ => format!(
            "SELECT a.job, a.n {op} b.n AS n FROM {group} a JOIN (SELECT job, count(*) AS n FROM up WHERE value > 0 GROUP BY job) b ON a.job = b.job"
        ),
    }
}

/// Pieces that are put into statements.
const PIECES: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "(",
    ")",
    ",",
    "'",
    "\"",
    "--",
    "/*",
    "*/",
    ";",
    "::",
    "::float8",
    "NULL",
    "value",
    "labels",
    "ts",
    "rate(",
    "promql('",
    "samples.",
    "meta.",
    "interval '1h'",
    "now()",
    "$1",
    "CASE WHEN",
    "END",
    "OVER (",
    "PARTITION BY",
    "UNION ALL",
    "JOIN up USING (job)",
    "NOT",
    "-",
    "1e999",
    "9223372036854775808",
    "\u{0}",
    "é",
    "\u{202e}",
    "$$",
    "E'\\",
    "U&'",
    "[",
    "]",
    "{",
    "}",
    "->",
    "@",
    "^",
    "~*",
    "LATERAL",
    "EXPLAIN",
    "WITH RECURSIVE x AS (",
    "VALUES (1)",
    "date_bin('1m', ts)",
    "row_number() OVER ()",
    "EXISTS (SELECT 1)",
];

fn mutated(random: &mut Random, known: &[String]) -> String {
    let mut text = if random.chance(50) { random.pick(known) } else { statement(random) };
    for _ in 0..1 + random.below(4) {
        let words: Vec<&str> = text.split(' ').collect();
        let at = random.below(words.len() as u64) as usize;
        text = match random.below(8) {
            0 => [&words[..at], &words[(at + 1).min(words.len())..]].concat().join(" "),
            1 => [&words[..at], &[words[at]], &words[at..]].concat().join(" "),
            2 | 3 => [&words[..at], &[random.pick(PIECES)], &words[at..]].concat().join(" "),
            4 => {
                let other = random.pick(known);
                let other: Vec<&str> = other.split(' ').collect();
                let from = random.below(other.len() as u64) as usize;
                [&words[..at], &other[from..]].concat().join(" ")
            }
            5 => {
                let n = random.pick(&[2, 20, 200, 2_000]);
                let piece =
                    random.pick(&[" + 1", " OR true", " || 'x'", "::text", " UNION ALL SELECT 1", ", 1"]);
                format!("{text}{}", piece.repeat(n))
            }
            6 => {
                let n = random.pick(&[1, 10, 60, 1_000]);
                format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n))
            }
            _ => {
                // A character is replaced.
                let mut letters: Vec<char> = text.chars().collect();
                let at = random.below(letters.len().max(1) as u64) as usize;
                if let Some(letter) = letters.get_mut(at) {
                    *letter = random.pick(&['(', '\'', '"', '%', '0', 'x', ' ', '\\', '\u{fffd}']);
                }
                letters.into_iter().collect()
            }
        };
    }
    text
}

/// Statements whose plan had one row without labels, whatever rows there are.
#[test]
fn numbers_that_read_no_row_are_no_plans() {
    let world = SqlFixture::of_queries(["up"].into_iter());
    for number in ["(SELECT sum(value) FROM up)", "(1 <= 3)::float8", "value - abs(1e308)"] {
        let text = format!("SELECT instance, {number} AS n FROM up");
        assert!(world.engine.compile(&text, support::NOW).is_err(), "{text}");
        assert_eq!(world.rows(&text).map(|rows| rows.len()), Ok(3), "{text}");
    }
    for measure in ["stddev_pop(1e308)", "count((SELECT sum(value) FROM up))", "count(abs(1))"] {
        let text = format!("SELECT job, {measure} AS n FROM up GROUP BY job");
        assert!(world.engine.compile(&text, support::NOW).is_err(), "{text}");
        assert_eq!(world.rows(&text).map(|rows| rows.len()), Ok(2), "{text}");
    }
}

#[test]
fn no_text_ends_the_server_or_hangs() {
    let known = known();
    let world = SqlFixture::of_queries(["up", "http_requests_total"].into_iter());
    let mut slowest = (Duration::ZERO, String::new());
    let mut good = 0;
    for case in cases(TEXTS) {
        let mut random = Random::new(&[seed(), case]);
        let text = if random.chance(25) { statement(&mut random) } else { mutated(&mut random, &known) };
        let shown =
            || format!("seed {}, case {case}: {}", seed(), text.chars().take(2_000).collect::<String>());
        let began = Instant::now();
        let _ = guard::check_text(&text);
        for result in [
            world.engine.compile(&text, support::NOW).map(drop),
            world.engine.standing_rows(&text).map(drop),
            world.engine.standing_series(&text, true).map(drop),
        ] {
            match result {
                Ok(()) => good += 1,
                Err(e) => {
                    // A panic becomes this kind.
                    assert_ne!(e.kind, SqlErrorKind::Internal, "{}: {e}", shown());
                    assert!(!e.to_string().is_empty(), "{}", shown());
                }
            }
        }
        let took = began.elapsed();
        assert!(took < HANGS, "{}: {took:?}", shown());
        if took > slowest.0 {
            slowest = (took, text);
        }
    }
    let shown: String = slowest.1.chars().take(200).collect();
    eprintln!("{good} were good; the slowest took {:?}: {shown}", slowest.0);
    assert!(good > 0 || from_environment("SQL_TEXT_CASE").is_some(), "all were refused");
}

/// Cells are equal, as numbers within what the order of a sum may change.
fn is_near(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => a == b || x == y || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()),
        _ => a == b,
    }
}

/// A statement that is a plan, and the same without plans.
#[test]
fn plans_have_the_rows_of_datafusion_alone() {
    let world = SqlFixture::of_queries(["up", "http_requests_total"].into_iter());
    let mut compared = 0;
    let mut rows = 0;
    for case in cases(COMPARED) {
        let mut random = Random::new(&[seed(), case, 1]);
        let text = statement(&mut random);
        if world.engine.compile(&text, support::NOW).is_err() {
            continue;
        }
        // What DataFusion cannot do alone is no difference: functions that only plans have.
        let Ok(alone) = world.rows_without_plans(&text) else { continue };
        let shown = || format!("seed {}, case {case}: {text}", seed());
        let mut together = world.rows(&text).unwrap_or_else(|e| panic!("{}: {e}", shown()));
        together.sort();
        // Of a tie at a LIMIT either row is right: the numbers are compared.
        let is_limited = text.contains(" LIMIT ");
        let cells = |row: &Vec<String>| if is_limited { row[row.len() - 1..].to_vec() } else { row.clone() };
        let (a, b): (Vec<_>, Vec<_>) =
            (together.iter().map(cells).collect(), alone.iter().map(cells).collect());
        let is_same =
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.iter().zip(b).all(|(a, b)| is_near(a, b)));
        assert!(is_same, "{}\nplans: {together:?}\nalone: {alone:?}", shown());
        compared += 1;
        rows += alone.len();
    }
    eprintln!("compared {compared} statements, {rows} rows");
    assert!(compared > 20 || from_environment("SQL_TEXT_CASE").is_some(), "only {compared}");
}
