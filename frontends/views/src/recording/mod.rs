//! The past of recording rules: what they would have recorded had they stood earlier, and had all
//! samples come in time.
//!
//! `backfill: 30d` on a rule: a thread of its own asks the rule's plan over history, piece by
//! piece, and writes what comes as blocks. The rule itself stands meanwhile; its first slot is the
//! *seam*: slots before it are computed, it and those behind are recorded. [`backfill_plan`] says
//! what is next, [`backfill`] does it, [`progress_file`] keeps on disk how far it is.
//!
//! `late_samples: correct` on a group: [`late_queue`] looks at every append, [`late_samples`] says
//! whose [`selector_index`] see what is late, [`pending`] knows whose slots it reaches,
//! [`corrector`] computes those again and corrects the store; the listeners of [`events`] hear of
//! it. In a cluster process 0 does that; the others only have a lookout, which it asks
//! ([`remote`]).
//!
//! Both [`evaluate`] the query runtime, and turn answers into the samples that the recorder would
//! have written ([`recorded_samples`]).

pub mod backfill;
mod backfill_plan;
mod corrector;
mod evaluate;
mod events;
mod late_queue;
mod late_samples;
mod limits;
mod pending;
mod progress_file;
pub mod recorded_samples;
mod remote;
mod selector_index;

use backfill::BackfillWorker;
use backfill_plan::BackfillPlan;
use corrector::Corrector;
use engine::live::{Sink, TapEvent, ViewId, ViewSpec};
use engine::query::QueryEngine;
use engine::query::QueryOptions;
use events::CorrectionListeners;
pub use events::{CorrectionEvent, CorrectionListener};
pub use late_samples::{LateSampleExchange, LateSampleMonitor};
use parking_lot::{Condvar, Mutex};
use progress_file::{BackfillProgress, ProgressFile};
pub use remote::{LateSampleClient, LateSampleReport, WatchList};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::{Matcher, TimeMs};
use storage::store::Store;

/// A recording rule with a past.
#[derive(Clone, Debug)]
pub struct RecordedRule {
    /// Its view.
    pub view: ViewId,
    /// Which rule it is; the same after a restart.
    pub key: String,
    /// What stands.
    pub spec: ViewSpec,
    /// How far back it is wanted, ms; 0: not at all.
    pub backfill: i64,
    /// How late samples may come and still count, ms; `None`: what is evaluated stays.
    pub lateness: Option<i64>,
}

/// How far the past of a rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillStatus {
    /// The first slot.
    pub from: TimeMs,
    /// The slot at which what is recorded live begins; while that is not known, the last slot to be
    /// computed so far.
    pub to: TimeMs,
    /// All slots before this one are computed.
    pub done_until: TimeMs,
    /// What is going on.
    pub state: BackfillState,
    /// The latest failure; empty: none.
    pub error: String,
}

/// What is going on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackfillState {
    /// There are slots to compute.
    Running,
    /// All that can be is computed; the first slot that is recorded live has not come, or that of a
    /// rule it reads.
    Waiting,
    /// Nothing is missing.
    Done,
    /// It cannot be done; the error says why.
    Failed,
}

/// What the work needs of the house.
pub struct RecordingHistoryServices {
    /// Who answers. It should be nobody else's, with few threads: questions are large.
    pub answers: Arc<dyn QueryEngine>,
    /// Where samples are.
    pub store: Arc<Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Settings of each question.
    pub options: QueryOptions,
    /// Where the data directory is.
    pub disk: Arc<dyn Disk>,
    /// Self-metrics.
    pub metrics: Metrics,
    /// Who corrects what late samples reach.
    pub corrects: CorrectionRole,
    /// Who works.
    pub execution: Execution,
}

/// Who corrects what late samples reach.
pub enum CorrectionRole {
    /// This process, which is alone.
    Alone,
    /// This one; samples come to others, too.
    First(Arc<dyn LateSampleClient>),
    /// Another one, which asks what came late here: [`RecordingHistory::late_samples`].
    Another,
}

