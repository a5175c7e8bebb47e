//! Prints a syntax tree as one line of PromQL, like Prometheus' `String()`.
//!
//! Matchers are sorted and spaces are uniform; everything else is as in the query.
//! [`super::prettify`] splits long expressions over several lines.

use super::ast::{
    AggregateExpr, AtModifier, BinaryExpr, DurationArgument, DurationExpr, DurationKind, Expr, ExprKind,
    ExtensionKeyword, MatchingModifiers, TimeModifiers, VectorSelector,
};
use super::lexer::{is_alpha, is_alphanumeric};
use super::quoting::quote;
use engine::plan::Cardinality;
use storage::model::labels::METRIC_NAME;
use storage::model::number::plain;
use storage::model::time::format_duration;
use storage::model::{MatchOp, Matcher};

/// `expr` on one line.
pub fn print(expr: &Expr) -> String {
    let mut out = String::new();
    write(&mut out, expr);
    out
}

fn write(out: &mut String, expr: &Expr) {
    match &*expr.kind {
        ExprKind::Number { value, duration } => out.push_str(&number(*value, *duration)),
        ExprKind::Text(text) => out.push_str(&quote(text)),
        ExprKind::Paren(inner) => {
            out.push('(');
            write(out, inner);
            out.push(')');
        }
        ExprKind::Unary { minus, inner } => {
            out.push(if *minus { '-' } else { '+' });
            write(out, inner);
        }
        ExprKind::Vector(selector) => {
            out.push_str(&series(selector));
            out.push_str(&modifiers(selector.extended, &selector.when));
        }
        ExprKind::Matrix { selector, range, .. } => {
            out.push_str(&series(selector));
            out.push_str(&format!("[{}]", duration(range)));
            out.push_str(&modifiers(selector.extended, &selector.when));
        }
        ExprKind::Subquery { inner, .. } => {
            write(out, inner);
            out.push_str(&subquery_suffix(&expr.kind));
        }
        ExprKind::Call { function, args } => {
            out.push_str(function);
            write_list(out, args);
        }
        ExprKind::Aggregate(aggregate) => {
            out.push_str(&aggregate_head(aggregate));
            out.push('(');
            if let Some(param) = &aggregate.param {
                write(out, param);
                out.push_str(", ");
            }
            write(out, &aggregate.inner);
            out.push(')');
        }
        ExprKind::Binary(binary) => {
            write(out, &binary.lhs);
            out.push_str(&format!(" {} ", operator(binary)));
            write(out, &binary.rhs);
        }
    }
}

fn write_list(out: &mut String, args: &[Expr]) {
    out.push('(');
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write(out, arg);
    }
    out.push(')');
}

/// A number, written as a duration if `duration`.
pub(crate) fn number(value: f64, duration: bool) -> String {
    match value {
        // As Prometheus prints it: `90s` comes back as `1m30s`.
        v if duration => signed_duration((v * 1000.0) as i64),
        v => plain(v),
    }
}

fn signed_duration(ms: i64) -> String {
    format!("{}{}", if ms < 0 { "-" } else { "" }, format_duration(ms.saturating_abs()))
}

/// `[range:step]` of a subquery and the modifiers after it.
pub(crate) fn subquery_suffix(kind: &ExprKind) -> String {
    let ExprKind::Subquery { range, step, when, .. } = kind else { return String::new() };
    let step = step.as_ref().map(duration).unwrap_or_default();
    format!("[{}:{step}]{}", duration(range), modifiers(None, when))
}

/// `sum by (a, b) `: the part of an aggregation before its parentheses.
pub(crate) fn aggregate_head(aggregate: &AggregateExpr) -> String {
    let op = aggregate.op.as_str();
    match (aggregate.without, aggregate.grouping.is_empty()) {
        // `without ()` is kept: it groups by all labels, which no clause does not.
        (true, _) => format!("{op} without ({}) ", names(&aggregate.grouping)),
        (false, false) => format!("{op} by ({}) ", names(&aggregate.grouping)),
        (false, true) => op.to_owned(),
    }
}

