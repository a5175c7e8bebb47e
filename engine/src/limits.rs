//! Limits of the engine: number, unit, reason.

/// Depth of a plan: bounds the recursion over it.
pub const PLAN_DEPTH: usize = 1_000;
/// Default for samples one query may hold in memory (Prometheus' `--query.max-samples`).
pub const QUERY_SAMPLES: usize = 50_000_000;
/// Steps that a value block of the query runtime holds: bounds memory, stays in cache.
pub const BLOCK_STEPS: usize = 256;
/// Batches that may wait for a worker between two ticks: beyond it the worker catches up from the store instead.
pub const FEED_ITEMS: usize = 1 << 18;
/// Rows of ended series that a window may keep beside as many living ones before everything is built anew.
pub const DEAD_ROWS: usize = 4_096;
/// A consumer hears at least this often how far an unchanged answer is complete, ms of ticks.
pub const PROGRESS_MS: i64 = 1_000;
/// How often dead rows are counted, ms of ticks.
pub const SWEEP_MS: i64 = 60_000;
/// Rounds of rules reading recorded rules inside one tick; a longer chain goes on in the next tick.
pub const TICK_ROUNDS: u64 = 64;
/// How often the last argument of a variadic function may be repeated beyond its signature: bounds the work
/// per series. Prometheus has no such limit; nobody joins more labels.
pub const REPEATED_ARGUMENTS: usize = 255;
