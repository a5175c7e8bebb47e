//! The work: asks for stretches of slots, leaves out what is stored, writes blocks, notes how far it is.
//!
//! Runs on one niced thread. What waits for its block is bounded; an answer that is too large, or that fails, is asked
//! for in halves, down to single slots: a slot that fails by itself stays empty, as it would have live. Where the store or
//! another process does not answer, the rule rests for a while and the slot is asked for again.

use super::Shared;
use super::ask::{Asker, Unanswered, fault};
use super::limits::{BLOCK_SAMPLES, PIECE_SLOTS, RETRY_AFTER, TELL_SLACK_MS};
use super::ready::{Batch, Reached, Rules, Stretch};
use super::slots::{Samples, Slots, absorb, without};
use engine::query::pool;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use storage::model::TimeMs;
use storage::model::value::is_stale;
use storage::store::SeriesSamples;

/// Computes the past, in a thread or in turns of the caller.
pub(super) struct Work {
    shared: Arc<Shared>,
}

/// Why work ended early.
enum Ended {
    /// The server stops.
    Stopped,
    /// The store or the disk said no.
    Failed(String),
}

impl From<Unanswered> for Ended {
    fn from(why: Unanswered) -> Ended {
        match why {
            Unanswered::Stopped => Ended::Stopped,
            Unanswered::Failed(error) => Ended::Failed(error),
        }
    }
}

/// What is to be done next.
enum Due {
    /// Slots are to be computed.
    Batch(Batch),
    /// How far everything is has changed, and is to be written down.
    Note,
}

impl Due {
    /// What `rules` want; `None`: nothing.
    fn of(rules: &mut Rules) -> Option<Due> {
        // Where a rule begins is on disk before anything else of it.
        if rules.is_unwritten() { Some(Due::Note) } else { rules.next().map(Due::Batch) }
    }
}

/// What waits for its block.
#[derive(Default)]
struct Waiting {
    samples: Samples,
    count: usize,
    reached: Vec<Reached>,
}

impl Waiting {
    /// A rule is computed up to a slot; the latest word on each rule counts, but for its failures.
    fn reach(&mut self, mut reached: Reached) {
        if let Some(before) = self.reached.last_mut().filter(|before| before.view == reached.view) {
            reached.error = reached.error.or(before.error.take());
            *before = reached;
        } else {
            self.reached.push(reached);
        }
    }
}

