//! The trace of a simulation: a hash of all events, and on request (`TRACE=file`) a text, in which
//! the first difference of two runs can be found.

use super::directory;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use xxhash_rust::xxh3::Xxh3;

/// The trace of a run.
pub struct Trace(Mutex<(Xxh3, Option<File>)>);

impl Trace {
    pub fn new(seed: u64) -> Trace {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let run = RUNS.fetch_add(1, Relaxed);
        let file = std::env::var("TRACE").ok();
        let file =
            file.map(|path| File::create(directory::given(&format!("{path}.{seed}.{run}"))).expect("a file"));
        Trace(Mutex::new((Xxh3::new(), file)))
    }

    /// Adds an event.
    pub fn note(&self, what: &str) {
        let mut state = self.0.lock();
        state.0.update(what.as_bytes());
        if let Some(file) = &mut state.1 {
            writeln!(file, "{what}").expect("the trace is written");
        }
    }

    pub fn hash(&self) -> u64 {
        self.0.lock().0.digest()
    }
}
