//! Counts the votes of one tick. Workers of several processes have no common memory, so a decision
//! that all must make at the same tick (that a view's history is there, and it begins) is made when
//! every worker has voted for it ([`super::super::message::WorkerVote`]).

use super::super::message::WorkerVote;
use std::collections::BTreeMap;

/// Votes, with the number of workers that cast them.
#[derive(Default)]
pub(super) struct VoteCount(BTreeMap<WorkerVote, usize>);

impl VoteCount {
    /// Counts the votes of a worker.
    pub(super) fn add(&mut self, votes: &[WorkerVote]) {
        for vote in votes {
            *self.0.entry(vote.clone()).or_default() += 1;
        }
    }

    /// Removes all votes and returns those that decide: all of `workers` are ready, or any worker
    /// reports garbage.
    pub(super) fn take_decided(&mut self, workers: usize) -> Vec<WorkerVote> {
        let decides = |vote: &WorkerVote, count: usize| match vote {
            WorkerVote::Ready(_) => count == workers,
            WorkerVote::Garbage(_) => true,
        };
        let votes = std::mem::take(&mut self.0).into_iter();
        votes.filter(|(vote, count)| decides(vote, *count)).map(|(vote, _)| vote).collect()
    }
}
