//! Functions that see a whole vector, or where it came from: their operators are in `crate::operators`.

use super::{Function, Kernel, Special};
use crate::limits::REPEATED_ARGUMENTS;
use crate::plan::Type::{self, Matrix, Scalar, Text, Vector};

const fn special(name: &'static str, args: &'static [Type], returns: Type, special: Special) -> Function {
    Function::new(name, args, returns, Kernel::Special(special))
}

/// The family's entries.
pub(super) static ENTRIES: &[Function] = &[
    special("absent", &[Vector], Vector, Special::Absent).doc(
        "1 if the vector is empty, labelled by the selector's equality matchers.",
        "absent(up{job=\"node\"})",
    ),
    special("absent_over_time", &[Matrix], Vector, Special::AbsentOverTime).doc(
        "1 if no series has a sample in the window, labelled by the selector's equality matchers.",
        "absent_over_time(up{job=\"node\"}[1h])",
    ),
    special("info", &[Vector, Vector], Vector, Special::Info)
        .optional(1)
        .doc(
            "Adds the labels of the matching info series.",
            "info(rate(http_requests_total[5m]), {k8s_cluster_name=~\".+\"})",
        )
        .experimental()
        .keeps_name(),
    special("scalar", &[Vector], Scalar, Special::Scalar).doc(
        "The value of the only element as a scalar, NaN if there is none or several.",
        "scalar(sum(up))",
    ),
    special("sort", &[Vector], Vector, Special::Sort)
        .doc("Sorted by value, ascending, NaN last; for instant queries.", "sort(up)")
        .keeps_name(),
    special("sort_by_label", &[Vector, Text], Vector, Special::SortByLabel)
        .optional(1)
        .repeat(REPEATED_ARGUMENTS)
        .doc(
            "Sorted by the values of labels, ascending; for instant queries.",
            "sort_by_label(up, \"instance\")",
        )
        .experimental()
        .keeps_name(),
    special("sort_by_label_desc", &[Vector, Text], Vector, Special::SortByLabelDesc)
        .optional(1)
        .repeat(REPEATED_ARGUMENTS)
        .doc(
            "Sorted by the values of labels, descending; for instant queries.",
            "sort_by_label_desc(up, \"instance\")",
        )
        .experimental()
        .keeps_name(),
    special("sort_desc", &[Vector], Vector, Special::SortDesc)
        .doc("Sorted by value, descending, NaN last; for instant queries.", "sort_desc(up)")
        .keeps_name(),
    special("start_timestamp", &[Vector], Vector, Special::NotYet)
        .doc("Time from which each sample counts, in seconds.", "start_timestamp(http_requests_total)")
        .experimental(),
    special("timestamp", &[Vector], Vector, Special::Timestamp)
        .doc("Time of each sample, in seconds.", "timestamp(up)"),
    special("vector", &[Scalar], Vector, Special::Vector)
        .doc("A scalar as a vector of one element without labels.", "vector(1)"),
];
