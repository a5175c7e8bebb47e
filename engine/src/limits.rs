//! The limits of the engine: number, unit, reason. No other file of this crate defines one.
//! `docs/limits.md` lists them for users.

/// When a view is checked, the report says why a series was last evaluated. It does so for at most
/// this many series per row, leaf and shard.
pub const CHECKED_SERIES: usize = 3;
/// Largest depth of a plan: bounds the recursion over it.
pub const PLAN_DEPTH: usize = 1_000;
/// Default for the samples that one query may hold in memory (Prometheus' `--query.max-samples`).
pub const QUERY_SAMPLES: usize = 50_000_000;
/// Evaluation times of a range query that are computed together, as one block of steps: this bounds
/// the memory, and a block fits into the cache of a processor.
pub const BLOCK_STEPS: usize = 256;
/// The same for queries of few series, whose steps are small: at most so many, because a step takes
/// up to 170 bytes per shard even without samples.
pub const LONG_BLOCK_STEPS: usize = 1 << 16;
/// Values in the value blocks of one query. Few series get more steps per block, because each block
/// reads the samples before it again.
pub const BLOCK_VALUES: usize = 1 << 24;
/// Most steps of a query that has subqueries: each takes 8 bytes several times, even without
/// samples.
pub const SUBQUERY_STEPS: usize = 1 << 22;
/// Values (rows times steps) that a function over a subquery computes at once; larger ones are
/// computed step by step.
pub const SLIDING_VALUES: usize = 1 << 24;
/// Values (series times steps) from which on a query is large: it runs on threads that only get
/// cores that no other thread wants.
pub const LARGE_QUERY: usize = 1 << 20;
/// From this number of operators in its gather stage on, a query is large, too, if it has
/// [`LARGE_PLAN_VALUES`] values times operators. That is half a second of work in one piece.
/// Queries of people and rules have fewer operators.
pub const LARGE_PLAN: usize = 16;
/// Values times operators, see [`LARGE_PLAN`].
pub const LARGE_PLAN_VALUES: usize = 1 << 18;
/// Values below which a query is divided into as few pieces as there are threads, because waking a
/// thread costs as much.
pub const SMALL_QUERY: usize = 1 << 16;
/// Most series of an instant query over samples in memory that the calling thread evaluates itself:
/// half a millisecond of work.
pub const INLINE_ROWS: usize = 1 << 10;
/// The longest time that such a query reads, in ms: the default lookback and windows of the usual
/// length.
pub const INLINE_SPAN_MS: i64 = 300_000;
/// Samples of subqueries that all caches together hold. Each takes 16 bytes, and each row some
/// hundred bytes; 16 bytes of labels count as a sample. What does not fit is evaluated each time.
pub const SUBQUERY_CACHE_SAMPLES: usize = 32_000_000;
/// Timeout of a query that a step of a view runs in a tick: the tick waits for it.
pub const STORE_QUERY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// After a timeout, such a step is not evaluated for so long, in ms, so that ticks lose only a
/// small part of their time.
pub const STORE_QUERY_PAUSE_MS: i64 = 60_000;
/// Timeout of reading the history of such a step in the background.
pub const STORE_READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);
/// Batches that may wait for a worker between two ticks. With more, the worker reads the samples
/// from the store instead.
pub const FEED_ITEMS: usize = 1 << 18;
/// Younger samples of long windows stay in memory, in ms: late samples may be inserted among them,
/// by default up to 30 minutes late.
pub const SPILL_MIN_AGE_MS: i64 = 2_700_000;
/// Older samples are spilled and read back in chunks of this length, in ms: 60 scrapes at 15 s.
pub const SPILL_CHUNK_MS: i64 = 900_000;
/// Threads that read the history of views.
pub const HISTORY_THREADS: usize = 2;
/// Views that one preparation installs or removes once any view is running: a tick that is due
/// waits for no more of them.
pub const PREPARED_VIEWS: usize = 10;
/// Rows of rings that one preparation puts in place; a ring of one shard is not divided.
pub const INSTALLED_ROWS: usize = 4_096;
/// Rows of first answers that one preparation records or sends; those of one view are not divided.
pub const FIRST_ANSWER_ROWS: usize = 512;
/// Rows that steps read for the first time in one preparation; those of one shard are not divided.
pub const OPENED_ROWS: usize = 4_096;
/// How often the progress of reading history is logged, in ms of ticks.
pub const HISTORY_LOG_MS: i64 = 5_000;
/// Rows of ended series that a selector may have in addition to as many living ones, before its
/// state is built again.
pub const ENDED_ROWS: usize = 4_096;
/// How often, at least, a consumer gets a progress event while the answer does not change, in ms of
/// ticks.
pub const PROGRESS_MS: i64 = 1_000;
/// Steps in each shard that a tick measures, on average: a few microseconds of a tick, however many
/// steps there are.
pub const MEASURED_STEPS: usize = 32;
/// How often ended series are counted, in ms of ticks.
pub const SWEEP_MS: i64 = 60_000;
/// Rounds of a tick, in which rules read the recorded rows of other rules. A longer chain continues
/// in the next tick.
pub const TICK_ROUNDS: u64 = 64;
/// Largest message between processes about a query, in bytes: a shard's values over a block of
/// steps, for 100,000 series.
pub const MESSAGE_BYTES: usize = 256 << 20;
/// How long a reply to another process waits for the log; a write takes less than a millisecond.
pub const WAIT_DURABLE: std::time::Duration = std::time::Duration::from_secs(2);
/// Queries that one process of a cluster sends to the others at the same time; further ones wait.
/// By default 20 come over HTTP, the rest from rules.
pub const PEER_QUERIES: usize = 32;
/// Processes of a cluster: their shards have 16-bit numbers.
pub const PROCESSES: usize = 64;
/// How long a stopping process waits for the others of its cluster: they answer open requests for
/// ten seconds and send alerts for five before their workers end.
pub const STOP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
/// How often the last argument of a variadic function may be repeated beyond its signature: bounds
/// the work per series. Prometheus has no such limit, but no query joins more labels.
pub const REPEATED_ARGUMENTS: usize = 255;
/// Samples between two checks of a query's limits: a few ms with the slowest functions.
pub const CHECK_SAMPLES: usize = 1 << 16;
/// A row that an operator processes counts as this many samples, so there are 1,024 rows between
/// two checks.
pub const ROW_SAMPLES: usize = 64;
/// How often the thread that waits for a query's jobs checks whether the query has ended.
pub const WAIT_CHECK: std::time::Duration = std::time::Duration::from_millis(50);
/// Rows that simple loops process between two checks of a query's limits.
pub const CHECK_ROWS: usize = 1 << 10;
/// Items that are sorted at once, in a few ms; longer lists are sorted in runs of this length,
/// which are merged.
pub const SORT_RUN: usize = 1 << 14;
/// Bytes that a row of an operator's output counts in addition to its labels: its value, and its
/// entries in lists and maps.
pub const ROW_BYTES: usize = 96;
/// Bytes that a label set counts in addition to its text: its header, and what the allocator rounds
/// up.
pub const LABELS_BYTES: usize = 32;
/// Bytes that a series of an answer counts in addition to its labels and points.
pub const SERIES_BYTES: usize = 96;
/// Default for the bytes of values, labels and answer that one query may hold; the server sets 1/8
/// of the machine's memory.
pub const QUERY_BYTES: usize = 1 << 30;
/// Default for the bytes of all queries together, and for the labels that all views create; the
/// server sets 1/4 of the memory.
pub const QUERIES_BYTES: usize = 2 << 30;
/// Bytes that a value of a block of steps takes: in the block, and in the steps taken from it.
pub const BLOCK_VALUE_BYTES: usize = 16;
/// The value blocks of a query take at most 1/4 of the memory that it may hold.
pub const BLOCK_SHARE: usize = 4;
