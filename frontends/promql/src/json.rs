//! The syntax tree as JSON, in the format of Prometheus' `/api/v1/parse_query`. [`super::ast`] is
//! the tree.

use super::PromqlOptions;
use super::ast::{
    AggregateExpr, AtModifier, BinaryExpr, DurationArgument, DurationExpr, DurationKind, Expr, ExprKind,
    ExtensionKeyword, TimeModifiers, VectorSelector,
};
use super::bind::matchers;
use super::printer::number;
use engine::limits::REPEATED_ARGUMENTS;
use engine::plan::{Cardinality, ValueType};
use engine::types::go_text::lossy;
use serde_json::{Map, Value, json};

/// `expr` as JSON. A duration that is an expression is 0, and its tree is in a field of its own
/// (`rangeExpr`, …).
pub fn to_json(expr: &Expr, options: &PromqlOptions) -> Value {
    // Each recursive case is a function of its own, which keeps the stack frames small.
    match &*expr.kind {
        ExprKind::Paren(inner) => around("parenExpr", None, inner, options),
        ExprKind::Unary { minus, inner } => {
            around("unaryExpr", Some(if *minus { "-" } else { "+" }), inner, options)
        }
        ExprKind::Binary(binary) => binary_json(binary, options),
        ExprKind::Aggregate(aggregate) => aggregate_json(aggregate, options),
        ExprKind::Call { function, args } => call_json(function, args, options),
        ExprKind::Subquery { inner, .. } => with_subquery(to_json(inner, options), &expr.kind),
        ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Vector(_) | ExprKind::Matrix { .. } => {
            leaf(&expr.kind)
        }
    }
}

fn leaf(kind: &ExprKind) -> Value {
    match kind {
        ExprKind::Number { value, .. } => json!({"type": "numberLiteral", "val": number(*value, false)}),
        ExprKind::Text(text) => json!({"type": "stringLiteral", "val": lossy(text)}),
        ExprKind::Vector(selector) => with_selector(json!({"type": "vectorSelector"}), selector),
        ExprKind::Matrix { selector, range, .. } => {
            let mut value = json!({"type": "matrixSelector"});
            put_duration(&mut value, "range", Some(range));
            with_selector(value, selector)
        }
        _ => Value::Null,
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn around(kind: &str, op: Option<&str>, inner: &Expr, options: &PromqlOptions) -> Value {
    let mut value = object([("type", kind.into()), ("expr", to_json(inner, options))]);
    if let Some(op) = op {
        put(&mut value, "op", op.into());
    }
    value
}

fn binary_json(binary: &BinaryExpr, options: &PromqlOptions) -> Value {
    let lhs = to_json(&binary.lhs, options);
    let rhs = to_json(&binary.rhs, options);
    object([
        ("type", "binaryExpr".into()),
        ("op", binary.op.as_str().into()),
        ("lhs", lhs),
        ("rhs", rhs),
        ("matching", matching(binary, options)),
        ("bool", binary.modifiers.return_bool.into()),
    ])
}

fn aggregate_json(aggregate: &AggregateExpr, options: &PromqlOptions) -> Value {
    let inner = to_json(&aggregate.inner, options);
    let param = aggregate.param.as_ref().map_or(Value::Null, |param| to_json(param, options));
    object([
        ("type", "aggregation".into()),
        ("op", aggregate.op.as_str().into()),
        ("expr", inner),
        ("param", param),
        ("grouping", json!(aggregate.grouping)),
        ("without", aggregate.without.into()),
    ])
}

fn call_json(function: &str, args: &[Expr], options: &PromqlOptions) -> Value {
    let args: Vec<Value> = args.iter().map(|arg| to_json(arg, options)).collect();
    object([("type", "call".into()), ("func", function_json(function, options)), ("args", args.into())])
}

fn with_subquery(inner: Value, kind: &ExprKind) -> Value {
    let ExprKind::Subquery { range, step, when, .. } = kind else { return inner };
    let mut value = object([("type", "subquery".into()), ("expr", inner)]);
    put_duration(&mut value, "range", Some(range));
    put_duration(&mut value, "step", step.as_ref());
    with_when(value, when)
}

fn function_json(function: &str, options: &PromqlOptions) -> Value {
    let Some(s) = (options.functions)(function) else { return json!({"name": function}) };
    // Prometheus lists an optional or repeated argument once, as the last one; "variadic" says how
    // often it may occur, and a negative number means without limit.
    let mut args: Vec<&str> = s.args.iter().map(|kind| type_name(*kind)).collect();
    if s.repeat > 0 && s.optional == 0 {
        args.extend(args.last().copied());
    }
    let variadic = match (s.optional, s.repeat) {
        (0, 0) => 0,
        (_, repeat) if repeat >= REPEATED_ARGUMENTS => -1,
        (_, repeat) => i64::try_from(s.args.len() + repeat + 1 - args.len()).unwrap_or(-1),
    };
    json!({"name": function, "argTypes": args, "variadic": variadic, "returnType": type_name(s.returns)})
}

fn type_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::Text => "string",
    }
}

