//! Limits of the store: number, unit, reason. Nowhere else does this crate hold one.

/// Bytes of a far block's file that are fetched and cached together: a point read is one request
/// for each column that it needs, and its neighbours come with it.
pub const FAR_PIECE_BYTES: u64 = 256 << 10;
/// Such pieces that are in memory, too.
pub const FAR_RECENT_PIECES: usize = 32;
/// Most bytes that one request fetches: what a reader holds in memory.
pub const FAR_GET_BYTES: u64 = 8 << 20;
/// Far blocks whose files' ends are fetched together before they are opened, and how many ends at a
/// time: they fit into [`FAR_RECENT_PIECES`].
pub const FAR_AHEAD_BLOCKS: usize = 4;
/// See [`FAR_AHEAD_BLOCKS`].
pub const FAR_AHEAD_PIECES: usize = 32;
/// Series of far blocks that are open at a time, so many or those of one block: where their rows
/// are is in memory, and of blocks without an index their labels.
pub const FAR_OPEN_SERIES: u64 = 5_000_000;
/// Largest `meta.json` of a far block, bytes.
pub const FAR_META_BYTES: u64 = 16 << 20;
/// Bytes of a label name of a series, whether it is scraped (`label_name_length_limit` may say
/// less), written or made by a query.
pub const LABEL_NAME_BYTES: usize = 64 << 10;
/// Bytes of a label value, likewise (`label_value_length_limit`): a record of the log and a page of
/// a block hold the labels of some series.
pub const LABEL_VALUE_BYTES: usize = 1 << 20;
/// Bytes of all labels of a series together, likewise: a record of the log holds them.
pub const LABEL_SET_BYTES: usize = 2 << 20;
/// Series that get their place in the order of labels by one look into a shard, at most: its
/// writers wait for it, about two milliseconds.
pub const RANKED_AT_ONCE: usize = 1024;
/// Who looks for fewer series than one so-manieth of those that have such a place sorts their
/// labels: to give them one is a walk over all that have one.
pub const RANKED_SHARE: usize = 16;
/// Compiled size of one regex, bytes: stops `a{1000}{1000}`.
pub const REGEX_BYTES: usize = 10 << 20;
/// Largest WAL record, bytes: a length field beyond it is damage, not data.
pub const WAL_RECORD_BYTES: usize = 16 << 20;
/// Bytes of memory that a shard keeps to encode records in: a scrape of some thousand series.
pub const WAL_BATCH_BYTES: usize = 64 << 10;
/// WAL segment size, bytes.
pub const WAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Segments that a start looks through between two lines that say how far it is: a gibibyte.
pub const WAL_TOLD_SEGMENTS: usize = 16;
/// Bytes of a segment that a replay reads at once: what it holds of the log.
pub const WAL_READ_BYTES: usize = 1 << 20;
/// Threads that put replayed records into heads, at most; each has some of the shards.
pub const REPLAY_THREADS: usize = 16;
/// Bytes of records that go to such a thread together.
pub const REPLAY_BATCH_BYTES: usize = 256 << 10;
/// How many of these may wait for it.
pub const REPLAY_BATCHES: usize = 8;
/// Bytes of records that a start keeps between its survey of the log and the replay; what is behind
/// them is read twice.
pub const REPLAY_AHEAD_BYTES: usize = 64 << 20;
/// Bytes of samples that are taken while the log is replayed, and are in memory twice until it is:
/// a million series for minutes. Beyond it they are refused.
pub const REPLAY_YOUNG_BYTES: usize = 256 << 20;
/// How far behind its series' newest sample a sample may come, ms (design §10).
pub const OUT_OF_ORDER_WINDOW_MS: i64 = 30 * 60_000;
/// How much longer than that a range stays in the head, ms, so that what late samples change can
/// still be corrected; of short ranges at most the share below.
pub const FLUSH_SLACK_MS: i64 = 5 * 60_000;
/// A range stays no longer than one so-manieth of its length: five minutes of two hours.
pub const FLUSH_SLACK_SHARE: i64 = 24;
/// Oldest time of a sample, ms: the oldest that a query can ask for (Prometheus' `minTime`).
/// Arithmetic on times stays far from its ends.
pub const OLDEST_MS: i64 = i64::MIN + 62_135_596_801_000;
/// Samples of a request that are named when they are refused; the others are counted.
pub const REFUSED_NAMED: usize = 10;
/// How far ahead of the clock a sample may be, ms (Prometheus: 10 minutes).
pub const FUTURE_MS: i64 = 10 * 60_000;
/// Times of what came lately that a shard keeps, to tell how far back it reached: 8 KiB, at least
/// some minutes by the second.
pub const ARRIVALS: usize = 512;
/// Samples per sealed chunk.
pub const CHUNK_SAMPLES: usize = 120;
/// Single samples of one time, next to each other in a call, that make a row of columns.
pub const COHORT_ROWS: usize = 8;
/// Label sets of ended series that are compressed together: unpacking them takes some 50 us.
pub const ENDED_PACK: usize = 256;
/// How hard zstd tries at them: a shard waits meanwhile.
pub const ENDED_ZSTD_LEVEL: i32 = 1;
/// Columns of a row that was made out of single samples: an absent one costs as much as one that is there.
pub const COHORT_COLUMNS: usize = 4096;
/// A row of single samples must fill at least one column of so many.
pub const COHORT_SPARSE: usize = 8;
/// By how many samples the open, uncompressed chunk of one series grows: there may be one per series.
pub const CHUNK_GROWTH: usize = 12;
/// Series of a label pair that are kept as a list.
pub const POSTINGS_LIST: usize = 48;
/// Scrapes per sealed window of a column group: 16 keeps the open, uncompressed part below 128 B per series.
pub const HEAD_WINDOW_SCRAPES: usize = 16;
/// Sealed windows that become one: half an hour at 15 s.
pub const HEAD_FOLDED_WINDOWS: usize = 8;
/// Bytes of a piece of a window's columns, a power of two. Windows of all sizes take pieces of one
/// size, so what one gives back another can use; the last piece of each is as long as it has to be.
pub const PIECE_BYTES: usize = 2048;
/// Offsets of columns in a piece of these: of the same size.
pub const PIECE_OFFSETS: usize = PIECE_BYTES / 4;
/// An open row with more samples than the base of those before, by more than one of so many
/// columns, is the base of those behind: each of them would keep these values.
pub const OPEN_BASE_GAIN: usize = 8;
/// Columns of a group whose scrapes a replay takes together: with all of them moving, 8 MB are
/// turned at once.
pub const STRETCH_COLUMNS: usize = 8_192;
/// Scrapes that a replay has at least together to make one window of them.
pub const STRETCH_SCRAPES: usize = 32;
/// Short windows at most that a replay leaves to themselves before a long one; else it lets them
/// become one first.
pub const STRETCH_WAITING: usize = 3;
/// Late samples of one series that are kept sorted before they are sealed into a chunk: an insertion moves
/// at most this many.
pub const LATE_SAMPLES: usize = 480;
/// Items per chunk of a sparse lane (histograms, start timestamps): what is copied when a reader
/// holds the open one, and what is unpacked to read one item of an older one.
pub const LANE_CHUNK: usize = 60;
/// Groups inside groups in one regex: a stack, not a heap, runs out (Go: 1000).
pub const REGEX_NESTING: usize = 200;
/// Largest repeat count of a regex, nested ones multiplied (Go's number).
pub const REGEX_REPEAT: u64 = 1000;
/// Texts a regex may stand for to be looked up one by one (Prometheus: 256).
pub const REGEX_LITERALS: usize = 256;
/// Longest stretch of time in one row of a block, ms: what a point read decodes at most (format,
/// `docs/format/block.md`).
pub const BLOCK_WINDOW_MS: i64 = 2 * 3_600_000;
/// Rows per page of `samples.parquet`: bytes per sample against bytes per point read (measured: 16-256).
pub const BLOCK_PAGE_ROWS: usize = 64;
/// Rows per page of `histograms.parquet` and `starts.parquet`, where a row is one sample: half of
/// what a series has in two hours at 15 s.
pub const BLOCK_LANE_PAGE_ROWS: usize = 256;
/// Rows per row group; a multiple of the pages: what a writer holds in memory.
pub const BLOCK_GROUP_ROWS: usize = 16_384;
/// Longest range of a merged block, ms: 31 days, as in Prometheus.
pub const COMPACTED_RANGE_MS: i64 = 31 * 86_400_000;
/// Deletions that wait to be carried out in blocks: each is looked at when a block is opened, and
/// the file is written anew with each.
pub const TOMBSTONES: usize = 10_000;
/// Blocks that one flush writes, at most; more ranges than that become longer ones. Usually it is
/// one block, after a day without room on the disk twelve.
pub const FLUSH_BLOCKS: usize = 16;
/// Blocks in one longer range from which on they are merged at once, and not three at a time: files
/// that an earlier version or a backfill left.
pub const MERGE_AT_ONCE: usize = 9;
/// Rows of a merged block: the row index has 32 bits.
pub const COMPACTED_ROWS: u64 = 1 << 30;
/// Timestamps of the clocks of a merged block: a merge holds them all, a byte or two each where
/// scrapes come evenly.
pub const COMPACTED_TIMES: u64 = 1 << 29;
/// How hard zstd tries at a block's Parquet files: 2 % smaller than with 3, and no slower; from 9
/// on, writing takes longer.
pub const BLOCK_ZSTD_LEVEL: i32 = 6;
/// Bytes of `samples.parquet` under one checksum (format).
pub const BLOCK_CRC_BYTES: usize = 16 << 10;
/// Rows per page of `series.parquet`: what is read to know the labels of one series (format).
pub const SERIES_PAGE_ROWS: usize = 256;
/// Longest piece of an index that is kept when it is read, bytes: longer ones are walks that would
/// push out the rest.
pub const INDEX_CACHED_READ_BYTES: usize = 256 << 10;
/// Largest answer of an index that is kept, bytes.
pub const SELECTED_BYTES: usize = 1 << 20;
/// What a walk over the terms of an index costs per byte, ns: with the next two it decides whether
/// to test series instead.
pub const INDEX_WALK_NS_PER_BYTE: u64 = 6;
/// What the labels of a series cost whose page is there, ns.
pub const SERIES_NS: u64 = 500;
/// What a page of `series.parquet` costs, ns.
pub const SERIES_PAGE_NS: u64 = 120_000;
/// Bytes of the labels of a series in a page of `series.parquet` that is kept, about.
pub const SERIES_LABEL_BYTES: usize = 160;
/// Series of an answer per value of a label from which on the values are asked for, not the labels
/// of the series.
pub const SERIES_PER_VALUE: u64 = 32;
/// Series of an answer from which on the series of all shards of a block are kept in memory, to
/// divide answers by.
pub const SHARDS_OF_SERIES: u64 = 50_000;
/// Bytes of a file that are read at once to check the whole of it.
pub const BLOCK_CHECK_BYTES: usize = 1 << 20;
/// Largest file of a block that is read as a whole, bytes: beyond it the length is damage.
pub const BLOCK_SMALL_FILE_BYTES: u64 = 4 << 30;
/// Files of blocks that are open at a time: a block has about four that are read again, and opening
/// one costs some microseconds. A quarter of what a process may usually have.
pub const OPEN_BLOCK_FILES: usize = 256;
/// Files that are kept open beside these for readers of blocks that are removed meanwhile; beyond
/// it the files stay until they have read.
pub const PINNED_BLOCK_FILES: usize = 256;
/// Decoded pages kept for all blocks together, bytes: a metric's series lie side by side.
pub const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Largest page of `samples.parquet` before compression that is decoded by hand, bytes: what a
/// header may ask for.
pub const BLOCK_PAGE_BYTES: usize = 16 << 20;
/// Decoders of pages that are kept between reads: each holds a page in pieces.
pub const BLOCK_DECODERS: usize = 8;
/// Clocks that are written together: as many as have few enough times for a list of 32 bits, were
/// there one each millisecond of a window.
pub const BLOCK_CLOCK_ROWS: usize = 256;
/// Clocks of one target that a series with missing samples is tried against.
pub const BLOCK_CLOCK_CANDIDATES: usize = 4;
/// Columns of one group, dead ones included (a batch may have a quarter): a keyframe of a million
/// changed values still fits into one WAL record.
pub const GROUP_COLUMNS: usize = 1 << 20;
/// Slots of one shard that replay accepts: beyond it a slot number is damage, not data.
pub const SHARD_SLOTS: u32 = 1 << 26;
/// Single samples per WAL record: at most 16 bytes each of varints and value, far below the record limit.
pub const WAL_SAMPLES: usize = 1 << 16;
/// Bytes of native histograms per WAL record, as an upper estimate: leaves room in the record limit
/// for one more.
pub const WAL_HISTOGRAM_BYTES: usize = 4 << 20;
/// Spans, buckets of one sign, or custom bounds of one histogram: its record stays far below the
/// record limit.
pub const HISTOGRAM_BUCKETS: usize = 1 << 16;
/// Characters of an exemplar's labels, names and values together (OpenMetrics: 128).
pub const EXEMPLAR_LABELS: usize = 128;
/// Bytes of records that wait to be written, or to be synced, before appenders wait: bounds memory
/// when the disk stalls.
pub const WAL_BUFFER_BYTES: usize = 64 << 20;
/// Bytes of that buffer, beyond its size, for what is recorded within a tick or told of alerts:
/// those never wait.
pub const WAL_RESERVE_BYTES: usize = 16 << 20;
/// Bytes of records after which the next ones go into another piece of the buffer.
pub const WAL_PIECE_BYTES: usize = 1 << 20;
/// How long an appender waits for room in that buffer before it is refused, ms: below any scrape timeout.
pub const WAL_WAIT_MS: u64 = 2_000;
/// Time between attempts to write a log that failed, ms, where the sync interval is shorter or zero.
pub const WAL_RETRY_MS: u64 = 100;
/// Longest time between these attempts, ms: each pause is twice the one before up to here. An
/// attempt writes all that is not synced anew, 64 MiB at most; and after so long a disk that has
/// room again is used again.
pub const WAL_RETRY_MOST_MS: u64 = 3_000;
/// Bytes of changes in one frame of a kept map: far below the codec's limit.
pub const KEEP_FRAME_BYTES: usize = 4 << 20;
/// A kept map's file below this size is not written anew to save space, bytes.
pub const KEEP_TIDY_BYTES: usize = 1 << 20;
/// Time between attempts to write a kept map after a failure, ms.
pub const KEEP_RETRY_MS: u64 = 1_000;
/// Scrapes of a group between keyframes in the log: bounds what a lost record costs.
pub const WAL_KEYFRAME_SCRAPES: u32 = 60;
/// Buckets of one sign of a histogram that are written as text with the gaps between them: an
/// expression of 64 KiB of zeros helps nobody.
pub const HISTOGRAM_PRINTED_BUCKETS: usize = 1 << 15;

/// How far the head counts ahead of the newest block where age is concerned, ms: usually it is some
/// hours ahead, and a wrong clock must not age everything.
pub const HEAD_AHEAD_MS: i64 = 86_400_000;
