//! Generates random samples and queries in Prometheus' test language.
//!
//! Functions, aggregations and operators come from the tables. Arguments are drawn by type; what
//! the parser or the type checker rejects is drawn again. Queries whose answer in 3.14 is random or
//! wrong are left out; [`super::listed`] explains them.

use crate::arguments;
use crate::random::Random;
use engine::functions::{Function, table};
use engine::plan::{AggregateOp, BinaryOp, ValueType};
use language::QueryRange;
use promql::{PromqlOptions, compile};
use std::fmt::Write;

/// Attempts before the generator is considered wrong.
const ATTEMPTS: u32 = 2_000;
/// The most operators of a query.
const OPERATORS: u64 = 5;
/// The samples of a series, one per minute.
const SAMPLES: u64 = 12;
/// Percentage of queries that may be invalid whatever the samples are.
const REFUSED: u64 = 2;

const RANGES: &[&str] = &["30s", "1m", "2m", "150s", "5m", "10m", "(1m + 90s)"];
const STEPS: &[&str] = &["", "1m", "30s", "45s", "2m"];
const OFFSETS: &[&str] = &["1m", "30s", "-1m", "5m", "(2m - 30s)", "-(30s)"];
const NUMBERS: &[&str] =
    &["0", "1", "0.5", "-2", "3", "0.9", "10", "60", "NaN", "Inf", "-Inf", "1e18", "0.25", "-0.5", "1.5"];
const TEXTS: &[&str] =
    &["a", "b", "le", "v", "__name__", "(.*)", "(.).*", "x", "$1", "$0-$1", "-", "", "y1", "__type__"];
const LABELS: &[&str] = &["a", "a", "b", "le", "__name__", "version", "nope"];
const METRICS: &[&str] = &[
    "m_total", "m_total", "n_total", "m_gauge", "m_gauge", "n_gauge", "odd", "m_bucket", "m_hist", "m_hist",
    "n_hist", "m_custom", "n_custom", "mixed", "mixed", "param", "nothing",
];
const NAMES: &[&str] =
    &["m_total|n_total", "m_gauge|n_gauge", "m_hist|m_gauge", "m_.*", "m_hist|n_hist", "mixed|m_hist", ".+"];

/// Samples, queries, and `clear`.
pub fn scene(random: &mut Random, queries: u64, default_dialect: bool) -> String {
    let mut text = samples(random);
    for _ in 0..queries {
        let query = Draw { random, default_dialect }.query();
        text += &query;
        text.push('\n');
    }
    text + "clear\n"
}

