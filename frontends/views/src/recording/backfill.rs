//! Runs backfill, which is the computation of what a recording rule would have recorded before it
//! existed: evaluates ranges of evaluation times, leaves out samples that are stored, writes
//! blocks, and saves the progress. [`super::backfill_plan`] decides what is next.
//!
//! One thread of low priority. The samples that wait for their block are bounded. If an answer is
//! too large, or an evaluation fails, the range is halved, down to single times; a time that fails
//! by itself stays empty, as it would have in the live runtime. If the store or another process
//! does not answer, the rule is paused and the time is evaluated again later.

use super::BackfillShared;
use super::backfill_plan::{BackfillBatch, BackfillPlan, BackfillTask, BlockRange, TaskProgress};
use super::evaluate::{HistoryUnavailable, PastRuleEvaluator, query_fault};
use super::limits::{BACKFILL_TIMES, BLOCK_SAMPLES, CORRECTION_SLACK_MS, RETRY_AFTER};
use super::progress_file::ProgressFileError;
use super::recorded_samples::{EvaluationRange, RecordedSamples, SamplesBySeries, merge_samples, without};
use engine::query::pool;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use storage::model::TimeMs;
use storage::model::value::is_stale;
use storage::store::SeriesSamples;

/// Computes history, in a thread or when the caller calls [`BackfillWorker::turn`].
pub(super) struct BackfillWorker {
    shared: Arc<BackfillShared>,
}

/// Why work ended early.
enum BackfillStop {
    /// The server is stopping.
    Stopped,
    /// The store or the disk failed.
    Failed(String),
}

impl From<HistoryUnavailable> for BackfillStop {
    fn from(why: HistoryUnavailable) -> BackfillStop {
        match why {
            HistoryUnavailable::Stopped => BackfillStop::Stopped,
            HistoryUnavailable::Failed(error) => BackfillStop::Failed(error),
        }
    }
}

/// What must be done next.
enum BackfillWork {
    /// Evaluation times to compute.
    Batch(BackfillBatch),
    /// The progress has changed and must be saved.
    Note,
}

impl BackfillWork {
    /// The next work for `rules`, if any.
    fn next(rules: &mut BackfillPlan) -> Option<BackfillWork> {
        // The beginning of a rule is saved before anything else of it.
        if rules.is_unwritten() { Some(BackfillWork::Note) } else { rules.next().map(BackfillWork::Batch) }
    }
}

/// The samples that wait for their block.
#[derive(Default)]
struct PendingBlock {
    samples: SamplesBySeries,
    count: usize,
    reached: Vec<TaskProgress>,
}

impl PendingBlock {
    /// A rule is computed up to a time. Only the latest progress of each rule is kept, with the
    /// first error.
    fn set_progress(&mut self, mut reached: TaskProgress) {
        if let Some(before) = self.reached.last_mut().filter(|before| before.view == reached.view) {
            reached.error = reached.error.or(before.error.take());
            *before = reached;
        } else {
            self.reached.push(reached);
        }
    }
}

impl BackfillWorker {
    pub(super) fn new(shared: Arc<BackfillShared>) -> BackfillWorker {
        BackfillWorker { shared }
    }

    /// Works until the server stops.
    pub(super) fn run(&self) {
        pool::nice();
        loop {
            let due = {
                let mut rules = self.shared.rules.lock();
                if rules.ended {
                    break;
                }
                let patience = rules.idle_time();
                match BackfillWork::next(&mut rules) {
                    Some(due) => due,
                    None if self.shared.woken.wait_for(&mut rules, patience).timed_out() => {
                        BackfillWork::Note
                    }
                    None => continue,
                }
            };
            if self.act(due).is_err() {
                let mut rules = self.shared.rules.lock();
                if !rules.ended {
                    self.shared.woken.wait_for(&mut rules, RETRY_AFTER);
                }
            }
        }
        self.end();
    }

