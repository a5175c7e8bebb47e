//! Tests of the operator of `info()`, which adds the labels of info series.

use super::super::info::Info;
use super::*;
use crate::plan::details::InfoSelector;
use storage::model::{MatchOp, Matcher};

fn wanted(names: &[&str], data: &[(&str, &str)]) -> InfoSelector {
    InfoSelector {
        names: names.iter().map(|name| Matcher::equal("__name__", *name)).collect(),
        data: data
            .iter()
            .map(|(name, regex)| Matcher::new(*name, MatchOp::Regex, *regex).expect("a matcher"))
            .collect(),
    }
}

fn joined(
    wanted: InfoSelector,
    base: &[(&str, Sample)],
    info: &[(&str, f64)],
) -> Result<Vec<String>, EvalError> {
    let info: Vec<(&str, Sample)> = info.iter().map(|(labels, t)| (*labels, f(*t))).collect();
    let mut out = StepOutput::default();
    eval_into(&mut Info::new(wanted), &[&rows(base), &rows(&info)], &ChangedRows::All, &mut out)?;
    Ok(answer(&out).into_iter().map(|(labels, value)| format!("{labels} {value}")).collect())
}

#[test]
fn labels_come_from_the_newest_series_of_each_metric() {
    let base = [("m,instance=a,job=1,own=x", f(1.0)), ("m,instance=b,job=1", f(2.0)), ("m", f(3.0))];
    let info = [
        ("target_info,instance=a,job=1,own=y,v=old", 500.0),
        ("target_info,instance=a,job=1,v=new", 900.0),
        ("build_info,instance=a,job=1,b=1", 100.0),
        ("target_info,instance=b,job=2,v=other", 900.0),
    ];
    let want = [
        "m 3",
        "m{b=\"1\", instance=\"a\", job=\"1\", own=\"x\", v=\"new\"} 1",
        "m{instance=\"b\", job=\"1\"} 2",
    ];
    let want: Vec<String> = want.map(str::to_owned).to_vec();
    assert_eq!(joined(wanted(&["target_info"], &[]), &base, &info), Ok(want));
}

#[test]
fn asked_labels_are_added_alone_and_must_be_there() {
    let base = [("m,instance=a,job=1", f(1.0)), ("m,instance=b,job=1", f(2.0))];
    let info = [("target_info,instance=a,job=1,v=1,w=2", 900.0)];
    let of = |regex| joined(wanted(&[], &[("v", regex)]), &base, &info);
    assert_eq!(of(".+"), Ok(vec!["m{instance=\"a\", job=\"1\", v=\"1\"} 1".to_owned()]));
    let both = ["m{instance=\"a\", job=\"1\", v=\"1\"} 1", "m{instance=\"b\", job=\"1\"} 2"];
    assert_eq!(of(".*"), Ok(both.map(str::to_owned).to_vec()));
}

#[test]
fn info_series_stay_as_they_are() {
    let base = [("target_info,instance=a,job=1,v=1", f(1.0))];
    let info = [("target_info,instance=a,job=1,v=1,w=2", 900.0)];
    let own = vec!["target_info{instance=\"a\", job=\"1\", v=\"1\"} 1".to_owned()];
    assert_eq!(joined(wanted(&["target_info"], &[]), &base, &info), Ok(own));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let base = [("m,instance=a,job=1", f(1.0))];
    let twice = [("i,instance=a,job=1,v=1", 900.0), ("i,instance=a,job=1,v=2", 900.0)];
    let text = "found duplicate series for info metric: existing {__name__=\"i\", instance=\"a\", job=\"1\", v=\"1\"} @ 900, new {__name__=\"i\", instance=\"a\", job=\"1\", v=\"2\"} @ 900";
    assert_eq!(joined(wanted(&["i"], &[]), &base, &twice), Err(EvalError(text.to_owned())));
    // No row needs the info series, so nothing is rejected.
    assert_eq!(joined(wanted(&["i"], &[]), &[("m,instance=a,job=1", absent())], &twice), Ok(vec![]));
    let two = [("i,instance=a,job=1,v=1", 900.0), ("k,instance=a,job=1,v=2", 900.0)];
    assert_eq!(joined(wanted(&[], &[]), &base, &two), Err(EvalError("conflicting label: v".to_owned())));
    let histogram = storage::model::value::HISTOGRAM;
    let refused = joined(wanted(&[], &[]), &base, &[("i,instance=a,job=1", histogram)]);
    assert_eq!(refused, Err(EvalError("info sample should be float".to_owned())));
    let elsewhere = joined(wanted(&[], &[]), &base, &[("i,instance=c,job=1", histogram)]);
    assert!(elsewhere.is_ok_and(|rows| rows.len() == 1));
}

