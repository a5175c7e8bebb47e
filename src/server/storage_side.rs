//! [`ServerStorage`]: the part of the server that owns the data directory: its lock, the store, the
//! log replay, the health, and the object store for old blocks. [`super`] connects the parts.

use super::context::ServerContext;
use super::{LoadedConfig, ServerError, out_of_order};
use crate::config::Config;
use crate::data_directory_lock::DataLock;
use crate::environment::{SIMULATION_SEGMENT_BYTES, Surroundings};
use crate::flags::Feature;
use crate::health::Health;
use crate::limits::EXEMPLARS;
use crate::retention::RetentionInForce;
use crate::{machine, object_store, retention};
use connectors::objects::config::ObjectStoreConfig;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use storage::execution::Execution;
use storage::metrics::Gauge;
use storage::store::{NoHistory, PendingReplay, ReplayReport, Store, StoreBuilder, StoreError, StoreOptions};

/// The data directory and the store in it.
pub struct ServerStorage {
    /// The data directory.
    pub dir: PathBuf,
    /// The store with the samples.
    pub store: Arc<Store>,
    /// Whether the server can do its work.
    pub health: Arc<Health>,
    /// The log replay, which continues after the server is open; `None`: somebody waits for it, or
    /// has.
    replay: Mutex<Option<Replayer>>,
    /// The object store for old blocks, as it was at the start.
    objects: Option<ObjectStoreConfig>,
    retention: Mutex<RetentionInForce>,
    /// The last field, so that it is dropped after the store; `None`: locking is disabled.
    _lock: Option<DataLock>,
}

/// What replays the log: a thread or the caller.
enum Replayer {
    Thread(JoinHandle<Result<ReplayReport, StoreError>>),
    Caller(Box<PendingReplay>),
}

/// Says it if the data directory is one of Prometheus that was never imported: its history is not
/// read, and nobody should look for it.
fn tell_of_prometheus(dir: &Path) {
    if !dir.join("blocks").exists() && connectors::import::prometheus::is_data_directory(dir) {
        tracing::warn!(
            target: "wal",
            dir = %dir.display(),
            "the data directory has history of Prometheus, which is not read; `perennial import prometheus` brings it along"
        );
    }
}

impl ServerStorage {
    /// Locks the data directory and opens the store. The replay of the log begins.
    pub(super) fn open(
        context: &ServerContext,
        config: &Config,
        here: &Surroundings,
    ) -> Result<ServerStorage, ServerError> {
        let flags = &context.flags;
        let dir = flags.data_path(config.storage.path.as_ref());
        // Before the store: opening one that another server writes to would already change files.
        let lock = if flags.lock_data() { Some(DataLock::take(&dir)?) } else { None };
        tell_of_prometheus(&dir);
        let options = StoreOptions {
            dir: dir.clone(),
            wal_sync_interval_ms: flags.wal_sync_interval(),
            block_range_ms: flags.block_range(config.storage.min_block),
            out_of_order_ms: out_of_order(config),
        };
        let objects = &config.storage.objects;
        // Before the store, so that an invalid block of the configuration is an error without any
        // effect.
        let cold = objects.as_ref().map(|objects| object_store::options(objects, &dir)).transpose()?;
        let builder = StoreBuilder::new(options, here.disk.clone(), &context.metrics);
        let builder = match flags.agent_segment_bytes() {
            Some(bytes) => builder.segment_bytes(bytes),
            None => builder,
        };
        let builder = if *flags.agent {
            builder.block_backend(Some(Arc::new(NoHistory)))
        } else {
            builder.cold_storage(cold)
        };
        let opened = match here.execution {
            // Before the replay: the store takes new samples and queries while the log is replayed,
            // which may be minutes for a large one. In a simulation the caller replays, so that
            // every run has the same order.
            Execution::Threads => builder.open_before_replay(),
            Execution::Caller => builder.manual_log(SIMULATION_SEGMENT_BYTES).open_before_replay(),
        };
        let (store, replaying) =
            opened.map_err(|source| ServerError::OpenStore { dir: dir.clone(), source })?;
        let replay = match here.execution {
            Execution::Threads => {
                let took = replay_time(context);
                let thread = std::thread::Builder::new().name("replay".to_owned());
                let replay = move || {
                    let began = Instant::now();
                    let replayed = replaying.run();
                    took.set(began.elapsed().as_secs_f64());
                    replayed
                };
                Replayer::Thread(thread.spawn(replay).map_err(ServerError::Thread)?)
            }
            Execution::Caller => Replayer::Caller(Box::new(replaying)),
        };
        if objects.is_some() {
            // After the replay has begun: the first answer of the network need not delay it.
            object_store::connect(&store)?;
        }
        let health = Health::new(
            store.clone(),
            here.clock.clone(),
            &dir,
            flags.lock_data(),
            here.reserve.clone(),
            &context.metrics,
        )?;
        Ok(ServerStorage {
            dir,
            store,
            health: Arc::new(health),
            replay: Mutex::new(Some(replay)),
            objects: objects.clone(),
            retention: Mutex::default(),
            _lock: lock,
        })
    }

