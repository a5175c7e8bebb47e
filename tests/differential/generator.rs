//! Generates random well-typed queries with every stable function, aggregation and operator of both
//! versions, nested up to [`DEPTH`] deep, over the metrics of [`crate::series`].
//!
//! Useful shapes (matching vectors that share labels, quantiles over buckets) are more frequent
//! than by chance, and shapes that fail are less frequent. Selectors, windows and times are in
//! [`crate::selection`], operators between vectors in [`crate::pairs`]. Read next:
//! [`crate::shrink`].

use crate::answer::When;
use crate::expr::{Expr, Grouping, Matching};
use crate::random::Random;
use crate::selection::{Selection, shift};
use crate::series::{SPAN, START, Shape};

/// The levels of a query, without the leaves.
pub const DEPTH: u32 = 5;

/// Functions with an instant vector as the only argument.
pub const ELEMENTWISE: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "exp",
    "sqrt",
    "ln",
    "log2",
    "log10",
    "sgn",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "deg",
    "rad",
    "round",
    "timestamp",
];

/// Functions of dates.
const DATES: &[&str] =
    &["day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"];

/// Functions with a range vector as the only argument.
pub const WINDOWS: &[&str] = &[
    "rate",
    "increase",
    "irate",
    "delta",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "last_over_time",
    "present_over_time",
    "absent_over_time",
];

/// Aggregations without a parameter.
pub const AGGREGATIONS: &[&str] = &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];

/// Arithmetic operators.
pub const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2"];
/// Comparison operators.
pub const COMPARISONS: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
const SETS: &[&str] = &["and", "or", "unless"];

/// Scalars at the borders of functions.
const NUMBERS: &[f64] = &[
    0.0,
    1.0,
    2.0,
    -1.0,
    0.5,
    3.0,
    10.0,
    60.0,
    100.0,
    -0.125,
    1000.0,
    0.1,
    1e-9,
    1e18,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

const QUANTILES: &[f64] = &[0.0, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0, 1.5, -0.5, f64::NAN];

/// Labels for grouping and matching; useful labels occur more than once.
const LABELS: &[&str] =
    &["job", "job", "instance", "instance", "method", "code", "zone", "kind", "version", "le", "nope"];

/// A random query, and the time of its evaluation.
pub fn query(random: &mut Random) -> (Expr, When) {
    let mut generator = Generator { random, subqueries: 0 };
    let depth = 1 + generator.random.below(u64::from(DEPTH)) as u32;
    let expr = match generator.random.below(100) {
        0..5 => generator.range(2),
        5..10 => generator.scalar(depth),
        10..12 => generator.histograms(2),
        _ => generator.vector(depth),
    };
    let instant = expr.kind() == crate::expr::Type::Range || generator.random.chance(50);
    (expr, when(generator.random, instant))
}

/// A random time: mostly on half seconds, where no edge of a window coincides with a step of a
/// subquery; sometimes on whole seconds, where it may.
fn when(random: &mut Random, instant: bool) -> When {
    let half = if random.chance(70) { 500 } else { 0 };
    let t = START + random.between(-60, SPAN / 5000 + 60) * 5000 + half;
    if instant {
        return When::Instant(t);
    }
    let step = random.pick(&[5_000, 7_000, 15_000, 30_000, 60_000, 113_500]);
    When::Range(t, t + step * random.between(0, 15), step)
}

/// Generates expressions.
pub struct Generator<'a> {
    /// The source of random numbers.
    pub random: &'a mut Random,
    /// The number of subqueries around the current expression: each multiplies the work.
    pub subqueries: u32,
}

