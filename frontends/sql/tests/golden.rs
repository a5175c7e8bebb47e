//! Tests the binder with pairs of PromQL and SQL (`tests/data/golden.tsv`): both must be the same
//! plan, and have the same result. Also statements that must not be bound.

mod support;

use engine::plan::as_promql::as_promql;
use engine::query::{QueryOptions, QueryValue};
use support::{NOW, SqlFixture, promql_plan, table};

/// A pair: PromQL, its step in ms if it is a range query, SQL.
struct Pair {
    promql: String,
    step: Option<i64>,
    sql: String,
}

fn pairs() -> Vec<Pair> {
    let rows = ["golden.tsv", "more.tsv", "others.tsv", "fresh.tsv"].into_iter().flat_map(table);
    let pairs: Vec<Pair> = rows
        .map(|row| {
            let (promql, step) = match row[0].split_once("  every ") {
                Some((promql, step)) => {
                    (promql, Some(storage::model::time::parse_duration(step).expect("a step")))
                }
                None => (row[0].as_str(), None),
            };
            Pair { promql: promql.to_owned(), step, sql: row[1].clone() }
        })
        .collect();
    assert!(pairs.len() > 100, "{} pairs", pairs.len());
    pairs
}

fn world() -> SqlFixture {
    let pairs = pairs();
    SqlFixture::of_queries(pairs.iter().map(|pair| pair.promql.as_str()))
}

#[test]
fn promql_and_sql_are_the_same_plan() {
    let world = world();
    let mut wrong = Vec::new();
    let pairs = pairs();
    for Pair { promql, step, sql } in &pairs {
        let wanted = promql_plan(promql);
        match world.engine.compile(sql, NOW) {
            Ok((plan, grid)) if plan == wanted && grid.map(|g| g.step) == *step => {}
            Ok((plan, grid)) => {
                wrong.push(format!("{sql}\n  is   {} {grid:?}\n  want {promql}", as_promql(&plan)))
            }
            Err(e) => wrong.push(format!("{sql}\n  {e}\n  want {promql}")),
        }
    }
    eprintln!("pairs: {} of {} are equal", pairs.len() - wrong.len(), pairs.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The pairs of the page: what a user of PromQL reads is true.
#[test]
fn the_pairs_of_the_page_are_the_same_plan() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let page = std::fs::read_to_string(page).expect("UTF-8");
    let block = page.split("```pairs\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let lines: Vec<&str> = block.lines().collect();
    assert!(lines.len() >= 20 && lines.len().is_multiple_of(2), "{lines:?}");
    let world = SqlFixture::of_queries(lines.iter().step_by(2).copied());
    for pair in lines.chunks(2) {
        let [promql, sql] = pair else { panic!("{pair:?}") };
        let (plan, _) = world.engine.compile(sql.trim(), NOW).unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(as_promql(&plan), as_promql(&promql_plan(promql)), "{sql}");
        assert_eq!(plan, promql_plan(promql), "{sql}");
    }
}

#[test]
fn what_must_not_be_a_plan_is_none() {
    let pairs = pairs();
    let more = ["x", "y", "down", "owners", "maintenance", "backup_up"];
    let world = SqlFixture::of_queries(pairs.iter().map(|pair| pair.promql.as_str()).chain(more));
    let shapes = table("refused.tsv");
    assert_eq!(shapes.len(), 14);
    for shape in shapes {
        match world.engine.compile(&shape[1], NOW) {
            Ok((plan, _)) => panic!("{}: {} became {}", shape[0], shape[1], as_promql(&plan)),
            Err(e) => eprintln!("{}: {e}", shape[0]),
        }
    }
}

/// As many rows as PromQL answers, and the same numbers.
#[test]
fn answers_are_those_of_promql() {
    let world = world();
    for Pair { promql, step, sql } in pairs() {
        if step.is_some() {
            continue;
        }
        let rows = world.rows(&sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let answer = world.querier.instant(&promql_plan(&promql), NOW, &QueryOptions::default());
        let QueryValue::Vector(samples) = answer.unwrap_or_else(|e| panic!("{promql}: {e}")).value else {
            panic!("{promql}: no vector")
        };
        let aggregates = ["SELECT count(*)", "SELECT var_pop", "SELECT histogram_quantile"];
        // `HAVING` filters the row over nothing, too.
        let is_global = aggregates.iter().any(|begin| sql.starts_with(begin)) && !sql.contains(" HAVING ");
        let wanted = if is_global { samples.len().max(1) } else { samples.len() };
        assert_eq!(rows.len(), wanted, "{sql}: {rows:?} for {samples:?}");
        let shows = |value: f64| {
            // The reader of JSON in this test rounds the last digit.
            let equal = |v: f64| {
                (v - value).abs() <= 1e-12 * value.abs() || v == value || (v.is_nan() && value.is_nan())
            };
            let near = |cell: &String| cell.parse::<f64>().is_ok_and(equal);
            rows.iter().any(|row| row.iter().any(near))
        };
        let has_number = rows.iter().flatten().any(|cell| cell.parse::<f64>().is_ok());
        let selects_value =
            !sql.starts_with("SELECT instance FROM") && !sql.starts_with("SELECT instance, job FROM");
        if has_number
            && selects_value
            && !sql.contains("DISTINCT")
            && !sql.contains("SELECT job, env FROM")
            && !sql.contains("mountpoint FROM")
        {
            for sample in &samples {
                assert!(shows(sample.v), "{sql}: {} is not in {rows:?}", sample.v);
            }
        }
    }
}

/// What DataFusion answers alone, where it can, is what plans answer: the same rows, and numbers
/// but for the last digits of sums.
#[test]
fn plans_and_datafusion_have_the_same_rows() {
    let world = world();
    let mut same = 0;
    let mut wrong = Vec::new();
    for Pair { sql, .. } in pairs() {
        let Ok(mut alone) = world.rows_without_plans(&sql) else { continue };
        let mut rows = world.rows(&sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        rows.sort();
        // Where a plan has no number it has no row; DataFusion has NULL.
        alone.retain(|row| rows.contains(row) || row.last().is_none_or(|cell| cell != "NULL"));
        let is_near = |a: &String, b: &String| match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => {
                (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) || a == b || (a.is_nan() && b.is_nan())
            }
            _ => a == b,
        };
        let is_same = rows.len() == alone.len()
            && rows.iter().flatten().zip(alone.iter().flatten()).all(|(a, b)| is_near(a, b));
        if is_same {
            same += 1;
        } else {
            wrong.push(format!("{sql}\n  plan  {rows:?}\n  alone {alone:?}"));
        }
    }
    eprintln!("statements that both answer: {same} the same, {} not", wrong.len());
    assert!(same > 100, "{same}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
