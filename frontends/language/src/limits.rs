//! Limits of a query in any language: number, unit and reason. `docs/limits.md` lists them for
//! users.

/// Bytes of one query. The longest expressions in rule files have a few kB; a longer query is a
/// mistake or an attack.
pub const QUERY_BYTES: usize = 256 * 1024;
/// Regular expressions in one query: to compile one takes 0.1 ms and about 10 kB, and more for an
/// expensive one.
pub const REGEXES: u16 = 1_000;
/// Characters of each of two words whose edit distance is computed: the work is the product of
/// their numbers, for each name that the server knows.
pub const EDIT_DISTANCE_CHARACTERS: usize = 64;