    /// Waits until the log is replayed, and logs the result. Every further call returns at once.
    pub(super) fn replayed(&self) -> Result<(), ServerError> {
        // Taken out, so that a second caller does not wait for a thread that was joined already.
        let replayer = self.replay.lock().take();
        let replay = match replayer {
            None => return Ok(()),
            Some(Replayer::Caller(replaying)) => replaying.run(),
            Some(Replayer::Thread(thread)) => {
                // A panic of the replay is a bug and not an error of the data: it must not look
                // like one.
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        let replay = replay.map_err(|source| ServerError::Replay { dir: self.dir.clone(), source })?;
        // A warning and not an error: the samples of before and after the damage are there, and the
        // server goes on; but somebody should look at the disk.
        for line in &replay.damage {
            tracing::warn!(target: "wal", "the data directory is damaged: {line}");
        }
        let ReplayReport { records, samples, .. } = replay;
        tracing::info!(target: "wal", dir = %self.dir.display(), records, samples, "the store is open, its log is replayed");
        Ok(())
    }

    /// The retention in force, as the API shows it.
    pub(crate) fn retention_text(&self) -> String {
        retention::text(*self.retention.lock())
    }

    /// Puts the settings of the storage in force.
    pub(super) fn apply(&self, context: &ServerContext, loaded: &LoadedConfig) {
        let storage = &loaded.config.storage;
        // Without the feature the store keeps none, whatever the configuration says, as in
        // Prometheus; an agent has always some, to send them.
        if context.flags.has(Feature::ExemplarStorage) || *context.flags.agent {
            let most = storage.max_exemplars.unwrap_or(EXEMPLARS);
            // Prometheus takes a negative number for "none", too.
            self.store.exemplars().set_limit(usize::try_from(most).unwrap_or(0));
        }
        let retention = retention::in_force(&context.flags, storage, machine::disk_bytes(&self.dir));
        if storage.retention_percentage.is_some_and(|share| share > retention.percentage) {
            tracing::warn!(
                dir = %self.dir.display(),
                "the size of the disk of the data directory is not known, so that \
                 storage.tsdb.retention.percentage has no effect; set a size"
            );
        }
        let help = "Retention by the share of the disk, in percent; 0: no limit.";
        let share = context.metrics.gauge("prometheus_tsdb_retention_limit_percentage", help, &[]);
        share.set(retention.percentage);
        *self.retention.lock() = retention;
        self.store.retention().set(retention.limits);
        self.store.retention().set_series(storage.series_retention.clone());
        // Blocks that were moved to the old object store are read from there; another one cannot
        // replace it under running queries.
        if self.objects != storage.objects {
            tracing::warn!("storage.objects has changed; restart the server to use the new object store");
        }
    }
}

/// How long the replay of the log took at the start, seconds.
fn replay_time(context: &ServerContext) -> Arc<Gauge> {
    let name = if *context.flags.agent {
        "prometheus_agent_data_replay_duration_seconds"
    } else {
        "prometheus_tsdb_data_replay_duration_seconds"
    };
    context.metrics.gauge(name, "Time taken to replay the data on disk.", &[])
}
