//! A plan as people see it.

use engine::plan::explain::explain;

#[test]
fn a_tree_with_its_selectors() {
    let text = r#"sum by (job) (rate(x{a=~"b.*"}[5m] offset 1m)) / on (job) -up @ 3 > bool 2"#;
    let plan = promql::compile(text, &promql::PromqlOptions::default()).unwrap();
    let expected = "\
binary > bool
  binary / on (job)
    aggregate sum by (job)
      call rate
        window 5m of {__name__=\"x\", a=~\"b.*\"} offset 1m
    negate
      select {__name__=\"up\"} at 3
  number 2";
    assert_eq!(explain(&plan), expected);
}
