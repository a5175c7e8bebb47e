//! Tests of aggregations over floats and native histograms, within a shard (a share of the series)
//! and merged across shards.

use super::super::aggregate::{MergeAggregate, PartialAggregate};
use super::super::whole_group::WholeGroup;
use super::*;
use crate::plan::{AggregateOp, Grouping};
use proptest::prelude::*;

fn by(label: &str) -> Grouping {
    Grouping { without: false, labels: vec![label.to_owned()] }
}

/// The partial rows of several shards, as the merge gets them.
fn port(shards: &[StepOutput]) -> StepOutput {
    let mut port = StepOutput::default();
    port.partial_columns.resize_with(2, Vec::new);
    for (shard, out) in shards.iter().enumerate() {
        for row in 0..out.labels.len() {
            let to = port.add_row(out.labels[row].clone());
            port.shards.push(shard as u16);
            port.values[to] = out.values[row];
            for (to_lane, lane) in port.partial_columns.iter_mut().zip(&out.partial_columns) {
                to_lane[to] = lane[row];
            }
            port.histograms.set(to, out.histograms.get(row).cloned());
            port.histogram_compensations.set(to, out.histogram_compensations.get(row).cloned());
        }
    }
    port
}

/// The aggregate over shards, and the annotations of both stages.
fn aggregate(op: AggregateOp, shards: &[StepOutput]) -> (BTreeMap<String, String>, Vec<String>) {
    let partial = |input: &StepOutput| eval(&mut PartialAggregate::new(op, by("g")), &[input]);
    let partials: Vec<StepOutput> = shards.iter().map(partial).collect();
    let merged = eval(&mut MergeAggregate::new(op, "m"), &[&port(&partials)]);
    let mut said: Vec<String> = partials.iter().chain([&merged]).flat_map(remarks).collect();
    said.sort();
    said.dedup();
    (answer(&merged), said)
}

fn one(op: AggregateOp, of: &[(&str, Sample)]) -> (Vec<String>, Vec<String>) {
    let (answer, said) = aggregate(op, &[rows(of)]);
    (answer.into_iter().map(|(labels, value)| format!("{labels} {value}")).collect(), said)
}

const FLOATS_AND_HISTOGRAMS: &str = "encountered a mix of histograms and floats for aggregation";

#[test]
fn histograms_add_up_and_average() {
    let a = h(0, &[1.0, 2.0]);
    let b = h(0, &[3.0, 4.0]);
    let of = [("m,g=1,i=1", (&a).into()), ("m,g=1,i=2", (&b).into())];
    let sum = "{g=\"1\"} {{count:10 sum:10 z_bucket_w:0.001 buckets:[4 6]}}";
    assert_eq!(one(AggregateOp::Sum, &of), (vec![sum.to_owned()], vec![]));
    let mean = "{g=\"1\"} {{count:5 sum:5 z_bucket_w:0.001 buckets:[2 3]}}";
    assert_eq!(one(AggregateOp::Avg, &of), (vec![mean.to_owned()], vec![]));
    assert_eq!(one(AggregateOp::Count, &of).0, ["{g=\"1\"} 2"]);
    assert_eq!(one(AggregateOp::Group, &of).0, ["{g=\"1\"} 1"]);
}

#[test]
fn what_does_not_go_together_is_left_out_with_a_warning() {
    let exponential = h(0, &[1.0]);
    let bounds = custom(&[1.0, 2.0], &[1.0, 1.0, 1.0]);
    let mixed = [("m,g=1,i=1", f(1.0)), ("m,g=1,i=2", (&exponential).into()), ("m,g=2", f(7.0))];
    for op in [AggregateOp::Sum, AggregateOp::Avg] {
        let (answer, said) = one(op, &mixed);
        assert_eq!((answer, said), (vec!["{g=\"2\"} 7".to_owned()], vec![FLOATS_AND_HISTOGRAMS.to_owned()]));
    }
    let kinds = [("m,g=1,i=1", (&exponential).into()), ("m,g=1,i=2", (&bounds).into())];
    let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name \"m\"";
    assert_eq!(one(AggregateOp::Sum, &kinds), (vec![], vec![text.to_owned()]));
    // In two shards as well: there the name comes from the query.
    let shards: Vec<StepOutput> = kinds.iter().map(|row| rows(std::slice::from_ref(row))).collect();
    assert_eq!(aggregate(AggregateOp::Avg, &shards), (BTreeMap::new(), vec![text.to_owned()]));
}

