//! Tests relabelling against a table: input labels, rules in YAML, expected labels (`None`:
//! dropped).

use super::*;
use storage::model::Labels;

type Pairs = &'static [(&'static str, &'static str)];
const AB: Pairs = &[("a", "foo"), ("b", "bar"), ("c", "baz")];

fn run(input: Pairs, yaml: &str) -> Option<Labels> {
    let configs: Vec<RelabelConfig> = serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"));
    let relabeler = Relabeler::new(&configs).unwrap_or_else(|e| panic!("{yaml}: {e}"));
    let mut labels = Labels::from_pairs(input.iter().copied()).to_builder();
    relabeler.apply(&mut labels).then(|| labels.build())
}

#[test]
fn rules_that_make_much_of_little_end() {
    let doubling = [
        "{source_labels: [a], target_label: a, replacement: '$1$1'}",
        "{action: labelmap, regex: '(.*)', replacement: '$1$1'}",
        "{action: labelmap, regex: '(.*)', replacement: 'x$1'}, {action: labelmap, regex: '(.*)', replacement: 'y$1'}",
    ];
    for rule in doubling {
        let yaml = format!("[{}]", vec![rule; 40].join(", "));
        let configs: Vec<RelabelConfig> = serde_saphyr::from_str(&yaml).unwrap();
        let relabeler = Relabeler::new(&configs).unwrap();
        let mut labels = Labels::from_pairs(AB.iter().copied()).to_builder();
        assert_eq!(relabeler.apply_while(&mut labels, || true), Err(RelabelError::TooLarge), "{rule}");
        let bytes: usize = labels.pairs().iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= 2 * SERIES_BYTES, "{rule}: {bytes}");
    }
}

#[test]
fn rules_end_where_nobody_waits_for_them() {
    let configs: Vec<RelabelConfig> = serde_saphyr::from_str("[{action: labelmap, regex: 'x(.*)'}]").unwrap();
    let relabeler = Relabeler::new(&configs).unwrap();
    let mut labels = Labels::from_pairs(AB.iter().copied()).to_builder();
    assert_eq!(relabeler.apply_while(&mut labels, || false), Err(RelabelError::Interrupted));
}

const ACTIONS: &[(Pairs, &str, Option<Pairs>)] = &[
    (
        AB,
        "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")]),
    ),
    (
        AB,
        "[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b$1${2}m'}]",
        Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz")]),
    ),
    // In Go and in Rust `$1m` refers to a group named `1m`, which does not exist.
    (
        AB,
        "[{source_labels: [a], regex: 'f(.*)', target_label: a, replacement: 'x$1m'}]",
        Some(&[("a", "x"), ("b", "bar"), ("c", "baz")]),
    ),
    (AB, "[{source_labels: [a], regex: '.*o.*', action: drop}, {source_labels: [b], target_label: d}]", None),
    (AB, "[{source_labels: [a], regex: 'no-match', action: drop}]", Some(AB)),
    (AB, "[{source_labels: [a], regex: 'fo', action: drop}]", Some(AB)),
    (AB, "[{source_labels: [a], regex: 'f|o', action: drop}]", Some(AB)),
    (AB, "[{source_labels: [a], regex: 'no-match', action: keep}]", None),
    (AB, "[{source_labels: [a], regex: 'f.*', action: KEEP}]", Some(AB)),
    (AB, "[{source_labels: [missing], regex: '', action: keep}]", Some(AB)),
    (&[("k", "true")], "[{source_labels: [k], action: keep, regex: true}]", Some(&[("k", "true")])),
    (&[("p", "8080")], "[{source_labels: [p], action: keep, regex: 8080}]", Some(&[("p", "8080")])),
    (
        AB,
        "[{target_label: d, replacement: static}]",
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "static")]),
    ),
    (AB, "[{target_label: a, replacement: ''}]", Some(&[("b", "bar"), ("c", "baz")])),
    (
        AB,
        "[{source_labels: [a], regex: 'foo', target_label: b, replacement: ''}]",
        Some(&[("a", "foo"), ("c", "baz")]),
    ),
    (
        &[("a", "some-name-value")],
        "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${1}', replacement: '${2}'}]",
        Some(&[("a", "some-name-value"), ("name", "value")]),
    ),
    (
        &[("a", "foo"), ("b", "bar")],
        "[{source_labels: [a, b], separator: '-', target_label: c}]",
        Some(&[("a", "foo"), ("b", "bar"), ("c", "foo-bar")]),
    ),
    (
        AB,
        "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "976")]),
    ),
    (
        &[("a", "foo\nbar")],
        "[{source_labels: [a], target_label: b, action: hashmod, modulus: 1000}]",
        Some(&[("a", "foo\nbar"), ("b", "734")]),
    ),
    (
        &[("a", "line\nbreak")],
        "[{source_labels: [a], regex: 'line.*k', action: keep}]",
        Some(&[("a", "line\nbreak")]),
    ),
    (
        &[("a1", "foo"), ("b2", "bar")],
        "[{regex: '(b.*)', replacement: 'bar_${1}', action: labelmap}]",
        Some(&[("a1", "foo"), ("b2", "bar"), ("bar_b2", "bar")]),
    ),
    (
        &[("__meta_my_bar", "aaa"), ("__meta_other", "x")],
        "[{regex: '__meta_(my.*)', action: labelmap}]",
        Some(&[("__meta_my_bar", "aaa"), ("__meta_other", "x"), ("my_bar", "aaa")]),
    ),
    (&[("a1", "1"), ("b1", "2")], "[{regex: 'b.*', action: labeldrop}]", Some(&[("a1", "1")])),
    (&[("a1", "1"), ("b1", "2")], "[{regex: 'b.*', action: labelkeep}]", Some(&[("b1", "2")])),
    (
        &[("a", "FoO")],
        "[{source_labels: [a], target_label: l, action: lowercase}, {source_labels: [a], target_label: u, action: uppercase}]",
        Some(&[("a", "FoO"), ("l", "foo"), ("u", "FOO")]),
    ),
    (
        &[("p", "1"), ("q", "1")],
        "[{source_labels: [p], target_label: q, action: keepequal}]",
        Some(&[("p", "1"), ("q", "1")]),
    ),
    (&[("p", "1"), ("q", "1")], "[{source_labels: [p], target_label: q, action: dropequal}]", None),
    (&[("p", "1"), ("q", "2")], "[{source_labels: [p], target_label: q, action: keepequal}]", None),
    // A rule from a user's file: the source has no `;` and port annotation, so the pattern never
    // matches.
    (
        &[("__address__", "h:1"), ("__meta_port", "9")],
        r"[{source_labels: [__meta_port], target_label: __address__, regex: '([^:]+)(?::\d+)?;(\d+)', replacement: '$1:$2'}]",
        Some(&[("__address__", "h:1"), ("__meta_port", "9")]),
    ),
    (
        &[("__address__", "h:1"), ("__meta_port", "9")],
        r"[{source_labels: [__address__, __meta_port], target_label: __address__, regex: '([^:]+)(?::\d+)?;(\d+)', replacement: '$1:$2'}]",
        Some(&[("__address__", "h:9"), ("__meta_port", "9")]),
    ),
];

