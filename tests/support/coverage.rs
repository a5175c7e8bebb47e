//! Lists what PromQL queries use (each function, operator and modifier once, such as `function
//! rate`), so that a test of results can check that its files cover the language.

use promql::ast::{AtModifier, BinaryExpr, DurationArgument, Expr, ExprKind, TimeModifiers, VectorSelector};
use promql::{PromqlOptions, parse};
use std::collections::BTreeSet;

/// The elements that the queries of a test file use; invalid queries are skipped.
pub fn used(queries: &[String]) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for query in queries {
        if let Ok(expr) = parse(query, &PromqlOptions::all()) {
            walk(&expr, &mut used);
        }
    }
    used
}

fn walk(expr: &Expr, used: &mut BTreeSet<String>) {
    let mut add = |kind: &str, name: &str| {
        used.insert(format!("{kind} {name}"));
    };
    match &*expr.kind {
        ExprKind::Number { duration, .. } => add("literal", if *duration { "duration" } else { "number" }),
        ExprKind::Text(_) => add("literal", "string"),
        ExprKind::Paren(inner) => walk(inner, used),
        ExprKind::Unary { minus, inner } => {
            add("unary", if *minus { "-" } else { "+" });
            walk(inner, used);
        }
        ExprKind::Vector(selector) => selected(selector, used),
        ExprKind::Matrix { selector, range, .. } => {
            computed(range, used);
            selected(selector, used);
        }
        ExprKind::Subquery { inner, range, step, when } => {
            add("subquery", if step.is_some() { "with step" } else { "without step" });
            computed(range, used);
            moved(when, used);
            walk(inner, used);
        }
        ExprKind::Call { function, args } => {
            add("function", function);
            for arg in args.iter() {
                walk(arg, used);
            }
        }
        ExprKind::Aggregate(aggregate) => {
            add("aggregation", aggregate.op.as_str());
            if aggregate.without {
                add("modifier", "without");
            } else if !aggregate.grouping.is_empty() {
                add("modifier", "by");
            }
            if let Some(param) = &aggregate.param {
                walk(param, used);
            }
            walk(&aggregate.inner, used);
        }
        ExprKind::Binary(binary) => joined(binary, used),
    }
}

fn joined(binary: &BinaryExpr, used: &mut BTreeSet<String>) {
    let modifiers = &binary.modifiers;
    used.insert(format!("operator {}", binary.op.as_str()));
    let cardinality = format!("{:?}", modifiers.cardinality);
    for (name, there) in [
        ("bool", modifiers.return_bool),
        ("on", modifiers.on),
        ("ignoring", !modifiers.on && !modifiers.labels.is_empty()),
        ("group_left", cardinality == "ManyToOne"),
        ("group_right", cardinality == "OneToMany"),
        ("group labels", !modifiers.include.is_empty()),
        ("fill", modifiers.fill_left.is_some() && modifiers.fill_left == modifiers.fill_right),
        ("fill_left", modifiers.fill_left.is_some() && modifiers.fill_right.is_none()),
        ("fill_right", modifiers.fill_right.is_some() && modifiers.fill_left.is_none()),
    ] {
        if there {
            used.insert(format!("modifier {name}"));
        }
    }
    walk(&binary.lhs, used);
    walk(&binary.rhs, used);
}

fn selected(selector: &VectorSelector, used: &mut BTreeSet<String>) {
    used.extend(selector.extended.iter().map(|extended| format!("modifier {}", extended.as_str())));
    used.extend(selector.matchers.iter().map(|matcher| format!("matcher {}", matcher.op.as_str())));
    moved(&selector.when, used);
}

fn moved(when: &TimeModifiers, used: &mut BTreeSet<String>) {
    let mut add = |name: &str| {
        used.insert(format!("modifier {name}"));
    };
    match when.at {
        Some(AtModifier::Time(_)) => add("@"),
        Some(AtModifier::Start) => add("@ start()"),
        Some(AtModifier::End) => add("@ end()"),
        None => {}
    }
    match &when.offset {
        Some(DurationArgument::Fixed(nanos)) if *nanos < 0 => add("negative offset"),
        Some(offset) => {
            add("offset");
            computed(offset, used);
        }
        None => {}
    }
}

fn computed(duration: &DurationArgument, used: &mut BTreeSet<String>) {
    if matches!(duration, DurationArgument::Computed(_)) {
        used.insert("literal computed duration".to_owned());
    }
}
