//! What an administrator does with a store, as in Prometheus' admin API: deletions
//! ([`super::delete`]) and snapshots ([`super::snapshot`]).

use super::Store;

/// Deletions and snapshots of one store.
#[derive(Copy, Clone)]
pub struct Admin<'a> {
    pub(super) store: &'a Store,
}