#[test]
fn differing_bounds_and_hints_are_annotated() {
    let a = custom(&[1.0, 2.0], &[1.0, 1.0, 1.0]);
    let b = custom(&[2.0], &[5.0, 5.0]);
    let (answer, said) = one(AggregateOp::Sum, &[("m,i=1", (&a).into()), ("m,i=2", (&b).into())]);
    assert_eq!(answer, ["{} {{schema:-53 count:13 sum:13 custom_values:[2] buckets:[7 6]}}"]);
    assert_eq!(said, ["mismatched custom buckets were reconciled during aggregation"]);

    let of = h(0, &[1.0]);
    let reset = [("m,i=1", hinted(&of, ResetHint::Reset)), ("m,i=2", hinted(&of, ResetHint::Gauge))];
    let not = [("m,i=3", hinted(&of, ResetHint::NotReset))];
    let text = ["conflicting counter resets during histogram aggregation"];
    for op in [AggregateOp::Sum, AggregateOp::Avg] {
        // The hint of the first shard's sum is `Gauge`, so the hints that were seen must be sent
        // separately.
        assert_eq!(aggregate(op, &[rows(&reset), rows(&not)]).1, text);
        assert_eq!(aggregate(op, &[rows(&reset)]).1, [""; 0]);
    }
}

#[test]
fn extremes_leave_histograms_out() {
    let of = h(0, &[1.0]);
    let mixed = [("m,g=1,i=1", f(3.0)), ("m,g=1,i=2", (&of).into()), ("m,g=2", (&of).into())];
    let said = |op: &str| vec![format!("ignored histogram in {op} aggregation")];
    assert_eq!(one(AggregateOp::Min, &mixed), (vec!["{g=\"1\"} 3".to_owned()], said("min")));
    assert_eq!(one(AggregateOp::Max, &mixed), (vec!["{g=\"1\"} 3".to_owned()], said("max")));
}

fn group(op: AggregateOp, param: Option<f64>, of: &[(&str, Sample)]) -> (Vec<String>, Vec<String>) {
    let input = rows(of);
    let param = param.map(scalar);
    let inputs: Vec<&StepOutput> = [&input].into_iter().chain(&param).collect();
    let text = (op == AggregateOp::CountValues).then(|| "v".to_owned());
    let out = eval(&mut WholeGroup::new(op, Grouping::default(), text), &inputs);
    let rows = answer(&out).into_iter().map(|(labels, value)| format!("{labels} {value}"));
    (rows.collect(), remarks(&out))
}

#[test]
fn groups_of_floats_leave_histograms_out() {
    let of = h(0, &[1.0]);
    let mixed = [("m,i=1", f(1.0)), ("m,i=2", (&of).into()), ("m,i=3", f(3.0))];
    use AggregateOp::*;
    for (op, param, want) in [
        (Topk, Some(2.0), &["m{i=\"1\"} 1", "m{i=\"3\"} 3"][..]),
        (Bottomk, Some(1.0), &["m{i=\"1\"} 1"]),
        (Quantile, Some(0.5), &["{} 2"]),
        (Stddev, None, &["{} 1"]),
        (Stdvar, None, &["{} 1"]),
    ] {
        let said = format!("ignored histogram in {} aggregation", op.as_str());
        assert_eq!(group(op, param, &mixed), (want.iter().map(|s| (*s).to_owned()).collect(), vec![said]));
    }
    // An aggregation that selects nothing ignores nothing.
    assert_eq!(group(Topk, Some(0.5), &mixed), (vec![], vec![]));
    let all = ["m{i=\"1\"} 1", "m{i=\"2\"} {{count:1 sum:1 z_bucket_w:0.001 buckets:[1]}}"];
    assert_eq!(group(Limitk, Some(2.0), &mixed), (all.map(str::to_owned).to_vec(), vec![]));
    let counted = ["{v=\"1\"} 1", "{v=\"3\"} 1", "{v=\"{count:1, sum:1, (0.5,1]:1}\"} 1"];
    assert_eq!(group(CountValues, None, &mixed).0, counted);
}

#[test]
fn parameters_are_warned_of_or_refused() {
    let of = [("m,i=1", f(1.0))];
    let invalid = |got: &str| vec![format!("quantile value should be between 0 and 1, got {got}")];
    assert_eq!(group(AggregateOp::Quantile, Some(1.5), &of), (vec!["{} inf".to_owned()], invalid("1.5")));
    assert_eq!(group(AggregateOp::Quantile, Some(-0.1), &[]).1, invalid("-0.1"));
    assert_eq!(group(AggregateOp::Quantile, Some(f64::NAN), &of).1, invalid("NaN"));
    let (answer, said) = group(AggregateOp::LimitRatio, Some(1.1), &of);
    assert_eq!(answer.len(), 1);
    assert_eq!(said, ["ratio value should be between -1 and 1, got 1.1, capping to 1"]);
    let refused = |op, param| {
        let mut operator = WholeGroup::new(op, Grouping::default(), Some(String::new()));
        let input = StepOutput::default();
        let param = scalar(param);
        eval_into(&mut operator, &[&input, &param], &ChangedRows::All, &mut StepOutput::default())
    };
    for (op, param, text) in [
        (AggregateOp::Topk, f64::NAN, "Parameter value is NaN"),
        (AggregateOp::Limitk, 1e19, "Scalar value 1e+19 overflows int64"),
        (AggregateOp::LimitRatio, f64::NAN, "Ratio value is NaN"),
        (AggregateOp::CountValues, 0.0, "invalid label name \"\""),
    ] {
        assert_eq!(refused(op, param), Err(EvalError(text.to_owned())));
    }
    // Values below one select nothing, however low they are.
    assert_eq!(refused(AggregateOp::Bottomk, f64::NEG_INFINITY), Ok(()));
}

