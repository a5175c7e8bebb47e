//! A server's response to a query, and the comparison of two responses.
//!
//! Two responses are equal if they have the same status and error type (and error text, without the
//! parts that depend on the order of series), the same result type, and the same label sets at the
//! same times. Values must be within [`RELATIVE`] of each other; values that are equal in all bits
//! are counted separately. The order must be the same where Prometheus guarantees one. Read next:
//! [`crate::shrink`].

use crate::expr::Expr;
use crate::support::http::{self, encode};
use serde_json::Value;
use std::collections::BTreeMap;

/// The largest relative difference of two values, caused by rounding of transcendental functions
/// and of means.
pub const RELATIVE: f64 = 1e-12;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// When a query is evaluated, in ms.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum When {
    /// At one time.
    Instant(i64),
    /// Start, end, step.
    Range(i64, i64, i64),
}

impl When {
    /// The evaluation times.
    pub fn times(self) -> Vec<i64> {
        match self {
            When::Instant(t) => vec![t],
            When::Range(start, end, step) => (start..=end).step_by(step as usize).collect(),
        }
    }
}

/// A row of a result: labels, and points as (time in s, value).
#[derive(Clone, Debug)]
pub struct Row {
    /// The labels.
    pub labels: Labels,
    /// The points: times in seconds, and values.
    pub points: Vec<(f64, Sample)>,
}

/// A value as the API writes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A float; any NaN equals any other.
    Float(f64),
    /// The text of a string result.
    Text(String),
    /// A native histogram.
    Histogram(Native),
}

/// A bucket: which bounds are inclusive, lower and upper bound, count.
pub type Bucket = (u64, f64, f64, f64);

/// A native histogram as the API writes it, without empty buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// The number of observations.
    pub count: f64,
    /// The sum of the observations.
    pub sum: f64,
    /// The buckets from the lowest to the highest, with the zero bucket.
    pub buckets: Vec<Bucket>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The result, or (errorType, error).
    pub result: Result<Data, (String, String)>,
}

/// The result of a successful response.
#[derive(Clone, Debug)]
pub struct Data {
    /// `resultType`.
    pub kind: String,
    /// The rows in their order; a scalar or string is one row without labels.
    pub rows: Vec<Row>,
}

/// The order of rows that a result guarantees.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// No order.
    Any,
    /// By value; equal values in any order.
    Values,
    /// By labels.
    Labels,
}

/// The counts of compared values.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of compared values.
    pub values: u64,
    /// The number of values that are equal in all bits.
    pub exact: u64,
}

/// Sends a query to a server.
pub fn ask(port: u16, query: &str, when: When) -> Answer {
    let query = encode(query);
    let path = match when {
        When::Instant(t) => format!("/api/v1/query?query={query}&time={}", seconds(t)),
        When::Range(start, end, step) => format!(
            "/api/v1/query_range?query={query}&start={}&end={}&step={}",
            seconds(start),
            seconds(end),
            seconds(step)
        ),
    };
    let answer = http::get(port, &path).unwrap_or_else(|e| panic!("GET {path}: {e}"));
    read(answer.status, &answer.json())
}

/// Milliseconds as decimal seconds, as the API expects them.
fn seconds(t: i64) -> String {
    let sign = if t < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", t.abs() / 1000, t.abs() % 1000)
}

/// Parses a response.
pub fn read(status: u16, json: &Value) -> Answer {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let result = match text(&json["status"]).as_str() {
        "success" => Ok(data(&json["data"])),
        _ => Err((text(&json["errorType"]), text(&json["error"]))),
    };
    Answer { status, result }
}

fn data(data: &Value) -> Data {
    let kind = data["resultType"].as_str().expect("a type").to_string();
    let list = data["result"].as_array().expect("a list");
    let rows = match kind.as_str() {
        "scalar" | "string" => {
            vec![Row { labels: Labels::new(), points: vec![point(&data["result"], &kind)] }]
        }
        _ => list.iter().map(row).collect(),
    };
    Data { kind, rows }
}

