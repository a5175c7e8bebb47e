//! The history of recording rules: what they would have recorded if they had existed earlier
//! (backfill), and if all samples had arrived in time (correction).
//!
//! `backfill: 30d` on a rule: a thread evaluates the rule's plan over history, piece by piece, and
//! writes the results as blocks. Meanwhile the rule is recorded live. Its first live evaluation is
//! the *handover time*: evaluation times before it are computed, it and later ones are recorded.
//! [`backfill_plan`] decides what is next, [`backfill`] does it, [`progress_file`] saves the
//! progress.
//!
//! `late_samples: correct` on a group: [`late_queue`] checks every append, [`late_samples`] finds
//! the selectors ([`selector_index`]) that match late samples, [`pending`] has the affected
//! evaluation times, and [`corrector`] computes those again and corrects the store; the listeners
//! of [`events`] receive the changes. In a cluster process 0 does that; it polls the others for
//! their late samples ([`remote`]).
//!
//! Both evaluate plans with the query runtime ([`evaluate`]), and turn the answers into the samples
//! that the recorder would have written ([`recorded_samples`]).

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

/// A recording rule, with the options for its history.
#[derive(Clone, Debug)]
pub struct RecordedRule {
    /// The view that records the rule.
    pub view: ViewId,
    /// Identity of the rule; the same after a restart.
    pub key: String,
    /// Specification of the view.
    pub spec: ViewSpec,
    /// How much history is computed, in ms; 0: none.
    pub backfill: i64,
    /// How late samples may arrive and still count, in ms; `None`: recorded samples stay.
    pub lateness: Option<i64>,
}

/// The progress of a rule's backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillStatus {
    /// The first evaluation time.
    pub from: TimeMs,
    /// The handover time, at which live recording begins; while that is not known, the last time
    /// that will be computed so far.
    pub to: TimeMs,
    /// All evaluation times before this one are computed.
    pub done_until: TimeMs,
    /// How far it has come.
    pub state: BackfillState,
    /// The latest error; empty: none.
    pub error: String,
}

/// The state of a rule's backfill.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackfillState {
    /// There are evaluation times to compute.
    Running,
    /// Everything that can be computed is; the first live evaluation of the rule, or of a rule it
    /// reads, is awaited.
    Waiting,
    /// The history is complete.
    Done,
    /// The history cannot be computed; the error says why.
    Failed,
}

/// What backfill and correction use.
pub struct RecordingHistoryServices {
    /// Evaluates queries. Should have few threads and no other users, because the queries are
    /// large.
    pub answers: Arc<dyn QueryEngine>,
    /// Where samples are read and recorded.
    pub store: Arc<Store>,
    /// Says what time it is.
    pub clock: Arc<dyn Clock>,
    /// Options of each query.
    pub options: QueryOptions,
    /// The disk with the data directory.
    pub disk: Arc<dyn Disk>,
    /// Metrics.
    pub metrics: Metrics,
    /// Which process corrects.
    pub corrects: CorrectionRole,
    /// Whether threads do the work, or the caller in a simulation.
    pub execution: Execution,
}

/// Which process corrects what late samples affect.
pub enum CorrectionRole {
    /// This process; there are no others.
    Alone,
    /// This process; samples also arrive at others.
    First(Arc<dyn LateSampleClient>),
    /// Another process, which polls this one: [`RecordingHistory::late_samples`].
    Another,
}

