//! Generates expressions for every entry of the tables: each function, aggregation and operator
//! with random operands.
//!
//! No table entry is named here: arguments are drawn by type, and what the parser, the type checker
//! or the live runtime rejects is drawn again. Entries with a tolerance are treated separately
//! ([`RandomExpression::inexact`]): they occur only inside operators that do not increase a
//! difference.

use crate::arguments;
use crate::random::Random;
use engine::functions::{Function, Tolerance, table};
use engine::live::{ViewKind, ViewSpec, check};
use engine::plan::physical::StoreQueries;
use engine::plan::{AggregateOp, BinaryOp, Plan, ValueType};
use promql::{PromqlOptions, compile};

/// What an expression is drawn for.
#[derive(Copy, Clone)]
pub enum Entry {
    Function(&'static Function),
    Aggregate(AggregateOp),
    Binary(BinaryOp),
    /// A form that is in no table: kinds of selectors, signs, modifiers.
    Form(&'static str),
}

/// Selectors and signs, and compositions that random draws would rarely produce.
const FORMS: &[&str] = &[
    "m_total",
    "m_hist offset 20s",
    r#"m_total{series=~"s[0-2]"}"#,
    r#"{__name__=~"m_.*",series!="s1"}"#,
    "-m_gauge",
    "m_gauge and on (instance) m_total > 10",
    "m_gauge * on (instance) group_left sum by (instance) (m_total)",
    "m_gauge + on (instance, series) fill (0) m_total",
    "m_gauge > scalar(avg(m_gauge))",
    "sum(sum by (instance) (m_gauge))",
    "time() - timestamp(m_gauge)",
    "m_hist smoothed",
    "m_total smoothed",
    "max_over_time(m_gauge[2m]) - min_over_time(m_gauge[2m]) > 1",
    "histogram_quantile(0.9, sum by (le) (sum_over_time(m_bucket[1m])))",
    "histogram_count(sum_over_time(m_hist[2m]))",
    r#"info(m_gauge, {version=~".+"})"#,
];

/// All entries of all tables.
pub fn all() -> Vec<Entry> {
    let functions = table().iter().map(|function| Entry::Function(function));
    let aggregates = AggregateOp::ALL.iter().map(|op| Entry::Aggregate(*op));
    let operators = BinaryOp::ALL.iter().map(|op| Entry::Binary(*op));
    let forms = FORMS.iter().map(|form| Entry::Form(form));
    functions.chain(aggregates).chain(operators).chain(forms).collect()
}

impl Entry {
    pub fn name(self) -> &'static str {
        match self {
            Entry::Function(function) => function.name,
            Entry::Aggregate(op) => op.as_str(),
            Entry::Binary(op) => op.as_str(),
            Entry::Form(text) => text,
        }
    }
}

/// An expression that can be installed as a view.
#[derive(Clone)]
pub struct RandomExpression {
    pub text: String,
    pub plan: Plan,
    pub inexact: Option<Inexact>,
}

/// The part of an expression that may differ, and by how much.
#[derive(Clone)]
pub struct Inexact {
    pub plan: Plan,
    pub tolerance: &'static Tolerance,
    /// Whether it is inside another operator.
    pub composed: bool,
}

const SELECTORS: &[&str] = &[
    "m_total",
    "m_gauge",
    "m_bucket",
    "m_hist",
    "m_gauge offset 15s",
    r#"m_total{series=~"s[0-1]"}"#,
    r#"m_hist{series="s3"}"#,
    r#"{__name__=~"m_hist|m_gauge"}"#,
    "m_nothing",
    "target_info",
];
const RANGES: &[&str] = &["10s", "30s", "1m", "90s", "2m"];
const NUMBERS: &[&str] = &["0", "1", "0.5", "-2", "3", "0.9", "10", "60", "NaN", "Inf"];
const TEXTS: &[&str] = &["series", "instance", "host", "le", "v", "(.*):.*", "s[01]", "$1", "-", ""];
const GROUPINGS: &[&str] =
    &["", "", " by (instance)", " by (series)", " by (le)", " without (series)", " without (instance)"];
const MATCHINGS: &[&str] =
    &["", "on (instance, series) ", "on (instance) ", "ignoring (series) ", "ignoring (__name__) "];

/// Attempts before the generator is considered wrong.
const ATTEMPTS: u32 = 2_000;
/// The operators of a composition, including the entry.
const OPERATORS: u64 = 5;

/// An expression for `entry`.
pub fn draw(random: &mut Random, entry: Entry, options: &PromqlOptions) -> RandomExpression {
    for attempt in 0..ATTEMPTS {
        // After many rejected attempts, draw fewer operators, so that less can be wrong.
        let operators = if attempt > ATTEMPTS / 2 { 0 } else { random.below(OPERATORS) as u32 };
        if let Some(drawn) = (Draw { random: &mut *random, options }).entry(entry, operators) {
            return drawn;
        }
    }
    panic!("no expression for {} can stand", entry.name());
}

/// The expression, if it can be installed as a view.
fn standing(text: String, options: &PromqlOptions) -> Option<RandomExpression> {
    let plan = compile(&text, options).ok()?;
    let spec = ViewSpec { name: text.clone(), plan: plan.clone(), kind: ViewKind::NOW };
    check(&spec, options.dialect(), StoreQueries::Allowed).ok()?;
    Some(RandomExpression { text, plan, inexact: None })
}

struct Draw<'a> {
    random: &'a mut Random,
    options: &'a PromqlOptions,
}

