//! The locks of housekeeping: who may change blocks at the same time as whom.
//!
//! Appends and queries take none of them. They are always locked in the order of the fields of
//! [`MaintenanceLocks`], so two threads never wait for each other.

use parking_lot::{Mutex, MutexGuard};

/// The locks, in the order in which they are locked.
#[derive(Default)]
pub(super) struct MaintenanceLocks {
    /// Held while blocks are moved to the object store or rewritten: these exclude each other.
    moves: Mutex<()>,
    /// Held while blocks are merged or rewritten, for minutes at worst.
    merges: Mutex<()>,
    /// Held while the head is flushed, blocks are written or removed.
    flushes: Mutex<()>,
}

/// Two of the locks.
pub(super) struct LockPair<'a> {
    _first: MutexGuard<'a, ()>,
    _second: MutexGuard<'a, ()>,
}

impl MaintenanceLocks {
    /// For a flush, retention and backfill. Not more: they need not wait for a merge.
    pub(super) fn for_flush(&self) -> MutexGuard<'_, ()> {
        self.flushes.lock()
    }

    /// For uploads to the object store. A deletion or a merge need not wait for an upload.
    pub(super) fn for_upload(&self) -> MutexGuard<'_, ()> {
        self.moves.lock()
    }

    /// For the switch of an uploaded block, by a thread that has [`MaintenanceLocks::for_upload`]:
    /// so that a deletion or a snapshot sees the block in exactly one place.
    pub(super) fn for_switch(&self) -> MutexGuard<'_, ()> {
        self.merges.lock()
    }

    /// For whatever replaces blocks by rewritten ones: a block must not move meanwhile.
    pub(super) fn for_rewrite(&self) -> LockPair<'_> {
        LockPair { _first: self.moves.lock(), _second: self.merges.lock() }
    }

    /// For a deletion and a snapshot: no block appears or is replaced. Uploads go on.
    pub(super) fn for_all_blocks(&self) -> LockPair<'_> {
        LockPair { _first: self.merges.lock(), _second: self.flushes.lock() }
    }
}