fn row(row: &Value) -> Row {
    let labels = row["metric"].as_object().expect("labels").iter();
    let labels = labels.map(|(k, v)| (k.clone(), v.as_str().expect("text").to_string())).collect();
    let one = ["value", "histogram"].iter().filter_map(|key| row.get(key)).map(|v| point(v, ""));
    let many = ["values", "histograms"].iter().filter_map(|key| row[key].as_array());
    let mut points: Vec<_> = one.chain(many.flatten().map(|p| point(p, ""))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Row { labels, points }
}

fn native(object: &Value) -> Sample {
    let number = |v: &Value| v.as_str().expect("a number").parse::<f64>().expect("a number");
    let bucket = |v: &Value| (v[0].as_u64().expect("0 to 3"), number(&v[1]), number(&v[2]), number(&v[3]));
    let buckets = object["buckets"].as_array().into_iter().flatten().map(bucket);
    Sample::Histogram(Native {
        count: number(&object["count"]),
        sum: number(&object["sum"]),
        buckets: buckets.filter(|b| b.3 != 0.0).collect(),
    })
}

fn point(pair: &Value, kind: &str) -> (f64, Sample) {
    let text = pair[1].as_str().unwrap_or_default();
    let sample = match kind {
        _ if pair[1].is_object() => native(&pair[1]),
        "string" => Sample::Text(text.to_string()),
        _ => Sample::Float(text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))),
    };
    (pair[0].as_f64().expect("a time"), sample)
}

impl Answer {
    /// The rows of a successful response; empty for an error.
    pub fn rows(&self) -> &[Row] {
        self.result.as_ref().map_or(&[], |data| &data.rows)
    }

    /// Whether a value is a native histogram.
    pub fn has_histograms(&self) -> bool {
        let native = |(_, sample): &(f64, Sample)| matches!(sample, Sample::Histogram(_));
        self.rows().iter().any(|row| row.points.iter().any(native))
    }

    /// Whether the response is an error.
    pub fn failed(&self) -> bool {
        self.result.is_err()
    }

    /// The values by time (ms) and labels.
    pub fn steps(&self) -> BTreeMap<i64, BTreeMap<Labels, f64>> {
        let mut steps: BTreeMap<i64, BTreeMap<Labels, f64>> = BTreeMap::new();
        for row in self.rows() {
            for (t, v) in &row.points {
                let step = steps.entry((t * 1000.0).round() as i64).or_default();
                step.insert(row.labels.clone(), v.float());
            }
        }
        steps
    }
}

impl Sample {
    /// The float; NaN for other values.
    pub fn float(&self) -> f64 {
        match self {
            Sample::Float(v) => *v,
            Sample::Text(_) | Sample::Histogram(_) => f64::NAN,
        }
    }

    fn exact(&self, other: &Sample) -> bool {
        match (self, other) {
            (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
            (a, b) => a == b,
        }
    }

    fn close(&self, other: &Sample) -> bool {
        match (self, other) {
            (Sample::Float(a), Sample::Float(b)) => close(*a, *b),
            (Sample::Histogram(a), Sample::Histogram(b)) => a.close(b),
            (a, b) => a == b,
        }
    }
}

impl Native {
    /// Multiplies all counts and the sum by a factor.
    pub fn scale(&mut self, by: f64) {
        self.count *= by;
        self.sum *= by;
        for bucket in &mut self.buckets {
            bucket.3 *= by;
        }
    }

    fn close(&self, other: &Native) -> bool {
        let bucket =
            |(a, b): (&Bucket, &Bucket)| a.0 == b.0 && close(a.1, b.1) && close(a.2, b.2) && close(a.3, b.3);
        close(self.count, other.count)
            && close(self.sum, other.sum)
            && self.buckets.len() == other.buckets.len()
            && self.buckets.iter().zip(&other.buckets).all(bucket)
    }
}

/// Whether two floats are equal except for rounding; zeros of both signs are equal.
pub fn close(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= RELATIVE * a.abs().max(b.abs())
}

/// The order that the result of an expression guarantees.
pub fn order(expr: &Expr, when: When) -> Order {
    match (when, expr) {
        (When::Range(..), _) => Order::Labels,
        (_, Expr::Call("sort" | "sort_desc", _)) => Order::Values,
        (_, Expr::Aggregate { op: "topk" | "bottomk", grouping: None, .. }) => Order::Values,
        _ => Order::Any,
    }
}

/// Compares two responses; the error describes the difference.
pub fn compare(ours: &Answer, theirs: &Answer, order: Order) -> Result<Tally, String> {
    if ours.status != theirs.status {
        return Err(format!("status {} against {}", ours.status, theirs.status));
    }
    let (ours, theirs) = match (&ours.result, &theirs.result) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(a), Err(b)) if a.0 == b.0 && plain(&a.1) == plain(&b.1) => return Ok(Tally::default()),
        (a, b) => return Err(format!("{:?} against {:?}", a.as_ref().err(), b.as_ref().err())),
    };
    if ours.kind != theirs.kind {
        return Err(format!("type {} against {}", ours.kind, theirs.kind));
    }
    let tally = compare_rows(&ours.rows, &theirs.rows)?;
    compare_order(&ours.rows, &theirs.rows, order)?;
    Ok(tally)
}

