//! From a query that is answered differently to the smallest parts that are: a part is to blame if its answer
//! differs although the answers of all its own parts agree.
//!
//! Each part is asked as a query of its own, at the times at which the whole would evaluate it: the
//! arguments of a function at the same times, what stands in a subquery at the subquery's steps.
//! The part to blame is then asked at single times; only if no single time shows the difference,
//! the case is one of a range query. So a rule ([`crate::rules`]) judges one node with known
//! inputs, and an unexplained difference is reported as small as it can be.

use crate::answer::{Answer, When, ask, compare, order};
use crate::expr::{DEFAULT_STEP, Dialect, Expr, Type};

/// Single times at which a part to blame is judged, of those at which it differs.
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
    /// Both answers.
    pub fn ask(self, expr: &Expr, when: When) -> (Answer, Answer) {
        (ask(self.ours, &expr.spell(Dialect::New), when), self.ask_theirs(expr, when))
    }

    /// The answer of 2.42.
    pub fn ask_theirs(self, expr: &Expr, when: When) -> Answer {
        ask(self.theirs, &expr.spell(Dialect::Old), when)
    }
}

/// The smallest part that differs.
#[derive(Clone, Debug)]
pub struct Case {
    /// The part.
    pub expr: Expr,
    /// When it was asked.
    pub when: When,
    /// Our answer.
    pub ours: Answer,
    /// Theirs.
    pub theirs: Answer,
    /// What differs.
    pub complaint: String,
    /// The answers of its parts agree, but not in all bits.
    pub rounded: bool,
}

/// Agreement of a part.
#[derive(Copy, Clone)]
struct Agreement {
    same: bool,
    exact: bool,
}

/// The parts to blame for a difference of `expr`. Empty if the difference does not show again.
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

/// The cases of a part to blame: at single times if it differs there.
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

/// The parts that are evaluated, and when.
pub fn parts(expr: &Expr, when: When) -> Vec<(&Expr, When)> {
    let when = match expr {
        Expr::Subquery { .. } => steps(expr, when),
        _ => Some(when),
    };
    let parts = expr.parts().into_iter().filter(|p| p.kind() != Type::Text && !matches!(p, Expr::Number(_)));
    parts.filter_map(|part| Some((part, when?))).collect()
}

/// When a subquery evaluates what stands in it; None if it has no step in its window.
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
