//! A PromQL expression as the generator builds it, and its two spellings: for Prometheus 3, and for
//! 2.42 the spelling that *means* the same.
//!
//! Three changes between the versions can be undone exactly by spelling. Windows are left-open
//! today and were closed in 2.42, so the old spelling has a window one millisecond shorter (samples
//! have whole milliseconds). `.` matches a newline today, so the old spelling has `(?s:…)` around
//! regular expressions. `double_exponential_smoothing` was called `holt_winters`. Read next:
//! [`crate::generator`].

use std::fmt::Write;

/// The version that a spelling is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus 3 and our server.
    New,
    /// Prometheus 2.42.
    Old,
}

/// The type of an expression's result.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number.
    Scalar,
    /// A string.
    Text,
    /// An instant vector.
    Vector,
    /// A range vector.
    Range,
}

/// The argument of `@`.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum At {
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
    /// `@ 1.5`, in milliseconds.
    Time(i64),
}

/// The modifiers `offset` (ms, 0: none) and `@`.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Shift {
    /// The offset, ms.
    pub offset: i64,
    /// The fixed time of `@`.
    pub at: Option<At>,
}

/// `name{label op "value", …} offset … @ …`
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// The metric name before the braces.
    pub name: Option<String>,
    /// Matchers: label, operator, value.
    pub matchers: Vec<(String, &'static str, String)>,
    /// The time modifiers.
    pub shift: Shift,
}

/// `by (…)` or `without (…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    /// `without` instead of `by`.
    pub without: bool,
    /// The labels.
    pub labels: Vec<String>,
}

