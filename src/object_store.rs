//! Opens the object store for old blocks that `storage.objects` names, and connects the store to it
//! (`docs/objects.md`). [`connectors::objects`] sends the requests.

use crate::limits::{OBJECTS_FIRST_ANSWER, OBJECTS_RETRY};
use connectors::objects::RemoteObjects;
use connectors::objects::config::ObjectStoreConfig;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use storage::store::{ColdOptions, Store, StoreError};

/// Why the object store for old blocks cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectStoreError {
    /// The configuration, or the credentials of the environment, are wrong.
    #[error("{0}")]
    Config(String),
    /// The random part of the data directory's mark cannot be read.
    #[error("/dev/urandom: {0}")]
    Random(#[source] io::Error),
    /// The operating system gives no thread.
    #[error("cannot start threads: {0}")]
    Thread(#[source] io::Error),
    /// The object store belongs to another data directory.
    #[error("{0}")]
    OwnedByOther(#[source] StoreError),
}

/// The options for the object store that `config` names and the data directory `data`. Sends no
/// request.
pub(crate) fn options(config: &ObjectStoreConfig, data: &Path) -> Result<ColdOptions, ObjectStoreError> {
    let opened = RemoteObjects::open(config, std::env::vars());
    let objects = opened.map_err(|error| ObjectStoreError::Config(error.to_string()))?;
    Ok(ColdOptions {
        objects: Arc::new(objects),
        after_ms: config.after.0,
        cache_bytes: config.cache_size.0,
        mark: directory_id(data).map_err(ObjectStoreError::Random)?,
    })
}

/// A name for the data directory that is unique (random) and that a person recognises (host and
/// path).
fn directory_id(data: &Path) -> io::Result<String> {
    let mut random = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read?;
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    Ok(format!("{}:{} {:016x}", crate::host_name(), data.display(), u64::from_le_bytes(random)))
}

/// Starts a thread that lists the object store, and retries until it answers.
///
/// Waits a short time for the first answer.
///
/// # Errors
///
/// If the object store belongs to another data directory. Other errors of the object store are not
/// waited for.
pub(crate) fn connect(store: &Arc<Store>) -> Result<(), ObjectStoreError> {
    let (sender, receiver) = sync_channel(1);
    let listed = Arc::downgrade(store);
    let thread = std::thread::Builder::new().name("objects-reach".to_owned());
    thread.spawn(move || list_until_it_answers(&listed, &sender)).map_err(ObjectStoreError::Thread)?;
    match receiver.recv_timeout(OBJECTS_FIRST_ANSWER) {
        // Never retried: whoever shares a prefix would delete the blocks of the other.
        Ok(Err(error @ StoreError::OwnedByOther { .. })) => Err(ObjectStoreError::OwnedByOther(error)),
        _ => Ok(()),
    }
}

/// Lists the object store until that succeeds or the store is gone; sends each result to `results`,
/// which has space for one.
fn list_until_it_answers(store: &Weak<Store>, results: &SyncSender<Result<(), StoreError>>) {
    let mut is_first = true;
    while let Some(store) = store.upgrade() {
        let outcome = store.maintenance().reconcile_cold_storage();
        let again = outcome.is_err();
        let first = std::mem::replace(&mut is_first, false);
        match &outcome {
            Err(error) if first => {
                tracing::error!(%error, "the object store cannot be used, so queries over its blocks fail; check storage.objects and the network, the server keeps trying")
            }
            Ok(()) if !first => tracing::info!("the object store answers"),
            _ => {}
        }
        // Before the pause, so that the thread does not keep a store alive that the server has
        // closed.
        drop(store);
        // The receiver may have stopped waiting.
        let _ = results.try_send(outcome);
        if !again {
            return;
        }
        std::thread::sleep(OBJECTS_RETRY);
    }
}