#[test]
fn actions() {
    for (input, yaml, expected) in ACTIONS {
        assert_eq!(run(input, yaml), expected.map(|e| Labels::from_pairs(e.iter().copied())), "{yaml}");
    }
}

#[test]
fn problems_are_named() {
    let table = [
        ("{action: hashmod, target_label: x}", "requires non-zero modulus"),
        ("{action: replace}", "replace action requires 'target_label' value"),
        ("{action: lowercase, source_labels: [a]}", "lowercase action requires 'target_label' value"),
        ("{action: labeldrop, regex: a, target_label: x}", "labeldrop action requires only 'regex'"),
        ("{action: keepequal, target_label: x, regex: a}", "keepequal action requires only 'source_labels'"),
        ("{action: keep, regex: '('}", "error parsing regexp"),
        (
            "{action: keepequal, target_label: x, separator: x}",
            "keepequal action requires only 'source_labels'",
        ),
        (
            "{action: uppercase, target_label: x, replacement: y}",
            "'replacement' can not be set for uppercase action",
        ),
        ("{action: labelmap, replacement: ''}", "\"\" is invalid 'replacement' for labelmap action"),
    ];
    for (yaml, expected) in table {
        let config: RelabelConfig = serde_saphyr::from_str(yaml).unwrap();
        let error = Relabeler::new(&[config]).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
    // Rules as Prometheus prints them.
    for yaml in [
        "{separator: ;, regex: a, replacement: $1, action: labeldrop}",
        "{source_labels: [a], separator: ;, target_label: b, replacement: $1, action: dropequal}",
        "{action: keepequal, target_label: x, regex: '(.*)'}",
    ] {
        let config: RelabelConfig = serde_saphyr::from_str(yaml).unwrap();
        assert!(Relabeler::new(&[config]).is_ok(), "{yaml}");
    }
    assert!(serde_saphyr::from_str::<RelabelConfig>("{action: explode}").is_err());
    assert!(serde_saphyr::from_str::<RelabelConfig>("{sources: [a]}").is_err());
}

#[test]
fn with_legacy_names_rules_write_to_no_other() {
    let load = |yaml: &str| {
        let config = serde_saphyr::from_str::<RelabelConfig>(yaml).unwrap();
        let mut configs = [config];
        let utf8 = Relabeler::new(&configs).map(drop).map_err(|error| error.to_string());
        set_names(&mut configs, NameScheme::Legacy);
        (utf8, Relabeler::new(&configs))
    };
    for (yaml, reason) in [
        ("{target_label: a.b, replacement: x}", "\"a.b\" is invalid 'target_label' for replace action"),
        ("{target_label: 'a.$1'}", "\"a.$1\" is invalid 'target_label' for replace action"),
        (
            "{action: hashmod, modulus: 2, target_label: 1a}",
            "\"1a\" is invalid 'target_label' for hashmod action",
        ),
        ("{action: lowercase, target_label: a-b}", "\"a-b\" is invalid 'target_label' for lowercase action"),
        ("{action: labelmap, replacement: 'x.$1'}", "\"x.$1\" is invalid 'replacement' for labelmap action"),
    ] {
        let (utf8, legacy) = load(yaml);
        let refused = legacy.map(drop).map_err(|error| error.to_string());
        assert_eq!((utf8, refused), (Ok(()), Err(reason.to_owned())), "{yaml}");
    }
    let rules = load("{source_labels: [a], target_label: 'x_$1', replacement: y}").1.unwrap();
    for (value, written) in [("b", "y"), ("b.c", "")] {
        let mut labels = LabelsBuilder::default();
        labels.set("a", value);
        assert!(rules.apply(&mut labels));
        assert_eq!(labels.get(&format!("x_{value}")), written);
    }
}
