//! Limits of PromQL text: number, unit and reason. [`super::parser`] and its neighbours enforce
//! them.

/// Nesting levels of an expression, including operators in a row (`a + b + …`). It limits every
/// recursion over syntax tree and plan, also when they are dropped, to a stack of 2 MB.
pub const DEPTH: u16 = 400;
/// Nesting levels of a duration expression (`[(5m + (1m * 2))]`), for the same reason; real queries
/// need less than ten.
pub const DURATION_DEPTH: u16 = 100;
/// Values that one series description may expand to (`1+2x1000`): limits memory.
pub const SERIES_VALUES: u64 = 1_000_000;