#[test]
fn a_ratio_and_its_complement_share_the_series() {
    let names: Vec<String> = (0..200).map(|i| format!("m,i={i}")).collect();
    let of: Vec<(&str, Sample)> = names.iter().map(|name| (name.as_str(), f(1.0))).collect();
    let taken = |ratio| group(AggregateOp::LimitRatio, Some(ratio), &of).0;
    for ratio in [0.0, 0.1, 0.5, 0.9, 1.0] {
        let some = taken(ratio);
        let others = taken(ratio - 1.0);
        let all: std::collections::BTreeSet<&String> = some.iter().chain(&others).collect();
        assert_eq!((all.len(), some.len() + others.len()), (200, 200), "{ratio}");
        assert!((some.len() as f64 - 200.0 * ratio).abs() <= 30.0, "{ratio}: {}", some.len());
    }
}

fn samples() -> impl Strategy<Value = Sample> {
    let hints = prop::sample::select(vec![
        ResetHint::Unknown,
        ResetHint::Reset,
        ResetHint::NotReset,
        ResetHint::Gauge,
    ]);
    let counts = prop::collection::vec((0u8..20).prop_map(f64::from), 1..4);
    prop_oneof![
        Just(absent()),
        (-50i8..50).prop_map(|v| f(f64::from(v))),
        (0i32..3, counts.clone(), hints.clone()).prop_map(|(s, c, hint)| hinted(&h(s, &c), hint)),
        (prop::sample::subsequence(vec![1.0, 2.0, 5.0], 1..=3), counts, hints).prop_map(
            |(bounds, c, hint)| {
                let counts = &c[..c.len().min(bounds.len() + 1)];
                hinted(&custom(&bounds, counts), hint)
            }
        ),
    ]
}

const OPS: [AggregateOp; 6] = [
    AggregateOp::Sum,
    AggregateOp::Avg,
    AggregateOp::Count,
    AggregateOp::Min,
    AggregateOp::Max,
    AggregateOp::Group,
];

fn named(of: &[Sample]) -> Vec<(String, Sample)> {
    of.iter().enumerate().map(|(i, s)| (format!("m,g={},i={i:02}", i % 2), s.clone())).collect()
}

fn table(of: &[(String, Sample)]) -> StepOutput {
    let rows_of: Vec<(&str, Sample)> = of.iter().map(|(l, s)| (l.as_str(), s.clone())).collect();
    rows(&rows_of)
}

proptest! {
    /// Counts are integers, so that no order of additions loses precision.
    #[test]
    fn shards_make_no_difference(of in prop::collection::vec(samples(), 1..24), shards in 1usize..5) {
        let of = named(&of);
        let mut parts = vec![Vec::new(); shards];
        for (i, row) in of.iter().enumerate() { parts[i * 7 % shards].push(row.clone()); }
        let parts: Vec<StepOutput> = parts.iter().map(|part| table(part)).collect();
        for op in OPS {
            let (whole, said) = aggregate(op, &[table(&of)]);
            let (merged, said_too) = aggregate(op, &parts);
            prop_assert_eq!(&whole, &merged, "{:?}", op);
            prop_assert_eq!(said.is_empty(), said_too.is_empty(), "{:?}: {:?} {:?}", op, said, said_too);
        }
    }

    /// An incremental evaluation gives the same as one from scratch: values, histograms,
    /// annotations.
    #[test]
    fn changes_alone_are_enough(
        first in prop::collection::vec(samples(), 8),
        changes in prop::collection::vec((0usize..8, samples()), 1..12),
    ) {
        let mut input = table(&named(&first));
        let mut running: Vec<(PartialAggregate, StepOutput)> =
            OPS.iter().map(|op| (PartialAggregate::new(*op, by("g")), StepOutput::default())).collect();
        for (operator, out) in &mut running {
            eval_into(operator, &[&input], &ChangedRows::All, out).expect("an answer");
        }
        for (row, sample) in changes {
            let mut touched = Vec::new();
            input.put(row, sample, &mut touched);
            for ((operator, out), op) in running.iter_mut().zip(OPS) {
                eval_into(operator, &[&input], &ChangedRows::Rows(touched.clone()), out).expect("an answer");
                let scratch = eval(&mut PartialAggregate::new(op, by("g")), &[&input]);
                prop_assert_eq!(remarks(out), remarks(&scratch));
                for row in 0..out.labels.len() {
                    prop_assert_eq!(out.values[row].to_bits(), scratch.values[row].to_bits());
                    prop_assert_eq!(out.histograms.get(row), scratch.histograms.get(row));
                    prop_assert_eq!(out.histogram_compensations.get(row), scratch.histogram_compensations.get(row));
                }
            }
        }
    }
}