/// `on (…)` or `ignoring (…)` and `group_left (…)` or `group_right (…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// `on` instead of `ignoring`.
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// `group_left` or `group_right`, with the labels to copy.
    pub group: Option<(&'static str, Vec<String>)>,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
    /// An instant vector selector.
    Selector(Selector),
    /// A selector with a window, ms.
    Range(Selector, i64),
    /// `(inner)[range:step] offset … @ …`, times in ms.
    Subquery { inner: Box<Expr>, range: i64, step: Option<i64>, shift: Shift },
    /// A function, by its current name.
    Call(&'static str, Vec<Expr>),
    /// An aggregation.
    Aggregate { op: &'static str, param: Option<Box<Expr>>, inner: Box<Expr>, grouping: Option<Grouping> },
    /// A binary operator; `bool` is the modifier.
    Binary { op: &'static str, bool: bool, matching: Option<Matching>, left: Box<Expr>, right: Box<Expr> },
    /// Unary minus.
    Negate(Box<Expr>),
}

/// The step of a subquery without a step: the default of `global.evaluation_interval`, ms.
pub const DEFAULT_STEP: i64 = 60_000;

/// Functions whose result depends on the length of the window, not only on its samples.
pub const NEEDS_LENGTH: &[&str] = &["rate", "increase", "delta"];

/// Functions with a scalar result.
const SCALAR_FUNCTIONS: &[&str] = &["scalar", "time", "pi"];

impl Expr {
    /// The type of the result.
    pub fn kind(&self) -> Type {
        match self {
            Expr::Number(_) => Type::Scalar,
            Expr::Text(_) => Type::Text,
            Expr::Range(..) | Expr::Subquery { .. } => Type::Range,
            Expr::Call(name, _) if SCALAR_FUNCTIONS.contains(name) => Type::Scalar,
            Expr::Negate(inner) => inner.kind(),
            Expr::Binary { left, right, .. }
                if left.kind() == Type::Scalar && right.kind() == Type::Scalar =>
            {
                Type::Scalar
            }
            _ => Type::Vector,
        }
    }

    /// The spelling for a version.
    pub fn spell(&self, dialect: Dialect) -> String {
        let mut out = String::new();
        self.write(&mut out, dialect, false);
        out
    }

    /// Writes the expression; with `closed`, a window at the root keeps its length.
    fn write(&self, out: &mut String, dialect: Dialect, closed: bool) {
        let shrink = if dialect == Dialect::Old && !closed { 1 } else { 0 };
        match self {
            Expr::Number(v) => out.push_str(&number(*v)),
            Expr::Text(text) => out.push_str(&quote(text)),
            Expr::Selector(s) => s.write(out, dialect, ""),
            Expr::Range(s, range) => s.write(out, dialect, &format!("[{}]", duration(range - shrink))),
            Expr::Subquery { inner, range, step, shift } => {
                inner.write_within(out, dialect, 8);
                let step = step.map_or(String::new(), duration);
                let _ = write!(out, "[{}:{step}]", duration(range - shrink));
                shift.write(out);
            }
            Expr::Call(name, args) => write_call(out, dialect, name, args),
            Expr::Aggregate { op, param, inner, grouping } => {
                out.push_str(op);
                if let Some(g) = grouping {
                    let word = if g.without { "without" } else { "by" };
                    let _ = write!(out, " {word} ({}) ", g.labels.join(", "));
                }
                out.push('(');
                if let Some(param) = param {
                    param.write(out, dialect, false);
                    out.push_str(", ");
                }
                inner.write(out, dialect, false);
                out.push(')');
            }
            Expr::Binary { op, bool, matching, left, right } => {
                let level = level(op);
                let power = *op == "^";
                left.write_within(out, dialect, if power { level + 1 } else { level });
                let _ = write!(out, " {op} ");
                out.push_str(if *bool { "bool " } else { "" });
                if let Some(matching) = matching {
                    matching.write(out);
                }
                right.write_within(out, dialect, if power { level } else { level + 1 });
            }
            Expr::Negate(inner) => {
                out.push('-');
                inner.write_within(out, dialect, UNARY);
            }
        }
    }

    /// Writes the expression, in parentheses if its precedence is lower than `least`.
    fn write_within(&self, out: &mut String, dialect: Dialect, least: u8) {
        let own = match self {
            Expr::Binary { op, .. } => level(op),
            Expr::Negate(_) => UNARY,
            Expr::Number(v) if v.is_sign_negative() => UNARY,
            _ => 8,
        };
        if own < least {
            out.push('(');
            self.write(out, dialect, false);
            out.push(')');
        } else {
            self.write(out, dialect, false);
        }
    }

    /// The direct subexpressions.
    pub fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Number(_) | Expr::Text(_) | Expr::Selector(_) | Expr::Range(..) => Vec::new(),
            Expr::Subquery { inner, .. } | Expr::Negate(inner) => vec![inner],
            Expr::Call(_, args) => args.iter().collect(),
            Expr::Aggregate { param, inner, .. } => param.iter().map(|p| &**p).chain([&**inner]).collect(),
            Expr::Binary { left, right, .. } => vec![left, right],
        }
    }

    fn parts_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Expr::Number(_) | Expr::Text(_) | Expr::Selector(_) | Expr::Range(..) => Vec::new(),
            Expr::Subquery { inner, .. } | Expr::Negate(inner) => vec![inner],
            Expr::Call(_, args) => args.iter_mut().collect(),
            Expr::Aggregate { param, inner, .. } => {
                param.iter_mut().map(|p| &mut **p).chain([&mut **inner]).collect()
            }
            Expr::Binary { left, right, .. } => vec![left, right],
        }
    }

    /// Replaces `@ start()` and `@ end()` by the times that they mean in a query from `start` to
    /// `end`.
    pub fn pin(&mut self, start: i64, end: i64) {
        let shift = match self {
            Expr::Selector(s) | Expr::Range(s, _) => Some(&mut s.shift),
            Expr::Subquery { shift, .. } => Some(shift),
            _ => None,
        };
        if let Some(at) = shift.and_then(|s| s.at.as_mut()) {
            *at = match at {
                At::Start => At::Time(start),
                At::End => At::Time(end),
                At::Time(t) => At::Time(*t),
            };
        }
        for part in self.parts_mut() {
            part.pin(start, end);
        }
    }

    /// Whether `wanted` is true for the expression or any subexpression.
    pub fn any(&self, wanted: &dyn Fn(&Expr) -> bool) -> bool {
        wanted(self) || self.parts().into_iter().any(|part| part.any(wanted))
    }
}

impl Shift {
    fn write(&self, out: &mut String) {
        match self.at {
            Some(At::Start) => out.push_str(" @ start()"),
            Some(At::End) => out.push_str(" @ end()"),
            Some(At::Time(t)) => {
                let _ = write!(out, " @ {}", t as f64 / 1000.0);
            }
            None => {}
        }
        if self.offset != 0 {
            let sign = if self.offset < 0 { "-" } else { "" };
            let _ = write!(out, " offset {sign}{}", duration(self.offset.abs()));
        }
    }

    /// The time of the data for an evaluation at `t`.
    pub fn apply(&self, t: i64) -> i64 {
        let at = match self.at {
            Some(At::Time(at)) => at,
            _ => t,
        };
        at - self.offset
    }
}

impl Selector {
    fn write(&self, out: &mut String, dialect: Dialect, window: &str) {
        out.push_str(self.name.as_deref().unwrap_or(""));
        if !self.matchers.is_empty() || self.name.is_none() {
            let parts: Vec<String> = self.matchers.iter().map(|m| matcher(m, dialect)).collect();
            let _ = write!(out, "{{{}}}", parts.join(", "));
        }
        out.push_str(window);
        self.shift.write(out);
    }
}