/// An error text without the series that the server happened to evaluate first.
pub fn plain(text: &str) -> String {
    let cut = |text: &str, from: &str, to: &str| match (text.find(from), text.find(to)) {
        (Some(a), Some(b)) if a < b => format!("{}{}", &text[..a], &text[b..]),
        _ => text.to_string(),
    };
    cut(text, "for the match group", ";many-to-many")
}

fn compare_rows(ours: &[Row], theirs: &[Row]) -> Result<Tally, String> {
    let index = |rows: &'_ [Row]| -> BTreeMap<Labels, Vec<(f64, Sample)>> {
        rows.iter().map(|r| (r.labels.clone(), r.points.clone())).collect()
    };
    let mine = index(ours);
    let other = index(theirs);
    if mine.len() != ours.len() {
        return Err("a label set twice in ours".into());
    }
    let mut tally = Tally::default();
    for labels in mine.keys().chain(other.keys()) {
        match (mine.get(labels), other.get(labels)) {
            (Some(a), Some(b)) => compare_points(a, b, &mut tally).map_err(|e| format!("{labels:?}: {e}"))?,
            (Some(a), None) => return Err(format!("only ours: {labels:?} {a:?}")),
            (_, b) => return Err(format!("only theirs: {labels:?} {b:?}")),
        }
    }
    // Each row was compared twice, once from each side.
    Ok(Tally { values: tally.values / 2, exact: tally.exact / 2 })
}

fn compare_points(a: &[(f64, Sample)], b: &[(f64, Sample)], tally: &mut Tally) -> Result<(), String> {
    let times = |points: &[(f64, Sample)]| points.iter().map(|(t, _)| *t).collect::<Vec<_>>();
    if times(a) != times(b) {
        return Err(format!("at {:?} against {:?}", times(a), times(b)));
    }
    for ((t, x), (_, y)) in a.iter().zip(b) {
        if !x.close(y) {
            return Err(format!("{x:?} against {y:?} at {t}"));
        }
        tally.values += 1;
        tally.exact += u64::from(x.exact(y));
    }
    Ok(())
}

fn compare_order(ours: &[Row], theirs: &[Row], order: Order) -> Result<(), String> {
    let value = |row: &Row| row.points.first().map_or(Sample::Float(f64::NAN), |p| p.1.clone());
    let differs = |(a, b): (&Row, &Row)| match order {
        Order::Any => false,
        Order::Values => !value(a).close(&value(b)),
        Order::Labels => a.labels != b.labels,
    };
    match ours.iter().zip(theirs).position(differs) {
        Some(at) => Err(format!("row {at} is {:?} against {:?}", ours[at].labels, theirs[at].labels)),
        None => Ok(()),
    }
}

#[cfg(test)]
fn vector(rows: &[(&str, &str)]) -> Answer {
    let rows: Vec<Value> =
        rows.iter().map(|(l, v)| serde_json::json!({"metric": {"a": l}, "value": [1.5, v]})).collect();
    let data = serde_json::json!({"resultType": "vector", "result": rows});
    read(200, &serde_json::json!({"status": "success", "data": data}))
}

#[test]
fn differences_are_found() {
    let one = vector(&[("x", "1"), ("y", "2")]);
    let same = |other: &Answer, order| compare(&one, other, order);
    let close = vector(&[("y", "2"), ("x", "1.0000000000000002")]);
    assert_eq!(same(&close, Order::Any), Ok(Tally { values: 2, exact: 1 }));
    assert!(same(&close, Order::Values).is_err(), "another order");
    assert!(same(&vector(&[("x", "1"), ("y", "2.0001")]), Order::Any).is_err(), "another value");
    assert!(same(&vector(&[("x", "1")]), Order::Any).expect_err("a row less").contains("only ours"));
    assert!(same(&vector(&[("x", "1"), ("z", "2")]), Order::Any).is_err(), "other labels");
    let error = |kind: &str, text: &str| {
        read(422, &serde_json::json!({"status": "error", "errorType": kind, "error": text}))
    };
    assert!(compare(&error("execution", "a"), &error("execution", "b"), Order::Any).is_err(), "another text");
    assert!(compare(&error("execution", "a"), &error("bad_data", "a"), Order::Any).is_err(), "another type");
    assert!(compare(&error("execution", "a"), &error("execution", "a"), Order::Any).is_ok());
}
