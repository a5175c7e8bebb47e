//! Tests that flushes and retention do not wait for a merge: the merge is blocked, and the other
//! maintenance continues.
#![allow(clippy::disallowed_methods, reason = "files are looked at beside the store")]

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use storage::store::Retention;

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::hooked::{Call, HookedDisk, Hooks};
use support::{append, contents, names, open_on};

/// A disk on which a merge reports its start, and then waits for a message.
struct PausedMerge {
    begun: Mutex<Sender<()>>,
    go: Mutex<Receiver<()>>,
}

impl Hooks for PausedMerge {
    fn before(&self, call: &Call) -> io::Result<()> {
        match call {
            Call::Create(path) if path.to_string_lossy().contains("_merge.tmp/samples.parquet") => {
                self.begun.lock().unwrap().send(()).unwrap();
                self.go.lock().unwrap().recv().unwrap();
            }
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn a_flush_and_retention_go_on_while_blocks_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let ((begun, has_begun), (go, may_go)) = (channel(), channel());
    let gate = PausedMerge { begun: Mutex::new(begun), go: Mutex::new(may_go) };
    let (store, _) = open_on(dir.path(), Arc::new(HookedDisk(Arc::new(gate))));
    for t in 1..=75 {
        append(&store, t * 1_000, 3);
    }
    assert_eq!(store.maintenance().run_housekeeping(75_000).unwrap(), 4);
    let merging = {
        let store = store.clone();
        std::thread::spawn(move || store.maintenance().compact().unwrap())
    };
    has_begun.recv().unwrap();
    // The merge has three blocks open and is blocked.
    for t in 76..=95 {
        append(&store, t * 1_000, 3);
    }
    let all = contents(&store);
    assert_eq!(store.maintenance().run_housekeeping(95_000).unwrap(), 2, "a flush");
    assert!(contents(&store) == all);
    store.retention().set(Retention { time_ms: 80_000, size_bytes: 0 });
    store.maintenance().run_housekeeping(95_000).unwrap();
    assert_eq!(
        names(dir.path()).iter().filter(|name| !name.ends_with("tmp")).count(),
        5,
        "the oldest is gone"
    );
    let left = contents(&store);
    assert!(left.len() < all.len());
    // One message for the merge that is abandoned, one for the merge of the remaining blocks.
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(merging.join().unwrap(), 1);
    assert!(contents(&store) == left, "what retention removed does not live on in the merged one");
    assert_eq!(
        names(dir.path()).len(),
        4,
        "two of the three that were to be merged are one, and the other three"
    );
}
