//! Memory of queries and views, counted where they create values, labels and answers.
//!
//! The numbers are estimates in bytes, not what the allocator uses: correct to a factor of two, and
//! cheap. All queries share a [`MemoryPool`], and all views another; each query or step of a view
//! has a [`MemoryReservation`] in it, with its own limit, which is returned when it is dropped.

use crate::limits::{QUERIES_BYTES, QUERY_BYTES};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Who uses a pool; decides the text of an error.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Consumers {
    Queries,
    Views,
}

/// The memory that all queries, or all views, may hold together.
#[derive(Debug)]
pub struct MemoryPool {
    consumers: Consumers,
    limit: usize,
    reserved: AtomicUsize,
}

/// The memory that one query, or one step of a view, holds.
#[derive(Debug)]
pub struct MemoryReservation {
    pool: Arc<MemoryPool>,
    limit: usize,
    size: AtomicUsize,
}

/// Why no more memory can be reserved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryExhausted {
    /// The query itself holds too much; bytes of the limit.
    #[error(
        "query processing would hold more than {} of values, labels and answer in memory: \
         ask for fewer series or steps or for shorter labels, or raise --query.max-bytes",
        binary(*.0)
    )]
    Query(usize),
    /// All queries together hold too much.
    #[error(
        "the queries at work would together hold more than {} of values, labels and answers in memory: \
         ask again later or for less, or raise --query.max-total-bytes",
        binary(*.0)
    )]
    Queries(usize),
    /// A step of a view creates too many labels.
    #[error(
        "this step would hold more than {} of labels in memory: \
         let it make fewer or shorter labels, or raise --query.max-bytes",
        binary(*.0)
    )]
    View(usize),
    /// All views together create too many labels.
    #[error(
        "the standing views would together hold more than {} of labels in memory: \
         let them make fewer or shorter labels, or raise --query.max-total-bytes",
        binary(*.0)
    )]
    Views(usize),
}

/// Formats like `1.5 GiB`, as flags accept it: in the largest unit of which there is at least one.
fn binary(bytes: usize) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut shown = (bytes as f64, "B");
    for unit in units {
        if shown.0 < 1024.0 {
            break;
        }
        shown = (shown.0 / 1024.0, unit);
    }
    let number = format!("{:.1}", shown.0);
    format!("{} {}", number.strip_suffix(".0").unwrap_or(&number), shown.1)
}

/// The limits for labels that views create.
#[derive(Clone, Debug)]
pub struct ViewMemory {
    /// The pool of all views.
    pub pool: Arc<MemoryPool>,
    /// The limit of one step of a view, in bytes.
    pub limit: usize,
}

impl Default for ViewMemory {
    fn default() -> Self {
        ViewMemory { pool: MemoryPool::for_views(QUERIES_BYTES), limit: QUERY_BYTES }
    }
}

impl ViewMemory {
    /// An empty reservation for one step.
    pub fn reservation(&self) -> MemoryReservation {
        self.pool.reservation(self.limit)
    }
}

impl MemoryPool {
    /// A pool for all queries together.
    pub fn for_queries(limit: usize) -> Arc<MemoryPool> {
        Arc::new(MemoryPool { consumers: Consumers::Queries, limit, reserved: AtomicUsize::new(0) })
    }

    /// A pool for the labels that all views create.
    pub fn for_views(limit: usize) -> Arc<MemoryPool> {
        Arc::new(MemoryPool { consumers: Consumers::Views, limit, reserved: AtomicUsize::new(0) })
    }

    /// Bytes that are reserved now.
    pub fn reserved(&self) -> usize {
        self.reserved.load(Relaxed)
    }

    /// An empty reservation that may grow to `limit` bytes.
    pub fn reservation(self: &Arc<MemoryPool>, limit: usize) -> MemoryReservation {
        MemoryReservation { pool: self.clone(), limit, size: AtomicUsize::new(0) }
    }
}

impl MemoryReservation {
    /// Reserves `bytes` more, or nothing and an error.
    pub fn grow(&self, bytes: usize) -> Result<(), MemoryExhausted> {
        let size = self.size.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if size > self.limit {
            self.size.fetch_sub(bytes, Relaxed);
            return Err(match self.pool.consumers {
                Consumers::Queries => MemoryExhausted::Query(self.limit),
                Consumers::Views => MemoryExhausted::View(self.limit),
            });
        }
        let all = self.pool.reserved.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if all > self.pool.limit {
            self.size.fetch_sub(bytes, Relaxed);
            self.pool.reserved.fetch_sub(bytes, Relaxed);
            return Err(match self.pool.consumers {
                Consumers::Queries => MemoryExhausted::Queries(self.pool.limit),
                Consumers::Views => MemoryExhausted::Views(self.pool.limit),
            });
        }
        Ok(())
    }

    /// Returns what is reserved beyond `size` bytes.
    pub fn shrink_to(&self, size: usize) {
        let before = self.size.fetch_min(size, Relaxed);
        self.pool.reserved.fetch_sub(before.saturating_sub(size), Relaxed);
    }

    /// Returns `bytes`.
    pub fn shrink(&self, bytes: usize) {
        self.size.fetch_sub(bytes, Relaxed);
        self.pool.reserved.fetch_sub(bytes, Relaxed);
    }

    /// Bytes that are reserved.
    pub fn size(&self) -> usize {
        self.size.load(Relaxed)
    }

    /// The most bytes that can be reserved.
    pub fn limit(&self) -> usize {
        self.limit.min(self.pool.limit)
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.pool.reserved.fetch_sub(self.size(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_ends_at_its_own_limit_and_at_that_of_all() {
        let pool = MemoryPool::for_queries(100);
        let one = pool.reservation(60);
        let two = pool.reservation(60);
        assert_eq!(one.grow(60), Ok(()));
        assert_eq!(one.grow(1), Err(MemoryExhausted::Query(60)));
        assert_eq!(two.grow(41), Err(MemoryExhausted::Queries(100)));
        assert_eq!((two.grow(40), pool.reserved()), (Ok(()), 100));
        one.shrink_to(30);
        one.shrink(10);
        assert_eq!((one.size(), pool.reserved()), (20, 60));
        drop(one);
        assert_eq!((two.grow(20), pool.reserved()), (Ok(()), 60));
        drop(two);
        assert_eq!(pool.reserved(), 0, "nothing is left behind");
    }

    #[test]
    fn errors_say_how_much_and_what_to_do() {
        for (bytes, shown) in [(1, "1 B"), (1024, "1 KiB"), (1536 << 20, "1.5 GiB"), (3 << 40, "3 TiB")] {
            assert_eq!(binary(bytes), shown);
        }
        let said = MemoryExhausted::Query(1 << 30).to_string();
        assert!(said.contains("1 GiB") && said.contains("--query.max-bytes"), "{said}");
    }
}
