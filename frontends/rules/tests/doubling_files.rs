//! Doubling a file costs at most slightly more than twice as much: YAML, rule files and templates.
#![allow(clippy::unwrap_used, reason = "a test")]

use rules::file::{GroupDefaults, compiler, parse as parse_rules};
use rules::template::{TemplateExpander, TemplateQuery, check};
use rules::yaml;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::{Labels, TimeMs};
use testing::assert_proportional;

type Text = fn(usize) -> String;

fn list(n: usize, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect()
}

#[test]
fn reading_yaml() {
    let texts: [(&str, usize, Text); 10] = [
        ("a list", 4_000, |n| list(n, |i| format!("- value {i}\n"))),
        ("a flow list", 4_000, |n| format!("[{}]", list(n, |i| format!("v{i}, ")))),
        ("a mapping", 4_000, |n| list(n, |i| format!("key{i}: value\n"))),
        ("a flow mapping", 4_000, |n| format!("{{{}}}", list(n, |i| format!("k{i}: v, ")))),
        ("a long text", 100_000, |n| format!("a: {}\n", "x".repeat(n))),
        ("a long quoted text", 50_000, |n| format!("a: \"{}\"\n", "x\\n".repeat(n))),
        ("a block of text", 4_000, |n| format!("a: |\n{}", "  some line of text\n".repeat(n))),
        ("a folded text", 4_000, |n| format!("a: >\n{}", "  some line of text\n".repeat(n))),
        ("comments", 4_000, |n| format!("{}a: 1\n", "# a comment\n".repeat(n))),
        ("aliases", 2_000, |n| format!("- &a {{x: y}}\n{}", "- *a\n".repeat(n))),
    ];
    for (what, n, text) in texts {
        assert_proportional(what, n, text, |text| yaml::parse::<serde_json::Value>("f.yml", text).unwrap());
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownKeys {
    #[serde(default)]
    #[allow(dead_code, reason = "only what is unknown matters")]
    known: BTreeMap<String, String>,
}

/// The error is at the end.
#[test]
fn faults_in_yaml() {
    let texts: [(&str, usize, Text); 3] = [
        ("an unknown key", 4_000, |n| format!("known:\n{}unknown: 1\n", list(n, |i| format!("  k{i}: v\n")))),
        ("a key that comes twice", 4_000, |n| {
            format!("known:\n{}  k0: v\n", list(n, |i| format!("  k{i}: v\n")))
        }),
        ("a bracket that is not closed", 4_000, |n| {
            format!("known: {{{}", list(n, |i| format!("k{i}: v, ")))
        }),
    ];
    for (what, n, text) in texts {
        assert_proportional(what, n, text, |text| yaml::parse::<KnownKeys>("f.yml", text).unwrap_err());
    }
}

fn recording(i: usize) -> String {
    format!("  - record: job:m{i}:sum\n    expr: sum by (job) (rate(m{i}[5m]))\n    labels: {{team: a}}\n")
}

fn alerting(i: usize) -> String {
    format!(
        "  - alert: Alert{i}\n    expr: m{i} > 5\n    for: 5m\n    labels: {{severity: page}}\n    annotations:\n      summary: '{{{{ $labels.instance }}}} has {{{{ $value | humanize }}}}'\n"
    )
}

#[test]
fn reading_rule_files() {
    let defaults = GroupDefaults { interval: 60_000, query_offset: 0 };
    let language = promql::PromqlLanguage::default();
    let compile = compiler(&language);
    let one_group = |rules: String| format!("groups:\n- name: g\n  rules:\n{rules}");
    let groups =
        |n: usize| format!("groups:\n{}", list(n, |i| format!("- name: g{i}\n  rules:\n{}", recording(i))));
    let read = |text: &String| parse_rules("f.yml", text, defaults, &compile).unwrap();
    assert_proportional("recording rules", 100, |n| one_group(list(n, recording)), read);
    assert_proportional("alerts", 50, |n| one_group(list(n, alerting)), read);
    assert_proportional("groups", 100, groups, read);
    let labels = |n: usize| {
        let labels = list(n, |i| format!("      l{i}: v\n"));
        one_group(format!("  - record: r\n    expr: up\n    labels:\n{labels}"))
    };
    assert_proportional("labels of a rule", 1_000, labels, read);
    // The position of the error is searched in the text.
    let wrong = |n: usize| one_group(format!("{}  - record: r\n    expr: up +\n", list(n, recording)));
    let refuse = |text: &String| parse_rules("f.yml", text, defaults, &compile).unwrap_err();
    assert_proportional("a fault in the last rule", 100, wrong, refuse);
}

/// What generators write: only the size of the file is limited.
#[test]
fn a_file_may_have_a_hundred_thousand_rules() {
    let rules = list(100_000, |i| format!("  - record: m{i}\n    expr: up\n"));
    let defaults = GroupDefaults { interval: 60_000, query_offset: 0 };
    let text = format!("groups:\n- name: g\n  rules:\n{rules}");
    let loaded =
        parse_rules("f.yml", &text, defaults, &compiler(&promql::PromqlLanguage::default())).unwrap();
    assert_eq!(loaded.groups[0].rules.len(), 100_000);
}

struct Nothing;
impl TemplateQuery for Nothing {
    fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, rules::TemplateQueryError> {
        Ok(Vec::new())
    }
}

#[test]
fn templates() {
    let texts: [(&str, usize, Text); 9] = [
        ("text", 30_000, |n| format!("{{{{ 1 }}}}{}", "x".repeat(n))),
        ("actions", 500, |n| "{{ $value }} ".repeat(n)),
        ("a pipeline", 500, |n| format!("{{{{ `a` {}}}}}", "| toUpper ".repeat(n))),
        ("variables", 500, |n| list(n, |i| format!("{{{{ $v{i} := 1 }}}}"))),
        ("arguments", 500, |n| format!("{{{{ print {}}}}}", "`a` ".repeat(n))),
        ("definitions", 300, |n| {
            list(n, |i| format!("{{{{ define `t{i}` }}}}x{{{{ end }}}}{{{{ template `t{i}` }}}}"))
        }),
        ("lines", 500, |n| "{{ $labels.x }}\n".repeat(n)),
        ("nested calls", 40, |n| format!("{{{{ {}1{} }}}}", "not (".repeat(n), ")".repeat(n))),
        ("branches", 300, |n| "{{ if $value }}x{{ else }}y{{ end }}".repeat(n)),
    ];
    let expander = TemplateExpander::new(&Labels::default(), "", Arc::new(Nothing));
    let scope = expander.scope(&Labels::default(), 1.0, 0);
    for (what, n, text) in texts {
        assert_proportional(&format!("parsing {what}"), n, text, |text| check("T", text).unwrap());
        let template = |n| expander.compile("T", &text(n)).unwrap();
        assert_proportional(&format!("filling {what}"), n, template, |template| {
            let filled = expander.expand(template, &scope);
            assert!(!filled.starts_with("<error"), "{filled}");
            filled
        });
    }
    let loops = |n: usize| expander.compile("T", &format!("{{{{ range {n} }}}}x{{{{ end }}}}")).unwrap();
    assert_proportional("filling a loop", 5_000, loops, |template| expander.expand(template, &scope));
    let wrong = |n: usize| format!("{}{{{{ nothing }}}}", "{{ $value }}\n".repeat(n));
    assert_proportional("a fault in a template", 500, wrong, |text| check("T", text).unwrap_err());
    let replaced = |n: usize| {
        expander.compile("T", &format!("{{{{ reReplaceAll `a` `b` `{}` }}}}", "a".repeat(n))).unwrap()
    };
    assert_proportional("replacements", 5_000, replaced, |template| expander.expand(template, &scope));
}