    /// Does what is due now, if there is no thread.
    pub(super) fn turn(&self) {
        let due = BackfillWork::next(&mut self.shared.rules.lock());
        // A failure is tried again in the next turn.
        let _ = self.act(due.unwrap_or(BackfillWork::Note));
    }

    /// Saves the progress.
    pub(super) fn end(&self) {
        if let Err(error) = self.note() {
            // Nobody has to act if the disk recovers: only work is repeated.
            tracing::warn!(target: "views", %error, "the progress of backfill cannot be written, so some of it is computed again after a restart; check the disk");
        }
    }

    /// Does what is due. Fails if it must be tried again later.
    fn act(&self, due: BackfillWork) -> Result<(), ()> {
        let outcome = match due {
            BackfillWork::Batch(batch) => self.batch(&batch),
            BackfillWork::Note => Ok(()),
        };
        match outcome.and_then(|()| self.note().map_err(|error| BackfillStop::Failed(error.to_string()))) {
            Ok(()) | Err(BackfillStop::Stopped) => Ok(()),
            Err(BackfillStop::Failed(error)) => {
                tracing::error!(target: "views", error, "backfill cannot go on; check the disk and the other processes, it is tried again");
                Err(())
            }
        }
    }

    /// Saves the progress of all rules.
    fn note(&self) -> Result<(), ProgressFileError> {
        let progress = self.shared.rules.lock().progress(self.shared.services.clock.now());
        progress.map_or(Ok(()), |progress| self.shared.progress_file.write(&progress))
    }

    fn batch(&self, batch: &BackfillBatch) -> Result<(), BackfillStop> {
        let mut waiting = PendingBlock::default();
        let views: Vec<_> = batch.tasks.iter().map(|task| task.view).collect();
        let mut outcome =
            batch.tasks.iter().try_for_each(|task| self.run_task(task, batch.range, &mut waiting));
        if !matches!(outcome, Err(BackfillStop::Failed(_))) {
            outcome = outcome.and(self.write(batch.range, &mut waiting));
        }
        if let Err(BackfillStop::Failed(error)) = &outcome {
            self.shared.rules.lock().failed(&views, error);
        }
        outcome
    }

    /// No answer, but not because of the query: the rule is paused, the others continue.
    fn pause_rule(&self, task: &BackfillTask, why: &str) -> Result<(), BackfillStop> {
        let rule = &task.rule.spec.name;
        // Whoever must act is told by what failed: the disk, or the other process.
        tracing::warn!(target: "views", rule, why, "backfill cannot read history; it is tried again");
        self.shared.rules.lock().pause_rule(task.view, why);
        Ok(())
    }

    /// Computes the evaluation times of one rule, piece by piece, as far as history can be read.
    fn run_task(
        &self,
        task: &BackfillTask,
        range: BlockRange,
        waiting: &mut PendingBlock,
    ) -> Result<(), BackfillStop> {
        let asker = PastRuleEvaluator {
            services: &self.shared.services,
            plan: &task.rule.spec.plan,
            recording: &task.recording,
        };
        let mut present = match &task.present {
            Some(present) => present.clone(),
            None => match asker.series_alive_before(task.times, task.from) {
                Ok(present) => present,
                Err(HistoryUnavailable::Failed(why)) => return self.pause_rule(task, &why),
                Err(HistoryUnavailable::Stopped) => return Err(BackfillStop::Stopped),
            },
        };
        let mut at_once = task.at_once;
        let EvaluationRange { mut first, last, interval } = task.times;
        while first <= last {
            let piece_last = last.min(first + (at_once.max(1) as i64 - 1) * interval);
            let piece = EvaluationRange { first, last: piece_last, interval };
            let fault = match asker.query(piece) {
                Ok(answer) => {
                    let RecordedSamples { samples, failed: faults } =
                        task.recording.samples(answer, piece, &mut present);
                    self.add_samples(task, samples, piece, waiting)?;
                    // Grows again after it was halved: the past is not equally large everywhere.
                    at_once = (at_once * 2).min(BACKFILL_TIMES);
                    faults.into_iter().next()
                }
                Err(error) => match query_fault(error) {
                    Err(HistoryUnavailable::Stopped) => return Err(BackfillStop::Stopped),
                    // Whatever the error, a smaller query may succeed: a limit depends on the
                    // length, and other errors come back at a single time.
                    _ if piece.len() > 1 => {
                        at_once = piece.len().div_ceil(2);
                        continue;
                    }
                    Err(HistoryUnavailable::Failed(why)) => return self.pause_rule(task, &why),
                    Ok(error) => Some((first, error.to_string())),
                },
            };
            let error = fault.map(|(t, why)| format!("slot {}: {why}", t as f64 / 1000.0));
            let view = task.view;
            let turn = task.turn;
            let time = piece.last;
            waiting.set_progress(TaskProgress { view, turn, time, present: present.clone(), at_once, error });
            // A block before the piece is complete: the samples that wait are memory.
            if waiting.count >= BLOCK_SAMPLES {
                self.write(range, waiting)?;
            }
            first = piece.last + interval;
        }
        Ok(())
    }