/// A binary operator with its modifiers.
pub(crate) fn operator(binary: &BinaryExpr) -> String {
    let MatchingModifiers { return_bool, on, labels, cardinality, include, fill_left, fill_right } =
        &binary.modifiers;
    let mut out = binary.op.as_str().to_owned();
    if *return_bool {
        out.push_str(" bool");
    }
    let group = match cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    // `ignoring ()` alone says nothing and goes; with `group_left` it is needed, because that
    // cannot stand alone.
    if *on || !labels.is_empty() || group.is_some() {
        out.push_str(&format!(" {} ({})", if *on { "on" } else { "ignoring" }, names(labels)));
    }
    if let Some(group) = group {
        // With empty parentheses, too, as Prometheus prints it.
        out.push_str(&format!(" {group} ({})", names(include)));
    }
    let mut fill = |word: &str, value: f64| out.push_str(&format!(" {word} ({})", number(value, false)));
    match (fill_left, fill_right) {
        // By bits, so that two NaN are equal and 0 and -0 are not.
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => fill("fill", *left),
        (left, right) => {
            for value in left.iter() {
                fill("fill_left", *value);
            }
            for value in right.iter() {
                fill("fill_right", *value);
            }
        }
    }
    out
}

/// A list of label names, quoted where necessary.
fn names(labels: &[String]) -> String {
    labels.iter().map(|label| label_name(label)).collect::<Vec<_>>().join(", ")
}

fn label_name(name: &str) -> String {
    let plain = name.starts_with(is_alpha) && name.chars().all(is_alphanumeric);
    if plain { name.to_owned() } else { quote(name) }
}

/// The name and matchers of a selector.
fn series(selector: &VectorSelector) -> String {
    let name = selector.name.as_deref().unwrap_or("");
    // The name as a matcher beside the name before the braces would be refused when the text is
    // parsed again.
    let repeats_name = |m: &&Matcher| {
        m.name == METRIC_NAME && m.op == MatchOp::Equal && m.value == name && !m.value.is_empty()
    };
    let mut matchers: Vec<String> = selector
        .matchers
        .iter()
        .filter(|m| !repeats_name(m))
        .map(|m| format!("{}{}{}", label_name(&m.name), m.op.as_str(), quote(&m.value)))
        .collect();
    matchers.sort_unstable();
    if !matchers.is_empty() {
        format!("{name}{{{}}}", matchers.join(","))
    } else if name.is_empty() {
        // Only `info` has such a selector; elsewhere it does not pass the type checker.
        "{}".to_owned()
    } else {
        name.to_owned()
    }
}

fn modifiers(extended: Option<ExtensionKeyword>, when: &TimeModifiers) -> String {
    let mut out = extended.map(|e| format!(" {}", e.as_str())).unwrap_or_default();
    match when.at {
        Some(AtModifier::Time(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            out.push_str(&format!(" @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000));
        }
        Some(AtModifier::Start) => out.push_str(" @ start()"),
        Some(AtModifier::End) => out.push_str(" @ end()"),
        None => {}
    }
    // An offset of zero is none, as in Prometheus.
    if let Some(offset) = &when.offset
        && when.has_offset()
    {
        out.push_str(&format!(" offset {}", duration(offset)));
    }
    out
}

fn duration(duration: &DurationArgument) -> String {
    match duration {
        DurationArgument::Fixed(nanos) => signed_duration(nanos / 1_000_000),
        DurationArgument::Computed(expr) => duration_expr(expr),
    }
}

fn duration_expr(expr: &DurationExpr) -> String {
    let text = match &expr.kind {
        DurationKind::Number { value, duration } => number(*value, *duration),
        DurationKind::Step => "step()".to_owned(),
        DurationKind::Range => "range()".to_owned(),
        DurationKind::Negate(inner) => format!("-{}", duration_expr(inner)),
        DurationKind::Binary(op, a, b) => {
            format!("{} {} {}", duration_expr(a), op.as_str(), duration_expr(b))
        }
        DurationKind::MinOf(a, b) => format!("min_of({}, {})", duration_expr(a), duration_expr(b)),
        DurationKind::MaxOf(a, b) => format!("max_of({}, {})", duration_expr(a), duration_expr(b)),
    };
    if expr.parens { format!("({text})") } else { text }
}
