//! The limits of remote storage, each with unit and reason; `docs/limits.md` lists them for users.

use std::time::Duration;

/// The longest answer of a receiver that is read for a message, bytes (Prometheus: 1024).
pub const ANSWER_BYTES: usize = 1024;
/// How long a queue reads the log before it looks at its deadlines again.
pub const READ_TURN: Duration = Duration::from_millis(20);
/// How long a queue that has read everything waits at least before it reads again: samples of many
/// scrapes are read together.
pub const READ_PAUSE: Duration = Duration::from_millis(50);
/// The longest time that a queue waits for new records of the log.
pub const READ_WAIT: Duration = Duration::from_secs(1);
/// The pause after an error of the log.
pub const READ_RETRY: Duration = Duration::from_secs(5);
/// How long a batch waits until the positions of its first and last item are on disk. After that it
/// is sent anyway: a full disk must not stop it.
pub const NOTE_WAIT: Duration = Duration::from_secs(1);
/// How often the position of a queue that sends nothing is written to disk.
pub const NOTE_INTERVAL: Duration = Duration::from_secs(5);
/// The first pause of a queue whose shard has no room (Prometheus: 5 ms). It doubles up to
/// `max_backoff`.
pub const FULL_PAUSE: Duration = Duration::from_millis(5);
/// How often the number of shards is computed (Prometheus: 10 s).
pub const SHARDS_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum shards of a queue, whatever `max_shards` says: each has a task and a connection.
pub const SHARDS: usize = 1_000;
/// Maximum items in one request, whatever `max_samples_per_send` says: the items of a shard are in
/// memory.
pub const BATCH_ITEMS: usize = 1_000_000;
/// Maximum bytes of one request before compression: receivers accept 32 MiB (Prometheus').
pub const BATCH_BYTES: usize = 16 << 20;
/// Maximum bytes of a request of remote read, before and after decompression (Prometheus: 32 MiB).
pub const READ_REQUEST_BYTES: usize = 32 << 20;
/// Maximum queries in a request of remote read: Prometheus sends one.
pub const READ_QUERIES: usize = 1_000;
/// Maximum matchers of a query of remote read.
pub const READ_MATCHERS: usize = 1_000;
/// Maximum bytes of a frame of another server, whatever `chunked_read_limit` says: it is in memory.
pub const READ_FRAME_BYTES: usize = 256 << 20;
/// Maximum bytes of a chunk of another server. Prometheus ends chunks at about a thousand bytes.
pub const READ_CHUNK_BYTES: usize = 1 << 20;
/// Maximum bytes of an answer that is one message, before and after decompression.
pub const READ_ANSWER_BYTES: usize = 1 << 30;
/// Selectors of one query that one server is asked for at the same time.
pub const READS_AT_ONCE: usize = 8;
/// Received pieces of answers that wait to be decoded; then receiving pauses.
pub const READ_PARTS: usize = 16;
/// How often a query that waits for other servers looks at its own limits.
pub const READ_POLL: Duration = Duration::from_millis(20);
/// How often metadata of series are read again at first; the pause doubles while nothing changes.
pub const METADATA_REFRESH: Duration = Duration::from_secs(1);
/// How often they are read again at least.
pub const METADATA_REFRESH_MOST: Duration = Duration::from_secs(60);
/// After a read of metadata, the next one for a new series waits this many times as long as the
/// read took: so reading takes at most a twentieth of a thread.
pub const METADATA_IDLE: u32 = 20;
/// Maximum bytes of the names of series without metadata that a queue remembers, so that it does
/// not look for their metadata again: about 100,000 names.
pub const METADATA_ABSENT_BYTES: usize = 8 << 20;
/// Exemplars that a queue takes at a time.
pub const EXEMPLARS_AT_ONCE: usize = 1_000;
/// Exemplars of a queue that wait for a sample of their series (remote write 2.0). Beyond it they
/// stay where exemplars are stored.
pub const WAITING_EXEMPLARS: usize = 10_000;
/// How much older than the newest sample an exemplar is at most that waits for a sample: after it
/// the series counts as ended, as in queries.
pub const EXEMPLAR_WAIT: Duration = Duration::from_mins(5);
/// The shortest interval at which metadata are sent, whatever `send_interval` says.
pub const METADATA_INTERVAL: Duration = Duration::from_millis(100);
