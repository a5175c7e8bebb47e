//! Reduces a query with different responses to its smallest differing parts: parts that differ
//! although all their subexpressions agree.
//!
//! Each part is sent as a query of its own, for the times at which the whole query evaluates it:
//! arguments of a function at the same times, the inside of a subquery at the steps of the
//! subquery. The smallest part is then queried at single times; only if no single time shows the
//! difference, the case is a range query. So a rule ([`crate::rules`]) judges one node with known
//! inputs, and the report of an unexplained difference is as small as possible.

use crate::answer::{Answer, When, ask, compare, order};
use crate::expr::{DEFAULT_STEP, Dialect, Expr, Type};

/// The number of single times at which a part is judged, among those at which it differs.
const JUDGED: usize = 3;

/// The ports of the two servers.
#[derive(Copy, Clone, Debug)]
pub struct Servers {
    /// Ours.
    pub ours: u16,
    /// Prometheus 2.42.
    pub theirs: u16,
}

impl Servers {
    /// The responses of both servers.
    pub fn ask(self, expr: &Expr, when: When) -> (Answer, Answer) {
        (ask(self.ours, &expr.spell(Dialect::New), when), self.ask_theirs(expr, when))
    }

    /// The response of 2.42.
    pub fn ask_theirs(self, expr: &Expr, when: When) -> Answer {
        ask(self.theirs, &expr.spell(Dialect::Old), when)
    }
}

/// The smallest differing part of a query.
#[derive(Clone, Debug)]
pub struct Case {
    /// The expression.
    pub expr: Expr,
    /// The time of the evaluation.
    pub when: When,
    /// Our response.
    pub ours: Answer,
    /// The response of 2.42.
    pub theirs: Answer,
    /// The difference.
    pub complaint: String,
    /// Whether the results of the subexpressions agree, but not in all bits.
    pub rounded: bool,
}

/// How the results of a part agree.
#[derive(Copy, Clone)]
struct Agreement {
    same: bool,
    exact: bool,
}

/// The smallest differing parts of `expr`. Empty if the difference does not occur again.
pub fn blame(servers: Servers, expr: &Expr, when: When) -> Vec<Case> {
    let mut expr = expr.clone();
    let times = when.times();
    expr.pin(times[0], times[times.len() - 1]);
    let mut cases = Vec::new();
    descend(servers, &expr, when, &mut cases);
    cases
}

fn descend(servers: Servers, expr: &Expr, when: When, cases: &mut Vec<Case>) -> Agreement {
    let askable = expr.kind() != Type::Range || matches!(when, When::Instant(_));
    if askable {
        let (ours, theirs) = servers.ask(expr, when);
        if let Ok(tally) = compare(&ours, &theirs, order(expr, when)) {
            return Agreement { same: true, exact: tally.values == tally.exact };
        }
    }
    let mut all = Agreement { same: true, exact: true };
    for (part, when) in parts(expr, when) {
        let one = descend(servers, part, when, cases);
        all = Agreement { same: all.same & one.same, exact: all.exact & one.exact };
    }
    if all.same && askable {
        judged_at(servers, expr, when, !all.exact, cases);
    }
    Agreement { same: all.same && !askable, exact: all.exact && !askable }
}

/// The cases of a part: at single times if it differs there.
fn judged_at(servers: Servers, expr: &Expr, when: When, rounded: bool, cases: &mut Vec<Case>) {
    let case = |when: When| {
        let (ours, theirs) = servers.ask(expr, when);
        let complaint = compare(&ours, &theirs, order(expr, when)).err()?;
        Some(Case { expr: expr.clone(), when, ours, theirs, complaint, rounded })
    };
    let single = when.times().into_iter().filter_map(|t| case(When::Instant(t)));
    let found: Vec<Case> = single.take(JUDGED).collect();
    if found.is_empty() {
        cases.extend(case(when));
    } else {
        cases.extend(found);
    }
}

/// The subexpressions that are evaluated, and when.
pub fn parts(expr: &Expr, when: When) -> Vec<(&Expr, When)> {
    let when = match expr {
        Expr::Subquery { .. } => steps(expr, when),
        _ => Some(when),
    };
    let parts = expr.parts().into_iter().filter(|p| p.kind() != Type::Text && !matches!(p, Expr::Number(_)));
    parts.filter_map(|part| Some((part, when?))).collect()
}

/// When a subquery evaluates its inside; `None` if its window contains no step.
fn steps(subquery: &Expr, when: When) -> Option<When> {
    let Expr::Subquery { range, step, shift, .. } = subquery else { return None };
    let step = step.unwrap_or(DEFAULT_STEP);
    let ends = || when.times().into_iter().map(|t| shift.apply(t));
    let first = ends().min()?;
    let last = ends().max()?;
    let first = ((first - range).div_euclid(step) + 1) * step;
    (first <= last).then_some(When::Range(first, last, step))
}

#[test]
fn a_subquery_is_asked_at_its_steps() {
    let inner = Expr::Call("vector", vec![Expr::Call("time", vec![])]);
    let shift = crate::expr::Shift { offset: 1000, at: None };
    let subquery = Expr::Subquery { inner: inner.into(), range: 60_000, step: Some(20_000), shift };
    let times = |t| parts(&subquery, t)[0].1.times();
    assert_eq!(times(When::Instant(101_500)), [60_000, 80_000, 100_000]);
    assert_eq!(times(When::Instant(101_000)), [60_000, 80_000, 100_000], "left-open");
    assert_eq!(times(When::Range(101_000, 121_000, 20_000)), [60_000, 80_000, 100_000, 120_000]);
}
