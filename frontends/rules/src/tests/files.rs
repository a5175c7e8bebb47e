//! Tests of rule files ([`crate::file`]): a large file loads, and errors have the expected texts.

use crate::file::{EvaluationMode, GroupDefaults, LoadedRules, fake_compile, parse};
use crate::yaml::ConfigError;

const DEFAULTS: GroupDefaults = GroupDefaults { interval: 60_000, query_offset: 0 };

fn load(text: &str) -> Result<LoadedRules, ConfigError> {
    parse("rules.yml", text, DEFAULTS, &fake_compile)
}

#[test]
fn the_founding_kind_of_file_loads() {
    let text = include_str!("../../tests/data/alerts.yml");
    let loaded = load(text).unwrap();
    let names: Vec<Vec<&str>> =
        loaded.groups.iter().map(|g| g.rules.iter().map(|r| r.name.as_str()).collect()).collect();
    assert_eq!(
        names,
        [vec!["CpuBusy", "MemoryShort", "DiskFilling"], vec!["ManyErrors", "SlowAnswers", "InstanceGone"],]
    );
    let rule = &loaded.groups[0].rules[0];
    let alert = rule.alert.as_ref().unwrap();
    assert_eq!((alert.hold, alert.keep_firing_for), (300_000, 0));
    assert_eq!(
        rule.labels,
        [("severity".into(), "warning".into()), ("team".into(), "infrastructure".into())]
    );
    assert_eq!(alert.annotations[1], ("summary".to_owned(), "CPU is busy".to_owned()));
    assert_eq!(
        (loaded.groups[0].interval, loaded.groups[0].evaluation),
        (60_000, EvaluationMode::Continuous)
    );
}

#[test]
fn groups_carry_their_settings_and_labels() {
    let text = "groups:\n- name: g\n  interval: 5s\n  query_offset: 1s\n  limit: 7\n  evaluation: interval\n  labels: {a: '1', b: '2'}\n  rules:\n  - record: x:y\n    expr: up\n    labels: {b: '3'}\n";
    let group = load(text).unwrap().groups.remove(0);
    assert_eq!(
        (group.interval, group.query_offset, group.limit, group.evaluation),
        (5_000, 1_000, 7, EvaluationMode::Interval)
    );
    assert_eq!(group.rules[0].labels, [("a".into(), "1".into()), ("b".into(), "3".into())]);
    assert!(load("groups: []\n").unwrap().groups.is_empty());
    assert!(load("# nothing yet\n").unwrap().groups.is_empty());
}

/// What Go's YAML library accepts in addition to YAML 1.2.
#[test]
fn files_are_read_as_go_reads_them() {
    let rule = "groups: [{name: g, rules: [{alert: A, expr: up";
    let nulls = format!("{rule}, labels: {{page: , team: ~}}, annotations: ~}}], labels: ~, limit: -1}}]\n");
    let loaded = load(&nulls).unwrap().groups.remove(0);
    assert_eq!(loaded.limit, 0);
    let empty = [("page".to_owned(), String::new()), ("team".to_owned(), String::new())];
    assert_eq!(loaded.rules[0].labels, empty);
    let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up\n    annotations:\n      \
                d: \"one,\n      two\"\n---\nnot: [yaml\n";
    let alert = load(text).unwrap().groups.remove(0).rules.remove(0).alert.unwrap();
    assert_eq!(alert.annotations, [("d".to_owned(), "one, two".to_owned())]);
}

#[test]
fn recording_rules_may_have_a_past() {
    let text = "groups:\n- name: g\n  backfill: 1d\n  rules:\n  - {record: a, expr: up}\n  - {record: b, expr: up, backfill: 30d}\n  - {record: c, expr: up, backfill: 0s}\n  - {alert: d, expr: up}\n";
    let rules = load(text).unwrap().groups.remove(0).rules;
    let day = 86_400_000;
    assert_eq!(rules.iter().map(|rule| rule.backfill).collect::<Vec<_>>(), [day, 30 * day, 0, 0]);
    let wrong =
        load("groups:\n- name: g\n  rules:\n  - alert: d\n    expr: up\n    backfill: 1d\n").unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "rules.yml:6:15: invalid field 'backfill' in alerting rule; only recording rules have a past: remove it"
    );
}

