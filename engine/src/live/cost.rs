//! What evaluation costs: the time that the steps of each view take, measured in some ticks and
//! extrapolated.
//!
//! In a measured tick both executors read the clock after every step ([`StepTimer`]). Whether a
//! tick is measured depends only on its time and on the number of steps, so all workers choose the
//! same ticks without talking, and a tick reads the clock about [`MEASURED_STEPS`] times per shard
//! on average, however many steps there are. [`CostLedger`] has the sums per view.

use super::ViewId;
use super::step_graph::StepGraph;
use crate::limits::MEASURED_STEPS;
use crate::plan::physical::StepId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;
use storage::model::TimeMs;

/// The cost of the evaluations of a view.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct EvaluationCost {
    /// The latest tick that was measured.
    pub t: TimeMs,
    /// Time of the view's steps in that tick, in seconds. A step that views share counts fully,
    /// because the answer took that long.
    pub latest: f64,
    /// Time since the view was installed, in seconds, extrapolated to all ticks. The time of a
    /// shared step is divided among its readers, so the sum over all views is the time spent.
    pub total: f64,
    /// Number of evaluations.
    pub evaluations: u64,
    /// Number of evaluations that failed.
    pub failures: u64,
    /// How many samples the latest evaluation recorded.
    pub samples: usize,
}

/// Counters that the owner of a view updates at every evaluation.
#[derive(Debug, Default)]
pub struct EvaluationCounts {
    evaluations: AtomicU64,
    failures: AtomicU64,
    samples: AtomicUsize,
}

impl EvaluationCounts {
    /// Counts an evaluation that succeeded and recorded this many samples.
    pub fn answered(&self, samples: usize) {
        self.evaluations.fetch_add(1, Relaxed);
        self.samples.store(samples, Relaxed);
    }

    /// Counts an evaluation that failed.
    pub fn failed(&self) {
        // A failed evaluation records nothing, so the latest number of samples is 0.
        self.answered(0);
        self.failures.fetch_add(1, Relaxed);
    }
}

/// The cost and the counters of one view.
#[derive(Default)]
struct ViewAccount {
    spent: EvaluationCost,
    counts: Arc<EvaluationCounts>,
}

/// The costs of all views of this process.
#[derive(Default)]
pub struct CostLedger(Mutex<HashMap<ViewId, ViewAccount>>);

impl CostLedger {
    /// The cost of a view; `None` if the view does not exist.
    pub fn spent(&self, view: ViewId) -> Option<EvaluationCost> {
        let accounts = self.0.lock();
        let ViewAccount { spent, counts } = accounts.get(&view)?;
        Some(EvaluationCost {
            evaluations: counts.evaluations.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            samples: counts.samples.load(Relaxed),
            ..*spent
        })
    }

    /// The counters of a view, created if needed.
    pub fn open(&self, view: ViewId) -> Arc<EvaluationCounts> {
        self.0.lock().entry(view).or_default().counts.clone()
    }

    /// Forgets a removed view.
    pub fn forget(&self, view: ViewId) {
        self.0.lock().remove(&view);
    }
}

/// Measures the time of steps in one executor.
pub struct StepTimer {
    ledger: Arc<CostLedger>,
    /// The latest reading of the clock; `None`: this tick is not measured.
    mark: Option<Instant>,
    /// How many ticks the measured one stands for: the factor of the extrapolation.
    weight: u64,
    /// Nanoseconds by step, in this round.
    steps: Vec<u64>,
    /// Nanoseconds that answering took, by view.
    answers: Vec<(ViewId, u64)>,
}

impl StepTimer {
    /// A timer that adds its results to `ledger`.
    pub fn new(ledger: Arc<CostLedger>) -> StepTimer {
        StepTimer { ledger, mark: None, weight: 1, steps: Vec::new(), answers: Vec::new() }
    }

    /// Begins a round of the tick at `t`. `steps` is the number of local steps.
    pub fn begin(&mut self, t: TimeMs, steps: usize) {
        self.weight = 1 + (steps / MEASURED_STEPS) as u64;
        // The time of the tick and not a random number: every worker must choose the same ticks,
        // because a shared step is measured in all of them.
        self.mark = scattered(t as u64).is_multiple_of(self.weight).then(now);
    }

    /// The time since the last reading belongs to no step.
    pub fn skip(&mut self) {
        self.mark = self.mark.map(|_| now());
    }

    /// The time since the last reading belongs to `step`.
    #[inline]
    pub fn step(&mut self, step: StepId) {
        if let Some(took) = self.lap() {
            if self.steps.len() <= step {
                self.steps.resize(step + 1, 0);
            }
            self.steps[step] += took;
        }
    }

    /// The time since the last reading was spent answering `view`.
    pub fn answer(&mut self, view: ViewId) {
        if let Some(took) = self.lap() {
            self.answers.push((view, took));
        }
    }

