//! Rules for aggregations: rounding of sums, the variance of infinities, and which of equal values
//! `topk` selects.

use crate::answer::{Answer, Labels, close};
use crate::expr::{Expr, Grouping};
use crate::shrink::{Case, Servers};
use std::collections::BTreeMap;

/// Values by time (ms) and group.
type Groups = BTreeMap<i64, BTreeMap<Labels, Vec<f64>>>;

/// The values of a result by group.
fn grouped(answer: &Answer, grouping: Option<&Grouping>) -> Groups {
    let mut groups = Groups::new();
    for (t, step) in answer.steps() {
        for (labels, value) in step {
            let group = group(&labels, grouping);
            groups.entry(t).or_default().entry(group).or_default().push(value);
        }
    }
    groups
}

/// The labels of the group of a series.
fn group(labels: &Labels, grouping: Option<&Grouping>) -> Labels {
    let Some(grouping) = grouping else { return Labels::new() };
    let listed = |l: &String| grouping.labels.contains(l);
    let kept = |l: &String| if grouping.without { !listed(l) && l != "__name__" } else { listed(l) };
    labels.iter().filter(|(l, _)| kept(l)).map(|(l, v)| (l.clone(), v.clone())).collect()
}

/// Whether `right` accepts each pair of values (ours, theirs) for its group, and both sides have
/// the same groups.
fn by_group(case: &Case, servers: Servers, right: impl Fn(f64, f64, &[f64]) -> bool) -> bool {
    let Expr::Aggregate { inner, grouping, .. } = &case.expr else { return false };
    if case.ours.has_histograms() || case.theirs.has_histograms() {
        return false;
    }
    let members = grouped(&servers.ask_theirs(inner, case.when), grouping.as_ref());
    let ours = case.ours.steps();
    let theirs = case.theirs.steps();
    ours.iter().all(|(t, step)| {
        step.iter().all(|(labels, ours)| {
            let theirs = theirs.get(t).and_then(|s| s.get(labels));
            let group = members.get(t).and_then(|s| s.get(labels));
            matches!((theirs, group), (Some(theirs), Some(group)) if right(*ours, *theirs, group))
        })
    }) && theirs.iter().all(|(t, step)| ours.get(t).is_some_and(|ours| ours.keys().eq(step.keys())))
}

/// 2.42 used the first value as the mean without checking it: a single infinity had the variance 0.
pub fn variance(case: &Case, servers: Servers) -> bool {
    let Expr::Aggregate { op: op @ ("stddev" | "stdvar"), .. } = case.expr else { return false };
    let squared = |v: f64| if op == "stddev" { v * v } else { v };
    by_group(case, servers, |ours, theirs, group| match group {
        [one] if !one.is_finite() => ours.is_nan() && theirs == 0.0,
        _ => close(ours, theirs) || order_of_squares(squared(ours), squared(theirs), group),
    })
}

/// Whether two variances differ only as much as the undefined order of the values can cause.
fn order_of_squares(a: f64, b: f64, group: &[f64]) -> bool {
    let largest = group.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let variance = a.max(b);
    (a - b).abs() <= f64::EPSILON * group.len() as f64 * (largest * variance.sqrt() + variance)
}

/// Prometheus 3 compensates sums and means. 2.42 lost up to half a unit in the last place per
/// addition, depending on the order of the values.
pub fn sums(case: &Case, servers: Servers) -> bool {
    matches!(case.expr, Expr::Aggregate { op: "sum" | "avg", .. })
        && by_group(case, servers, |ours, theirs, group| {
            let magnitude: f64 = group.iter().map(|v| v.abs()).sum();
            let lost = magnitude * f64::EPSILON * (group.len() + 1) as f64;
            close(ours, theirs) || (ours - theirs).abs() <= lost
        })
}

/// Which of several equal values is selected depends on the order of the series, which is
/// undefined.
pub fn ties(case: &Case, servers: Servers) -> bool {
    let Expr::Aggregate { op: "topk" | "bottomk", inner, grouping, .. } = &case.expr else { return false };
    let members = servers.ask_theirs(inner, case.when).steps();
    let chosen = |answer: &Answer| {
        let groups = grouped(answer, grouping.as_ref()).into_values().flatten();
        let sorted = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        groups.map(|(labels, values)| (labels, sorted(values))).collect::<Vec<_>>()
    };
    let real = |(t, step): (&i64, &BTreeMap<Labels, f64>)| {
        let member = |labels| members.get(t).and_then(|m| m.get(labels));
        step.iter().all(|(labels, value)| member(labels).is_some_and(|m| m.to_bits() == value.to_bits()))
    };
    case.ours.steps().iter().all(real) && chosen(&case.ours) == chosen(&case.theirs)
}

#[test]
fn groups_have_the_labels_of_the_clause() {
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    };
    let all = labels(&[("__name__", "m"), ("a", "1"), ("b", "2")]);
    let by = Grouping { without: false, labels: vec!["a".into(), "c".into()] };
    assert_eq!(group(&all, Some(&by)), labels(&[("a", "1")]));
    let without = Grouping { without: true, ..by };
    assert_eq!(group(&all, Some(&without)), labels(&[("b", "2")]));
    assert_eq!(group(&all, None), labels(&[]));
}
