//! Limits of PromQL text: number, unit, reason. See [`super::parser`] for where they are enforced.

/// Levels of nesting of an expression, operators in a row (`a + b + …`) included: bounds every recursion over
/// the syntax tree and over the plan, also when it is dropped, on a thread with 2 MB of stack.
pub const DEPTH: u16 = 400;
/// Levels of nesting of a duration expression (`[(5m + (1m * 2))]`), for the same reason; nobody needs ten.
pub const DURATION_DEPTH: u16 = 100;
/// Values that one series description may expand to (`1+2x1000`): bounds memory.
pub const SERIES_VALUES: u64 = 1_000_000;
