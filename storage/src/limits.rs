//! Limits of the store: number, unit, reason. Nowhere else does this crate hold one.

/// Compiled size of one regex, bytes: stops `a{1000}{1000}`.
pub const REGEX_BYTES: usize = 10 << 20;
/// Largest WAL record, bytes: a length field beyond it is damage, not data.
pub const WAL_RECORD_BYTES: usize = 16 << 20;
/// WAL segment size, bytes.
pub const WAL_SEGMENT_BYTES: u64 = 64 << 20;
/// How far behind its series' newest sample a sample may come, ms (design §10).
pub const OUT_OF_ORDER_WINDOW_MS: i64 = 30 * 60_000;
/// How far ahead of the clock a sample may be, ms (Prometheus: 10 minutes).
pub const FUTURE_MS: i64 = 10 * 60_000;
/// Samples per sealed chunk.
pub const CHUNK_SAMPLES: usize = 120;
/// Scrapes per sealed window of a column group: 32 keeps the open, uncompressed part near 128 B per series.
pub const HEAD_WINDOW_SCRAPES: usize = 32;
/// Late samples of one series that are kept sorted before they are sealed into a chunk: an insertion moves
/// at most this many.
pub const LATE_SAMPLES: usize = 480;
/// Groups inside groups in one regex: a stack, not a heap, runs out (Go: 1000).
pub const REGEX_NESTING: usize = 200;
/// Largest repeat count of a regex, nested ones multiplied (Go's number).
pub const REGEX_REPEAT: u64 = 1000;
/// Texts a regex may stand for to be looked up one by one (Prometheus: 256).
pub const REGEX_LITERALS: usize = 256;