impl Work {
    pub(super) fn new(shared: Arc<Shared>) -> Work {
        Work { shared }
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
                let patience = rules.patience();
                match Due::of(&mut rules) {
                    Some(due) => due,
                    None if self.shared.woken.wait_for(&mut rules, patience).timed_out() => Due::Note,
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

    /// Does what is due now, where there is no thread.
    pub(super) fn turn(&self) {
        let due = Due::of(&mut self.shared.rules.lock());
        // What fails is tried again in the next turn.
        let _ = self.act(due.unwrap_or(Due::Note));
    }

    /// Writes down how far it came.
    pub(super) fn end(&self) {
        if let Err(error) = self.note() {
            tracing::warn!(error, "how far backfill is could not be written: some is done again");
        }
    }

    /// Does what is due; fails if that is to be tried again in a while.
    fn act(&self, due: Due) -> Result<(), ()> {
        let outcome = match due {
            Due::Batch(batch) => self.batch(&batch),
            Due::Note => Ok(()),
        };
        match outcome.and_then(|()| self.note().map_err(Ended::Failed)) {
            Ok(()) | Err(Ended::Stopped) => Ok(()),
            Err(Ended::Failed(error)) => {
                tracing::error!(error, "backfill cannot go on; it is tried again in a while");
                Err(())
            }
        }
    }

    /// Writes down how far everything is.
    fn note(&self) -> Result<(), String> {
        let progress = self.shared.rules.lock().progress(self.shared.parts.clock.now());
        progress.map_or(Ok(()), |progress| self.shared.place.write(&progress))
    }

    fn batch(&self, batch: &Batch) -> Result<(), Ended> {
        let mut waiting = Waiting::default();
        let views: Vec<_> = batch.stretches.iter().map(|stretch| stretch.view).collect();
        let mut outcome =
            batch.stretches.iter().try_for_each(|stretch| self.stretch(stretch, batch.range, &mut waiting));
        if !matches!(outcome, Err(Ended::Failed(_))) {
            outcome = outcome.and(self.write(batch.range, &mut waiting));
        }
        if let Err(Ended::Failed(error)) = &outcome {
            self.shared.rules.lock().failed(&views, error);
        }
        outcome
    }

    /// No answer came, and none that the question is to blame for: the rule rests, the others go on.
    fn rests(&self, stretch: &Stretch, why: &str) -> Result<(), Ended> {
        let rule = &stretch.rule.spec.name;
        tracing::warn!(rule, why, "backfill: the past cannot be read; it is tried again in a while");
        self.shared.rules.lock().rest(stretch.view, why);
        Ok(())
    }

    /// Computes the slots of one rule, piece by piece, as far as the past can be read.
    fn stretch(
        &self,
        stretch: &Stretch,
        range: (TimeMs, TimeMs),
        waiting: &mut Waiting,
    ) -> Result<(), Ended> {
        let asker =
            Asker { parts: &self.shared.parts, plan: &stretch.rule.spec.plan, recording: &stretch.recording };
        let mut present = match &stretch.present {
            Some(present) => present.clone(),
            None => match asker.present_before(stretch.slots, stretch.from) {
                Ok(present) => present,
                Err(Unanswered::Failed(why)) => return self.rests(stretch, &why),
                Err(Unanswered::Stopped) => return Err(Ended::Stopped),
            },
        };
        let mut at_once = stretch.at_once;
        let Slots { mut first, last, interval } = stretch.slots;
        while first <= last {
            let piece_last = last.min(first + (at_once.max(1) as i64 - 1) * interval);
            let piece = Slots { first, last: piece_last, interval };
            let fault = match asker.ask(piece) {
                Ok(answer) => {
                    let (samples, faults) = stretch.recording.samples(answer, piece, &mut present);
                    self.take(stretch, samples, piece, waiting)?;
                    at_once = (at_once * 2).min(PIECE_SLOTS);
                    faults.into_iter().next()
                }
                Err(error) => match fault(error) {
                    Err(Unanswered::Stopped) => return Err(Ended::Stopped),
                    // Where nobody answers, a smaller question may still be answered.
                    _ if piece.len() > 1 => {
                        at_once = piece.len().div_ceil(2);
                        continue;
                    }
                    Err(Unanswered::Failed(why)) => return self.rests(stretch, &why),
                    Ok(error) => Some((first, error.to_string())),
                },
            };
            let error = fault.map(|(t, why)| format!("slot {}: {why}", t as f64 / 1000.0));
            let (view, turn, slot) = (stretch.view, stretch.turn, piece.last);
            waiting.reach(Reached { view, turn, slot, present: present.clone(), at_once, error });
            if waiting.count >= BLOCK_SAMPLES {
                self.write(range, waiting)?;
            }
            first = piece.last + interval;
        }
        Ok(())
    }

    /// Puts samples that are not stored yet in line for their block.
    fn take(
        &self,
        stretch: &Stretch,
        mut samples: Samples,
        slots: Slots,
        waiting: &mut Waiting,
    ) -> Result<(), Ended> {
        if stretch.seam {
            samples.values_mut().for_each(|one| only_markers_at(one, stretch.slots.last));
        }
        let stored = self.shared.parts.store.read_all(&stretch.recording.matchers(), slots.first, slots.last);
        let stored = stored.map_err(|e| Ended::Failed(e.to_string()))?;
        for (labels, one) in samples {
            let one = match stored.get(&labels) {
                Some(there) => without(one, there),
                None => one,
            };
            waiting.count += one.ts.len() + one.histograms.len();
            if one.ts.is_empty() && one.histograms.is_empty() {
                continue;
            }
            match waiting.samples.get_mut(&labels) {
                Some(to) => absorb(to, one),
                None => drop(waiting.samples.insert(labels, one)),
            }
        }
        Ok(())
    }

    /// Writes what waits as a block and then notes how far that brings the rules.
    fn write(&self, range: (TimeMs, TimeMs), waiting: &mut Waiting) -> Result<(), Ended> {
        let Waiting { samples, count, reached } = std::mem::take(waiting);
        let series: Vec<SeriesSamples> = samples.into_values().collect();
        let parts = &self.shared.parts;
        let reach = self.shared.reach.load(Relaxed).saturating_add(TELL_SLACK_MS);
        let tell_from = parts.clock.now().saturating_sub(reach);
        let written = parts.store.write_past(range, &series, tell_from);
        written.map_err(|e| Ended::Failed(e.to_string()))?;
        let until = reached.iter().map(|r| r.slot).max().unwrap_or(range.0);
        let complete = self.shared.rules.lock().reached(reached);
        self.note().map_err(Ended::Failed)?;
        tracing::info!(
            series = series.len(),
            samples = count,
            until,
            "backfill: a piece of the past is written"
        );
        complete.iter().for_each(|rule| tracing::info!(rule, "backfill: complete"));
        Ok(())
    }
}

/// Of the sample at `t` only a stale marker stays.
fn only_markers_at(samples: &mut SeriesSamples, t: TimeMs) {
    samples.histograms.retain(|(at, _)| *at != t);
    if samples.ts.last() == Some(&t) && samples.vs.last().is_some_and(|v| !is_stale(*v)) {
        samples.ts.pop();
        samples.vs.pop();
    }
}