fn matcher((label, op, value): &(String, &'static str, String), dialect: Dialect) -> String {
    let value = if op.contains('~') { regex(value, dialect) } else { value.clone() };
    format!("{label}{op}{}", quote(&value))
}

fn regex(text: &str, dialect: Dialect) -> String {
    let differs = dialect == Dialect::Old && text.contains('.');
    if differs { format!("(?s:{text})") } else { text.to_string() }
}

impl Matching {
    fn write(&self, out: &mut String) {
        let word = if self.on { "on" } else { "ignoring" };
        let _ = write!(out, "{word} ({}) ", self.labels.join(", "));
        if let Some((side, labels)) = &self.group {
            let _ = write!(out, "{side} ({}) ", labels.join(", "));
        }
    }
}

fn write_call(out: &mut String, dialect: Dialect, name: &str, args: &[Expr]) {
    let old = dialect == Dialect::Old;
    out.push_str(if old && name == "double_exponential_smoothing" { "holt_winters" } else { name });
    out.push('(');
    for (at, arg) in args.iter().enumerate() {
        out.push_str(if at > 0 { ", " } else { "" });
        match arg {
            Expr::Text(text) if name == "label_replace" && at == 4 => {
                out.push_str(&quote(&regex(text, dialect)));
            }
            _ => arg.write(out, dialect, NEEDS_LENGTH.contains(&name)),
        }
    }
    out.push(')');
}

/// The precedence of unary minus; see [`level`].
const UNARY: u8 = 6;

/// The precedence of an operator, from 1.
fn level(op: &str) -> u8 {
    match op {
        "or" => 1,
        "and" | "unless" => 2,
        "+" | "-" => 4,
        "*" | "/" | "%" | "atan2" => 5,
        "^" => 7,
        _ => 3,
    }
}

/// A number in a spelling that PromQL parses to the same bits.
pub fn number(v: f64) -> String {
    match v {
        v if v.is_nan() => "NaN".into(),
        v if v.is_infinite() => if v > 0.0 { "Inf" } else { "-Inf" }.into(),
        v if v != 0.0 && !(1e-6..1e15).contains(&v.abs()) => format!("{v:e}"),
        v => format!("{v}"),
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Milliseconds as a PromQL duration.
pub fn duration(ms: i64) -> String {
    let mut out = String::new();
    let mut left = ms;
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= size {
            let _ = write!(out, "{}{unit}", left / size);
            left %= size;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

#[test]
fn the_older_spelling_means_the_same() {
    let selector = Selector {
        name: Some("m".into()),
        matchers: vec![("a".into(), "=~", "x.y\n".into())],
        shift: Shift { offset: -5000, at: Some(At::Time(1500)) },
    };
    let window = Expr::Range(selector, 300_000);
    let sum = Expr::Call("sum_over_time", vec![window.clone()]);
    let new = r#"sum_over_time(m{a=~"x.y\n"}[5m] @ 1.5 offset -5s)"#;
    assert_eq!(sum.spell(Dialect::New), new);
    let old = r#"sum_over_time(m{a=~"(?s:x.y\n)"}[4m59s999ms] @ 1.5 offset -5s)"#;
    assert_eq!(sum.spell(Dialect::Old), old);
    let rate = Expr::Call("rate", vec![window]);
    assert!(rate.spell(Dialect::Old).contains("[5m]"), "the length matters to rate");
}

#[test]
fn parentheses_stand_where_they_are_needed() {
    let binary = |op, left: Expr, right: Expr| Expr::Binary {
        op,
        bool: false,
        matching: None,
        left: left.into(),
        right: right.into(),
    };
    let n = Expr::Number;
    let sum = binary("+", n(1.0), n(2.0));
    let text = |e: &Expr| e.spell(Dialect::New);
    assert_eq!(text(&binary("*", sum.clone(), sum.clone())), "(1 + 2) * (1 + 2)");
    assert_eq!(text(&binary("-", sum.clone(), sum)), "1 + 2 - (1 + 2)");
    assert_eq!(text(&binary("^", binary("^", n(2.0), n(3.0)), n(2.0))), "(2 ^ 3) ^ 2");
    assert_eq!(text(&binary("^", n(-1.0), n(2.0))), "(-1) ^ 2");
    assert_eq!(text(&Expr::Negate(binary("^", n(1.0), n(2.0)).into())), "-1 ^ 2");
}
