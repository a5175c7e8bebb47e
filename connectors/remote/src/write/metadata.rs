//! Metadata of metric families: in remote write 1.0 they are sent from time to time in requests of
//! their own ([`MetadataSender`]), in 2.0 with each series ([`MetadataTable`]).

use super::batch::SeriesMetadata;
use super::client::WriteError;
use super::shard::ShardContext;
use crate::limits::{METADATA_ABSENT_BYTES, METADATA_IDLE, METADATA_REFRESH, METADATA_REFRESH_MOST};
use crate::protobuf::{put_bytes, put_message, put_number};
use bytes::Bytes;
use connectors::exposition::MetricType;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The metadata of a metric family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FamilyMetadata {
    /// The name of the family.
    pub family: String,
    /// The number of its type ([`type_number`]).
    pub kind: u64,
    /// The help text.
    pub help: String,
    /// The unit.
    pub unit: String,
}

/// The metadata that the targets of the server expose now.
pub trait MetadataSource: Send + Sync {
    /// All of them; several targets may expose the same.
    fn all(&self) -> Vec<FamilyMetadata>;
}

/// The number of a type in the messages of remote write 1.0 and 2.0.
pub fn type_number(kind: MetricType) -> u64 {
    match kind {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}

/// What the names of series have after the name of their family.
const SUFFIXES: [&str; 5] = ["_total", "_bucket", "_count", "_sum", "_info"];

/// The metadata of the families, by name, read again from time to time.
pub(super) struct MetadataTable {
    source: Arc<dyn MetadataSource>,
    families: HashMap<String, FamilyMetadata>,
    /// When they were read the last time.
    read: Option<Instant>,
    /// How long they are good for.
    pause: Duration,
    /// How long reading them took.
    cost: Duration,
    absent: AbsentNames,
}

/// Names of series without metadata: they are not looked for again until something changes.
#[derive(Default)]
struct AbsentNames {
    names: HashSet<String>,
    /// What they hold in memory.
    bytes: usize,
}

impl AbsentNames {
    fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Adds a name. Beyond the limit it takes the place of all others: some of them may be of
    /// series that are gone, and the others are looked for once more.
    fn insert(&mut self, name: &str) {
        if self.contains(name) {
            return;
        }
        let bytes = name.len() + size_of::<String>();
        if self.bytes + bytes > METADATA_ABSENT_BYTES {
            self.clear();
        }
        if bytes <= METADATA_ABSENT_BYTES {
            self.names.insert(name.to_owned());
            self.bytes += bytes;
        }
    }

    fn clear(&mut self) {
        *self = AbsentNames::default();
    }
}

impl MetadataTable {
    /// Nothing was read yet.
    pub(super) fn new(source: Arc<dyn MetadataSource>) -> MetadataTable {
        MetadataTable {
            source,
            families: HashMap::new(),
            read: None,
            pause: METADATA_REFRESH,
            cost: Duration::ZERO,
            absent: AbsentNames::default(),
        }
    }

    /// Reads them again if they are old. Returns whether they have changed.
    pub(super) fn refresh(&mut self) -> bool {
        if self.read.is_some_and(|read| read.elapsed() < self.pause) {
            return false;
        }
        let has_changed = self.read_again();
        // At the start new targets come all the time, later seldom.
        self.pause = if has_changed { METADATA_REFRESH } else { (self.pause * 2).min(METADATA_REFRESH_MOST) };
        has_changed
    }

    /// Reads them again if those of a new series are not known: its target may be new, too, and
    /// its first samples are sent with what the later ones have.
    pub(super) fn look_for(&mut self, name: &str) {
        if self.family(name).is_some() || self.absent.contains(name) {
            return;
        }
        // Soon, if not now.
        self.pause = METADATA_REFRESH;
        // Bounded by what it costs: with a hundred thousand new series, each would otherwise read
        // all targets.
        if self.read.is_some_and(|read| read.elapsed() < self.cost * METADATA_IDLE) {
            return;
        }
        self.read_again();
        if self.family(name).is_none() {
            self.absent.insert(name);
        }
    }

    /// Reads them again. Returns whether they have changed.
    fn read_again(&mut self) -> bool {
        let begin = Instant::now();
        let families: HashMap<String, FamilyMetadata> =
            self.source.all().into_iter().map(|family| (family.family.clone(), family)).collect();
        let has_changed = families != self.families;
        if has_changed {
            self.absent.clear();
        }
        self.families = families;
        self.cost = begin.elapsed();
        self.read = Some(Instant::now());
        has_changed
    }

    /// The family of a series with this metric name.
    fn family(&self, name: &str) -> Option<&FamilyMetadata> {
        self.families.get(name).or_else(|| {
            // The whole name first: a gauge may be called `requests_total`.
            let bases = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
            bases.into_iter().find_map(|base| self.families.get(base))
        })
    }

    /// The metadata of a series with this metric name; empty ones if its family is not known.
    pub(super) fn find(&self, name: &str) -> SeriesMetadata<'_> {
        self.family(name).map_or_else(SeriesMetadata::default, |family| SeriesMetadata {
            kind: family.kind,
            help: &family.help,
            unit: &family.unit,
        })
    }
}

