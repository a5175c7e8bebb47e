//! The position of a worker in a cluster: which shards it owns, and for which views it runs the
//! gather stage. A shard is a fixed share of the series of one process.
//!
//! Each process has a store and with it all shards; its workers divide them. So series are owned by
//! (process, shard), and the local stage runs where the samples came in: raw samples never travel.
//! The gather stage runs in the workers of process 0, where the tick driver, the taps and the store
//! of recorded series are.

use super::ViewId;
use storage::model::SHARDS;

/// The position of a worker: its process and its number there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct WorkerTopology {
    /// Number of the process.
    pub process: usize,
    /// Number of processes.
    pub processes: usize,
    /// Number of the worker in its process.
    pub thread: usize,
    /// Number of workers in each process.
    pub threads: usize,
}

impl WorkerTopology {
    /// The worker's number among all workers: those of process 0 come first.
    pub fn index(self) -> usize {
        self.process * self.threads + self.thread
    }

    /// Number of all workers.
    pub fn worker_count(self) -> usize {
        self.processes * self.threads
    }

    /// Whether this worker owns that shard of its process.
    pub fn owns(self, shard: u16) -> bool {
        owner_thread(shard, self.threads) == self.thread
    }

    /// The number of a shard of this process among the shards of all processes.
    pub fn global_shard(self, shard: u16) -> u16 {
        // Fits: there are at most `limits::PROCESSES` processes.
        // Shards of all processes get distinct numbers, in the order of the processes: sums over
        // shards are added in this order, so a cluster has one canonical result.
        self.process as u16 * SHARDS + shard
    }

    /// Number of the shards of all processes.
    pub fn all_shards(self) -> usize {
        self.processes * usize::from(SHARDS)
    }

    /// The number, among all workers, of the one that runs the gather stage of a view.
    pub fn gather_worker(self, view: ViewId) -> usize {
        // A worker of process 0: the store for recorded samples and the consumers are there.
        (view.0 % self.threads as u64) as usize
    }
}

/// Which of the `threads` workers of a process owns a shard.
pub fn owner_thread(shard: u16, threads: usize) -> usize {
    usize::from(shard) % threads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_one_worker_and_every_view_one_finisher_in_process_0() {
        let place = |process, thread| WorkerTopology { process, processes: 3, thread, threads: 2 };
        let all: Vec<WorkerTopology> = (0..3).flat_map(|p| (0..2).map(move |t| place(p, t))).collect();
        assert_eq!(all.iter().map(|p| p.index()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        let mut wide = Vec::new();
        for place in &all {
            wide.extend(
                (0..SHARDS).filter(|shard| place.owns(*shard)).map(|shard| place.global_shard(shard)),
            );
            assert!((0..9).all(|view| place.gather_worker(ViewId(view)) < 2));
        }
        wide.sort_unstable();
        assert_eq!(wide, (0..3 * SHARDS).collect::<Vec<_>>());
    }
}
