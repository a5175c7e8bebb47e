//! Operators: see plan.
