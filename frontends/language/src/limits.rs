//! Limits that hold for a query in any language: number, unit, reason.

/// Bytes of one query. A rule file's longest expressions have a few kB; beyond this it is a mistake or an attack.
pub const QUERY_BYTES: usize = 256 * 1024;
/// Regular expressions in one query: compiling one takes 0.1 ms and some 10 kB, and more for a bad one.
pub const REGEXES: u16 = 1_000;
