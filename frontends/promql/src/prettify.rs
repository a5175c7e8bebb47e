//! Pretty printing: an expression that does not fit on a line is split over several, indented by
//! two spaces per level.
//!
//! One pass measures every node and a second one prints, so the work is linear in the size of the
//! expression, however deep its nesting.

use super::ast::{Expr, ExprKind};
use super::printer::{aggregate_head, operator, print, subquery_suffix};

/// An expression longer than this many bytes is split, as in Prometheus.
pub const WIDTH: usize = 100;

/// Prints `expr`; parts longer than `width` bytes are split.
pub fn pretty(expr: &Expr, width: usize) -> String {
    let mut sizes = Vec::new();
    measure(expr, &mut sizes);
    let mut pretty = Pretty { width, sizes, at: 0, out: String::new() };
    pretty.expr(expr, 0);
    pretty.out
}

/// The measure of one node: its length on one line, and the index of its right sibling's measure.
struct Size {
    length: usize,
    next: usize,
}

/// Measures `expr` and its operands, a node before its operands; returns the length of `expr`.
fn measure(expr: &Expr, sizes: &mut Vec<Size>) -> usize {
    let at = sizes.len();
    sizes.push(Size { length: 0, next: 0 });
    let operands: usize = expr.operands().map(|operand| measure(operand, sizes)).sum();
    let length = operands + own_length(expr);
    sizes[at] = Size { length, next: sizes.len() };
    length
}

/// The length of a node on one line without its operands.
fn own_length(expr: &Expr) -> usize {
    match &*expr.kind {
        ExprKind::Paren(_) => "()".len(),
        ExprKind::Unary { .. } => "-".len(),
        ExprKind::Binary(binary) => operator(binary).len() + "  ".len(),
        ExprKind::Subquery { .. } => subquery_suffix(&expr.kind).len(),
        ExprKind::Call { function, args } => {
            function.len() + "()".len() + ", ".len() * args.len().saturating_sub(1)
        }
        ExprKind::Aggregate(a) => {
            aggregate_head(a).len() + "()".len() + if a.param.is_some() { ", ".len() } else { 0 }
        }
        ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Vector(_) | ExprKind::Matrix { .. } => {
            print(expr).len()
        }
    }
}

struct Pretty {
    width: usize,
    sizes: Vec<Size>,
    /// The index of the measure of the node that is printed next.
    at: usize,
    out: String,
}

impl Pretty {
    /// Prints `expr` on lines that start with `level` indents.
    fn expr(&mut self, expr: &Expr, level: usize) {
        self.indent(level);
        self.after_indent(expr, level);
    }

    fn indent(&mut self, level: usize) {
        self.out.extend(std::iter::repeat_n("  ", level));
    }

    fn after_indent(&mut self, expr: &Expr, level: usize) {
        let &Size { length, next } = &self.sizes[self.at];
        let leaf = expr.operands().next().is_none();
        if length <= self.width || leaf {
            self.at = next;
            self.out.push_str(&print(expr));
            return;
        }
        self.at += 1;
        match &*expr.kind {
            ExprKind::Unary { minus, inner } => {
                self.out.push(if *minus { '-' } else { '+' });
                self.after_indent(inner, level);
            }
            ExprKind::Subquery { inner, .. } => {
                self.after_indent(inner, level);
                self.out.push_str(&subquery_suffix(&expr.kind));
            }
            ExprKind::Binary(binary) => {
                // The left operand is one level deeper than the printed indentation.
                self.out.push_str("  ");
                self.after_indent(&binary.lhs, level + 1);
                self.out.push('\n');
                self.indent(level);
                self.out.push_str(&operator(binary));
                self.out.push('\n');
                self.expr(&binary.rhs, level + 1);
            }
            kind => {
                let head = match kind {
                    ExprKind::Aggregate(aggregate) => aggregate_head(aggregate),
                    ExprKind::Call { function, .. } => function.clone(),
                    _ => String::new(),
                };
                self.out.push_str(&head);
                self.block(expr, level);
            }
        }
    }

    /// Prints the operands of `expr` in parentheses, each on its own lines.
    fn block(&mut self, expr: &Expr, level: usize) {
        self.out.push_str("(\n");
        for (i, operand) in expr.operands().enumerate() {
            if i > 0 {
                self.out.push_str(",\n");
            }
            self.expr(operand, level + 1);
        }
        self.out.push('\n');
        self.indent(level);
        self.out.push(')');
    }
}
