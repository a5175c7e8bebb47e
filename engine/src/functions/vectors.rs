//! The table entries of functions of a whole vector (`absent`, `info`, `scalar`, `sort`) or of the
//! time of a sample (`timestamp`). The code is in the operators ([`crate::operators`]), because it
//! needs more than one sample.

use super::{Function, Kernel, OperatorFunction};
use crate::limits::REPEATED_ARGUMENTS;
use crate::types::ValueType::{self, Matrix, Scalar, Text, Vector};
use std::cmp::Ordering;

const fn operator_function(
    name: &'static str,
    args: &'static [ValueType],
    returns: ValueType,
    function: OperatorFunction,
) -> Function {
    Function::new(name, args, returns, Kernel::Operator(function))
}

/// The rows of a statement in another language. In no table: no text of PromQL can call it.
pub(crate) static STATEMENT: Function =
    operator_function("statement", &[Text, Text], Vector, OperatorFunction::Statement);

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    operator_function("absent", &[Vector], Vector, OperatorFunction::Absent).doc(
        "1 if the vector is empty, labelled by the selector's equality matchers.",
        "absent(up{job=\"node\"})",
    ),
    operator_function("absent_over_time", &[Matrix], Vector, OperatorFunction::AbsentOverTime).doc(
        "1 if no series has a sample in the window, labelled by the selector's equality matchers.",
        "absent_over_time(up{job=\"node\"}[1h])",
    ),
    operator_function("info", &[Vector, Vector], Vector, OperatorFunction::Info)
        .optional(1)
        .doc(
            "Adds the labels of the matching info series.",
            "info(rate(http_requests_total[5m]), {k8s_cluster_name=~\".+\"})",
        )
        .experimental()
        .keeps_name(),
    operator_function("scalar", &[Vector], Scalar, OperatorFunction::Scalar).doc(
        "The value of the only element as a scalar, NaN if there is none or several.",
        "scalar(sum(up))",
    ),
    operator_function("sort", &[Vector], Vector, OperatorFunction::Sort)
        .doc("Sorted by value, ascending, NaN last; for instant queries.", "sort(up)")
        .keeps_name(),
    operator_function("sort_by_label", &[Vector, Text], Vector, OperatorFunction::SortByLabel)
        .optional(1)
        .repeat(REPEATED_ARGUMENTS)
        .doc(
            "Sorted by the values of labels, ascending; for instant queries.",
            "sort_by_label(up, \"instance\")",
        )
        .experimental()
        .keeps_name(),
    operator_function("sort_by_label_desc", &[Vector, Text], Vector, OperatorFunction::SortByLabelDesc)
        .optional(1)
        .repeat(REPEATED_ARGUMENTS)
        .doc(
            "Sorted by the values of labels, descending; for instant queries.",
            "sort_by_label_desc(up, \"instance\")",
        )
        .experimental()
        .keeps_name(),
    operator_function("sort_desc", &[Vector], Vector, OperatorFunction::SortDesc)
        .doc("Sorted by value, descending, NaN last; for instant queries.", "sort_desc(up)")
        .keeps_name(),
    operator_function("start_timestamp", &[Vector], Vector, OperatorFunction::StartTimestamp)
        .doc("Time from which each sample counts, in seconds.", "start_timestamp(http_requests_total)")
        .experimental(),
    operator_function("timestamp", &[Vector], Vector, OperatorFunction::Timestamp)
        .doc("Time of each sample, in seconds.", "timestamp(up)"),
    operator_function("vector", &[Scalar], Vector, OperatorFunction::Vector)
        .doc("A scalar as a vector of one element without labels.", "vector(1)"),
];

/// The natural order of texts: runs of digits are compared as numbers, the rest byte by byte; a
/// prefix is before the longer text.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let mut left = a;
    let mut right = b;
    while !left.is_empty() && !right.is_empty() {
        let x = run(left);
        let y = run(right);
        let order = match (x.parse::<i64>(), y.parse::<i64>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
        left = &left[x.len()..];
        right = &right[y.len()..];
    }
    left.len().cmp(&right.len())
}

/// The digits, or the other characters, at the beginning of `text`.
fn run(text: &str) -> &str {
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_inside_texts_count() {
        for (a, b) in [("a2", "a10"), ("2", "10"), ("a", "a1"), ("", "a"), ("a2b", "a2c"), ("1.9", "1.10")] {
            assert_eq!((natural_order(a, b), natural_order(b, a)), (Ordering::Less, Ordering::Greater));
        }
        assert_eq!(natural_order("x07", "x7"), Ordering::Equal);
    }
}
