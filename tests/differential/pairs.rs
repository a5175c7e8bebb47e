//! Random binary operators between vectors, mostly in common shapes: the same series under two
//! functions, aggregations by the same labels, many series with one per job. [`crate::generator`]
//! uses them.

use crate::expr::{Expr, Grouping, Matching};
use crate::generator::{AGGREGATIONS, ARITHMETIC, COMPARISONS, ELEMENTWISE, Generator, WINDOWS, binary};
use crate::selection::Selection;

impl Generator<'_> {
    /// A random operator between two vectors.
    pub fn between_vectors(&mut self, depth: u32) -> Expr {
        let compares = self.random.chance(35);
        let op = self.random.pick(if compares { COMPARISONS } else { ARITHMETIC });
        let returns_bool = compares && self.random.chance(40);
        let (matching, left, right) = match self.random.below(10) {
            0..3 => self.alike(depth),
            3..6 => self.aggregated_alike(depth),
            6..9 => self.many_to_one(depth),
            _ => (self.matching(), self.vector(depth - 1), self.vector(depth - 1)),
        };
        binary(op, returns_bool, matching, left, right)
    }

    /// The same series on both sides, each under its own function.
    fn alike(&mut self, depth: u32) -> (Option<Matching>, Expr, Expr) {
        let selector = Selection(self.random).selector(None);
        let mut side = || {
            let mut selector = selector.clone();
            if self.random.chance(30) {
                selector.shift.offset = self.random.between(-10, 20) * 15_000;
            }
            match self.random.below(3) {
                0 => Expr::Selector(selector),
                1 => Expr::Call(self.random.pick(ELEMENTWISE), vec![Expr::Selector(selector)]),
                _ => Expr::Call(self.random.pick(&WINDOWS[..17]), vec![Expr::Range(selector, 300_000)]),
            }
        };
        let left = side();
        let right = side();
        let _ = depth;
        (None, left, right)
    }

    /// Two aggregations by the same labels.
    fn aggregated_alike(&mut self, depth: u32) -> (Option<Matching>, Expr, Expr) {
        let labels = self.labels(2);
        let mut side = || Expr::Aggregate {
            op: self.random.pick(AGGREGATIONS),
            param: None,
            inner: Generator { random: self.random, subqueries: self.subqueries }.vector(depth - 1).into(),
            grouping: Some(Grouping { without: false, labels: labels.clone() }),
        };
        let left = side();
        let right = side();
        let on = self.random.chance(50);
        (on.then_some(Matching { on, labels, group: None }), left, right)
    }

    /// Many series on one side, and one per job, or per job and instance, on the other.
    fn many_to_one(&mut self, depth: u32) -> (Option<Matching>, Expr, Expr) {
        let many = self.vector(depth - 1);
        let both = self.random.chance(40);
        let labels: Vec<String> =
            ["job", "instance"][..if both { 2 } else { 1 }].iter().map(ToString::to_string).collect();
        let one = match self.random.below(3) {
            0 if !both => Expr::Selector(Selection(self.random).named("quota")),
            1 if both => Expr::Selector(Selection(self.random).named("build_info")),
            _ => Expr::Aggregate {
                op: self.random.pick(AGGREGATIONS),
                param: None,
                inner: self.vector(depth - 1).into(),
                grouping: Some(Grouping { without: false, labels: labels.clone() }),
            },
        };
        let copied = if self.random.chance(40) { self.labels(1) } else { Vec::new() };
        let copied: Vec<String> = copied.into_iter().filter(|l| !labels.contains(l)).collect();
        if self.random.chance(50) {
            (Some(Matching { on: true, labels, group: Some(("group_left", copied)) }), many, one)
        } else {
            (Some(Matching { on: true, labels, group: Some(("group_right", copied)) }), one, many)
        }
    }

    fn matching(&mut self) -> Option<Matching> {
        let on = self.random.chance(50);
        let group =
            self.random.chance(30).then(|| (self.random.pick(&["group_left", "group_right"]), Vec::new()));
        self.random.chance(70).then(|| Matching { on, labels: self.labels(2), group })
    }
}