/// Sends metadata in requests of their own.
pub(super) struct MetadataSender {
    pub context: Arc<ShardContext>,
    pub source: Arc<dyn MetadataSource>,
    pub interval: Duration,
    /// Metadata in a request.
    pub batch: usize,
}

impl MetadataSender {
    /// Sends all metadata once per interval, for ever.
    pub(super) async fn run(self) {
        loop {
            tokio::time::sleep(self.interval).await;
            let source = self.source.clone();
            // Off the async threads: it walks through the caches of all targets.
            let all = tokio::task::spawn_blocking(move || source.all().into_iter().collect::<BTreeSet<_>>());
            let all = Vec::from_iter(all.await.unwrap_or_default());
            for piece in all.chunks(self.batch) {
                self.send(piece).await;
            }
        }
    }

    /// Sends one request until it is stored or refused.
    async fn send(&self, families: &[FamilyMetadata]) {
        let ShardContext { client, metrics, clock, min_backoff, max_backoff, .. } = &*self.context;
        let count = families.len() as u64;
        // It fails only beyond 4 GB.
        let Ok(body) = snap::raw::Encoder::new().compress_vec(&message(families)) else { return };
        let body = Bytes::from(body);
        let mut pause = *min_backoff;
        let mut attempt = 0;
        loop {
            match client.send(body.clone(), attempt, clock.now()).await.outcome {
                Ok(()) => {
                    metrics.metadata.sent.add(count);
                    metrics.metadata.bytes.add(body.len() as u64);
                    return;
                }
                Err(WriteError::Later { after, reason }) => {
                    metrics.metadata.retried.add(count);
                    tracing::warn!(
                        target: "remote_write", queue = self.context.name, error = reason,
                        "Failed to send metadata, retrying"
                    );
                    let wait = after.unwrap_or(pause);
                    tokio::time::sleep(wait).await;
                    pause = (wait * 2).min(*max_backoff);
                }
                Err(error) => {
                    metrics.metadata.failed.add(count);
                    tracing::error!(
                        target: "remote_write", queue = self.context.name, %error, count,
                        "non-recoverable error while sending metadata"
                    );
                    return;
                }
            }
            attempt += 1;
        }
    }
}

/// A `prometheus.WriteRequest` with metadata only.
fn message(families: &[FamilyMetadata]) -> Vec<u8> {
    let mut out = Vec::new();
    for FamilyMetadata { family, kind, help, unit } in families {
        put_message(&mut out, 3, |out| {
            put_number(out, 1, *kind);
            put_bytes(out, 2, family.as_bytes());
            put_bytes(out, 4, help.as_bytes());
            put_bytes(out, 5, unit.as_bytes());
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct FixedMetadata(Mutex<Vec<FamilyMetadata>>);

    impl MetadataSource for FixedMetadata {
        fn all(&self) -> Vec<FamilyMetadata> {
            self.0.lock().clone()
        }
    }

    #[test]
    fn a_series_has_the_metadata_of_its_family() {
        let source = Arc::new(FixedMetadata::default());
        let family = |family: &str, kind| FamilyMetadata {
            family: family.to_owned(),
            kind,
            help: format!("help of {family}"),
            unit: String::new(),
        };
        *source.0.lock() = vec![family("a_seconds", 3), family("b_total", 1), family("c", 1)];
        let mut table = MetadataTable::new(source.clone());
        assert!(table.refresh());
        assert!(!table.refresh(), "not again at once");
        let kind = |name: &str| table.find(name).kind;
        assert_eq!(
            ["a_seconds_bucket", "a_seconds_sum", "b_total", "c_total", "b", "x"].map(kind),
            [3, 3, 1, 1, 0, 0]
        );
        assert_eq!(table.find("c").help, "help of c");
        // A new family is found as soon as there is a series of it.
        source.0.lock().push(family("new", 2));
        std::thread::sleep(table.cost * METADATA_IDLE);
        table.look_for("nothing");
        assert_eq!(table.find("new").kind, 2);
        source.0.lock().push(family("newest", 2));
        std::thread::sleep(table.cost * METADATA_IDLE);
        table.look_for("nothing");
        assert_eq!(table.find("newest").kind, 0, "it is known that there are none of this name");
        table.look_for("newest");
        assert_eq!(table.find("newest").kind, 2);
    }

    #[test]
    fn names_without_metadata_have_a_limit() {
        let mut names = AbsentNames::default();
        let long = |n: usize| format!("{n:01000}");
        let most = METADATA_ABSENT_BYTES / (1000 + size_of::<String>());
        for n in 0..most {
            names.insert(&long(n));
            names.insert(&long(n));
        }
        assert_eq!(names.names.len(), most, "all of them fit, and a name counts once");
        names.insert(&long(most));
        assert!(names.contains(&long(most)) && !names.contains(&long(0)));
        assert_eq!((names.names.len(), names.bytes), (1, 1000 + size_of::<String>()));
        names.insert(&"x".repeat(METADATA_ABSENT_BYTES));
        assert_eq!((names.names.len(), names.bytes), (0, 0), "a name beyond the limit is not held");
    }
}
