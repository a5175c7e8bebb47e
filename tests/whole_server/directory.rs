//! Where worlds are: in a directory of its own, which is the one that the program works in. A world's files are named from there,
//! because names are stored (the file of a rule is part of its key), and the same seed must store the same.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};
use tempfile::TempDir;

/// Where the program was started.
static START: LazyLock<PathBuf> = LazyLock::new(|| std::env::current_dir().expect("a directory"));

/// Works in the directory of worlds, which is there as long as somebody has it.
pub fn enter() -> Arc<TempDir> {
    static WORLDS: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut worlds = WORLDS.lock();
    if let Some(there) = worlds.upgrade() {
        return there;
    }
    LazyLock::force(&START);
    // Where files cost least.
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let made = Arc::new(TempDir::new_in(parent).expect("a directory"));
    std::env::set_current_dir(made.path()).expect("a directory");
    *worlds = Arc::downgrade(&made);
    made
}

/// A path as somebody wrote it who started the program.
pub fn given(path: &str) -> PathBuf {
    START.join(path)
}
