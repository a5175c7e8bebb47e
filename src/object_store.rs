//! Connects the store to the object store for old blocks that the configuration names
//! (`docs/objects.md`).

use crate::limits::{FAR_AGAIN, FAR_FIRST_ANSWER};
use connectors::objects::RemoteObjects;
use connectors::objects::config::ObjectStoreConfig;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use storage::store::{ColdOptions, Store, StoreError};

/// The options for the object store that `config` names and the data directory `data`. Sends no
/// request.
pub(crate) fn options(config: &ObjectStoreConfig, data: &Path) -> Result<ColdOptions, String> {
    let place = RemoteObjects::open(config, std::env::vars()).map_err(|e| format!("storage.objects: {e}"))?;
    Ok(ColdOptions {
        objects: Arc::new(place),
        after_ms: config.after.0,
        cache_bytes: config.cache_size.0,
        mark: directory_id(data)?,
    })
}

/// A name for the data directory that is unique (random) and that a person recognises (host and
/// path).
fn directory_id(data: &Path) -> Result<String, String> {
    let mut random = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read.map_err(|e| format!("/dev/urandom: {e}"))?;
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
pub(crate) fn connect(store: &Arc<Store>) -> Result<(), String> {
    let (tell, hear) = sync_channel(1);
    let asked = Arc::downgrade(store);
    let thread = std::thread::Builder::new().name("objects-reach".to_owned());
    thread.spawn(move || ask(&asked, &tell)).map_err(|e| format!("cannot start threads: {e}"))?;
    match hear.recv_timeout(FAR_FIRST_ANSWER) {
        Ok(Err(error @ StoreError::OwnedByOther { .. })) => Err(format!("storage.objects: {error}")),
        _ => Ok(()),
    }
}

/// Lists the object store until that succeeds or the store is gone; sends each result to `tell`,
/// which has room for one.
fn ask(store: &Weak<Store>, tell: &SyncSender<Result<(), StoreError>>) {
    let mut told = false;
    while let Some(store) = store.upgrade() {
        let outcome = store.maintenance().reconcile_cold_storage();
        let again = outcome.is_err();
        let first = !std::mem::replace(&mut told, true);
        match &outcome {
            Err(error) if first => {
                tracing::error!(%error, "the object store cannot be used; queries that need it fail, and it is tried again")
            }
            Ok(()) if !first => tracing::info!("the object store answers"),
            _ => {}
        }
        drop(store);
        // The receiver may have stopped waiting.
        let _ = tell.try_send(outcome);
        if !again {
            return;
        }
        std::thread::sleep(FAR_AGAIN);
    }
}
