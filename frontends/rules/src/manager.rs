//! The rules manager: one thread that owns all running rules, and its handle.
//!
//! No lock is held while a rule is processed: calls are sent to the thread, and results back. They
//! block until the thread is free, so async code must call them on a blocking thread.

use super::active_rules::ActiveRules;
use super::alert_history::AlertHistory;
use super::alert_persistence::AlertPersistence;
use super::event_queue::RuleEventQueue;
use super::file::RuleGroup;
use super::services::{AlertSender, AlertSeriesStore};
use super::snapshot::GroupSnapshot;
use super::template::TemplateQuery;
use crate::RulesError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use storage::clock::Clock;
use storage::metrics::Metrics;
use storage::model::Labels;
use storage::spans::Tracer;
use views::ViewRegistry;

/// What the manager uses.
#[derive(Clone)]
pub struct RuleServices {
    /// Installs views.
    pub views: Arc<dyn ViewRegistry>,
    /// Writes `ALERTS` samples and reads them.
    pub store: Arc<dyn AlertSeriesStore>,
    /// Saves alert states.
    pub memory: Arc<dyn AlertPersistence>,
    /// Sends alerts.
    pub notify: Arc<dyn AlertSender>,
    /// Runs `query` in templates.
    pub query: Arc<dyn TemplateQuery>,
    /// Decides when timers are due.
    pub clock: Arc<dyn Clock>,
    /// Metrics.
    pub metrics: Metrics,
    /// What spans of evaluations are started with.
    pub tracer: Tracer,
}

/// Settings of the manager.
#[derive(Clone, Debug)]
pub struct RuleManagerOptions {
    /// `global.external_labels`, for templates.
    pub external_labels: Labels,
    /// `--web.external-url`.
    pub external_url: String,
    /// `--rules.alert.resend-delay`, in ms.
    pub resend_delay: i64,
    /// `--rules.alert.for-outage-tolerance`, in ms.
    pub outage_tolerance: i64,
    /// `--rules.alert.for-grace-period`, in ms.
    pub for_grace_period: i64,
}

impl Default for RuleManagerOptions {
    fn default() -> Self {
        RuleManagerOptions {
            external_labels: Labels::default(),
            external_url: String::new(),
            resend_delay: 60_000,
            outage_tolerance: 3_600_000,
            for_grace_period: 600_000,
        }
    }
}

type ManagerCall = Box<dyn FnOnce(&mut ActiveRules) + Send>;

/// The handle of a running manager. Dropping it ends the thread.
pub struct RuleManager {
    events: Arc<RuleEventQueue>,
    history: Arc<AlertHistory>,
    jobs: SyncSender<ManagerCall>,
    clock: Arc<dyn Clock>,
    works: RuleWorker,
}

/// Whether threads do the work, or the caller in a simulation.
enum RuleWorker {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Caller(Box<Mutex<ActiveRules>>),
}

impl RuleManager {
    /// Starts the thread, without rules.
    pub fn start(ports: RuleServices, options: RuleManagerOptions) -> std::io::Result<RuleManager> {
        let events = Arc::new(RuleEventQueue::default());
        // Bounded: callers block until the thread has taken their work, so more would only hide
        // that it is behind.
        let (jobs, queue) = sync_channel(16);
        let clock = ports.clock.clone();
        let core = ActiveRules::new(ports, options, events.clone());
        let history = core.history();
        let thread_events = events.clone();
        let thread_clock = clock.clone();
        let thread = std::thread::Builder::new()
            .name("rules".to_owned())
            .spawn(move || run(core, &thread_events, &queue, &*thread_clock))?;
        Ok(RuleManager { events, history, jobs, clock, works: RuleWorker::Thread(Mutex::new(Some(thread))) })
    }

    /// A manager without a thread: callers do the work, and [`RuleManager::turn`] does what is due.
    pub fn without_thread(ports: RuleServices, options: RuleManagerOptions) -> RuleManager {
        let events = Arc::new(RuleEventQueue::default());
        let (jobs, _) = sync_channel(0);
        let clock = ports.clock.clone();
        let core = ActiveRules::new(ports, options, events.clone());
        let history = core.history();
        RuleManager { events, history, jobs, clock, works: RuleWorker::Caller(Box::new(Mutex::new(core))) }
    }

    /// Does what is due, in a manager without a thread.
    pub fn turn(&self) {
        if let RuleWorker::Caller(core) = &self.works {
            core.lock().step(self.clock.now());
        }
    }

    /// Replaces the set of rules, completely or not at all: see [`ActiveRules::apply`].
    pub fn apply(&self, groups: Vec<RuleGroup>, external_labels: Labels) -> Result<(), RulesError> {
        let now = self.clock.now();
        self.call(move |core| core.apply(groups, &external_labels, now)).unwrap_or_else(Err)
    }

    /// The data of `/api/v1/rules` and `/api/v1/alerts`; an error after [`RuleManager::stop`].
    pub fn snapshot(&self) -> Result<Vec<GroupSnapshot>, RulesError> {
        let now = self.clock.now();
        self.call(move |core| core.snapshot(now))
    }

    /// The history of all alerts.
    pub fn history(&self) -> &AlertHistory {
        &self.history
    }

    /// Processes what has arrived and ends the thread.
    pub fn stop(&self) {
        self.events.close();
        match &self.works {
            RuleWorker::Thread(thread) => {
                if let Some(thread) = thread.lock().take() {
                    // A panic of the thread was logged when it happened.
                    let _ = thread.join();
                }
            }
            RuleWorker::Caller(_) => self.turn(),
        }
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ActiveRules) -> T + Send + 'static,
    ) -> Result<T, RulesError> {
        if let RuleWorker::Caller(core) = &self.works {
            return Ok(work(&mut core.lock()));
        }
        let (answer, question) = sync_channel(1);
        let job: ManagerCall = Box::new(move |core| drop(answer.send(work(core))));
        self.jobs.send(job).map_err(|_| RulesError::Stopped)?;
        // The thread sleeps until its next timer and does not look at the calls meanwhile.
        self.events.wake();
        question.recv().map_err(|_| RulesError::Stopped)
    }
}

impl Drop for RuleManager {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut core: ActiveRules, events: &RuleEventQueue, jobs: &Receiver<ManagerCall>, clock: &dyn Clock) {
    loop {
        // Calls first: whoever called waits, while events and timers can be a moment late.
        while let Ok(job) = jobs.try_recv() {
            job(&mut core);
        }
        let wake = core.step(clock.now());
        // After the step, so that the states of alerts that it changed are saved.
        if events.is_closed() {
            return;
        }
        // At least 1 ms: a timer that is due in the same millisecond must not make a busy loop.
        let sleep = (wake - clock.now()).max(1) as u64;
        events.wait(Duration::from_millis(sleep));
    }
}