#[test]
fn histograms_are_carried() {
    let of = h(0, &[1.0]);
    let info = [("i,instance=a,v=1", 1.0)];
    let rows = joined(wanted(&["i"], &[]), &[("m,instance=a", (&of).into())], &info).expect("an answer");
    assert_eq!(rows, ["m{instance=\"a\", v=\"1\"} {{count:1 sum:1 z_bucket_w:0.001 buckets:[1]}}"]);
}

/// A series that only rows without a value need makes no evaluation fail; in a query with more
/// steps it may, because of another step.
#[test]
fn what_no_row_asks_for_now_does_not_matter() {
    let base = [("m,instance=a,job=1", f(ABSENT)), ("m,instance=b,job=1", f(2.0))];
    let info = [("target_info,instance=a,job=1,v=1", f(9.0)), ("target_info,instance=a,job=1,v=2", f(9.0))];
    let answer_of = |mut info_operator: Info| {
        let mut out = StepOutput::default();
        eval_into(&mut info_operator, &[&rows(&base), &rows(&info)], &ChangedRows::All, &mut out)?;
        Ok::<_, EvalError>(
            answer(&out).into_iter().map(|(labels, v)| format!("{labels} {v}")).collect::<Vec<_>>(),
        )
    };
    let names = || wanted(&["target_info"], &[]);
    assert_eq!(answer_of(Info::new(names())), Ok(vec!["m{instance=\"b\", job=\"1\"} 2".to_owned()]));
    let error = answer_of(Info::over_range(names())).expect_err("two series").to_string();
    assert!(error.starts_with("found duplicate series for info metric"), "{error}");
}

/// One target's info series changes: only its rows are read, and the result is the same as from
/// scratch.
#[test]
fn touched_are_the_rows_of_one_target() {
    let names = |kind: &str, more: &str| -> Vec<String> {
        (0..50).map(|i| format!("{kind},instance=i{i},job=1{more}")).collect()
    };
    let base = names("m", "");
    let info = names("target_info", ",v=1");
    let table = |names: &[String]| rows(&names.iter().map(|n| (n.as_str(), f(1.0))).collect::<Vec<_>>());
    let base = table(&base);
    let mut info = table(&info);
    let mut operator = Info::new(wanted(&["target_info"], &[]));
    let mut out = StepOutput::default();
    eval_into(&mut operator, &[&base, &info], &ChangedRows::All, &mut out).expect("an answer");
    assert_eq!(out.rows_looked_at, 100);
    for sample in [f(ABSENT), f(2.0), f(storage::model::value::HISTOGRAM), f(3.0)] {
        let mut touched = Vec::new();
        info.put(7, sample, &mut touched);
        let delta = ChangedRows::Rows(touched);
        let inputs = [StepInput { out: &base, delta: None }, StepInput { out: &info, delta: Some(&delta) }];
        out.rows_looked_at = 0;
        let refused = operator.eval(&inputs, 0, &mut out, &mut EvaluationGuard::free()).is_err();
        assert_eq!(out.rows_looked_at, 2);
        let mut scratch = StepOutput::default();
        let mut fresh = Info::new(wanted(&["target_info"], &[]));
        let again = eval_into(&mut fresh, &[&base, &info], &ChangedRows::All, &mut scratch);
        assert_eq!(refused, again.is_err());
        assert!(refused || answer(&out) == answer(&scratch), "{:?}", answer(&out));
    }
}
