//! Tests of functions that are computed sample by sample, over floats and native histograms.

use super::super::map::{Map, Relabel};
use super::super::metric_names::{DropNames, FlaggedLabels};
use super::*;
use crate::functions::lookup;
use crate::plan::Dialect;
use crate::plan::FunctionRef;

fn function(name: &str) -> FunctionRef {
    FunctionRef(lookup(name).expect("in the table"))
}

fn mixed() -> Vec<(&'static str, Sample)> {
    vec![("m,i=1", f(-1.5)), ("m,i=2", (&h(0, &[1.0, 3.0])).into()), ("m,i=3", absent())]
}

fn values(operator: &mut dyn Operator, params: &[f64]) -> Vec<String> {
    let vector = rows(&mixed());
    let params = params.iter().map(|v| scalar(*v)).collect::<Vec<_>>();
    let inputs: Vec<&StepOutput> = [&vector].into_iter().chain(&params).collect();
    answer(&eval(operator, &inputs)).into_iter().map(|(labels, value)| format!("{labels} {value}")).collect()
}

#[test]
fn each_kind_of_function_takes_its_samples() {
    for (name, params, want) in [
        ("abs", &[][..], &["{i=\"1\"} 1.5"][..]),
        ("clamp_max", &[-2.0], &["{i=\"1\"} -2"]),
        ("year", &[], &["{i=\"1\"} 1969"]),
        ("histogram_count", &[], &["{i=\"2\"} 4"]),
        ("histogram_sum", &[], &["{i=\"2\"} 4"]),
        ("histogram_avg", &[], &["{i=\"2\"} 1"]),
        ("timestamp", &[], &["{i=\"1\"} 1", "{i=\"2\"} 1"]),
        ("start_timestamp", &[], &[]),
    ] {
        assert_eq!(values(&mut Map::new(function(name), Dialect::default()), params), want, "{name}");
    }
    let negated = "{i=\"2\"} {{count:-4 sum:-4 z_bucket_w:0.001 counter_reset_hint:gauge buckets:[-1 -3]}}";
    assert_eq!(values(&mut Map::negate(Dialect::default()), &[]), ["{i=\"1\"} 1.5", negated]);
    assert_eq!(values(&mut Map::floats(Dialect::default()), &[]), ["m{i=\"1\"} -1.5"]);
    let whole = "m{i=\"2\"} {{count:4 sum:4 z_bucket_w:0.001 buckets:[1 3]}}";
    assert_eq!(values(&mut Map::identity(Dialect::default()), &[]), ["m{i=\"1\"} -1.5", whole]);
    let texts = ["new", "x", "i", "2"].map(str::to_owned).to_vec();
    let relabelled = values(&mut Relabel::new(function("label_replace"), texts), &[]);
    assert_eq!(relabelled[1], whole.replace("i=\"2\"", "i=\"2\", new=\"x\""));
}

#[test]
fn a_row_may_change_its_kind() {
    let mut operator = Map::new(function("histogram_count"), Dialect::default());
    let mut input = rows(&[("m", f(1.0))]);
    let mut out = StepOutput::default();
    let of = h(0, &[2.0]);
    for (sample, want) in [((&of).into(), 1), (f(1.0), 0), (absent(), 0), ((&of).into(), 1)] {
        let mut touched = Vec::new();
        input.put(0, sample, &mut touched);
        eval_into(&mut operator, &[&input], &ChangedRows::Rows(touched), &mut out).expect("an answer");
        assert_eq!(answer(&out).len(), want);
    }
}

/// A float and a histogram that get the same labels are one series with the histogram; a query gets
/// both.
#[test]
fn what_becomes_alike_is_one_series_if_its_kinds_differ() {
    let rows_of = |float: Sample, histogram: Sample| {
        let mut out = StepOutput::default();
        for name in ["x", "y"] {
            out.add_row_with_name_flag(FlaggedLabels::new(labels(&format!("{name},i=1")), true));
        }
        let mut touched = Vec::new();
        out.put(0, float, &mut touched);
        out.put(1, histogram, &mut touched);
        out
    };
    let shown = |out: &StepOutput| -> Vec<String> {
        out.rows()
            .into_iter()
            .map(|(labels, sample)| format!("{labels} {}", matches!(sample, Sample::Float(_))))
            .collect()
    };
    let of = h(0, &[2.0]);
    let mut live = DropNames::default();
    let mut out = StepOutput::default();
    for (float, histogram, want) in [
        (f(1.0), Sample::from(&of), &["{i=\"1\"} false"][..]),
        (f(1.0), absent(), &["{i=\"1\"} true"]),
        (absent(), (&of).into(), &["{i=\"1\"} false"]),
        (f(2.0), (&of).into(), &["{i=\"1\"} false"]),
        (absent(), absent(), &[]),
    ] {
        let input = rows_of(float, histogram);
        eval_into(&mut live, &[&input], &ChangedRows::All, &mut out).expect("an answer");
        assert_eq!(shown(&out), want);
    }
    let both = rows_of(f(1.0), (&of).into());
    assert_eq!(shown(&eval(&mut DropNames::for_query(), &[&both])), ["{i=\"1\"} true", "{i=\"1\"} false"]);
    let floats = rows_of(f(1.0), f(2.0));
    let refused =
        eval_into(&mut DropNames::default(), &[&floats], &ChangedRows::All, &mut StepOutput::default());
    assert_eq!(refused, Err(crate::operators::same_labelset()));
}
