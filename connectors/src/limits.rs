//! The limits of the connectors, each with unit and reason; `docs/limits.md` lists them for users.

use std::time::Duration;

/// Labels of a scraped series, before and after relabelling, unless `label_limit` is lower. Real
/// series have some dozens; those of kube-state-metrics up to a few hundred.
pub const SERIES_LABELS: usize = 4_096;
/// Bytes of all labels of a scraped or written series together, also after each relabelling rule;
/// approximately also of a line of an exposition, or of a protobuf metric.
pub const SERIES_BYTES: usize = storage::limits::LABEL_SET_BYTES;
/// Labels that relabelling rules may make of those of one series, target or alert: a rule that
/// copies all labels doubles their number.
pub const RELABEL_LABELS: usize = 4 * SERIES_LABELS;
/// Decoded body of one scrape, bytes, if there is no `body_size_limit`. A body is read piece by
/// piece, so this does not bound memory; it ends bodies that never end. Users of Prometheus report
/// 100 MB, one 4 GB.
pub const SCRAPE_BODY_BYTES: usize = 8 << 30;
/// Text of a scrape that is decoded at a time, bytes: it stays in the processor's cache until it is
/// parsed.
pub const SCRAPE_PIECE_BYTES: usize = 64 << 10;
/// Bytes of a scrape's body that are received before they are parsed: most bodies are shorter, and
/// need only one change of threads.
pub const SCRAPE_RECEIVE_BYTES: usize = 256 << 10;
/// Maximum bytes of a protobuf family that is decoded as a whole; of a larger one, metric by
/// metric.
pub const SCRAPE_FAMILY_BYTES: u64 = 256 << 10;
/// Memory that all scrapes together may use while they are read, bytes, in addition to the share
/// below: for new series, native histograms, samples with timestamps. One scrape may use half of
/// it: some million new series.
pub const SCRAPE_MEMORY_BYTES: usize = 2 << 30;
/// Memory that each scrape may use without a reservation, bytes: enough for a scrape without new
/// series.
pub const SCRAPE_FREE_BYTES: usize = 256 << 10;
/// Memory of one scrape, bytes, for data that a malicious body could repeat: samples with
/// timestamps (two million), start timestamps, histograms with timestamps.
pub const SCRAPE_LOOSE_BYTES: usize = 48 << 20;
/// Memory for exemplars of one scrape, bytes: a hundred thousand, as many as the store keeps.
/// Further ones are left out.
pub const SCRAPE_EXEMPLAR_BYTES: usize = 16 << 20;
/// Memory of one scrape, bytes, for samples that wait for the `_created` line of their metric: ten
/// thousand. In families with such lines, these follow directly after the samples.
pub const SCRAPE_WAITING_STARTS_BYTES: usize = 1 << 20;
/// Exemplars of one histogram in a scrape; further ones are left out.
pub const HISTOGRAM_EXEMPLARS: usize = 1_024;
/// How long a scrape runs on a thread before another one gets its turn, ms: the delay that a bad
/// target can cause for others.
pub const SCRAPE_TURN_MS: u64 = 20;
/// Number of turns of a scrape on threads with normal priority; further ones run on niced threads.
/// A body of one megabyte needs four.
pub const SCRAPE_FIRST_TURNS: usize = 4;
/// What is added to the nice value of the process on those threads: half of that of queries,
/// because a scrape cannot be repeated.
pub const SCRAPE_LATE_NICENESS: i32 = 5;
/// Lines of a scrape between two checks of the clock: some ten microseconds.
pub const SCRAPE_LOOK_LINES: u32 = 256;
/// Columns of one batch of a target: its first record in a log segment has 13 bytes per column, and
/// a record has at most 16 MiB. Targets with more series use several batches.
pub const PART_COLUMNS: usize = 1 << 17;
/// New series of a scrape that are created between two checks of the clock, and between two log
/// records.
pub const SETTLED_SERIES: usize = 4_096;
/// Samples with timestamps of a scrape that are appended at a time.
pub const APPENDED_ROWS: usize = 1 << 16;
/// One line of an import, bytes: no valid sample is longer.
pub const LINE_BYTES: usize = 1 << 20;
/// Text of an import that is read at a time, bytes.
pub const IMPORT_PIECE_BYTES: usize = 4 << 20;
/// Samples of an import that are buffered (24 bytes each, plus labels) before they are written as
/// blocks.
pub const IMPORT_SAMPLES: usize = 16_000_000;
/// Time range of the blocks of an import, ms: a range that compaction uses, and long enough that a
/// year makes 500 blocks.
pub const IMPORT_RANGE_MS: i64 = 9 * 7_200_000;
/// Maximum size of a chunk of Prometheus, bytes; a larger one is damage. Prometheus ends chunks at
/// 120 samples or about a thousand bytes.
pub const IMPORT_CHUNK_BYTES: usize = 64 << 20;
/// Maximum size of a record of Prometheus' log, compressed or not, bytes: its files have at most
/// 256 MiB, and a record is in one of them.
pub const IMPORT_RECORD_BYTES: usize = 256 << 20;
/// Maximum buckets in one layout of such a chunk: no chunk is large enough for more.
pub const IMPORT_BUCKETS: usize = 1 << 20;
/// Maximum label names in an export to Parquet: each is a column, and the writer buffers a page of
/// each.
pub const EXPORT_COLUMNS: usize = 1_000;
/// Rows of an exported Parquet file that are written together.
pub const EXPORT_GROUP_ROWS: usize = 1 << 18;
/// How far in the future an exposed timestamp may be, ms (Prometheus: 10 minutes).
pub const FUTURE_MS: i64 = storage::limits::FUTURE_MS;
/// Maximum difference between schedule and clock for which a scrape gets the scheduled time as its
/// timestamp, ms (Prometheus: 2 ms).
pub const TIMESTAMP_TOLERANCE_MS: i64 = 2;
/// How long before its tick a scrape loop wakes, ms: timers can be late by this much, and a scrape
/// that starts within the tolerance gets the time of the tick.
pub const WAKE_EARLY_MS: i64 = 1;
/// Metadata entries kept per target, one per metric name; of a target with more, the first are
/// kept.
pub const METADATA_PER_TARGET: usize = 10_000;
/// Bytes of these entries, including texts.
pub const METADATA_BYTES_PER_TARGET: usize = 8 << 20;
/// Dropped targets kept per job for display (all are counted).
pub const DROPPED_TARGETS_SHOWN: usize = 1_000;
/// Redirects followed for one request (Go's client: 10).
pub const REDIRECTS: usize = 10;
/// Idle HTTP connections kept per target.
pub const IDLE_CONNECTIONS: usize = 2;
/// How long an idle connection is kept, seconds: longer than the usual scrape interval.
pub const IDLE_CONNECTION_SECONDS: u64 = 330;
/// Time to establish a connection, seconds; part of the request's own timeout.
pub const CONNECT_SECONDS: u64 = 30;
/// Maximum size of a file with a secret or certificate, bytes.
pub const CREDENTIAL_FILE_BYTES: u64 = 1 << 20;
/// Maximum size of a target file of `file_sd_configs`, bytes.
pub const TARGET_FILE_BYTES: u64 = 64 << 20;
/// Values and brackets to which the aliases (`*name`) of a YAML target file may expand: a file of 1
/// kB could expand to more than any memory.
pub const TARGET_FILE_ALIASED: usize = 3_000_000;
/// Bytes of text to which they may expand.
pub const TARGET_FILE_ALIASED_BYTES: usize = 64 << 20;
/// Nesting of lists and mappings in a YAML target file: every level is a stack frame.
pub const TARGET_FILE_DEPTH: usize = 64;
/// Files that one entry of `file_sd_configs` may match.
pub const TARGET_FILES: usize = 10_000;
/// Pause after a change of a target file before it is read, ms: editors write in several steps.
pub const TARGET_FILE_SETTLE_MS: u64 = 100;
/// Names of one entry of `dns_sd_configs` that are looked up at the same time.
pub const DNS_LOOKUPS: usize = 64;
/// Time for each step of a lookup, seconds: connect, send, receive (as in Prometheus).
pub const DNS_STEP_SECONDS: u64 = 2;
/// Bytes of one object of the Kubernetes API; etcd keeps at most 1.5 MiB.
pub const KUBERNETES_OBJECT_BYTES: usize = 16 << 20;
/// Objects of a page of a list of the Kubernetes API.
pub const KUBERNETES_PAGE: usize = 500;
/// Shortest and longest time of a watch of the Kubernetes API, seconds: the server ends it.
pub const KUBERNETES_WATCH_SECONDS: (u64, u64) = (300, 600);
/// Time without a byte of a watch after which it is opened again, seconds: servers send a bookmark
/// each minute.
pub const KUBERNETES_SILENCE_SECONDS: u64 = 150;
/// First and longest pause after a failed request to the Kubernetes API, ms; up to as much again is
/// added at random.
pub const KUBERNETES_BACKOFF_MS: (u64, u64) = (800, 30_000);
/// Time that the targets of a watched server wait until all of its lists are known, seconds.
pub const DISCOVERY_FIRST_LIST_SECONDS: u64 = 10;
/// Time from a change at a watched server to new targets, ms: most changes come in groups.
pub const DISCOVERY_SETTLE_MS: u64 = 50;
/// Shortest time between two lists of targets of a watched server, ms: each is compared with the
/// targets that are scraped.
pub const DISCOVERY_PAUSE_MS: u64 = 800;
/// News of a watched server that wait to be taken up.
pub const DISCOVERY_NEWS: usize = 64;
/// Pause after a failed request to a watched server other than Kubernetes, seconds (as Prometheus
/// does with Consul).
pub const DISCOVERY_RETRY_SECONDS: u64 = 15;
/// First pause between two requests that a server answers when something changes, ms. It is doubled
/// up to the configured interval.
pub const DISCOVERY_SHORT_PAUSE_MS: u64 = 250;
/// Time that Consul may wait for a change, seconds (as in Prometheus).
pub const CONSUL_WAIT_SECONDS: u64 = 120;
/// Bytes of an answer of ZooKeeper; a node has at most 1 MiB, but a list of nodes may have more.
pub const ZOOKEEPER_FRAME_BYTES: usize = 16 << 20;
/// Questions to ZooKeeper that wait for their answers at the same time.
pub const ZOOKEEPER_REQUESTS: usize = 100;
/// Longest pause before a new session with ZooKeeper, seconds (as in Prometheus; the first is 1 s).
pub const ZOOKEEPER_RETRY_SECONDS: u64 = 10;
/// Time for Kuma's answer beyond its own wait, seconds (as in Prometheus).
pub const KUMA_ANSWER_SECONDS: u64 = 15;
/// Maximum size of one answer of an API that lists targets, bytes: as of a target file.
pub const DISCOVERY_ANSWER_BYTES: usize = 64 << 20;
/// Pages of one list of such an API: at the usual hundred a page, a million machines.
pub const DISCOVERY_PAGES: usize = 10_000;
/// Requests that one refresh makes at a time, where each machine needs its own.
pub const DISCOVERY_REQUESTS: usize = 10;
/// Attempts of a call of AWS that fails for a moment (its SDKs: 3).
pub const AWS_ATTEMPTS: u32 = 3;
/// Half of the longest wait before the second attempt, ms; it doubles with each.
pub const AWS_RETRY_MS: u64 = 100;
/// The longest request for a token of a cloud, seconds.
pub const CLOUD_LOGIN_SECONDS: u64 = 30;
/// Names of changed things that the line in the log about a reload has, of each kind.
pub const CHANGES_SHOWN: usize = 10;
/// Attempts of a request to Oracle's cloud that fails for a moment: an instance whose addresses
/// cannot be read is left out, so that a busy server costs targets.
pub const OCI_ATTEMPTS: u32 = 5;
/// Half of the wait before the second attempt, ms; it doubles with each.
pub const OCI_RETRY_MS: u64 = 250;
/// The pace of requests to Oracle's cloud, ms between two (Prometheus: 10 requests a second).
pub const OCI_INTERVAL_MS: u64 = 100;
/// Requests that may be ahead of this pace.
pub const OCI_BURST: u32 = 50;
/// Tokens of Oracle's cloud that end within this time are replaced, seconds (as in its library).
pub const OCI_TOKEN_SPARE_SECONDS: u64 = 300;
/// Keys of AWS that end within this time are replaced, seconds.
pub const AWS_KEY_SPARE_SECONDS: u64 = 60;
/// Network interfaces that one entry of `azure_sd_configs` remembers (Prometheus: 5,000).
pub const AZURE_INTERFACES_REMEMBERED: usize = 5_000;
/// Elements inside one another in an XML answer.
pub const XML_DEPTH: usize = 64;
/// Alerts queued for one Alertmanager; beyond it, the oldest are dropped and counted (Prometheus:
/// 10,000).
pub const ALERT_QUEUE: usize = 10_000;
/// Alerts in one POST (Prometheus: 256).
pub const ALERT_BATCH: usize = 256;
/// First and longest pause before a failed Alertmanager is tried again, ms.
pub const ALERT_BACKOFF_MS: (u64, u64) = (100, 5_000);
/// Number of attempts for one batch; after that, the rules send the alerts again.
pub const ALERT_ATTEMPTS: u32 = 4;
/// Bytes of an Alertmanager's answer that are read for error messages.
pub const ALERT_ANSWER_BYTES: usize = 4 << 10;
/// Bytes of an Alertmanager's list of silences, and how many of them are read.
pub const SILENCES_BYTES: usize = 4 << 20;
/// Silences of one Alertmanager that are read.
pub const SILENCES: usize = 1_000;
/// Refused samples of a remote-write request that its answer names; all are counted.
pub const REFUSALS_NAMED: usize = storage::limits::REFUSED_NAMED;
/// Approximate bytes of labels after which the name of a refused series is cut.
pub const REFUSED_LINE_BYTES: usize = 4 << 10;
/// Maximum size of a decoded remote-write request, bytes (reference, quality §2.7).
pub const REMOTE_WRITE_BYTES: usize = 32 << 20;
/// Maximum samples, histograms and exemplars of one request: what fits into [`REMOTE_WRITE_BYTES`]
/// if none is empty. Empty ones have two bytes.
pub const REMOTE_WRITE_ITEMS: usize = 2_000_000;
/// Maximum symbols of one request in version 2.0: 8 bytes of memory each.
pub const REMOTE_WRITE_SYMBOLS: usize = 1_000_000;
/// Bytes of the expanded labels of all series of one request in version 2.0: a reference of two
/// bytes can refer to a text of any length.
pub const REMOTE_WRITE_LABEL_BYTES: usize = 256 << 20;
/// Memory for the decoded part of a request before it is stored, bytes. Small compared with the
/// request itself. A request of 20,000 samples, more than senders send, is stored at once.
pub const REMOTE_WRITE_BATCH_BYTES: usize = 4 << 20;
/// Maximum size of a decoded OTLP request, bytes (as in Prometheus). Its samples and labels have
/// the limits of remote write.
pub const OTLP_BYTES: usize = 32 << 20;
/// Maximum size of a resource, scope or data point of an OTLP request, bytes: it is decoded whole,
/// and two bytes can become a hundred.
pub const OTLP_PART_BYTES: usize = 1 << 20;
/// Samples of `target_info` that one resource of a request may make.
pub const OTLP_TARGET_INFO_SAMPLES: u64 = 1_000;
/// Memory for the sums of delta metrics, bytes: about 300,000 counters.
pub const OTLP_DELTA_BYTES: usize = 64 << 20;
/// How long the sum of a delta metric is kept without a data point, ms (as in Prometheus).
pub const OTLP_DELTA_IDLE_MS: i64 = 300_000;
/// Spans that wait to be sent (as in OpenTelemetry's library for Go); further ones are dropped.
pub const SPAN_QUEUE: usize = 2_048;
/// Spans of one request.
pub const SPAN_BATCH: usize = 512;
/// How often spans are sent that are fewer, s.
pub const SPAN_INTERVAL_SECONDS: u64 = 5;
/// Attempts to send a batch, and the pause after the first, s; each further pause is as much
/// longer.
pub const SPAN_ATTEMPTS: u64 = 3;
/// See [`SPAN_ATTEMPTS`].
pub const SPAN_RETRY_SECONDS: u64 = 1;
/// How long spans are still sent at the end of the server, or to the old receiver after a reload,
/// s.
pub const SPAN_FLUSH_SECONDS: u64 = 5;
/// Maximum spans, buckets of one sign or bounds of one histogram in a request or scrape: four times
/// what is stored, because the resolution of some is lowered first.
pub const RAW_BUCKETS: usize = 4 * storage::limits::HISTOGRAM_BUCKETS;
/// Bytes of a file or answer that are quoted in an error message.
pub const QUOTE_BYTES: usize = 60;
/// Concurrent requests to the object store; others wait.
pub const OBJECT_REQUESTS: usize = 16;
/// Time to establish a connection to the object store, seconds.
pub const OBJECT_CONNECT_SECONDS: u64 = 5;
/// Timeout of one request to the object store, seconds: enough for a part on a slow line.
pub const OBJECT_REQUEST_SECONDS: u64 = 30;
/// How often a failed request to the object store is repeated.
pub const OBJECT_RETRIES: usize = 3;
/// How long after its first attempt a request may be repeated, seconds: a query waits for it.
pub const OBJECT_RETRY_SECONDS: u64 = 15;
/// Bytes of an object that are uploaded together; larger ones are uploaded in parts (S3: at least 5
/// MiB, at most 10,000 parts).
pub const OBJECT_PART_BYTES: usize = 16 << 20;
/// Maximum number of objects of one data directory: a block has about eight.
pub const OBJECTS_LISTED: usize = 10_000_000;

/// Bytes of the answer of a server that hands out tokens (as in Prometheus).
pub const TOKEN_ANSWER_BYTES: usize = 1 << 20;
/// How long the call for a token may take.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long before its end a token is renewed (as in Go).
pub const TOKEN_EARLY: Duration = Duration::from_secs(10);
/// How long requests of a client share the error of the last call for a token.
pub const TOKEN_FAILED_PAUSE: Duration = Duration::from_secs(1);
