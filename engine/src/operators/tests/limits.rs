//! Every operator stops when the time of its query is over, wherever it is, and counts the labels
//! that it creates.

use super::*;
use crate::functions::{Kernel, table};
use crate::limits::{CHECK_SAMPLES, ROW_SAMPLES};
use crate::memory::MemoryPool;
use crate::operators::{EvalError, build};
use crate::plan::details::{HistogramFunction, InfoSelector, MetricName};
use crate::plan::physical::StepOp;
use crate::plan::{AggregateOp, BinaryOp, Cardinality, Dialect, FunctionRef, Grouping, VectorMatching};
use crate::query::QueryOptions;
use crate::query::guard::QueryGuard;
use std::rc::Rc;
use testing::assert_proportional;

/// Rows between two checks of the limits.
const STRIDE: usize = CHECK_SAMPLES / ROW_SAMPLES;
/// Rows of the operands.
const ROWS: usize = 2 * STRIDE + 100;

/// A step and its operands.
struct Case {
    name: String,
    op: StepOp,
    inputs: Vec<Rc<StepOutput>>,
}

/// This many rows of a metric; `labels` returns those of each.
fn wide(rows: usize, labels: impl Fn(usize) -> Vec<(&'static str, String)>) -> StepOutput {
    let mut out = StepOutput::default();
    for n in 0..rows {
        let row = out.add_row(Labels::from_pairs(labels(n)));
        out.set(row, (n % 7) as f64, &mut Vec::new());
    }
    out
}

/// Rows that differ in one label only.
fn plain(rows: usize) -> Rc<StepOutput> {
    Rc::new(wide(rows, |n| vec![("__name__", "m".into()), ("n", n.to_string()), ("g", (n % 3).to_string())]))
}

fn number(v: f64) -> Rc<StepOutput> {
    Rc::new(scalar(v))
}

/// The partial aggregates of shards.
fn partial(rows: usize) -> Rc<StepOutput> {
    let mut out = wide(rows, |n| vec![("n", n.to_string()), ("g", (n % 3).to_string())]);
    out.partial_columns = vec![vec![0.0; rows], vec![1.0; rows]];
    Rc::new(out)
}

fn case(name: impl Into<String>, op: StepOp, inputs: &[&Rc<StepOutput>]) -> Case {
    Case { name: name.into(), op, inputs: inputs.iter().map(|input| (*input).clone()).collect() }
}

fn by(label: &str) -> Grouping {
    Grouping { without: false, labels: vec![label.to_owned()] }
}

/// The functions that are computed row by row.
fn functions(plain: &Rc<StepOutput>) -> Vec<Case> {
    let one = number(1.0);
    let mut cases = Vec::new();
    for function in table() {
        let name = function.name;
        let of = FunctionRef(function);
        let params = function.args.len().saturating_sub(1);
        let operands: Vec<&Rc<StepOutput>> =
            std::iter::once(plain).chain((0..params).map(|_| &one)).collect();
        match function.kernel {
            Kernel::Map(_) | Kernel::MapOrClock(_) | Kernel::Histogram(_) => {
                cases.push(case(name, StepOp::Map(of), &operands));
            }
            Kernel::Relabel(_) => {
                let texts = ["d", "$1-$1", "n", "(.*)"].map(str::to_owned).to_vec();
                cases.push(case(name, StepOp::Relabel(of, texts), &[plain]));
            }
            Kernel::Operator(_) if name.ends_with("timestamp") => {
                cases.push(case(name, StepOp::Map(of), &[plain]));
            }
            // Windows are evaluated by the runtimes; the other special functions have operators
            // below.
            Kernel::Window(_)
            | Kernel::Clock(_)
            | Kernel::Query(_)
            | Kernel::Scalars(_)
            | Kernel::Operator(_) => {}
        }
    }
    cases
}

fn binary(plain: &Rc<StepOutput>) -> Vec<Case> {
    let mut cases = Vec::new();
    let two = number(2.0);
    let one = wide(3, |n| vec![("g", n.to_string()), ("more", "x".repeat(50))]);
    let one = Rc::new(one);
    for op in BinaryOp::ALL {
        let name = |form: &str| format!("{} {form}", op.as_str());
        let matching = |cardinality| VectorMatching { cardinality, ..VectorMatching::default() };
        if op.is_set() {
            let matching = matching(Cardinality::ManyToMany);
            cases.push(case(name("sets"), StepOp::SetOperator(*op, matching), &[plain, plain]));
            continue;
        }
        let one_to_one = StepOp::VectorMatch(*op, false, matching(Cardinality::OneToOne));
        cases.push(case(name("one to one"), one_to_one, &[plain, plain]));
        let grouped = VectorMatching {
            on: true,
            labels: vec!["g".into()],
            include: vec!["more".into()],
            ..matching(Cardinality::ManyToOne)
        };
        cases.push(case(name("group_left"), StepOp::VectorMatch(*op, false, grouped), &[plain, &one]));
        let with_scalar = StepOp::VectorScalar { op: *op, return_bool: false, scalar_left: false };
        cases.push(case(name("scalar"), with_scalar, &[plain, &two]));
    }
    cases
}

fn aggregates(plain: &Rc<StepOutput>) -> Vec<Case> {
    use AggregateOp::{Avg, Count, CountValues, Max, Min, Sum};
    let partial = partial(plain.values.len());
    let one = number(1.0);
    let mut cases = Vec::new();
    for op in AggregateOp::ALL {
        for grouping in [by("g"), by("n")] {
            let name = |form: &str| format!("{} {form} by {:?}", op.as_str(), grouping.labels);
            if matches!(op, Sum | Avg | Count | Min | Max | AggregateOp::Group) {
                let step = StepOp::PartialAggregate(*op, grouping.clone());
                cases.push(case(name("partial"), step, &[plain]));
                let step = StepOp::MergeAggregate(*op, MetricName::default());
                cases.push(case(name("merge"), step, &[&partial]));
                continue;
            }
            let text = (*op == CountValues).then(|| "v".to_owned());
            let inputs = if text.is_some() { vec![plain] } else { vec![plain, &one] };
            cases.push(case(name(""), StepOp::WholeGroup(*op, grouping.clone(), text), &inputs));
        }
    }
    cases
}

/// Operators without a table of functions.
fn others(plain: &Rc<StepOutput>) -> Vec<Case> {
    let rows = plain.values.len();
    let buckets = Rc::new(wide(rows, |n| {
        let bound = if n % 2 == 0 { "1" } else { "+Inf" };
        vec![("n", (n / 2).to_string()), ("le", bound.to_owned())]
    }));
    let targets = |name: &'static str, label: &'static str| {
        Rc::new(wide(rows, move |n| {
            let target = [("job", "j".to_owned()), ("instance", n.to_string()), (label, n.to_string())];
            [("__name__", name.to_owned())].into_iter().chain(target).collect()
        }))
    };
    let zero = number(0.0);
    let half = number(0.5);
    let one = number(1.0);
    let base = targets("m", "a");
    let info = targets("target_info", "version");
    // Operators that read only values process many between two checks.
    let mut values = StepOutput::default();
    values.add_row(Labels::default());
    values.values = vec![ABSENT; CHECK_SAMPLES + 1];
    let values = Rc::new(values);
    let quantiles = StepOp::Histogram(HistogramFunction::Quantiles("q".into()));
    vec![
        case("negate", StepOp::Negate, &[plain]),
        case("sort", StepOp::Sort(true), &[plain]),
        case("sort_by_label", StepOp::SortByLabel(vec!["n".into()], false), &[plain]),
        case("drop names", StepOp::DropNames, &[plain]),
        case("quantile", StepOp::Histogram(HistogramFunction::Quantile), &[&half, &buckets]),
        case("quantiles", quantiles, &[&half, &one, &buckets]),
        case("fraction", StepOp::Histogram(HistogramFunction::Fraction), &[&zero, &one, &buckets]),
        case("info", StepOp::Info(InfoSelector::from_matchers(None).0), &[&base, &info]),
        case("absent", StepOp::Absent(Labels::default()), &[&values]),
        case("scalar", StepOp::ToScalar, &[&values]),
    ]
}

fn all(rows: usize) -> Vec<Case> {
    let plain = plain(rows);
    let all = [functions(&plain), binary(&plain), aggregates(&plain), others(&plain)];
    all.into_iter().flatten().collect()
}

/// Evaluates from scratch with a guard that lasts for this many checks. Returns how many it used.
fn evaluate(case: &Case, looks: usize) -> (Result<(), EvalError>, StepOutput, usize) {
    let guard = QueryGuard::lasting(looks, &QueryOptions::default());
    let mut operator = build(&case.op, Dialect::default()).expect("an operator");
    let inputs: Vec<StepInput> =
        case.inputs.iter().map(|out| StepInput { out, delta: Some(&ChangedRows::All) }).collect();
    let mut out = StepOutput::default();
    let mut eval_guard = EvaluationGuard::for_query(&guard);
    let result = operator.eval(&inputs, 1_000, &mut out, &mut eval_guard);
    let left = guard.remaining_samples();
    (result, out, looks - left)
}

#[test]
fn every_operator_ends_when_the_time_is_over() {
    const MANY: usize = 1 << 40;
    for case in all(ROWS) {
        let name = &case.name;
        let (result, whole, looks) = evaluate(&case, MANY);
        assert_eq!(result, Ok(()), "{name}");
        let units = case.inputs.iter().map(|input| input.values.len()).max().unwrap_or(0);
        let least = if units > ROWS { units / CHECK_SAMPLES } else { units / STRIDE };
        assert!(looks >= least, "{name} has {units} rows and looks {looks} times at its time");
        for lasts in [0, looks / 2, looks - 1] {
            let (result, out, taken) = evaluate(&case, lasts);
            let late = EvalError("query timed out in expression evaluation".to_owned());
            assert_eq!(result, Err(late), "{name}, whose time is over at look {lasts} of {looks}");
            assert_eq!(taken, lasts, "{name}");
            // It stops at the check: no more rows are added than lie between two checks.
            let most = ((lasts + 1) * STRIDE).min(whole.labels.len());
            assert!(out.labels.len() <= most, "{name}: {} rows after {lasts} looks", out.labels.len());
        }
    }
}

#[test]
fn the_looks_grow_with_the_rows_and_no_faster() {
    for (one, two) in all(ROWS).iter().zip(&all(2 * ROWS)) {
        let looks = |case: &Case| evaluate(case, 1 << 40).2 as f64;
        let one_looks = looks(one);
        let two_looks = looks(two);
        let rows = |case: &Case| case.inputs.iter().map(|input| input.values.len()).max();
        if rows(one) == rows(two) {
            // For operators on values only: as many in both.
            continue;
        }
        let ratio = two_looks / one_looks;
        assert!((1.5..2.6).contains(&ratio), "{}: {one_looks} looks, then {two_looks}", one.name);
    }
}

#[test]
fn twice_the_rows_cost_every_operator_at_most_a_little_more_than_twice() {
    for (one, two) in all(ROWS).iter().zip(&all(2 * ROWS)) {
        let case = |rows: usize| if rows == ROWS { one } else { two };
        assert_proportional(&one.name, ROWS, case, |case| evaluate(case, 1 << 40).1);
    }
}

/// The labels that an operator creates also count in a view, and if they exceed the limit, the
/// error stays.
#[test]
fn labels_that_are_made_count() {
    let texts = |template: &str| ["d", template, "n", ".*"].map(str::to_owned).to_vec();
    let replace = FunctionRef(crate::functions::lookup("label_replace").expect("in the table"));
    let long = "x".repeat(1_000);
    let more = VectorMatching {
        on: true,
        labels: vec!["g".into()],
        include: vec!["more".into()],
        cardinality: Cardinality::ManyToOne,
        ..VectorMatching::default()
    };
    let one = Rc::new(wide(3, |n| vec![("g", n.to_string()), ("more", "x".repeat(1_000))]));
    let info = Rc::new(wide(1_000, |n| {
        let about = ("about", "x".repeat(1_000));
        vec![("__name__", "target_info".into()), ("instance", n.to_string()), about]
    }));
    let base = Rc::new(wide(1_000, |n| vec![("__name__", "m".into()), ("instance", n.to_string())]));
    let plain = plain(1_000);
    let mut histograms = StepOutput::default();
    for n in 0..1_000 {
        let counts: Vec<f64> = (0..60).map(|i| (i * n) as f64).collect();
        let row = histograms.add_row(labels(&format!("n={n}")));
        histograms.set_histogram(row, h(0, &counts), &mut Vec::new());
    }
    let histograms = Rc::new(histograms);
    let count = StepOp::WholeGroup(AggregateOp::CountValues, by("n"), Some("v".into()));
    for case in [
        case("label_replace", StepOp::Relabel(replace, texts(&long)), &[&plain]),
        case("group_left", StepOp::VectorMatch(BinaryOp::Add, false, more), &[&plain, &one]),
        case("info", StepOp::Info(InfoSelector::from_matchers(None).0), &[&base, &info]),
        case("count_values", count, &[&histograms]),
    ] {
        let name = &case.name;
        let inputs: Vec<StepInput> =
            case.inputs.iter().map(|out| StepInput { out, delta: Some(&ChangedRows::All) }).collect();
        let run = |limit: usize, twice: bool| {
            let pool = MemoryPool::for_views(usize::MAX);
            let labels = pool.reservation(limit);
            let mut operator = build(&case.op, Dialect::default()).expect("an operator");
            let mut out = StepOutput::default();
            let mut eval = |out: &mut StepOutput| {
                let mut eval_guard = EvaluationGuard::for_view(Some(&labels));
                operator.eval(&inputs, 1_000, out, &mut eval_guard).and_then(|()| eval_guard.count_pending())
            };
            let mut result = eval(&mut out);
            if twice {
                let rows = out.labels.len();
                result = eval(&mut out);
                assert_eq!(out.labels.len(), rows, "{name} grows with every try");
            }
            (result, labels.size())
        };
        let (result, size) = run(usize::MAX, false);
        assert_eq!(result, Ok(()), "{name}");
        assert!((400_000..6_000_000).contains(&size), "{name} counts {size} bytes");
        for twice in [false, true] {
            let (result, size) = run(300_000, twice);
            let error = result.expect_err("too much").0;
            assert!(error.contains("more than 293 KiB of labels"), "{name}: {error}");
            assert!(size <= 300_000, "{name} holds {size} bytes");
        }
    }
}
