//! Tests that a query ends at its limits: runs every function and every operator as a query that
//! times out, is cancelled, or takes too much memory.

use super::query_run::TimeGrid;
use super::*;
use crate::functions::{Kernel, table};
use crate::plan::{
    Aggregate, AggregateOp, Binary, BinaryOp, BitFloat, Cardinality, FunctionRef, Grouping, PlanNode, Span,
    VectorMatching,
};
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::Matcher;
use storage::store::{FloatRow, StoreOptions};

const START: TimeMs = 1_700_000_000_000;
const SERIES: usize = 64;

fn plan(op: PlanOp) -> Plan {
    Arc::new(PlanNode { op, span: Span::default() })
}

fn selector() -> Selector {
    Selector { matchers: vec![Matcher::equal("__name__", "m_total")], offset: 0, at: None, extension: None }
}

fn vector() -> Plan {
    plan(PlanOp::Instant(selector()))
}

fn call(name: &str, args: Vec<Plan>) -> Plan {
    let function = FunctionRef(crate::functions::lookup(name).expect("in the table"));
    plan(PlanOp::Call { function, args })
}

fn text(text: &str) -> Plan {
    plan(PlanOp::Text(text.to_owned()))
}

/// Each function over series, and window functions also over a subquery.
fn functions() -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    for function in table() {
        let ranges = [
            plan(PlanOp::Range { selector: selector(), range: 60_000 }),
            plan(PlanOp::Subquery { input: vector(), range: 60_000, step: Some(5_000), offset: 0, at: None }),
        ];
        let texts = match function.kernel {
            Kernel::Relabel(_) => ["d", "$1", "n", "(.*)"],
            _ => ["n", "n", "n", "n"],
        };
        let windowed = function.args.contains(&ValueType::Matrix);
        for range in &ranges[..if windowed { 2 } else { 1 }] {
            let mut texts = texts.iter();
            let arg = |kind: &ValueType| match kind {
                ValueType::Vector => vector(),
                ValueType::Matrix => range.clone(),
                ValueType::Scalar => plan(PlanOp::Number(BitFloat(0.5))),
                ValueType::Text => text(texts.next().unwrap_or(&"n")),
            };
            let mut args: Vec<Plan> = function.args.iter().map(arg).collect();
            if function.name == "info" {
                args.truncate(1);
            }
            // A scalar over no series has nothing to check; it is added to a vector.
            let call = call(function.name, args);
            let name = format!("{} {:?}", function.name, range.kind());
            plans.push((
                name,
                if call.kind() == ValueType::Vector { call } else { binary(BinaryOp::Add, call) },
            ));
        }
    }
    plans
}

fn binary(op: BinaryOp, with: Plan) -> Plan {
    let cardinality = if op.is_set() { Cardinality::ManyToMany } else { Cardinality::OneToOne };
    let matching = VectorMatching { cardinality, ..VectorMatching::default() };
    plan(PlanOp::Binary(Box::new(Binary {
        op,
        return_bool: false,
        matching,
        lhs: vector(),
        rhs: with,
        kind: ValueType::Vector,
    })))
}

fn operators() -> Vec<(String, Plan)> {
    let mut plans = vec![
        ("negate".to_owned(), plan(PlanOp::Negate(vector()))),
        ("plus".to_owned(), plan(PlanOp::Plus(vector()))),
        ("selector".to_owned(), vector()),
        ("samples".to_owned(), plan(PlanOp::Range { selector: selector(), range: 60_000 })),
    ];
    for op in BinaryOp::ALL {
        plans.push((op.as_str().to_owned(), binary(*op, vector())));
        if !op.is_set() {
            plans.push((format!("{} scalar", op.as_str()), binary(*op, plan(PlanOp::Number(BitFloat(2.0))))));
        }
    }
    for op in AggregateOp::ALL {
        use AggregateOp::{Bottomk, CountValues, LimitRatio, Limitk, Quantile, Topk};
        let param = match op {
            CountValues => Some(text("v")),
            Bottomk | LimitRatio | Limitk | Quantile | Topk => Some(plan(PlanOp::Number(BitFloat(1.0)))),
            _ => None,
        };
        let grouping = Grouping { without: false, labels: vec!["g".into()] };
        let aggregate = Aggregate { op: *op, grouping, param, input: vector() };
        plans.push((op.as_str().to_owned(), plan(PlanOp::Aggregate(Box::new(aggregate)))));
    }
    plans
}

