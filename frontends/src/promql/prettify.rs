//! Pretty printing: what does not fit on a line is spread over several, two spaces per level.

use super::ast::{Expr, Kind};
use super::printer::{aggregate_head, operator, print, subquery_suffix};

/// Characters of a line beyond which an expression is split (upstream's).
pub const WIDTH: usize = 100;

/// `expr`, split where it is longer than `width` bytes.
pub fn pretty(expr: &Expr, width: usize) -> String {
    Pretty { width }.at(expr, 0)
}

struct Pretty {
    width: usize,
}

impl Pretty {
    fn at(&self, expr: &Expr, level: usize) -> String {
        let indent = "  ".repeat(level);
        let line = print(expr);
        if line.len() <= self.width {
            return indent + &line;
        }
        match &*expr.kind {
            Kind::Aggregate(aggregate) => {
                let mut out = format!("{indent}{}(\n", aggregate_head(aggregate));
                if let Some(param) = &aggregate.param {
                    out.push_str(&format!("{},\n", self.at(param, level + 1)));
                }
                out + &format!("{}\n{indent})", self.at(&aggregate.inner, level + 1))
            }
            Kind::Binary(binary) => {
                let (lhs, rhs) = (self.at(&binary.lhs, level + 1), self.at(&binary.rhs, level + 1));
                format!("{lhs}\n{indent}{}\n{rhs}", operator(binary))
            }
            Kind::Call { function, args } if !args.is_empty() => {
                let args: Vec<String> = args.iter().map(|arg| self.at(arg, level + 1)).collect();
                format!("{indent}{function}(\n{}\n{indent})", args.join(",\n"))
            }
            Kind::Paren(inner) => format!("{indent}(\n{}\n{indent})", self.at(inner, level + 1)),
            Kind::Subquery { inner, .. } => self.at(inner, level) + &subquery_suffix(&expr.kind),
            Kind::Unary { minus, inner } => {
                let sign = if *minus { '-' } else { '+' };
                format!("{indent}{sign}{}", self.at(inner, level).trim_start())
            }
            Kind::Number { .. }
            | Kind::Text(_)
            | Kind::Vector(_)
            | Kind::Matrix { .. }
            | Kind::Call { .. } => indent + &line,
        }
    }
}