    /// Adds samples that are not stored yet to the pending block.
    fn add_samples(
        &self,
        task: &BackfillTask,
        mut samples: SamplesBySeries,
        times: EvaluationRange,
        waiting: &mut PendingBlock,
    ) -> Result<(), BackfillStop> {
        // At the handover time the live runtime has recorded, but could not know which series
        // existed before and have ended.
        if task.ends_at_handover {
            for one in samples.values_mut() {
                keep_stale_markers_only(one, task.times.last);
            }
        }
        let stored = self.shared.services.store.recorder().read_series(
            &task.recording.matchers(),
            times.first,
            times.last,
        );
        let stored = stored.map_err(|e| BackfillStop::Failed(e.to_string()))?;
        for (labels, one) in samples {
            let one = match stored.get(&labels) {
                Some(existing) => without(one, existing),
                None => one,
            };
            waiting.count += one.ts.len() + one.histograms.len();
            if one.ts.is_empty() && one.histograms.is_empty() {
                continue;
            }
            match waiting.samples.get_mut(&labels) {
                Some(to) => merge_samples(to, one),
                None => drop(waiting.samples.insert(labels, one)),
            }
        }
        Ok(())
    }

    /// Writes the pending samples as a block, and then stores the progress of the rules.
    fn write(&self, range: BlockRange, waiting: &mut PendingBlock) -> Result<(), BackfillStop> {
        let PendingBlock { samples, count, reached } = std::mem::take(waiting);
        let series: Vec<SeriesSamples> = samples.into_values().collect();
        let services = &self.shared.services;
        let reach = self.shared.reach.load(Relaxed).saturating_add(CORRECTION_SLACK_MS);
        // Only windows that reach so far back need to hear of it; the rest of the past is read from
        // the store.
        let tell_from = services.clock.now().saturating_sub(reach);
        let written = services.store.recorder().write_backfill(range.begin, range.end, &series, tell_from);
        written.map_err(|e| BackfillStop::Failed(e.to_string()))?;
        let until = reached.iter().map(|r| r.time).max().unwrap_or(range.begin);
        let complete = self.shared.rules.lock().reached(reached);
        self.note().map_err(|error| BackfillStop::Failed(error.to_string()))?;
        tracing::info!(
            target: "views",
            series = series.len(),
            samples = count,
            until,
            "backfill has written a block"
        );
        for rule in complete.iter() {
            tracing::info!(target: "views", rule, "backfill is complete");
        }
        Ok(())
    }
}

/// Removes the sample at `t` unless it is a stale marker.
fn keep_stale_markers_only(samples: &mut SeriesSamples, t: TimeMs) {
    samples.histograms.retain(|(at, _)| *at != t);
    if samples.ts.last() == Some(&t) && samples.vs.last().is_some_and(|v| !is_stale(*v)) {
        samples.ts.pop();
        samples.vs.pop();
    }
}