impl Draw<'_> {
    fn entry(&mut self, entry: Entry, operators: u32) -> Option<RandomExpression> {
        let text = match entry {
            Entry::Form(text) => text.to_owned(),
            Entry::Function(function) => match &function.tolerance {
                Some(tolerance) => return self.inexact(function, tolerance, operators),
                None => {
                    let call = self.call(function, operators);
                    if function.returns == ValueType::Scalar && operators > 0 {
                        self.round_scalar(call)
                    } else {
                        call
                    }
                }
            },
            Entry::Aggregate(op) => self.aggregate(op, operators),
            Entry::Binary(op) => self.binary(op, operators),
        };
        standing(text, self.options)
    }

    /// A call whose answer may differ, inside operators that pass a difference on but do not
    /// increase it.
    fn inexact(
        &mut self,
        function: &'static Function,
        tolerance: &'static Tolerance,
        operators: u32,
    ) -> Option<RandomExpression> {
        let inner = self.call(function, 0);
        // The sum of their magnitudes. With delayed name removal the values alone may not form a
        // valid vector.
        let plan = standing(format!("sum(abs({inner}) < Inf)"), self.options)?.plan;
        let mut text = inner;
        for _ in 0..operators {
            let grouping = self.random.pick(GROUPINGS);
            text = match self.random.below(9) {
                0 => format!("sum{grouping} ({text})"),
                1 => format!("avg{grouping} ({text})"),
                2 => format!("max{grouping} ({text})"),
                3 => format!("min{grouping} ({text})"),
                4 => format!("abs({text})"),
                5 => format!("-({text})"),
                6 => format!("({text}) + 1"),
                7 => format!("clamp_max({text}, 3)"),
                _ => format!("sort({text})"),
            };
        }
        Some(RandomExpression {
            inexact: Some(Inexact { plan, tolerance, composed: operators > 0 }),
            ..standing(text, self.options)?
        })
    }

    fn round_scalar(&mut self, scalar: String) -> String {
        let vector = self.vector(0);
        match self.random.below(3) {
            0 => format!("vector({scalar})"),
            1 => format!("({vector}) > ({scalar})"),
            _ => format!("({vector}) * ({scalar})"),
        }
    }

    /// A vector with at most this many operators.
    fn vector(&mut self, operators: u32) -> String {
        if operators == 0 {
            return self.random.pick(SELECTORS).to_owned();
        }
        let rest = operators - 1;
        match self.random.below(10) {
            0..5 => {
                let function = self.function(ValueType::Vector);
                self.call(function, rest)
            }
            5..7 => {
                let op = self.random.pick(AggregateOp::ALL);
                self.aggregate(op, rest)
            }
            7..9 => {
                let op = self.random.pick(BinaryOp::ALL);
                self.binary(op, rest)
            }
            _ => format!("-({})", self.vector(rest)),
        }
    }

    /// A function of this result type whose answers are exact.
    fn function(&mut self, returns: ValueType) -> &'static Function {
        let fits = |function: &&'static Function| function.returns == returns && function.tolerance.is_none();
        let all: Vec<&'static Function> = table().iter().copied().filter(fits).collect();
        self.random.pick(&all)
    }

    fn call(&mut self, function: &'static Function, operators: u32) -> String {
        let count = arguments::count(self.random, function);
        // The first vector gets the operators; the others are plain.
        let mut left = operators;
        let args: Vec<String> = (0..count as usize)
            .filter_map(|i| function.arg(i))
            .map(|kind| {
                let operators = if kind == ValueType::Vector { std::mem::take(&mut left) } else { 0 };
                self.argument(kind, operators)
            })
            .collect();
        format!("{}({})", function.name, args.join(", "))
    }

    fn argument(&mut self, kind: ValueType, operators: u32) -> String {
        match kind {
            ValueType::Vector => self.vector(operators),
            ValueType::Scalar => self.scalar(),
            ValueType::Text => format!("{:?}", self.random.pick(TEXTS)),
            ValueType::Matrix => self.matrix(),
        }
    }

    fn matrix(&mut self) -> String {
        let metric = self.random.pick(&["m_total", "m_gauge", "m_bucket", "m_hist", r#"{__name__=~"m_.*"}"#]);
        let range = self.random.pick(RANGES);
        let extension = self.random.pick(&["", "", "", " anchored", " smoothed"]);
        let offset = self.random.pick(&["", "", "", " offset 15s"]);
        format!("{metric}[{range}]{extension}{offset}")
    }

    fn scalar(&mut self) -> String {
        match self.random.below(8) {
            0 => "time() / 1000".to_owned(),
            1 => format!("scalar({})", self.random.pick(&["count(m_gauge)", "avg(m_gauge)", "m_nothing"])),
            2 => {
                let function = self.function(ValueType::Scalar);
                self.call(function, 0)
            }
            _ => self.random.pick(NUMBERS).to_owned(),
        }
    }

    fn aggregate(&mut self, op: AggregateOp, operators: u32) -> String {
        use AggregateOp::{Bottomk, CountValues, LimitRatio, Limitk, Quantile, Topk};
        let parameter = match op {
            CountValues => format!("{:?}, ", self.random.pick(&["v", "series", "instance"])),
            Topk | Bottomk | Limitk | LimitRatio | Quantile => format!("{}, ", self.scalar()),
            _ => String::new(),
        };
        let grouping = self.random.pick(GROUPINGS);
        format!("{}{grouping} ({parameter}{})", op.as_str(), self.vector(operators))
    }

    fn binary(&mut self, op: BinaryOp, operators: u32) -> String {
        let left = self.random.below(u64::from(operators) + 1) as u32;
        let word = op.as_str();
        let returns_bool = if op.is_comparison() && self.random.chance(30) { "bool " } else { "" };
        let (a, b) = match self.random.below(if op.is_set() { 5 } else { 8 }) {
            0..5 => {
                let one = self.random.chance(40);
                let mut matching = self.random.pick(MATCHINGS).to_owned();
                let a = self.vector(left);
                let mut b = self.vector(operators - left);
                if one && !matching.is_empty() && !op.is_set() {
                    matching += self.random.pick(&["group_left ", "group_left (series) "]);
                    b = format!("max by (instance) ({b})");
                }
                (format!("({a})"), format!("{matching}({b})"))
            }
            5 => (self.scalar(), format!("({})", self.vector(operators))),
            6 => (format!("({})", self.vector(operators)), self.scalar()),
            _ => (format!("vector({})", self.scalar()), self.scalar()),
        };
        format!("{a} {word} {returns_bool}{b}")
    }
}