    /// Nanoseconds since the last reading; `None` if this tick is not measured.
    fn lap(&mut self) -> Option<u64> {
        let mark = self.mark.as_mut()?;
        let now = now();
        let took = now.duration_since(std::mem::replace(mark, now));
        Some(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Ends the round: adds the time of the steps of `views` to the ledger. The steps are those of
    /// `graph`.
    pub fn book<'a>(
        &mut self,
        t: TimeMs,
        graph: &StepGraph,
        views: impl Iterator<Item = (ViewId, &'a [StepId])>,
    ) {
        if self.mark.take().is_none() {
            return;
        }
        let mut ledger = self.ledger.0.lock();
        for (view, steps) in views {
            let mut whole = 0;
            let mut share = 0.0;
            for (i, step) in steps.iter().enumerate() {
                let took = self.steps.get(*step).copied().unwrap_or(0);
                // A view that reads a step twice counts as two readers, so it gets both parts.
                share += took as f64 / f64::from(graph.readers(*step).max(1));
                // For the answer, a step that occurs twice was evaluated once.
                whole += if steps[..i].contains(step) { 0 } else { took };
            }
            let spent = SpentTime { answer: whole as f64, share: share * self.weight as f64 };
            book(&mut ledger, view, t, spent);
        }
        for (view, took) in self.answers.drain(..) {
            let spent = SpentTime { answer: took as f64, share: (took * self.weight) as f64 };
            book(&mut ledger, view, t, spent);
        }
        for took in &mut self.steps {
            *took = 0;
        }
    }
}

/// What a view has spent in one round, in nanoseconds.
struct SpentTime {
    /// How long its answer took: steps that views share count whole.
    answer: f64,
    /// Its share of the time of all ticks, extrapolated.
    share: f64,
}

/// Adds what a view has spent to its account.
fn book(ledger: &mut HashMap<ViewId, ViewAccount>, view: ViewId, t: TimeMs, time: SpentTime) {
    let spent = &mut ledger.entry(view).or_default().spent;
    // Several rounds of one tick, and both executors, add to the same measurement.
    if spent.t != t {
        spent.t = t;
        spent.latest = 0.0;
    }
    spent.latest += time.answer / 1e9;
    spent.total += time.share / 1e9;
}

/// A hash of the time (splitmix64). Ticks come at regular times, so `t % weight` would choose some
/// ticks never or always.
fn scattered(t: u64) -> u64 {
    let mut z = t.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[allow(clippy::disallowed_methods, reason = "measures itself; no answer depends on this reading")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_steps_are_measured_at_every_tick_and_many_rarely() {
        let mut meter = StepTimer::new(Arc::default());
        let mut measured = |steps: usize, step: i64| -> usize {
            let ticks = (0..10_000).map(|i| 1_700_000_000_000 + i * step);
            ticks
                .filter(|t| {
                    meter.begin(*t, steps);
                    meter.mark.is_some()
                })
                .count()
        };
        assert_eq!(measured(MEASURED_STEPS - 1, 1_000), 10_000);
        // About one in 16, whatever the distance of ticks.
        for step in [1, 16, 1_000, 15_000, 60_000] {
            let found = measured(15 * MEASURED_STEPS, step);
            assert!((500..750).contains(&found), "{found} with ticks every {step} ms");
        }
    }

    #[test]
    fn a_shared_step_is_divided_and_counts_whole_for_the_answer() {
        let ledger = Arc::new(CostLedger::default());
        let mut meter = StepTimer::new(ledger.clone());
        let mut graph = StepGraph::default();
        use crate::plan::BitFloat;
        use crate::plan::physical::{Step, StepOp};
        let step = |v| Step { op: StepOp::Number(BitFloat(v)), inputs: Vec::new() };
        let (first, _) = graph.intern(&[step(1.0), step(2.0)], |port| port);
        let (second, _) = graph.intern(&[step(1.0)], |port| port);
        for t in [1, 2] {
            meter.begin(t, 0);
            meter.steps = vec![4_000_000_000, 1_000_000_000];
            meter.book(t, &graph, [(ViewId(1), &first[..]), (ViewId(2), &second[..])].into_iter());
        }
        let counts = ledger.open(ViewId(2));
        counts.answered(7);
        counts.failed();
        let one = EvaluationCost { t: 2, latest: 5.0, total: 6.0, ..EvaluationCost::default() };
        let two = EvaluationCost { t: 2, latest: 4.0, total: 4.0, evaluations: 2, failures: 1, samples: 0 };
        assert_eq!((ledger.spent(ViewId(1)), ledger.spent(ViewId(2))), (Some(one), Some(two)));
        ledger.forget(ViewId(2));
        assert_eq!(ledger.spent(ViewId(2)), None);
    }
}