/// The handle of backfill and correction.
pub struct RecordingHistory {
    shared: Arc<BackfillShared>,
    late_samples: Arc<LateSampleMonitor>,
    /// `None`: another process corrects.
    corrector: Option<Arc<Corrector>>,
    listeners: Arc<CorrectionListeners>,
    work: Arc<BackfillWorker>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the thread and the callers share.
struct BackfillShared {
    services: Arc<RecordingHistoryServices>,
    progress_file: ProgressFile,
    rules: Mutex<BackfillPlan>,
    woken: Condvar,
    /// How far back views read, in ms.
    reach: AtomicI64,
}

impl RecordingHistory {
    /// Starts the threads; they sleep until there are rules. `dir`: the data directory.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread.
    pub fn start(services: RecordingHistoryServices, dir: &Path) -> io::Result<Arc<RecordingHistory>> {
        let services = Arc::new(services);
        let progress_file = ProgressFile::new(services.disk.clone(), dir);
        let progress = progress_file.read().unwrap_or_else(|| BackfillProgress::new(TimeMs::MIN, Vec::new()));
        let rules = Mutex::new(BackfillPlan::new(progress));
        let shared = Arc::new(BackfillShared {
            services: services.clone(),
            progress_file,
            rules,
            woken: Condvar::new(),
            reach: AtomicI64::new(0),
        });
        let listeners = Arc::new(CorrectionListeners::default());
        let late_samples = Arc::new(LateSampleMonitor::new(
            services.store.clone(),
            services.clock.clone(),
            &services.metrics,
        ));
        // Only process 0 of a cluster corrects, because it has the rules.
        let elsewhere = match &services.corrects {
            CorrectionRole::Alone => Some(None),
            CorrectionRole::First(elsewhere) => Some(Some(elsewhere.clone())),
            CorrectionRole::Another => None,
        };
        let corrector =
            |elsewhere| Corrector::new(services.clone(), late_samples.clone(), elsewhere, listeners.clone());
        let corrector = elsewhere.map(corrector).map(Arc::new);
        let work = Arc::new(BackfillWorker::new(shared.clone()));
        let threads = match services.execution {
            Execution::Threads => threads(&work, corrector.as_ref())?,
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

    /// Does what is due now, if there are no threads: corrections, and a piece of backfill.
    pub fn turn(&self) {
        self.correct_now();
        self.work.turn();
    }

    /// Sets all recording rules; some have a history to compute, or are corrected. Returns
    /// consumers for new views: each waits for the first evaluation of its view and then ends.
    pub fn set_rules(&self, rules: Vec<RecordedRule>, reach: i64) -> Vec<(ViewId, Box<dyn Sink>)> {
        self.shared.reach.store(reach, Relaxed);
        if let Some(corrector) = &self.corrector {
            corrector.replace(&rules);
        }
        let now = self.shared.services.clock.now();
        let retention = self.shared.services.store.retention().get().time_ms;
        let fresh = self.shared.rules.lock().replace(rules, now, retention);
        self.shared.woken.notify_all();
        let sink = |view| {
            let ends_at_handover: Box<dyn Sink> =
                Box::new(FirstEvaluationSink { shared: Arc::downgrade(&self.shared), view });
            (view, ends_at_handover)
        };
        fresh.into_iter().map(sink).collect()
    }

    /// The progress of a view's backfill; `None`: it has none.
    pub fn backfill_status(&self, view: ViewId) -> Option<BackfillStatus> {
        self.shared.rules.lock().report(view)
    }

    /// Whether the history of all rules is complete.
    pub fn is_complete(&self) -> bool {
        self.shared.rules.lock().is_complete()
    }

    /// Corrects what the late samples so far affect. Returns when that is done.
    pub fn correct_now(&self) {
        if let Some(corrector) = &self.corrector {
            corrector.run_once();
        }
    }

    /// The late samples of this process.
    pub fn late_samples(&self) -> Arc<LateSampleMonitor> {
        self.late_samples.clone()
    }

    /// Another process of the cluster has its first late samples since the last poll.
    pub fn late_samples_at(&self, process: usize) {
        if let Some(corrector) = &self.corrector {
            corrector.mark_due(process);
        }
    }

    /// From now on `listener` receives corrected samples of series that match all matchers.
    pub fn on_correction(&self, matchers: Vec<Matcher>, listener: Box<dyn CorrectionListener>) {
        self.listeners.add(matchers, listener);
    }

    /// Corrects what late samples affect, cancels other work, and ends the threads. The rest of the
    /// history is computed after the next start.
    pub fn stop(&self) {
        // Late samples wait in memory only, so what they affect is corrected before the end.
        if let Some(corrector) = &self.corrector {
            corrector.end();
            corrector.run_once();
        }
        // Backfill may be in a query of minutes; its progress is on disk.
        self.shared.services.options.cancel.store(true, Relaxed);
        self.shared.rules.lock().ended = true;
        self.shared.woken.notify_all();
        match self.shared.services.execution {
            Execution::Threads => {
                for thread in self.threads.lock().drain(..) {
                    // A panic of the thread was logged when it happened.
                    let _ = thread.join();
                }
            }
            Execution::Caller => self.work.end(),
        }
    }
}

/// Starts the threads.
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

/// Waits for the first evaluation of a view that succeeds; a failed one records nothing.
struct FirstEvaluationSink {
    shared: Weak<BackfillShared>,
    view: ViewId,
}

impl Sink for FirstEvaluationSink {
    fn push(&mut self, event: TapEvent) -> bool {
        // All other events come with failures as well.
        let TapEvent::Progress { t } = event else { return true };
        if let Some(shared) = self.shared.upgrade() {
            shared.rules.lock().set_first_live_time(self.view, t);
            shared.woken.notify_all();
        }
        false
    }

    fn wants_annotations(&self) -> bool {
        false
    }
}
