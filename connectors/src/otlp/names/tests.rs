//! Tests of the translation of names, with the tables of Prometheus' own tests.

use super::*;

/// The rows of a table, as cells.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(" |").map(|cell| cell.strip_prefix(' ').unwrap_or(cell)).collect())
}

#[test]
fn metrics_have_the_names_of_prometheus() {
    let mut num_checked = 0;
    for row in rows(include_str!("metric_names.txt")) {
        let [strategy, name, unit, kind, unit_name, want] = row[..] else { panic!("{row:?}") };
        let strategy = TranslationStrategy::ALL.into_iter().find(|s| s.as_str() == strategy).unwrap();
        let kind = match kind {
            "Gauge" => MetricKind::Gauge,
            "MonotonicCounter" => MetricKind::Counter,
            "NonMonotonicCounter" => MetricKind::Sum,
            "Histogram" | "ExponentialHistogram" => MetricKind::Histogram,
            // Both are names without a suffix for the kind.
            "Summary" | "Unknown" => MetricKind::Summary,
            other => panic!("{other}"),
        };
        let got = strategy.metric_name(name, unit, kind).unwrap_or_else(|error| format!("error: {error}"));
        assert_eq!(got, want, "{row:?}");
        assert_eq!(unit_label(unit), unit_name, "{row:?}");
        num_checked += 1;
    }
    assert!(num_checked > 80);
}

#[test]
fn labels_have_the_names_of_prometheus() {
    for row in rows(include_str!("label_names.txt")) {
        let [name, ref wanted @ ..] = row[..] else { panic!("{row:?}") };
        for (n, want) in wanted.iter().enumerate() {
            let names =
                LabelNames { escapes: true, sanitizes_underscore: n >= 2, keeps_underscores: n % 2 == 1 };
            assert_eq!(names.label(name).as_deref(), Ok(*want), "{name} {names:?}");
        }
        let utf8 = LabelNames { escapes: false, sanitizes_underscore: true, keeps_underscores: true };
        assert_eq!(utf8.label(name).as_deref(), Ok(name));
    }
}

#[test]
fn labels_without_a_name_are_refused() {
    let error = |name: &str, escapes, keeps_underscores| {
        let names = LabelNames { escapes, sanitizes_underscore: false, keeps_underscores };
        names.label(name).unwrap_err().to_string()
    };
    for escapes in [true, false] {
        assert_eq!(error("", escapes, true), "label name is empty");
    }
    let normalized = |name: &str, becomes: &str| {
        format!("normalization for label name {name:?} resulted in invalid name {becomes:?}")
    };
    assert_eq!(error("ようこそ", true, false), normalized("ようこそ", "_"));
    assert_eq!(error("ようこそ", true, true), normalized("ようこそ", "____"));
    assert_eq!(error("__", true, false), normalized("__", "_"));
    assert_eq!(error("__", true, true), normalized("__", "__"));
    assert_eq!(error("__", false, true), "label name \"__\" contains only underscores");
}
