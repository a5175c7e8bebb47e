//! The object store for old blocks, as the configuration names it (`docs/objects.md`).

use connectors::objects::ObjectPlace;
use connectors::objects::config::ObjectsConfig;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use storage::store::{FarOptions, Store, StoreError};

/// The place that `config` names, for the data directory `data`. Nothing is asked of it yet.
pub fn options(config: &ObjectsConfig, data: &Path) -> Result<FarOptions, String> {
    let place = ObjectPlace::open(config, std::env::vars()).map_err(|e| format!("storage.objects: {e}"))?;
    Ok(FarOptions {
        objects: Arc::new(place),
        after_ms: config.after.0,
        cache_bytes: config.cache_size.0,
        mark: mark(data)?,
    })
}

/// What no other data directory is called, and what a person recognises.
fn mark(data: &Path) -> Result<String, String> {
    let mut random = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read.map_err(|e| format!("/dev/urandom: {e}"))?;
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    Ok(format!("{}:{} {:016x}", crate::host_name(), data.display(), u64::from_le_bytes(random)))
}

/// Asks the object store what is in it. One that does not answer is asked again every minute; one that belongs to
/// somebody else is an error.
pub fn reach(store: &Store) -> Result<(), String> {
    match store.reach_far() {
        Ok(()) => Ok(()),
        Err(error @ StoreError::Taken { .. }) => Err(format!("storage.objects: {error}")),
        Err(error) => {
            tracing::error!(%error, "the object store does not answer; queries that need it fail, and it is tried again every minute");
            Ok(())
        }
    }
}
