//! Limits of the engine: number, unit, reason.

/// Depth of a plan: bounds the recursion over it.
pub const PLAN_DEPTH: usize = 1_000;
/// Default for samples one query may hold in memory (Prometheus' `--query.max-samples`).
pub const QUERY_SAMPLES: usize = 50_000_000;
/// Steps that a value block of the query runtime holds: bounds memory, stays in cache.
pub const BLOCK_STEPS: usize = 256;
/// The same where there are few series: a step may cost some 170 bytes per shard, whatever it holds.
pub const LONG_BLOCK_STEPS: usize = 1 << 16;
/// Values in the value blocks of one query: few series take more steps at once, because each block
/// reads the samples before it again.
pub const BLOCK_VALUES: usize = 1 << 24;
/// Steps of a subquery in which another subquery is asked: 8 bytes each, some times over, before
/// there is any sample.
pub const SUBQUERY_STEPS: usize = 1 << 22;
/// Values (rows times steps) that a function over a subquery works out at once; beyond it goes step by step.
pub const SLID_VALUES: usize = 1 << 24;
/// Values (series times steps) from which on a query is large: it runs on threads that only take
/// cores nobody wants.
pub const LARGE_QUERY: usize = 1 << 20;
/// Operators over gathered rows from which on they count, and what values times operators make such
/// a query large, too: half a second of work in one piece. Queries of people and rules have fewer
/// operators.
pub const LARGE_PLAN: usize = 16;
/// See [`LARGE_PLAN`].
pub const LARGE_PLAN_VALUES: usize = 1 << 18;
/// Values below which a query is cut into as few pieces as there are threads: waking a thread costs as much.
pub const SMALL_QUERY: usize = 1 << 16;
/// Series up to which an instant query is worked out by who asks, if it is about samples in memory:
/// half a millisecond of work.
pub const LIGHT_ROWS: usize = 1 << 10;
/// How far such a query looks back at most, ms: the usual lookback, and windows of the usual length.
pub const LIGHT_SPAN_MS: i64 = 300_000;
/// Samples of subqueries that all expressions together keep which are asked again and again: 16
/// bytes each, and a row of some hundred bytes; of labels 16 bytes are one. What does not fit is
/// asked for each time, as a query is.
pub const KEPT_SAMPLES: usize = 32_000_000;
/// Time that a query may take which a step of a view asks the store in a tick: the tick waits for it.
pub const STORE_QUERY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// A step whose query took longer is not asked again for so long, ms, so that ticks lose a small
/// part of their time at most.
pub const STORE_QUERY_REST_MS: i64 = 60_000;
/// Time that reading the past of such a step may take beside the ticks.
pub const STORE_READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);
/// Batches that may wait for a worker between two ticks: beyond it the worker catches up from the
/// store instead.
pub const FEED_ITEMS: usize = 1 << 18;
/// Samples of long windows that are younger stay in memory, ms: late ones come among them, by
/// default up to 30 minutes.
pub const SPILL_NEAR_MS: i64 = 2_700_000;
/// Older ones go to the store and come back from it in stretches of this length, ms: 60 scrapes at 15 s.
pub const SPILL_CHUNK_MS: i64 = 900_000;
/// Threads that read the past of views.
pub const PAST_THREADS: usize = 2;
/// Views that one preparation takes along to be installed or removed, once something stands: a tick
/// that falls due waits for no more of them.
pub const PREPARED_VIEWS: usize = 10;
/// Rows of rings that were read and are put in place in one preparation; a ring of one shard is not divided.
pub const PLACED_ROWS: usize = 4_096;
/// Rows of first answers that one preparation gets ready to be recorded or shown; those of one view
/// are not divided.
pub const LEARNT_ROWS: usize = 512;
/// Rows that steps look at for the first time in one preparation; those of one shard are not divided.
pub const OPENED_ROWS: usize = 4_096;
/// While the past of views is being read, the log says how far it is this often, ms of ticks.
pub const PAST_LOG_MS: i64 = 5_000;
/// Rows of ended series that a window may keep beside as many living ones before everything is built anew.
pub const DEAD_ROWS: usize = 4_096;
/// A consumer hears at least this often how far an unchanged answer is complete, ms of ticks.
pub const PROGRESS_MS: i64 = 1_000;
/// Steps in each shard that a tick measures, on average: some microseconds of a tick, whatever stands.
pub const MEASURED_STEPS: usize = 32;
/// How often dead rows are counted, ms of ticks.
pub const SWEEP_MS: i64 = 60_000;
/// Rounds of rules reading recorded rules inside one tick; a longer chain goes on in the next tick.
pub const TICK_ROUNDS: u64 = 64;
/// A message between processes about a query, bytes: a shard's values over a block of steps, of
/// 100,000 series.
pub const MESSAGE_BYTES: usize = 256 << 20;
/// How long the log may take to have what another process is answered; a write takes less than a millisecond.
pub const WAIT_DURABLE: std::time::Duration = std::time::Duration::from_secs(2);
/// Questions about history that one process of a cluster asks the others at once; further ones
/// wait. By default 20 come in over HTTP, the rest are rules'.
pub const QUESTIONS: usize = 32;
/// Processes of a cluster: their shards have 16-bit numbers.
pub const PROCESSES: usize = 64;
/// How long a process that stops waits for the others of its cluster to stop, too: they answer open
/// requests for ten seconds and send alerts for five before their workers end.
pub const STOP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
/// How often the last argument of a variadic function may be repeated beyond its signature: bounds the work
/// per series. Prometheus has no such limit; nobody joins more labels.
pub const REPEATED_ARGUMENTS: usize = 255;
/// Samples looked at between two looks at a query's limits: some ms of work with the slowest functions.
pub const CHECK_SAMPLES: usize = 1 << 16;
/// A row that an operator works at counts as so many samples: there are 1,024 rows between two looks.
pub const ROW_SAMPLES: usize = 64;
/// Who waits for the threads of a query looks this often whether it is over.
pub const WAIT_LOOK: std::time::Duration = std::time::Duration::from_millis(50);
/// Rows that plain loops look at between two looks at a query's limits.
pub const CHECK_ROWS: usize = 1 << 10;
/// Items that are sorted at once, some ms; more are sorted in runs of so many, which are merged.
pub const SORT_RUN: usize = 1 << 14;
/// Bytes that a row of an operator's answer counts beside its labels: its value, its places in
/// lists and maps.
pub const ROW_BYTES: usize = 96;
/// Bytes that a label set counts beside its text: its header, and what the allocator rounds up.
pub const LABELS_BYTES: usize = 32;
/// Bytes that a series of an answer counts beside its labels and points.
pub const SERIES_BYTES: usize = 96;
/// Default for the bytes of values, labels and answer that one query may hold; the server's is an
/// eighth of the machine's memory.
pub const QUERY_BYTES: usize = 1 << 30;
/// The same of all queries together, and of the labels that all views make; the server's is a
/// quarter of the memory.
pub const QUERIES_BYTES: usize = 2 << 30;
/// Bytes that a value of a block of steps takes: in the block, and in the steps cut out of it.
pub const BLOCK_VALUE_BYTES: usize = 16;
/// A query's blocks of values are cut so that they take at most one so-manieth of what it may hold.
pub const BLOCK_SHARE: usize = 4;