/// One `load` per series, in label order: 3.14 returns series in the order in which they were
/// appended.
fn samples(random: &mut Random) -> String {
    let mut series = Vec::new();
    let mut add =
        |name: &str, labels: &str, values: String| series.push((name.to_owned(), labels.to_owned(), values));
    for (name, rows) in
        [("m_gauge", 4), ("m_total", 4), ("n_gauge", 3), ("n_total", 3), ("odd", 3), ("param", 1)]
    {
        for row in 0..rows {
            let labels =
                if name == "param" { String::new() } else { format!(r#"a="x{}",b="y{}""#, row % 2, row / 2) };
            let values =
                (0..SAMPLES).scan(0, |total, _| Some(float(random, name, total))).collect::<Vec<_>>();
            add(name, &labels, values.join(" "));
        }
    }
    for le in ["0.5", "1", "2.5", "+Inf"] {
        for a in ["x0", "x1"] {
            let mut total = 0;
            let values: Vec<String> = (0..SAMPLES)
                .map(|_| {
                    total += random.below(4);
                    (total * if le == "+Inf" { 4 } else { 1 }).to_string()
                })
                .collect();
            add("m_bucket", &format!(r#"a="{a}",le="{le}""#), values.join(" "));
        }
    }
    for (name, rows) in [("m_custom", 2), ("m_hist", 3), ("mixed", 3), ("n_custom", 1), ("n_hist", 2)] {
        for row in 0..rows {
            let mut grown = 0;
            let values: Vec<String> = (0..SAMPLES)
                .map(|_| match name {
                    "mixed" if random.chance(50) => random.pick(&["1", "2.5", "0", "-1"]).to_owned(),
                    _ => histogram(random, name.contains("custom"), &mut grown),
                })
                .collect();
            add(name, &format!(r#"a="x{}",b="y{}""#, row % 2, row / 2), values.join(" "));
        }
    }
    for a in ["x0", "x1"] {
        let version = random.pick(&["1", "2"]);
        add(
            "target_info",
            &format!(r#"a="{a}",instance="i",job="j",version="{version}""#),
            "1x11".to_owned(),
        );
    }
    series.sort();
    let mut text = String::new();
    for (name, labels, values) in series {
        let _ = writeln!(text, "load 1m\n  {name}{{{labels}}} {values}\n");
    }
    text
}

/// A value of a series; `total` is the state of its counter.
fn float(random: &mut Random, name: &str, total: &mut u64) -> String {
    match name {
        _ if random.chance(8) => random.pick(&["_", "_", "stale"]).to_owned(),
        "m_total" | "n_total" => {
            *total = if random.chance(10) { random.below(3) } else { *total + random.below(9) };
            total.to_string()
        }
        "odd" => random.pick(&["NaN", "Inf", "-Inf", "0", "-0", "1e300", "-1e-300", "3", "1e15"]).to_owned(),
        "param" => random.pick(&["0", "0.5", "1", "2", "-1", "0.9", "3"]).to_owned(),
        _ => (random.between(-40, 40) as f64 / 4.0).to_string(),
    }
}

fn histogram(random: &mut Random, custom: bool, grown: &mut u64) -> String {
    if random.chance(8) {
        return random.pick(&["_", "stale"]).to_owned();
    }
    *grown = if random.chance(10) { 0 } else { *grown + 1 + random.below(4) };
    let of = |part: u64| (*grown * part).to_string();
    let buckets = [1, 2, 0, 1].map(of).join(" ");
    let zero = if custom { 0 } else { *grown };
    let count = *grown * 4 + zero;
    let sum = *grown * 7;
    let hint = random.pick(&["", "", "", "", " counter_reset_hint:gauge"]);
    if custom {
        let bounds = random.pick(&["1 2 5", "1 2 5", "1 2 5", "1 3 5"]);
        return format!(
            "{{{{schema:-53 count:{count} sum:{sum} custom_values:[{bounds}] buckets:[{buckets}]{hint}}}}}"
        );
    }
    let schema = random.pick(&[0, 0, 0, 1, -1]);
    let threshold = random.pick(&["0.001", "0.001", "0.001", "0.25"]);
    // No bucket is inside the zero bucket: otherwise the sum of such histograms would depend on
    // their order.
    let offset = random.between(-1, 1).max(if schema < 0 && threshold == "0.25" { 0 } else { -1 });
    format!(
        "{{{{schema:{schema} count:{count} sum:{sum} z_bucket:{zero} z_bucket_w:{threshold} buckets:[{buckets}] offset:{offset}{hint}}}}}"
    )
}

struct Draw<'a> {
    random: &'a mut Random,
    default_dialect: bool,
}

impl Draw<'_> {
    /// A command with a query that the language allows, or in some cases does not.
    fn query(&mut self) -> String {
        let may_be_refused = self.random.chance(REFUSED);
        for attempt in 0..ATTEMPTS {
            let operators = if attempt > ATTEMPTS / 2 { 1 } else { self.random.below(OPERATORS) as u32 };
            let text = if self.random.chance(8) { self.scalar(operators) } else { self.vector(operators) };
            let start = self.random.between(0, 26) * 30_000 + self.random.pick(&[0, 0, 1, 17_000]);
            let step = self.random.pick(&[15_000, 30_000, 60_000, 90_000, 150_000]);
            let end = start + step * self.random.between(0, 8);
            let instant = self.random.chance(50);
            let range = if instant {
                QueryRange { start, end: start, step: 0 }
            } else {
                QueryRange { start, end, step }
            };
            let flags = !self.default_dialect;
            let options = PromqlOptions {
                delayed_names: flags,
                start_timestamps: flags,
                range: Some(range),
                ..PromqlOptions::all()
            };
            if may_be_refused || compile(&text, &options).is_ok() {
                return if instant {
                    format!("eval instant at {start}ms {text}")
                } else {
                    format!("eval range from {start}ms to {end}ms step {step}ms {text}")
                };
            }
        }
        panic!("no query can be asked")
    }

    /// A vector with at most this many operators.
    fn vector(&mut self, operators: u32) -> String {
        if operators == 0 {
            return self.selector();
        }
        let rest = operators - 1;
        match self.random.below(20) {
            0..10 => {
                let function = self.function(ValueType::Vector);
                self.call(function, rest)
            }
            10..14 => self.aggregate(rest),
            14..18 => self.binary(rest),
            18 => format!("{}({})", self.random.pick(&["-", "+"]), self.vector(rest)),
            _ => format!("{}{}", self.random.pick(&["-", "+", "- -"]), self.selector()),
        }
    }

    fn selector(&mut self) -> String {
        let series = self.series();
        format!("{series}{}", self.modifiers(&["", "", "", "", "", " smoothed"]))
    }

    fn series(&mut self) -> String {
        let mut matchers = Vec::new();
        let mut name = self.random.pick(METRICS);
        if self.random.chance(15) {
            matchers.push(format!(r#"__name__=~"{}""#, self.random.pick(NAMES)));
            name = "";
        }
        if self.random.chance(25) {
            matchers.push(
                self.random
                    .pick(&[r#"a="x0""#, r#"a!="x0""#, r#"b=~"y.""#, r#"b="y1""#, r#"nope="""#])
                    .to_owned(),
            );
        }
        if matchers.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", matchers.join(",")) }
    }

    fn modifiers(&mut self, extensions: &[&str]) -> String {
        let extension = self.random.pick(extensions).to_owned();
        let offset = if self.random.chance(15) {
            format!(" offset {}", self.random.pick(OFFSETS))
        } else {
            String::new()
        };
        let at = self.random.pick(&["", "", "", "", "", "", "", " @ 300", " @ start()", " @ end()"]);
        if self.random.chance(50) {
            format!("{extension}{offset}{at}")
        } else {
            format!("{extension}{at}{offset}")
        }
    }

    fn matrix(&mut self, operators: u32) -> String {
        let range = self.random.pick(RANGES);
        if operators > 0 && self.random.chance(40) {
            let inner = self.vector(operators - 1);
            let step = self.random.pick(STEPS);
            return format!("({inner})[{range}:{step}]{}", self.modifiers(&[""]));
        }
        let series = self.series();
        format!("{series}[{range}]{}", self.modifiers(&["", "", "", "", "", " anchored", " smoothed"]))
    }

    fn function(&mut self, returns: ValueType) -> &'static Function {
        let all: Vec<&'static Function> = table().iter().copied().filter(|f| f.returns == returns).collect();
        self.random.pick(&all)
    }

    fn call(&mut self, function: &'static Function, operators: u32) -> String {
        let count = arguments::count(self.random, function);
        let mut left = operators;
        let args: Vec<String> = (0..count as usize)
            .filter_map(|i| function.arg(i))
            .map(|kind| match kind {
                ValueType::Vector => self.vector(std::mem::take(&mut left)),
                ValueType::Matrix => self.matrix(std::mem::take(&mut left)),
                ValueType::Scalar => self.scalar(0),
                ValueType::Text => format!("{:?}", self.random.pick(TEXTS)),
            })
            .collect();
        format!("{}({})", function.name, args.join(", "))
    }

    fn scalar(&mut self, operators: u32) -> String {
        match self.random.below(10) {
            0 => "time() / 100".to_owned(),
            1 | 2 => format!("scalar({})", self.vector(operators)),
            3 if operators > 0 => format!("({} - {})", self.scalar(operators - 1), self.scalar(0)),
            4 => {
                let function = self.function(ValueType::Scalar);
                self.call(function, operators)
            }
            _ => self.random.pick(NUMBERS).to_owned(),
        }
    }

    fn labels(&mut self) -> String {
        let count = self.random.below(3);
        (0..count).map(|_| self.random.pick(LABELS)).collect::<Vec<_>>().join(", ")
    }

    fn aggregate(&mut self, operators: u32) -> String {
        use AggregateOp::{Bottomk, CountValues, LimitRatio, Limitk, Quantile, Topk};
        let op = self.random.pick(AggregateOp::ALL);
        let parameter = match op {
            CountValues => format!("{:?}, ", self.random.pick(&["v", "a", "__name__"])),
            Topk | Bottomk | Limitk | LimitRatio | Quantile if self.random.chance(30) => {
                "scalar(param), ".to_owned()
            }
            Topk | Bottomk | Limitk | LimitRatio | Quantile => format!("{}, ", self.random.pick(NUMBERS)),
            _ => String::new(),
        };
        let grouping = match self.random.below(4) {
            0 => String::new(),
            1 => format!(" without ({})", self.labels()),
            _ => format!(" by ({})", self.labels()),
        };
        format!("{}{grouping} ({parameter}{})", op.as_str(), self.vector(operators))
    }

    fn binary(&mut self, operators: u32) -> String {
        let op = self.random.pick(BinaryOp::ALL);
        let left = self.random.below(u64::from(operators) + 1) as u32;
        let word = op.as_str();
        let returns_bool = if op.is_comparison() && self.random.chance(30) { "bool " } else { "" };
        let (a, b) = match self.random.below(if op.is_set() { 6 } else { 9 }) {
            0..6 => {
                let a = self.vector(left);
                let b = self.vector(operators - left);
                (format!("({a})"), format!("{}({b})", self.matching(op.is_set())))
            }
            6 => (self.scalar(0), format!("({})", self.vector(operators))),
            _ => (format!("({})", self.vector(operators)), self.scalar(0)),
        };
        format!("{a} {word} {returns_bool}{b}")
    }

    fn matching(&mut self, set: bool) -> String {
        let mut text = String::new();
        if self.random.chance(60) {
            text = format!("{} ({}) ", self.random.pick(&["on", "ignoring"]), self.labels());
            if !set && self.random.chance(40) {
                text += &format!("{} ({}) ", self.random.pick(&["group_left", "group_right"]), self.labels());
            }
        }
        if !set && self.random.chance(15) {
            text += self.random.pick(&[
                "fill (0) ",
                "fill_left (1) ",
                "fill_right (2) ",
                "fill_left (3) fill_right (NaN) ",
            ]);
        }
        text
    }
}