/// The matching of a binary operation; `null` unless both operands are vectors.
fn matching(binary: &BinaryExpr, options: &PromqlOptions) -> Value {
    if [&binary.lhs, &binary.rhs].iter().any(|side| is_scalar(side, options)) {
        return Value::Null;
    }
    let m = &binary.modifiers;
    let card = match m.cardinality {
        _ if binary.op.is_set() => "many-to-many",
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": m.labels,
        "on": m.on,
        "include": m.include,
        "fillValues": {"lhs": m.fill_left, "rhs": m.fill_right},
    })
}

fn is_scalar(expr: &Expr, options: &PromqlOptions) -> bool {
    match &*expr.kind {
        ExprKind::Number { .. } => true,
        ExprKind::Paren(inner) | ExprKind::Unary { inner, .. } => is_scalar(inner, options),
        ExprKind::Binary(b) => is_scalar(&b.lhs, options) && is_scalar(&b.rhs, options),
        ExprKind::Call { function, .. } => {
            (options.functions)(function).is_some_and(|s| s.returns == ValueType::Scalar)
        }
        _ => false,
    }
}

fn with_selector(value: Value, selector: &VectorSelector) -> Value {
    let mut value = with_when(value, &selector.when);
    let inside = |name: &str| {
        let mut all = matchers(selector);
        // Prometheus puts the matcher of the name after the others.
        if !name.is_empty() {
            all.rotate_left(1);
        }
        all
    };
    // A name inside the braces is an ordinary matcher.
    let name = selector.name.clone().unwrap_or_default();
    let list: Vec<Value> = inside(selector.name.as_deref().unwrap_or(""))
        .iter()
        .map(|m| json!({"name": m.name, "value": m.value, "type": m.op.as_str()}))
        .collect();
    put(&mut value, "name", json!(name));
    put(&mut value, "matchers", json!(list));
    put(&mut value, "anchored", json!(selector.extended == Some(ExtensionKeyword::Anchored)));
    put(&mut value, "smoothed", json!(selector.extended == Some(ExtensionKeyword::Smoothed)));
    value
}

fn with_when(mut value: Value, when: &TimeModifiers) -> Value {
    let (timestamp, start_or_end) = match when.at {
        Some(AtModifier::Time(t)) => (json!(t), Value::Null),
        Some(AtModifier::Start) => (Value::Null, json!("start")),
        Some(AtModifier::End) => (Value::Null, json!("end")),
        None => (Value::Null, Value::Null),
    };
    put_duration(&mut value, "offset", when.offset.as_ref());
    put(&mut value, "timestamp", timestamp);
    put(&mut value, "startOrEnd", start_or_end);
    value
}

fn put(value: &mut Value, key: &str, item: Value) {
    value.as_object_mut().map(|object: &mut Map<String, Value>| object.insert(key.to_owned(), item));
}

/// Writes `key` in ms, and `keyExpr`, which is `null` for a literal.
fn put_duration(value: &mut Value, key: &str, duration: Option<&DurationArgument>) {
    let (ms, expr) = match duration {
        Some(DurationArgument::Fixed(nanos)) => (nanos / 1_000_000, Value::Null),
        Some(DurationArgument::Computed(expr)) => (0, duration_json(expr)),
        None => (0, Value::Null),
    };
    put(value, key, ms.into());
    put(value, &format!("{key}Expr"), expr);
}

fn duration_json(expr: &DurationExpr) -> Value {
    let (op, lhs, rhs) = match &expr.kind {
        DurationKind::Number { value, duration } => {
            return json!({"type": "numberLiteral", "val": number(*value, false), "duration": duration});
        }
        DurationKind::Step => ("step", None, None),
        DurationKind::Range => ("range", None, None),
        DurationKind::Negate(inner) => ("-", None, Some(inner)),
        DurationKind::MinOf(a, b) => ("min_of", Some(a), Some(b)),
        DurationKind::MaxOf(a, b) => ("max_of", Some(a), Some(b)),
        DurationKind::Binary(op, a, b) => (op.as_str(), Some(a), Some(b)),
    };
    let side = |side: Option<&Box<DurationExpr>>| side.map_or(Value::Null, |expr| duration_json(expr));
    object([
        ("type", "durationExpr".into()),
        ("op", op.into()),
        ("lhs", side(lhs)),
        ("rhs", side(rhs)),
        ("wrapped", expr.parens.into()),
    ])
}
