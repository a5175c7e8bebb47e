//! Limits of the outside world: number, unit, reason. Nowhere else does this crate hold one.

/// Labels of one scraped series: as it is exposed, and after the rules where `label_limit` says no
/// less. Real ones have some dozens; kube-state-metrics reaches a few hundred.
pub const SERIES_LABELS: usize = 4_096;
/// Bytes of all labels of a scraped or written series together, after each relabelling rule, too;
/// and about those of a line of an exposition, or of one metric of a protobuf one.
pub const SERIES_BYTES: usize = storage::limits::LABEL_SET_BYTES;
/// Labels that rules may make of those of one series, target or alert: a rule that copies all of
/// them doubles their number.
pub const RELABEL_LABELS: usize = 4 * SERIES_LABELS;
/// Decoded body of one scrape, bytes, where `body_size_limit` says nothing. A body is read piece by
/// piece, so this does not bound memory: it ends what never ends. Prometheus' users speak of 100
/// MB, one of 4 GB.
pub const SCRAPE_BODY_BYTES: usize = 8 << 30;
/// Text of a scrape that is decoded at a time, bytes: it stays in the processor's cache until it is parsed.
pub const SCRAPE_PIECE_BYTES: usize = 64 << 10;
/// Bytes of a scrape's body that are received before they are worked at: most bodies are shorter,
/// and need one change of threads.
pub const SCRAPE_RECEIVE_BYTES: usize = 256 << 10;
/// Bytes of a protobuf family that is read when it is whole; of a longer one each metric is.
pub const SCRAPE_FAMILY_BYTES: u64 = 256 << 10;
/// Memory that all scrapes together may take while they are read, bytes, beyond the share below:
/// new series, native histograms, samples with timestamps. Half of it is for one scrape at most:
/// some million new series.
pub const SCRAPE_MEMORY_BYTES: usize = 2 << 30;
/// Memory that each scrape may take without asking, bytes: one without new series needs none.
pub const SCRAPE_FREE_BYTES: usize = 256 << 10;
/// Memory of one scrape, bytes, for what may say the same again and again: samples with timestamps
/// of their own (two million), start timestamps, histograms with timestamps.
pub const SCRAPE_LOOSE_BYTES: usize = 48 << 20;
/// Memory for exemplars of one scrape, bytes: a hundred thousand, which is what the store keeps.
/// Further ones are left out.
pub const SCRAPE_EXEMPLAR_BYTES: usize = 16 << 20;
/// Memory of one scrape, bytes, for samples that wait for the `_created` line of their metric: ten
/// thousand, of a family without such lines. Those that it has come right behind their samples.
pub const SCRAPE_WAITING_STARTS_BYTES: usize = 1 << 20;
/// Exemplars of one histogram of a scrape; further ones are left out.
pub const HISTOGRAM_EXEMPLARS: usize = 1_024;
/// How long a scrape works on a thread before another one has its turn, ms: the delay that a bad
/// target is to others.
pub const SCRAPE_TURN_MS: u64 = 20;
/// Turns that a scrape has on threads of the usual priority; it has the others on niced ones. A
/// body of a megabyte has four.
pub const SCRAPE_FIRST_TURNS: usize = 4;
/// What is added to the nice value of the process for those: half of what queries have, as a scrape
/// has its time only once.
pub const SCRAPE_LATE_NICENESS: i32 = 5;
/// Lines of a scrape between two looks at the clock: some ten microseconds.
pub const SCRAPE_LOOK_LINES: u32 = 256;
/// Columns of one batch of a target: its first record in a segment of the log has 13 bytes of each,
/// of 16 MiB. Targets with more series have several.
pub const PART_COLUMNS: usize = 1 << 17;
/// New series of a scrape between two looks at the clock, and records of the log, while they get
/// their places.
pub const SETTLED_SERIES: usize = 4_096;
/// Samples with timestamps of a scrape that are appended at a time.
pub const APPENDED_ROWS: usize = 1 << 16;
/// One line of an import, bytes: no sample is longer; more is garbage.
pub const LINE_BYTES: usize = 1 << 20;
/// Text of an import that is read at a time, bytes.
pub const IMPORT_PIECE_BYTES: usize = 4 << 20;
/// Samples of an import that wait in memory (24 bytes each, and their labels) before they become blocks.
pub const IMPORT_SAMPLES: usize = 16_000_000;
/// Length of the blocks of an import, ms: a range that compaction knows, long enough that a year
/// makes 500 of them.
pub const IMPORT_RANGE_MS: i64 = 9 * 7_200_000;
/// A chunk of Prometheus' of more bytes is damage: it cuts them at 120 samples or about a thousand bytes.
pub const IMPORT_CHUNK_BYTES: usize = 64 << 20;
/// Buckets in one layout of such a chunk: none is so large that it could hold more.
pub const IMPORT_BUCKETS: usize = 1 << 20;
/// Label names of an export to Parquet: each is a column, and a writer keeps a page of each.
pub const EXPORT_COLUMNS: usize = 1_000;
/// Rows of an exported Parquet file that are written together.
pub const EXPORT_GROUP_ROWS: usize = 1 << 18;
/// How far ahead of our clock an exposed timestamp may be, ms (Prometheus: 10 minutes).
pub const FUTURE_MS: i64 = storage::limits::FUTURE_MS;
/// Difference between the schedule and the clock that a scrape's timestamp hides, ms (Prometheus: 2 ms).
pub const TIMESTAMP_TOLERANCE_MS: i64 = 2;
/// How much before its tick a loop wakes, ms: timers are late by up to this, and a scrape that starts
/// within the tolerance gets the tick as its timestamp.
pub const WAKE_EARLY_MS: i64 = 1;
/// Metadata entries kept per target: one per metric name; a target that invents more keeps the first.
pub const METADATA_PER_TARGET: usize = 10_000;
/// Bytes of these, texts included.
pub const METADATA_BYTES_PER_TARGET: usize = 8 << 20;
/// Dropped targets kept per job for display (all are counted).
pub const DROPPED_TARGETS_SHOWN: usize = 1_000;
/// Redirects followed for one request (Go's client: 10).
pub const REDIRECTS: usize = 10;
/// Idle HTTP connections kept per target.
pub const IDLE_CONNECTIONS: usize = 2;
/// How long an idle connection is kept, seconds: longer than the usual scrape interval.
pub const IDLE_CONNECTION_SECONDS: u64 = 330;
/// Time to build a connection, seconds, inside the request's own timeout.
pub const CONNECT_SECONDS: u64 = 30;
/// A file that holds one secret or certificate, bytes.
pub const CREDENTIAL_FILE_BYTES: u64 = 1 << 20;
/// A target file of `file_sd_configs`, bytes.
pub const TARGET_FILE_BYTES: u64 = 64 << 20;
/// Values and brackets that the aliases (`*name`) of a target file in YAML may stand for: a file of
/// 1 kB can mean more than any memory holds.
pub const TARGET_FILE_ALIASED: usize = 3_000_000;
/// Bytes of text that they may stand for.
pub const TARGET_FILE_ALIASED_BYTES: usize = 64 << 20;
/// Files that one `file_sd_configs` entry may match.
pub const TARGET_FILES: usize = 10_000;
/// Quiet time after a change of a target file before it is read, ms: editors write in several steps.
pub const TARGET_FILE_SETTLE_MS: u64 = 100;
/// Alerts that wait for one Alertmanager; beyond, the oldest are dropped and counted (Prometheus: 10,000).
pub const ALERT_QUEUE: usize = 10_000;
/// Alerts in one POST (Prometheus: 256).
pub const ALERT_BATCH: usize = 256;
/// First and longest wait before an Alertmanager that failed is tried again, ms.
pub const ALERT_BACKOFF_MS: (u64, u64) = (100, 5_000);
/// How often one batch is tried: afterwards the caller's own resending takes over.
pub const ALERT_ATTEMPTS: u32 = 4;
/// Bytes of an Alertmanager's answer that are read for the error message.
pub const ALERT_ANSWER_BYTES: usize = 4 << 10;
/// Refused samples of a remote-write request that its answer names; the others are counted.
pub const REFUSALS_NAMED: usize = storage::limits::REFUSED_NAMED;
/// Bytes of labels, about, from which on no more of a refused series is named.
pub const REFUSED_LINE_BYTES: usize = 4 << 10;
/// Decoded remote-write request, bytes (reference, quality §2.7).
pub const REMOTE_WRITE_BYTES: usize = 32 << 20;
/// Samples, histograms and exemplars of one request: what fits into [`REMOTE_WRITE_BYTES`] if each
/// says something. Empty ones are two bytes.
pub const REMOTE_WRITE_ITEMS: usize = 2_000_000;
/// Symbols of one request of 2.0: 8 bytes each.
pub const REMOTE_WRITE_SYMBOLS: usize = 1_000_000;
/// Labels of all series of one request of 2.0 as they are written out, bytes: a number of two bytes
/// stands for a text of any length.
pub const REMOTE_WRITE_LABEL_BYTES: usize = 256 << 20;
/// Memory of what is decoded of a request before it is stored, bytes: beside the request itself,
/// and small. A request of 20,000 samples, more than senders send, is stored at once.
pub const REMOTE_WRITE_BATCH_BYTES: usize = 4 << 20;
/// Spans, buckets of one sign or bounds of one histogram that are read, over the wire or from a
/// scrape: four times what is stored, since the resolution of some is lowered first.
pub const RAW_BUCKETS: usize = 4 * storage::limits::HISTOGRAM_BUCKETS;
/// Bytes of a file or answer quoted in an error message.
pub const QUOTE_BYTES: usize = 60;
/// Requests to the object store at a time; others wait.
pub const OBJECT_REQUESTS: usize = 16;
/// Time to build a connection to the object store, seconds.
pub const OBJECT_CONNECT_SECONDS: u64 = 5;
/// Time of one request to the object store, seconds: for a part on a slow line.
pub const OBJECT_REQUEST_SECONDS: u64 = 30;
/// How often a request to the object store is tried again.
pub const OBJECT_RETRIES: usize = 3;
/// How long after its first attempt a request is tried again, seconds: a query waits for it.
pub const OBJECT_RETRY_SECONDS: u64 = 15;
/// Bytes of an object that go together; larger ones go in parts (S3: 5 MiB at least, 10,000 parts at most).
pub const OBJECT_PART_BYTES: usize = 16 << 20;
/// Objects of one data directory: a block has about eight.
pub const OBJECTS_LISTED: usize = 10_000_000;