struct Bench {
    querier: Querier,
    memory: Arc<MemoryPool>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 0,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        for n in 0..SERIES {
            let g = (n % 3).to_string();
            let n = n.to_string();
            let labels = Labels::from_pairs([("__name__", "m_total"), ("n", n.as_str()), ("g", g.as_str())]);
            let series = store.get_or_create_series(&labels);
            let rows = (0..13).map(|i| FloatRow { series, t: START - 60_000 + i * 5_000, v: i as f64 });
            store.append_rows(&rows.collect::<Vec<_>>()).unwrap();
        }
        let memory = MemoryPool::for_queries(64 << 20);
        let querier = Querier::new(store, 2).with_memory(memory.clone());
        Bench { querier, memory, _dir: dir }
    }

    /// The answer at some steps, with a guard.
    fn ask(&self, plan: &Plan, options: &QueryOptions, guard: &Arc<QueryGuard>) -> Result<(), QueryError> {
        if let PlanOp::Range { selector, range } = &plan.op {
            return self.querier.samples_of(selector, *range, START, options, guard).map(drop);
        }
        let grid = TimeGrid { start: START - 30_000, end: START, step: 10_000 };
        self.querier.guarded(plan, false, grid, options, guard, None)?.range().map(drop)
    }
}

#[test]
fn every_query_ends_when_its_time_is_over() {
    let bench = Bench::new();
    let options = QueryOptions::default();
    for (name, plan) in functions().into_iter().chain(operators()) {
        const MANY: usize = 1 << 40;
        let guard = Arc::new(QueryGuard::lasting(MANY, &options));
        let whole = bench.ask(&plan, &options, &guard);
        assert!(matches!(whole, Ok(()) | Err(QueryError::Execution(_))), "{name}: {whole:?}");
        let looks = MANY - guard.remaining_samples();
        assert!(looks > 2, "{name} looks {looks} times at its time");
        // On a busy machine the waiting thread checks more often, so the next query may get fewer
        // checks.
        for lasts in [0, 1, looks / 3] {
            let guard = Arc::new(QueryGuard::lasting(lasts, &options));
            let ended = bench.ask(&plan, &options, &guard);
            assert!(
                matches!(ended, Err(QueryError::Timeout(_))),
                "{name} after {lasts} of {looks}: {ended:?}"
            );
            assert!(lasts > 0 || guard.samples().total == 0, "{name} reads when there is no time");
        }
        let cancelled = QueryOptions { cancel: Arc::new(AtomicBool::new(true)), ..QueryOptions::default() };
        let ended = bench.ask(&plan, &cancelled, &Arc::new(QueryGuard::new(&cancelled)));
        assert!(matches!(ended, Err(QueryError::Canceled(_))), "{name}: {ended:?}");
    }
}

#[test]
fn a_query_that_takes_too_much_memory_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let long = "x".repeat(30_000);
    let replaced = call("label_replace", vec![vector(), text("d"), text(&long), text("n"), text(".*")]);
    let ask = |max_bytes| {
        let options = QueryOptions { max_bytes, ..QueryOptions::default() };
        bench.querier.instant(&replaced, START, &options)
    };
    let answer = ask(16 << 20).expect("2 MB fit");
    let held = bench.memory.reserved();
    assert!((1_900_000..2_100_000).contains(&held), "an answer of 2 MB holds {held} bytes while it is there");
    assert_eq!(answer.memory.bytes(), held);
    drop(answer);
    assert_eq!(bench.memory.reserved(), 0);
    let Err(QueryError::LimitReached(error)) = ask(1 << 20) else { panic!("2 MB do not fit into one") };
    assert!(error.contains("more than 1 MiB of values, labels and answer"), "{error}");
    assert!(error.contains("--query.max-bytes"), "{error}");
    assert_eq!(bench.memory.reserved(), 0, "what is refused leaves nothing behind");
    let kept = bench.memory.reservation(usize::MAX);
    kept.grow(63 << 20).unwrap();
    let Err(QueryError::LimitReached(error)) = ask(16 << 20) else { panic!("others have all but one") };
    assert!(error.contains("together") && error.contains("--query.max-total-bytes"), "{error}");
    drop(kept);
    assert!(ask(16 << 20).is_ok());
    assert_eq!(bench.memory.reserved(), 0);
}

#[test]
fn each_kind_of_answer_counts_what_it_holds() {
    let bench = Bench::new();
    let options = QueryOptions { max_bytes: 15_000, ..QueryOptions::default() };
    let range = plan(PlanOp::Range { selector: selector(), range: 60_000 });
    let subquery =
        plan(PlanOp::Subquery { input: vector(), range: 60_000, step: Some(100), offset: 0, at: None });
    let over = |range: &Plan| call("max_over_time", vec![range.clone()]);
    for (name, asked) in [
        ("samples", bench.querier.instant(&range, START, &options)),
        ("a subquery", bench.querier.instant(&subquery, START, &options)),
        ("rows of a subquery", bench.querier.instant(&over(&subquery), START, &options)),
        ("a range", bench.querier.range(&over(&range), START - 60_000, START, 100, &options)),
        (
            "sums",
            bench.querier.range(&binary(BinaryOp::Add, vector()), START - 60_000, START, 1_000, &options),
        ),
    ] {
        let Err(QueryError::LimitReached(error)) = asked else { panic!("{name}: {asked:?}") };
        assert!(error.contains("14.6 KiB"), "{name}: {error}");
    }
    assert_eq!(bench.memory.reserved(), 0);
}