#[test]
fn late_samples_may_correct() {
    let group = |keys: &str| {
        let text = format!("groups:\n- name: g\n{keys}  rules: []\n");
        load(&text).map(|mut loaded| loaded.groups.remove(0).lateness).map_err(|fault| fault.to_string())
    };
    assert_eq!(group(""), Ok(None));
    assert_eq!(group("  late_samples: keep\n"), Ok(None));
    assert_eq!(group("  late_samples: correct\n"), Ok(Some(120_000)));
    assert_eq!(group("  late_samples: correct\n  lateness: 30s\n"), Ok(Some(30_000)));
    let alone = "rules.yml:3:13: 'lateness' without `late_samples: correct` means nothing; add `late_samples: correct`, or remove it";
    assert_eq!(group("  lateness: 30s\n"), Err(alone.to_owned()));
    assert_eq!(
        group("  late_samples: corect\n"),
        Err("rules.yml:3:17: unknown value \"corect\"; did you mean \"correct\"?".to_owned())
    );
}

#[test]
fn faults_name_place_and_remedy() {
    let cases = include_str!("../../tests/data/rule_faults.txt");
    let mut count = 0;
    for case in cases.split("=== ").skip(1) {
        let (want, text) = case.split_once('\n').unwrap();
        let got = load(text).map(|_| "no fault".to_owned()).unwrap_or_else(|fault| fault.to_string());
        assert_eq!(got, want, "\n{text}");
        count += 1;
    }
    assert!(count > 15, "only {count} cases found");
}

#[test]
fn with_promql_the_file_compiles_and_is_linted() {
    let language = promql::PromqlLanguage::default();
    let compile = crate::file::compiler(&language);
    let text = include_str!("../../tests/data/alerts.yml");
    let loaded = parse("alerts.yml", text, DEFAULTS, &compile).unwrap();
    let printed = &loaded.groups[1].rules[0].expr.text;
    let want = "(sum(rate(http_requests_total{status=~\"5..\"}[5m])) / sum(rate(http_requests_total[5m]))) * 100 > 5";
    assert_eq!(printed, want);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "alerts.yml:13:24: alert \"CpuBusy\": $labels.instance is always empty: the expression drops this label; \
         keep it in the aggregation (e.g. `by (instance)`), or take it out of the text"
        ]
    );
    let bad = "groups:\n- name: a\n  rules:\n  - record: x\n    expr: |\n      sum by (job) (\n        rate(up[5m]\n      )\n";
    let fault = parse("f.yml", bad, DEFAULTS, &compile).unwrap_err();
    assert!(fault.what.contains("parse error") && (6..=9).contains(&fault.line), "{fault}");
}

/// Prometheus loads such a file: the rule is unhealthy, and the others run.
#[test]
fn rules_of_a_wrong_type_fail_at_every_evaluation() {
    let language = promql::PromqlLanguage::default();
    let compile = crate::file::compiler(&language);
    let rules = "{record: x, expr: 'up[5m]'}, {alert: y, expr: '\"text\"'}, {record: z, expr: up}";
    let text = format!("groups:\n- name: a\n  rules: [{rules}]\n");
    let loaded = parse("f.yml", &text, DEFAULTS, &compile).unwrap();
    let shown: Vec<(&str, Option<&str>)> =
        loaded.groups[0].rules.iter().map(|rule| (rule.expr.text.as_str(), rule.expr.fault)).collect();
    let fault = Some("rule result is not a vector or scalar");
    assert_eq!(shown, [("up[5m]", fault), ("\"text\"", fault), ("up", None)]);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "f.yml:3:29: all evaluations of this rule will fail: its expression is a range vector; \
             wrap it, e.g. in rate(…) or max_over_time(…)",
            "f.yml:3:57: all evaluations of this rule will fail: its expression is a string; write an expression",
        ]
    );
}
