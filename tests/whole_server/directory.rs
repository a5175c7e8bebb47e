//! The working directory of the simulation. It contains the data directory of each *world*, which
//! is one simulated server with its disk ([`super::world`]).
//!
//! File names within a world are relative to it. Some names are stored (the file of a rule is part
//! of its key), and a run with the same seed must store the same bytes.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};
use tempfile::TempDir;

/// The directory in which the program was started.
static START: LazyLock<PathBuf> = LazyLock::new(|| std::env::current_dir().expect("a directory"));

/// Makes the directory of all worlds the working directory. It is removed when all returned values
/// are dropped.
pub fn enter() -> Arc<TempDir> {
    static WORLDS: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut worlds = WORLDS.lock();
    if let Some(there) = worlds.upgrade() {
        return there;
    }
    LazyLock::force(&START);
    // In memory if possible, where files are cheapest.
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let made = Arc::new(TempDir::new_in(parent).expect("a directory"));
    std::env::set_current_dir(made.path()).expect("a directory");
    *worlds = Arc::downgrade(&made);
    made
}

/// A path that is relative to the directory in which the program was started.
pub fn given(path: &str) -> PathBuf {
    START.join(path)
}
