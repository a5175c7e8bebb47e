//! The object store for old blocks, as the configuration names it (`docs/objects.md`).

use crate::limits::{FAR_AGAIN, FAR_FIRST_ANSWER};
use connectors::objects::RemoteObjects;
use connectors::objects::config::ObjectStoreConfig;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use storage::store::{ColdOptions, Store, StoreError};

/// The place that `config` names, for the data directory `data`. Nothing is asked of it yet.
pub fn options(config: &ObjectStoreConfig, data: &Path) -> Result<ColdOptions, String> {
    let place = RemoteObjects::open(config, std::env::vars()).map_err(|e| format!("storage.objects: {e}"))?;
    Ok(ColdOptions {
        objects: Arc::new(place),
        after_ms: config.after.0,
        cache_bytes: config.cache_size.0,
        mark: directory_id(data)?,
    })
}

/// What no other data directory is called, and what a person recognises.
fn directory_id(data: &Path) -> Result<String, String> {
    let mut random = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read.map_err(|e| format!("/dev/urandom: {e}"))?;
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    Ok(format!("{}:{} {:016x}", crate::host_name(), data.display(), u64::from_le_bytes(random)))
}

/// Has the object store asked what is in it, until it answers. One that is known to belong to
/// somebody else is an error; for another answer nobody waits.
pub fn connect(store: &Arc<Store>) -> Result<(), String> {
    let (tell, hear) = sync_channel(1);
    let asked = Arc::downgrade(store);
    let thread = std::thread::Builder::new().name("objects-reach".to_owned());
    thread.spawn(move || ask(&asked, &tell)).map_err(|e| format!("cannot start threads: {e}"))?;
    match hear.recv_timeout(FAR_FIRST_ANSWER) {
        Ok(Err(error @ StoreError::Taken { .. })) => Err(format!("storage.objects: {error}")),
        _ => Ok(()),
    }
}

/// Asks until there is an answer, or no store any more; tells of the first.
fn ask(store: &Weak<Store>, tell: &SyncSender<Result<(), StoreError>>) {
    let mut told = false;
    while let Some(store) = store.upgrade() {
        let outcome = store.reach_far();
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
        // Whoever waited for it may be gone.
        let _ = tell.try_send(outcome);
        if !again {
            return;
        }
        std::thread::sleep(FAR_AGAIN);
    }
}
