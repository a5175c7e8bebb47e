//! Scalars of the evaluation: its time, its range, and pi.

use super::{Function, Kernel, Special};
use crate::plan::Type::Scalar;

const fn context(name: &'static str) -> Function {
    Function::new(name, &[], Scalar, Kernel::Special(Special::NotYet)).experimental()
}

/// The family's entries.
pub(super) static ENTRIES: &[Function] = &[
    context("end").doc("Time of the last step of the query, in seconds.", "end()"),
    Function::new("pi", &[], Scalar, Kernel::Clock(|_| std::f64::consts::PI)).doc("The number pi.", "pi()"),
    context("range").doc("Length of the query's range, in seconds.", "range()"),
    context("start").doc("Time of the first step of the query, in seconds.", "start()"),
    context("step").doc("Distance of the query's steps, in seconds.", "step()"),
    Function::new("time", &[], Scalar, Kernel::Clock(|t| t as f64 / 1000.0))
        .doc("The evaluation time, in seconds since the Unix epoch.", "time() - process_start_time_seconds"),
];