impl Generator<'_> {
    /// A random instant vector.
    pub fn vector(&mut self, depth: u32) -> Expr {
        if depth == 0 {
            return self.selector(None);
        }
        let weights = [8, 14, 24, 18, 14, 12, 5, 2, 5, 6, 2, 2, 3, 4, 6, 2];
        match self.random.weighted(weights) {
            0 => self.selector(None),
            1 => self.elementwise(depth),
            2 => self.over_window(depth),
            3 => self.aggregate(depth),
            4 => self.between_vectors(depth),
            5 => self.with_scalar(depth),
            6 => self.set_operation(depth),
            7 => Expr::Negate(self.vector(depth - 1).into()),
            8 => self.relabel(depth),
            9 => self.quantile_of_buckets(depth),
            10 => Expr::Call("absent", vec![self.vector(depth - 1)]),
            11 => Expr::Call("vector", vec![self.scalar(depth - 1)]),
            12 => self.dates(depth),
            13 => self.limits(depth),
            14 => self.of_histograms(depth),
            _ => {
                let name = self.random.pick(&["sort", "sort_desc"]);
                Expr::Call(name, vec![self.vector(depth - 1)])
            }
        }
    }

    fn selector(&mut self, shape: Option<Shape>) -> Expr {
        Expr::Selector(Selection(self.random).selector(shape))
    }

    fn scalar(&mut self, depth: u32) -> Expr {
        if depth == 0 {
            return Expr::Number(self.random.pick(NUMBERS));
        }
        match self.random.below(10) {
            0..5 => Expr::Number(self.random.pick(NUMBERS)),
            5 => Expr::Call("time", vec![]),
            6 => Expr::Call("pi", vec![]),
            7 => Expr::Call("scalar", vec![self.vector(depth - 1)]),
            _ => {
                let left = self.scalar(depth - 1);
                let right = self.scalar(depth - 1);
                let compares = self.random.chance(30);
                let op = self.random.pick(if compares { COMPARISONS } else { ARITHMETIC });
                binary(op, compares, None, left, right)
            }
        }
    }

    fn range(&mut self, depth: u32) -> Expr {
        if depth == 0 || self.subqueries >= 2 || self.random.chance(65) {
            return self.plain_range(None);
        }
        self.subqueries += 1;
        let inner = self.vector(depth - 1).into();
        self.subqueries -= 1;
        let range = self.random.pick(&[60_000, 120_000, 300_000, 450_000]);
        let step = self.random.pick(&[None, Some(15_000), Some(30_000), Some(60_000), Some(37_000)]);
        Expr::Subquery { inner, range, step, shift: shift(self.random) }
    }

    fn plain_range(&mut self, shape: Option<Shape>) -> Expr {
        let range =
            self.random.pick(&[15_000, 37_000, 60_000, 120_000, 300_000, 300_000, 600_000, 1_800_000]);
        Expr::Range(Selection(self.random).selector(shape), range)
    }

    fn elementwise(&mut self, depth: u32) -> Expr {
        Expr::Call(self.random.pick(ELEMENTWISE), vec![self.vector(depth - 1)])
    }

    fn over_window(&mut self, depth: u32) -> Expr {
        match self.random.below(12) {
            0 => {
                let seconds = self.scalar(depth.min(2) - 1);
                Expr::Call("predict_linear", vec![self.range(depth - 1), seconds])
            }
            1 => {
                let q = self.quantile(depth);
                Expr::Call("quantile_over_time", vec![q, self.range(depth - 1)])
            }
            2 => {
                let factors = [0.1, 0.3, 0.5, 0.9, 0.9, 0.5, 0.01, 0.0, 1.0];
                let a = self.random.pick(&factors);
                let b = self.random.pick(&factors);
                let args = vec![self.range(depth - 1), Expr::Number(a), Expr::Number(b)];
                Expr::Call("double_exponential_smoothing", args)
            }
            3..6 => {
                let name = self.random.pick(&["rate", "increase", "irate", "resets"]);
                Expr::Call(name, vec![self.plain_range(Some(Shape::Counter))])
            }
            _ => Expr::Call(self.random.pick(WINDOWS), vec![self.range(depth - 1)]),
        }
    }

    fn quantile(&mut self, depth: u32) -> Expr {
        if self.random.chance(8) { self.scalar(depth - 1) } else { Expr::Number(self.random.pick(QUANTILES)) }
    }

    /// Random labels for grouping or matching.
    pub fn labels(&mut self, most: u64) -> Vec<String> {
        let mut labels: Vec<String> =
            (0..self.random.below(most + 1)).map(|_| self.random.pick(LABELS).to_string()).collect();
        labels.sort();
        labels.dedup();
        labels
    }

    fn aggregate(&mut self, depth: u32) -> Expr {
        let op = match self.random.below(12) {
            0 => self.random.pick(&["topk", "bottomk"]),
            1 => "quantile",
            2 => "count_values",
            _ => self.random.pick(AGGREGATIONS),
        };
        let param = match op {
            "topk" | "bottomk" if self.random.chance(8) => Some(self.scalar(depth - 1)),
            "topk" | "bottomk" => {
                Some(Expr::Number(self.random.pick(&[1.0, 2.0, 3.5, 5.0, 0.0, -1.0, 100.0])))
            }
            "quantile" => Some(self.quantile(depth)),
            "count_values" => {
                Some(Expr::Text(self.random.pick(&["value", "value", "job", "__name__", "0bad"]).into()))
            }
            _ => None,
        };
        let grouping = self
            .random
            .chance(70)
            .then(|| Grouping { without: self.random.chance(30), labels: self.labels(3) });
        let inner = self.vector(depth - 1).into();
        Expr::Aggregate { op, param: param.map(Box::new), inner, grouping }
    }

    fn with_scalar(&mut self, depth: u32) -> Expr {
        let mut left = self.vector(depth - 1);
        let mut right = self.scalar(depth.min(3) - 1);
        if self.random.chance(30) {
            (left, right) = (right, left);
        }
        let compares = self.random.chance(45);
        let op = self.random.pick(if compares { COMPARISONS } else { ARITHMETIC });
        binary(op, compares && self.random.chance(30), None, left, right)
    }

    fn set_operation(&mut self, depth: u32) -> Expr {
        let matching = self.random.chance(50).then(|| Matching {
            on: self.random.chance(60),
            labels: self.labels(2),
            group: None,
        });
        let left = self.vector(depth - 1);
        let right = self.vector(depth - 1);
        binary(self.random.pick(SETS), false, matching, left, right)
    }

    /// A label for the result; rarely one that 2.42 rejects.
    fn label_to_set(&mut self) -> &'static str {
        if self.random.chance(3) {
            return self.random.pick(&["no-name", "0bad"]);
        }
        self.random.pick(&["target", "value", "job", "instance", "__name__", "code"])
    }

    fn relabel(&mut self, depth: u32) -> Expr {
        let text = |t: &str| Expr::Text(t.to_string());
        let inner = self.vector(depth - 1);
        let target = self.label_to_set();
        if self.random.chance(30) {
            let mut args = vec![inner, text(target), text(self.random.pick(&["-", "", "/"]))];
            args.extend((0..self.random.below(3)).map(|_| text(self.random.pick(LABELS))));
            return Expr::Call("label_join", args);
        }
        let template = self.random.pick(&["$1", "x-$1", "${1}y", "$2", "$$", "", "fixed", "$name"]);
        let source = self.random.pick(LABELS);
        let regex =
            self.random.pick(&["(.*)", "(.+):(.*)", "a.*", "(?P<name>.)(.*)", "", "(", "4(..)", "[0-9]+"]);
        Expr::Call("label_replace", vec![inner, text(target), text(template), text(source), text(regex)])
    }

    fn quantile_of_buckets(&mut self, depth: u32) -> Expr {
        let buckets = Some(Shape::Buckets);
        let mut inner = match self.random.below(3) {
            0 => self.selector(buckets),
            1 => Expr::Call("rate", vec![self.plain_range(buckets)]),
            _ => Expr::Call("increase", vec![self.plain_range(buckets)]),
        };
        if self.random.chance(50) {
            let mut labels = self.labels(1);
            labels.push("le".into());
            let grouping = Some(Grouping { without: false, labels });
            inner = Expr::Aggregate { op: "sum", param: None, inner: inner.into(), grouping };
        }
        let q = self.quantile(depth);
        Expr::Call("histogram_quantile", vec![q, inner])
    }

    /// A random vector of native histograms.
    fn histograms(&mut self, depth: u32) -> Expr {
        let native = Some(Shape::Native);
        match self.random.below(if depth == 0 { 5 } else { 8 }) {
            0 => self.selector(native),
            1..3 => Expr::Call("rate", vec![self.plain_range(native)]),
            3..5 => Expr::Call("increase", vec![self.plain_range(native)]),
            5..7 => {
                let grouping = Some(Grouping { without: self.random.chance(30), labels: self.labels(2) });
                let inner = self.histograms(depth - 1).into();
                let op = self.random.pick(&["sum", "sum", "sum", "avg"]);
                Expr::Aggregate { op, param: None, inner, grouping }
            }
            _ => binary("+", false, None, self.histograms(0), self.histograms(0)),
        }
    }

    /// A function that computes a float from each native histogram.
    fn of_histograms(&mut self, depth: u32) -> Expr {
        let inner = self.histograms(depth.min(2));
        match self.random.below(5) {
            0 => Expr::Call("histogram_count", vec![inner]),
            1 => Expr::Call("histogram_sum", vec![inner]),
            2 => {
                let bounds = [f64::NEG_INFINITY, -1.0, 0.0, 0.0005, 0.1, 0.5, 1.0, 3.0, 100.0, f64::INFINITY];
                let a = self.random.pick(&bounds);
                let b = self.random.pick(&bounds);
                Expr::Call("histogram_fraction", vec![Expr::Number(a), Expr::Number(b), inner])
            }
            _ => {
                let q = self.quantile(depth);
                Expr::Call("histogram_quantile", vec![q, inner])
            }
        }
    }

    fn dates(&mut self, depth: u32) -> Expr {
        let args = match self.random.below(4) {
            0 => vec![],
            1 => vec![self.vector(depth - 1)],
            _ => vec![self.selector(Some(Shape::Epoch))],
        };
        Expr::Call(self.random.pick(DATES), args)
    }

    fn limits(&mut self, depth: u32) -> Expr {
        let inner = self.vector(depth - 1);
        let mut limit = || self.scalar(depth.min(2) - 1);
        match limit_function(limit()) {
            ("clamp", low) => Expr::Call("clamp", vec![inner, low, limit()]),
            (name, arg) => Expr::Call(name, vec![inner, arg]),
        }
    }
}

/// A limit function; the kind of its first limit selects the function.
fn limit_function(first: Expr) -> (&'static str, Expr) {
    let name = match &first {
        Expr::Number(v) if *v < 0.0 => "clamp",
        Expr::Number(v) if *v < 1.5 => "round",
        Expr::Number(v) if *v < 70.0 => "clamp_max",
        _ => "clamp_min",
    };
    (name, first)
}

/// A binary operator expression.
pub fn binary(op: &'static str, bool: bool, matching: Option<Matching>, left: Expr, right: Expr) -> Expr {
    Expr::Binary { op, bool, matching, left: left.into(), right: right.into() }
}
