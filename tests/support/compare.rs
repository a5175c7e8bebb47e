//! Compares two query results: the same rows in any order, values within a relative tolerance.

use serde_json::Value;
use std::collections::BTreeMap;

/// The largest relative difference of two values, for rounding.
const RELATIVE: f64 = 1e-9;

/// The difference between two `data` objects of the query API, or `None`.
pub fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    if ours["resultType"] != theirs["resultType"] {
        return Some(format!("type {} against {}", ours["resultType"], theirs["resultType"]));
    }
    if !matches!(ours["resultType"].as_str(), Some("vector" | "matrix")) {
        return points_differ(&ours["result"], &theirs["result"]);
    }
    let ours = rows(ours);
    let theirs = rows(theirs);
    for labels in ours.keys().chain(theirs.keys()) {
        let complaint = match (ours.get(labels), theirs.get(labels)) {
            (Some(a), Some(b)) => points_differ(a, b),
            (Some(a), None) => Some(format!("only ours: {a}")),
            (None, b) => Some(format!("only theirs: {}", b.expect("in one of the two"))),
        };
        if let Some(complaint) = complaint {
            return Some(format!("{labels}: {complaint}"));
        }
    }
    None
}

/// Rows by label set (as sorted text), with their floats, or their histograms if they have only
/// those.
fn rows(data: &Value) -> BTreeMap<String, Value> {
    let list = data["result"].as_array().expect("a list of rows");
    let map: BTreeMap<String, Value> = list
        .iter()
        .map(|row| {
            let labels: BTreeMap<&String, &Value> =
                row["metric"].as_object().expect("labels").iter().collect();
            let points = ["values", "value", "histograms", "histogram"].iter().find_map(|key| row.get(*key));
            let points = points.expect("points");
            (format!("{labels:?}"), points.clone())
        })
        .collect();
    assert_eq!(map.len(), list.len(), "a label set twice in {data}");
    map
}

/// Compares `[t, "v"]`, or a list of such pairs.
fn points_differ(a: &Value, b: &Value) -> Option<String> {
    let x = flat(a);
    let y = flat(b);
    if x.len() != y.len() {
        return Some(format!("{} points against {}: {a} against {b}", x.len() / 2, y.len() / 2));
    }
    let unequal = x.iter().zip(&y).find(|(x, y)| !close(**x, **y));
    unequal.map(|(x, y)| format!("{x:?} against {y:?}"))
}

fn flat(points: &Value) -> Vec<f64> {
    match points {
        Value::Array(list) => list.iter().flat_map(flat).collect(),
        Value::Number(n) => vec![n.as_f64().expect("a number")],
        Value::String(text) => vec![text.parse().unwrap_or_else(|_| panic!("not a value: {text}"))],
        Value::Object(histogram) => {
            let parts: BTreeMap<&String, &Value> = histogram.iter().collect();
            parts.values().flat_map(|part| flat(part)).collect()
        }
        other => panic!("not a point: {other}"),
    }
}

fn close(x: f64, y: f64) -> bool {
    x == y
        || x.is_nan() && y.is_nan()
        || (x - y).abs() <= RELATIVE * x.abs().max(y.abs())
        || (x - y).abs() < 1e-12
}

#[test]
fn differences_are_found() {
    let vector = |v: &str| serde_json::json!({"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.5, v]}]});
    assert_eq!(difference(&vector("1"), &vector("1.0000000000001")), None);
    assert_eq!(difference(&vector("NaN"), &vector("NaN")), None);
    assert!(difference(&vector("1"), &vector("1.0001")).expect("a difference").contains("1.0001"));
    let empty = serde_json::json!({"resultType": "vector", "result": []});
    assert!(difference(&vector("1"), &empty).expect("a difference").contains("only ours"));
}
