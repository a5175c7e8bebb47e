//! The limits of the storage engine: value, unit, reason. No other file of this crate defines one.

/// Bytes of a cold block's file that are fetched and cached together. A read of one series costs
/// one request per column, and its neighbours come with it.
pub const COLD_RANGE_BYTES: u64 = 256 << 10;
/// Number of such pieces that are kept in memory, too.
pub const COLD_RANGES_IN_MEMORY: usize = 32;
/// Maximum bytes fetched with one request: what a reader holds in memory.
pub const COLD_REQUEST_BYTES: u64 = 8 << 20;
/// Number of cold blocks that are prefetched together before they are opened.
pub const COLD_PREFETCH_BLOCKS: usize = 4;
/// Number of file ends that are prefetched at a time; they fit into [`COLD_RANGES_IN_MEMORY`].
pub const COLD_PREFETCH_FOOTERS: usize = 32;
/// Maximum number of series of all open cold blocks together (a single block may have more): their
/// row index is in memory, and without an index also their labels.
pub const COLD_OPEN_SERIES: u64 = 5_000_000;
/// Maximum size of the `meta.json` of a cold block, bytes.
pub const COLD_META_BYTES: u64 = 16 << 20;
/// Bytes of a text attribute of a span; the rest is cut.
pub const SPAN_TEXT_BYTES: usize = 4 << 10;
/// Maximum bytes of a label name, whether scraped (`label_name_length_limit` may lower it),
/// written, or made by a query.
pub const LABEL_NAME_BYTES: usize = 64 << 10;
/// Maximum bytes of a label value, likewise (`label_value_length_limit`): a log record and a page
/// of a block hold the labels of several series.
pub const LABEL_VALUE_BYTES: usize = 1 << 20;
/// Maximum bytes of all labels of a series together: a log record holds them.
pub const LABEL_SET_BYTES: usize = 2 << 20;
/// Maximum number of series that one read of a shard adds to the order of labels: writers of the
/// shard wait for it, about 2 ms.
pub const RANKED_AT_ONCE: usize = 1024;
/// A read of fewer series than 1/16 of the ranked ones sorts their labels: ranking them would visit
/// all ranked series.
pub const RANKED_SHARE: usize = 16;
/// Maximum compiled size of one regex, bytes: stops `a{1000}{1000}`.
pub const REGEX_BYTES: usize = 10 << 20;
/// Maximum size of a log record, bytes: a length field beyond it is damage, not data.
pub const WAL_RECORD_BYTES: usize = 16 << 20;
/// Bytes that a shard keeps as its buffer for encoding records: enough for a scrape of some
/// thousand series.
pub const WAL_BATCH_BYTES: usize = 64 << 10;
/// Size of a log segment, bytes.
pub const WAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes of the log that are kept for a reader of it that is behind, such as a remote write whose
/// receiver does not answer: about a day of a million samples a minute. A start reads them.
pub const WAL_HELD_BYTES: u64 = 8 << 30;
/// A start logs its progress after this many segments: 1 GiB.
pub const WAL_PROGRESS_SEGMENTS: usize = 16;
/// Bytes of a segment that a replay reads at once: the memory it needs for the log.
pub const WAL_READ_BYTES: usize = 1 << 20;
/// Maximum number of replay threads; each owns some of the shards.
pub const REPLAY_THREADS: usize = 16;
/// Bytes of records that are sent to a replay thread together.
pub const REPLAY_BATCH_BYTES: usize = 256 << 10;
/// Number of such batches that may wait for a thread.
pub const REPLAY_BATCHES: usize = 8;
/// Bytes of records that the log scan keeps for the replay; later ones are read a second time.
pub const EARLY_REPLAY_BYTES: usize = 64 << 20;
/// Maximum bytes of samples accepted while the log is replayed; they are in memory twice until it
/// is complete. Enough for a million series for minutes. Further samples are refused.
pub const REPLAY_OVERLAY_BYTES: usize = 256 << 20;
/// The window of late samples, ms: how much older than the newest of its series a sample may be
/// (design §10).
pub const OUT_OF_ORDER_WINDOW_MS: i64 = 30 * 60_000;
/// How much longer than that a range stays in the head, ms, so that what depends on late samples
/// can still be corrected. For short ranges, [`FLUSH_SLACK_SHARE`] limits it.
pub const FLUSH_SLACK_MS: i64 = 5 * 60_000;
/// The extra time a range stays in the head is at most 1/24 of the range: 5 minutes for a 2-hour
/// block.
pub const FLUSH_SLACK_SHARE: i64 = 24;
/// Time of the oldest possible sample, ms: the oldest that a query can ask for (Prometheus'
/// `minTime`). Arithmetic on times does not overflow.
pub const OLDEST_MS: i64 = i64::MIN + 62_135_596_801_000;
/// Number of refused samples of a request that are named in messages; all are counted.
pub const REFUSED_NAMED: usize = 10;
/// How far in the future a sample may be, ms (Prometheus: 10 minutes).
pub const FUTURE_MS: i64 = 10 * 60_000;
/// Entries in the change log of a shard: 8 KiB, at least some minutes with a resolution of a
/// second.
pub const CHANGE_LOG_ENTRIES: usize = 512;
/// Samples per sealed chunk.
pub const CHUNK_SAMPLES: usize = 120;
/// Minimum number of adjacent single samples with one time that form a row of columns.
pub const IMPLICIT_GROUP_ROWS: usize = 8;
/// Label sets of inactive series that are compressed together: decompressing them takes about 50
/// µs.
pub const INACTIVE_LABELS_PACK: usize = 256;
/// zstd level for them: low, because the shard is locked meanwhile.
pub const INACTIVE_LABELS_ZSTD_LEVEL: i32 = 1;
/// Maximum number of columns of an implicit group: an absent value costs as much as a sample.
pub const IMPLICIT_GROUP_COLUMNS: usize = 4096;
/// A row of an implicit group must have samples in at least 1/8 of its columns.
pub const IMPLICIT_GROUP_SPARSE: usize = 8;
/// Number of samples by which the open chunk of an ungrouped series grows; small, because there may
/// be one per series.
pub const CHUNK_GROWTH: usize = 12;
/// Maximum number of series of a label pair that are stored as a list.
pub const POSTINGS_LIST: usize = 48;
/// Scrapes per sealed chunk of a column group: 16 keeps the open, uncompressed part below 128 B per
/// series.
pub const GROUP_CHUNK_SCRAPES: usize = 16;
/// Number of such chunks that are merged into one: half an hour at 15 s.
pub const MERGED_GROUP_CHUNKS: usize = 8;
/// Bytes of a piece of a group chunk, a power of two. Chunks of all sizes use pieces of this size,
/// so that freed memory can be reused; only the last piece of a chunk is shorter.
pub const CHUNK_PAGE_BYTES: usize = 2048;
/// Column offsets per piece: the same size in bytes.
pub const CHUNK_PAGE_OFFSETS: usize = CHUNK_PAGE_BYTES / 4;
/// When an open row has more samples than the current base row, by more than 1/8 of the columns, it
/// becomes the base of the rows after it. Otherwise each of these rows would store the additional
/// values.
pub const BASE_ROW_GAIN: usize = 8;
/// Maximum number of columns of a group whose scrapes a replay transposes together: 8 MB if all
/// columns change.
pub const SCRAPE_RUN_COLUMNS: usize = 8_192;
/// Minimum number of scrapes that a replay makes into one long chunk.
pub const SCRAPE_RUN_SCRAPES: usize = 32;
/// Maximum number of short chunks that may precede a long chunk made by the replay. If there are
/// more, they are merged first.
pub const SCRAPE_RUN_PENDING_CHUNKS: usize = 3;
/// Number of late samples of one series that are kept sorted before they are sealed: an insertion
/// moves at most so many.
pub const LATE_SAMPLES: usize = 480;
/// Items per chunk of a sparse column (histograms, start timestamps): what is copied when a reader
/// holds the open chunk, and unpacked to read one item of an older one.
pub const SPARSE_CHUNK_ITEMS: usize = 60;
/// Maximum nesting of groups in a regex: the stack is limited, unlike the heap (Go: 1000).
pub const REGEX_NESTING: usize = 200;
/// Maximum repeat count of a regex, with nested counts multiplied (as in Go).
pub const REGEX_REPEAT: u64 = 1000;
/// Maximum number of texts matched by a regex that are looked up one by one (Prometheus: 256).
pub const REGEX_LITERALS: usize = 256;
/// Longest range of time in one row of a block, ms: what a read of one sample decodes at most
/// (format, `docs/format/block.md`).
pub const BLOCK_WINDOW_MS: i64 = 2 * 3_600_000;
/// Rows per page of `samples.parquet`: a compromise between bytes per sample and bytes per read of
/// one series (measured: 16-256).
pub const BLOCK_PAGE_ROWS: usize = 64;
/// Rows per page of `histograms.parquet` and `starts.parquet`, where a row is one sample: half of
/// what a series has in two hours at 15 s.
pub const BLOCK_SPARSE_PAGE_ROWS: usize = 256;
/// Rows per row group, a multiple of the page sizes: what a writer holds in memory.
pub const BLOCK_GROUP_ROWS: usize = 16_384;
/// Longest range of a merged block, ms: 31 days, as in Prometheus.
pub const COMPACTED_RANGE_MS: i64 = 31 * 86_400_000;
/// Maximum number of pending deletions in blocks: each is evaluated when a block is opened, and the
/// file is rewritten with each.
pub const TOMBSTONES: usize = 10_000;
/// Maximum number of blocks that one flush writes; more ranges are combined into longer blocks.
/// Usually it is one block, and twelve after a day with a full disk.
pub const FLUSH_BLOCKS: usize = 16;
/// If a longer range has at least this many blocks, they are merged at once and not three at a
/// time: blocks of an earlier version or a backfill.
pub const MERGE_AT_ONCE: usize = 9;
/// Maximum rows of a merged block: the row index has 32 bits.
pub const COMPACTED_ROWS: u64 = 1 << 30;
/// Maximum number of timestamps in the clocks of a merged block: a merge holds all of them, with
/// one or two bytes each if scrapes are even.
pub const COMPACTED_TIMES: u64 = 1 << 29;
/// zstd level for the Parquet files of a block: 2 % smaller than with 3, and no slower; from 9 on,
/// writing takes longer.
pub const BLOCK_ZSTD_LEVEL: i32 = 6;
/// Bytes of `samples.parquet` under one checksum (format).
pub const BLOCK_CRC_BYTES: usize = 16 << 10;
/// Rows per page of `series.parquet`: what must be read for the labels of one series (format).
pub const SERIES_PAGE_ROWS: usize = 256;
/// Maximum bytes of an index read that is cached: longer ones are scans, which would evict
/// everything else.
pub const INDEX_CACHED_READ_BYTES: usize = 256 << 10;
/// Maximum size of a cached index result, bytes.
pub const SELECTED_BYTES: usize = 1 << 20;
/// Cost of scanning the terms of an index per byte, ns. With the next two it decides whether to
/// test series instead.
pub const INDEX_WALK_NS_PER_BYTE: u64 = 6;
/// Cost of reading the labels of a series whose page is cached, ns.
pub const SERIES_NS: u64 = 500;
/// Cost of reading a page of `series.parquet`, ns.
pub const SERIES_PAGE_NS: u64 = 120_000;
/// Approximate bytes of the labels of a series in a cached page of `series.parquet`.
pub const SERIES_LABEL_BYTES: usize = 160;
/// If a result has at least this many series per value of a label, the values are looked up instead
/// of reading the labels of the series.
pub const SERIES_PER_VALUE: u64 = 32;
/// From this many series in a result on, the series of all shards of a block are kept in memory, to
/// divide results by shard.
pub const SHARDS_OF_SERIES: u64 = 50_000;
/// Bytes read at once to verify a whole file.
pub const BLOCK_CHECK_BYTES: usize = 1 << 20;
/// Maximum size of a file of a block that is read whole, bytes: a larger length is damage.
pub const BLOCK_SMALL_FILE_BYTES: u64 = 4 << 30;
/// Maximum number of open files of blocks. A block has about four that are read repeatedly, and
/// opening one takes some microseconds. A quarter of the usual limit of a process.
pub const OPEN_BLOCK_FILES: usize = 256;
/// Maximum number of additional files kept open for readers of removed blocks. Beyond it, the
/// directories stay until the readers have finished.
pub const PINNED_BLOCK_FILES: usize = 256;
/// Size of the page cache for all blocks together, bytes. The series of a metric are adjacent.
pub const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Maximum size of a page of `samples.parquet` before compression that our decoder accepts, bytes:
/// bounds what a page header may request.
pub const BLOCK_PAGE_BYTES: usize = 16 << 20;
/// Number of page decoders kept for reuse: each holds the buffers of a page.
pub const BLOCK_DECODERS: usize = 8;
/// Clocks that are written in one batch: so many that 32 bits index their timestamps even with one
/// per millisecond of a window.
pub const BLOCK_CLOCK_ROWS: usize = 256;
/// Number of recent clocks of a target that are tried for a series with missing samples.
pub const BLOCK_CLOCK_CANDIDATES: usize = 4;
/// Maximum columns of one column set, dead ones included (a batch may have a quarter): a keyframe
/// with a million changed values still fits into one log record.
pub const GROUP_COLUMNS: usize = 1 << 20;
/// Maximum slots of one shard, and groups: samples of further series are refused, and in a replay a
/// larger number is damage, not data.
pub const SHARD_SLOTS: u32 = 1 << 26;
/// Single samples per log record: at most 16 bytes each, so far below the maximum record size.
pub const WAL_SAMPLES: usize = 1 << 16;
/// Estimated bytes of native histograms per log record: leaves room for one more below the maximum
/// record size.
pub const WAL_HISTOGRAM_BYTES: usize = 4 << 20;
/// Maximum number of spans, of buckets of one sign, and of custom bounds of one histogram: its
/// record stays far below the maximum.
pub const HISTOGRAM_BUCKETS: usize = 1 << 16;
/// Maximum characters of an exemplar's labels, names and values together (OpenMetrics: 128).
pub const EXEMPLAR_LABELS: usize = 128;
/// Bytes of log records that may wait to be written or synced before appenders have to wait: bounds
/// memory when the disk stalls.
pub const WAL_BUFFER_BYTES: usize = 64 << 20;
/// Additional bytes of that buffer for samples that are recorded within a tick or belong to alerts:
/// these never wait.
pub const WAL_RESERVE_BYTES: usize = 16 << 20;
/// Bytes of one write buffer of the log, after which the next one begins.
pub const WAL_BUFFER_CHUNK_BYTES: usize = 1 << 20;
/// How long an appender waits for space in that buffer before it is refused, ms: less than any
/// scrape timeout.
pub const WAL_WAIT_MS: u64 = 2_000;
/// Time between attempts to write a failed log, ms, if the sync interval is shorter or zero.
pub const WAL_RETRY_MS: u64 = 100;
/// Maximum time between these attempts, ms; the pause doubles up to here. An attempt writes all
/// unsynced records again, at most 64 MiB. After this time a disk that has space again is used
/// again.
pub const WAL_RETRY_MOST_MS: u64 = 3_000;
/// Bytes of changes in one frame of a durable map: far below the codec's limit.
pub const DURABLE_MAP_FRAME_BYTES: usize = 4 << 20;
/// A durable map's file smaller than this is not rewritten to save space, bytes.
pub const DURABLE_MAP_COMPACT_BYTES: usize = 1 << 20;
/// Time between attempts to write a durable map after a failure, ms.
pub const DURABLE_MAP_RETRY_MS: u64 = 1_000;
/// Scrapes of a group between keyframes in the log: bounds what a lost record costs.
pub const WAL_KEYFRAME_SCRAPES: u32 = 60;
/// Maximum number of buckets of one sign that are printed, gaps included: 64 KiB of zeros in an
/// expression are useless.
pub const HISTOGRAM_PRINTED_BUCKETS: usize = 1 << 15;

/// How far the head may be ahead of the newest block when age is computed, ms. Usually it is some
/// hours ahead; a wrong clock must not expire everything.
pub const HEAD_AHEAD_MS: i64 = 86_400_000;