/// The handle.
pub struct RecordingHistory {
    shared: Arc<BackfillShared>,
    late_samples: Arc<LateSampleMonitor>,
    /// `None`: another process corrects.
    corrector: Option<Arc<Corrector>>,
    listeners: Arc<CorrectionListeners>,
    work: Arc<BackfillWorker>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the thread and everybody else have in common.
struct BackfillShared {
    parts: Arc<RecordingHistoryServices>,
    place: ProgressFile,
    rules: Mutex<BackfillPlan>,
    woken: Condvar,
    /// How far live windows look back, ms.
    reach: AtomicI64,
}

impl RecordingHistory {
    /// Starts what works; it sleeps until there are rules. `dir`: the data directory.
    pub fn start(parts: RecordingHistoryServices, dir: &Path) -> Result<Arc<RecordingHistory>, String> {
        let parts = Arc::new(parts);
        let place = ProgressFile::new(parts.disk.clone(), dir);
        let progress = place.read().unwrap_or_else(|| BackfillProgress::new(TimeMs::MIN, Vec::new()));
        let rules = Mutex::new(BackfillPlan::new(progress));
        let shared = Arc::new(BackfillShared {
            parts: parts.clone(),
            place,
            rules,
            woken: Condvar::new(),
            reach: AtomicI64::new(0),
        });
        let listeners = Arc::new(CorrectionListeners::default());
        let late_samples =
            Arc::new(LateSampleMonitor::new(parts.store.clone(), parts.clock.clone(), &parts.metrics));
        let elsewhere = match &parts.corrects {
            CorrectionRole::Alone => Some(None),
            CorrectionRole::First(elsewhere) => Some(Some(elsewhere.clone())),
            CorrectionRole::Another => None,
        };
        let corrector =
            |elsewhere| Corrector::new(parts.clone(), late_samples.clone(), elsewhere, listeners.clone());
        let corrector = elsewhere.map(corrector).map(Arc::new);
        let work = Arc::new(BackfillWorker::new(shared.clone()));
        let threads = match parts.execution {
            Execution::Threads => threads(&work, corrector.as_ref()).map_err(|e| e.to_string())?,
            Execution::Caller => Vec::new(),
        };
        Ok(Arc::new(RecordingHistory {
            shared,
            late_samples,
            corrector,
            listeners,
            work,
            threads: Mutex::new(threads),
        }))
    }

    /// Does what is due now, where there are no threads: corrections, and a piece of the past.
    pub fn turn(&self) {
        self.correct_now();
        self.work.turn();
    }

    /// These are all recording rules; some have a past that is wanted, or samples that are
    /// corrected. Returns consumers for views that are new: each wants to hear of its view's first
    /// slot and goes then.
    pub fn set_rules(&self, rules: Vec<RecordedRule>, reach: i64) -> Vec<(ViewId, Box<dyn Sink>)> {
        self.shared.reach.store(reach, Relaxed);
        self.corrector.iter().for_each(|corrector| corrector.replace(&rules));
        let now = self.shared.parts.clock.now();
        let retention = self.shared.parts.store.retention().time_ms;
        let fresh = self.shared.rules.lock().replace(rules, now, retention);
        self.shared.woken.notify_all();
        let sink = |view| {
            let ends_at_handover: Box<dyn Sink> =
                Box::new(FirstEvaluationSink { shared: Arc::downgrade(&self.shared), view });
            (view, ends_at_handover)
        };
        fresh.into_iter().map(sink).collect()
    }

    /// How far the past of a view is; `None`: it has none.
    pub fn backfill_status(&self, view: ViewId) -> Option<BackfillStatus> {
        self.shared.rules.lock().report(view)
    }

    /// Whether nothing is missing of any rule's past.
    pub fn is_complete(&self) -> bool {
        self.shared.rules.lock().is_complete()
    }

    /// Corrects what late samples reach that have come by now, and returns when that is done.
    pub fn correct_now(&self) {
        self.corrector.iter().for_each(|corrector| corrector.run_once());
    }

    /// What came late to this process.
    pub fn late_samples(&self) -> Arc<LateSampleMonitor> {
        self.late_samples.clone()
    }

    /// Something came late to another process of the cluster, and nothing had since that was last asked.
    pub fn late_samples_at(&self, process: usize) {
        self.corrector.iter().for_each(|corrector| corrector.mark_due(process));
    }

    /// From now on `listener` hears of corrected samples of series that satisfy all matchers.
    pub fn on_correction(&self, matchers: Vec<Matcher>, listener: Box<dyn CorrectionListener>) {
        self.listeners.add(matchers, listener);
    }

    /// Corrects what has come late, gives up what else is under way, and ends the threads. What is
    /// not computed of the past is computed after the next start.
    pub fn stop(&self) {
        self.corrector.iter().for_each(|corrector| {
            corrector.end();
            corrector.run_once();
        });
        self.shared.parts.options.cancel.store(true, Relaxed);
        self.shared.rules.lock().ended = true;
        self.shared.woken.notify_all();
        match self.shared.parts.execution {
            Execution::Threads => self.threads.lock().drain(..).for_each(|thread| drop(thread.join())),
            Execution::Caller => self.work.end(),
        }
    }
}

/// The threads that work.
fn threads(
    work: &Arc<BackfillWorker>,
    corrector: Option<&Arc<Corrector>>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.to_owned()).spawn(run)
    };
    let work = work.clone();
    let mut threads = vec![spawn("backfill", Box::new(move || work.run()))?];
    if let Some(late) = corrector.cloned() {
        threads.push(spawn("corrections", Box::new(move || late.run()))?);
    }
    Ok(threads)
}

impl Drop for RecordingHistory {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Hears of the first evaluation of a view that succeeds: where one fails, nothing is recorded.
struct FirstEvaluationSink {
    shared: Weak<BackfillShared>,
    view: ViewId,
}

impl Sink for FirstEvaluationSink {
    fn push(&mut self, event: TapEvent) -> bool {
        // Everything else comes with failures, too.
        let TapEvent::Progress { t } = event else { return true };
        if let Some(shared) = self.shared.upgrade() {
            shared.rules.lock().first_slot(self.view, t);
            shared.woken.notify_all();
        }
        false
    }

    fn wants_notes(&self) -> bool {
        false
    }
}
