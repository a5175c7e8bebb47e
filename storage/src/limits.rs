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
/// Longest stretch of time in one row of a block, ms: what a point read decodes at most (format, `docs/format/block.md`).
pub const BLOCK_WINDOW_MS: i64 = 2 * 3_600_000;
/// Rows per page of `samples.parquet`: bytes per sample against bytes per point read (measured: 16-256).
pub const BLOCK_PAGE_ROWS: usize = 64;
/// Rows per row group of `samples.parquet`; a multiple of the page: what a writer holds in memory.
pub const BLOCK_GROUP_ROWS: usize = 16_384;
/// Bytes of `samples.parquet` under one checksum (format).
pub const BLOCK_CRC_BYTES: usize = 16 << 10;
/// Largest file of a block that is read as a whole, bytes: beyond it the length is damage.
pub const BLOCK_SMALL_FILE_BYTES: u64 = 4 << 30;
/// Decoded pages kept for all blocks together, bytes: a metric's series lie side by side.
pub const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Clocks of one target that a series with missing samples is tried against.
pub const BLOCK_CLOCK_CANDIDATES: usize = 4;
/// Columns of one group, dead ones included (a batch may have a quarter): a keyframe of a million changed values
/// still fits into one WAL record.
pub const GROUP_COLUMNS: usize = 1 << 20;
/// Slots of one shard that replay accepts: beyond it a slot number is damage, not data.
pub const SHARD_SLOTS: u32 = 1 << 26;
/// Single samples per WAL record: at most 16 bytes each of varints and value, far below the record limit.
pub const WAL_SAMPLES: usize = 1 << 16;
/// Bytes of records that wait to be written, or to be synced, before appenders wait: bounds memory when the disk stalls.
pub const WAL_BUFFER_BYTES: usize = 64 << 20;
/// How long an appender waits for room in that buffer before it is refused, ms: below any scrape timeout.
pub const WAL_WAIT_MS: u64 = 2_000;
/// Time between attempts to write a log that failed, ms, where the sync interval is shorter or zero.
pub const WAL_RETRY_MS: u64 = 100;
/// Scrapes of a group between keyframes in the log: bounds what a lost record costs.
pub const WAL_KEYFRAME_SCRAPES: u32 = 60;
