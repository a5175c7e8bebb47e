//! Tests of the text that describes a plan to users (`EXPLAIN`, and `plan` of a subscription).

use engine::plan::Dialect;
use engine::plan::explain::explain;
use engine::plan::explain_physical::explain_physical;
use engine::plan::physical::{PhysicalPlan, StoreQueries};

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

#[test]
fn steps_of_both_stages() {
    let text =
        r#"sum by (job) (rate(x{a=~"b.*"}[5m] offset 1m)) / on (job) quantile_over_time(0.9, y[1h]) > 2"#;
    let plan = promql::compile(text, &promql::PromqlOptions::default()).unwrap();
    let physical = PhysicalPlan::for_view(&plan, 0, Dialect::default(), StoreQueries::Refused).unwrap();
    let expected = "\
vector with scalar >
  match / on (job)
    merge sum
      from each shard
        partial sum by (job)
          rate over 5m of {__name__=\"x\", a=~\"b.*\"} offset 1m: from the ends of the window
    from each shard
      quantile_over_time over 1h of {__name__=\"y\"}: values are kept in order
        number 0.9
  number 2";
    assert_eq!(explain_physical(&physical), expected);
}
