//! The handle of the live runtime: installs and removes views, attaches consumers, runs ticks.
//!
//! All changes of views go through one queue ([`ControlQueue`]). Preparations, between ticks, send
//! them to the workers as the control stream.
//!
//! In a cluster only the handle of process 0 is used like this. Those of other processes only keep
//! their workers running, which hear of views and ticks from process 0.

mod here;
mod remote_signal;
mod workers;

use super::check::CheckRequest;
use super::control_queue::ControlQueue;
use super::cost::{CostLedger, EvaluationCost};
use super::describe::{DescribeError, DescribeExchange, DescribeRequest, Description, ViewReport};
use super::links::{PeerLinks, PeerSignal};
use super::local::SLACK;
use super::message::{Control, WorkerVote};
use super::sample_queue::{TickSignal, sample_queues};
use super::store_query::PastReads;
use super::taps::PendingSinks;
use super::tick_driver::{self, TickDriver, TickWaker};
use super::views::ViewRequest;
use super::{LiveOptions, Sink, TapId, ViewId, ViewSpec};
use crate::limits::STOP_PATIENCE;
use crate::live::ViewError;
use crate::plan::Dialect;
use crate::plan::physical::StoreQueries;
use parking_lot::{Condvar, Mutex};
use remote_signal::RemoteTickSignal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::thread::Thread;
use std::time::Duration;
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::{Counter, Gauge, Metrics};
use storage::model::TimeMs;
use storage::store::Store;
use timely::communication::WorkerGuards;
use workers::start_workers;

/// A command to a worker.
enum WorkerCommand {
    /// A tick or a preparation: its number and its control messages.
    Go(u64, Vec<Control>),
    Stop,
}

/// The handle of the live runtime. Cheap to clone.
#[derive(Clone)]
pub struct LiveRuntime(Arc<LiveShared>);

struct LiveShared {
    workers: Vec<Sender<WorkerCommand>>,
    threads: Mutex<Vec<Thread>>,
    guards: Mutex<Option<WorkerGuards<()>>>,
    driver: Mutex<Option<std::thread::JoinHandle<()>>>,
    waiting: PendingSinks,
    queue: Mutex<ControlQueue>,
    next_id: AtomicU64,
    /// By worker: number of the newest finished tick.
    finished: Mutex<Vec<u64>>,
    changed: Condvar,
    alarm: Arc<TickWaker>,
    /// Receives requests for a tick: the waker of this process, or process 0.
    bell: Arc<dyn TickSignal>,
    /// This process' number in its cluster, and the number of processes.
    process: (usize, usize),
    execution: Execution,
    /// Number of the latest tick or preparation, and time of the latest tick.
    latest: Mutex<(u64, TimeMs)>,
    rebuilds: Arc<Counter>,
    /// Number of views. It is ahead of the workers: raised before a view is installed, lowered
    /// after it is removed.
    standing: AtomicUsize,
    views: Arc<Gauge>,
    desk: DescribeExchange,
    ledger: Arc<CostLedger>,
    ticks: Arc<Counter>,
    /// What the workers of this process had left at the end of the latest tick or preparation:
    /// views that are being installed; work that can be done immediately.
    coming: AtomicBool,
    unfinished: AtomicBool,
    dialect: Dialect,
    /// How far back an instant selector looks, in ms.
    lookback: i64,
    /// How far back any view so far has looked, in ms.
    reach: AtomicI64,
    store_reads: Arc<PastReads>,
}

impl LiveRuntime {
    /// Starts the workers and the tick driver, and makes the runtime the store's change feed.
    pub fn start(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<LiveRuntime, String> {
        LiveRuntime::manual(store, &options, metrics)?.drive(clock, options, metrics)
    }

    /// Like [`LiveRuntime::start`], but without threads: the workers run on the calling thread,
    /// which also ticks, by [`TickDriver::turn`]. For simulations.
    pub fn by_hand(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<(LiveRuntime, TickDriver), String> {
        let options = LiveOptions { execution: Execution::Caller, ..options };
        let live = LiveRuntime::manual(store, &options, metrics)?;
        live.0.store_reads.go_beside_ticks();
        let driver = TickDriver::new(live.clone(), live.0.alarm.clone(), clock, options, metrics);
        Ok((live, driver))
    }

    /// Starts one process of a cluster. Only process 0 has views and ticks.
    pub fn join(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
        peers: PeerLinks,
    ) -> Result<LiveRuntime, String> {
        let live = LiveRuntime::manual_joined(store, &options, metrics, peers)?;
        if live.0.process.0 == 0 { live.drive(clock, options, metrics) } else { Ok(live) }
    }

    fn drive(
        self,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<LiveRuntime, String> {
        self.0.store_reads.go_beside_ticks();
        let driver = TickDriver::new(self.clone(), self.0.alarm.clone(), clock, options, metrics);
        let handle = tick_driver::spawn(driver)?;
        *self.0.driver.lock() = Some(handle);
        Ok(self)
    }

    /// Starts only the workers: the caller ticks.
    pub fn manual(
        store: Arc<Store>,
        options: &LiveOptions,
        metrics: &Metrics,
    ) -> Result<LiveRuntime, String> {
        LiveRuntime::build(store, options, metrics, None)
    }

    /// Like [`LiveRuntime::join`]; the caller in process 0 ticks.
    pub fn manual_joined(
        store: Arc<Store>,
        options: &LiveOptions,
        metrics: &Metrics,
        peers: PeerLinks,
    ) -> Result<LiveRuntime, String> {
        LiveRuntime::build(store, options, metrics, Some(peers))
    }

    fn build(
        store: Arc<Store>,
        options: &LiveOptions,
        metrics: &Metrics,
        peers: Option<PeerLinks>,
    ) -> Result<LiveRuntime, String> {
        let count = match options.execution {
            Execution::Threads => options.workers.clamp(1, usize::from(storage::model::SHARDS)),
            Execution::Caller => 1,
        };
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        let alarm = Arc::new(TickWaker::default());
        let process = peers.as_ref().map_or((0, 1), |peers| (peers.process, peers.processes()));
        let bell: Arc<dyn TickSignal> = match &peers {
            Some(peers) if process.0 > 0 => Arc::new(RemoteTickSignal::new(peers.others.clone())),
            _ => alarm.clone(),
        };
        let (inlet, outlets) = sample_queues(count, &bell);
        let inner = Arc::new(LiveShared {
            workers: senders,
            threads: Mutex::new(Vec::new()),
            guards: Mutex::new(None),
            driver: Mutex::new(None),
            waiting: PendingSinks::default(),
            queue: Mutex::default(),
            next_id: AtomicU64::new(1),
            finished: Mutex::new(vec![0; count]),
            changed: Condvar::new(),
            alarm,
            bell,
            process,
            execution: options.execution,
            latest: Mutex::new((0, TimeMs::MIN)),
            rebuilds: metrics.counter(
                "perennial_rebuilds_total",
                "Times the state of the views of a selector, or of all, was built anew from the store.",
                &[],
            ),
            standing: AtomicUsize::new(0),
            views: metrics.gauge("perennial_views", "Plans that stand.", &[]),
            desk: DescribeExchange::default(),
            coming: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
            dialect: options.dialect,
            lookback: options.lookback,
            reach: AtomicI64::new(0),
            store_reads: Arc::default(),
            ledger: Arc::default(),
            ticks: metrics.counter("perennial_ticks_total", "Ticks of the live runtime.", &[]),
        });
        let built = match peers {
            Some(peers) => peers.build(count)?,
            None => timely::CommunicationConfig::Process(count).try_build()?,
        };
        let ends = receivers.into_iter().zip(outlets).collect();
        if let Some(guards) = start_workers(&inner, built, ends, store.clone(), options, metrics)? {
            *inner.threads.lock() = guards.guards().iter().map(|g| g.thread().clone()).collect();
            *inner.guards.lock() = Some(guards);
        }
        store.set_feed(Arc::new(inlet));
        Ok(LiveRuntime(inner))
    }

    /// Installs a view. It begins, with its full history, at one of the next ticks. Fails if the
    /// plan cannot be a view (a matrix, a string).
    pub fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        if self.0.process.0 > 0 {
            return Err(ViewError::NotCoordinator);
        }
        let wanted = self.wanted(view)?;
        let id = ViewId(self.0.next_id.fetch_add(1, Relaxed));
        self.0.standing.fetch_add(1, SeqCst);
        self.0.views.add(1.0);
        self.0.queue.lock().install(id, wanted);
        self.0.alarm.call();
        Ok(id)
    }

    /// In a cluster a step would have to query the other processes in the middle of their ticks,
    /// which would wait for each other.
    fn queries(&self) -> StoreQueries {
        if self.0.process.1 == 1 { StoreQueries::Allowed } else { StoreQueries::Refused }
    }

    /// Whether a plan can be a view here; the error says why not.
    pub fn check(&self, view: &ViewSpec) -> Result<(), ViewError> {
        super::check(view, self.0.dialect, self.queries())
    }

    /// Compiles the plan of a view into steps, once for all workers of this process.
    fn wanted(&self, view: ViewSpec) -> Result<ViewRequest, ViewError> {
        super::check_kind(&view)?;
        let wanted = ViewRequest::new(view, self.0.dialect, self.queries());
        let wanted = wanted.map_err(|e| ViewError::Unsupported(e.0))?;
        self.0.reach.fetch_max(wanted.reach(self.0.lookback), Relaxed);
        Ok(wanted)
    }

    /// Replaces the plan of a view. The current plan is evaluated until the history of the new one
    /// has been read; then consumers get a new snapshot. Recorded series continue, if they have the
    /// same names, labels and evaluation times.
    pub fn change(&self, id: ViewId, view: ViewSpec) -> Result<(), ViewError> {
        let wanted = self.wanted(view)?;
        let mut queue = self.0.queue.lock();
        if !queue.has(id) {
            return Err(ViewError::NotFound);
        }
        queue.install(id, wanted);
        drop(queue);
        self.0.alarm.call();
        Ok(())
    }

    /// What is installed, changed and removed until [`LiveRuntime::release`] happens in one tick.
    pub fn hold(&self) {
        self.0.queue.lock().hold();
    }

    /// Ends what [`LiveRuntime::hold`] began.
    pub fn release(&self) {
        self.0.queue.lock().release();
        self.0.alarm.call();
        self.0.alarm.ring();
    }

    /// Removes a view and its taps. The series of a recorded view end with stale markers.
    pub fn remove(&self, view: ViewId) {
        if self.0.queue.lock().remove(view) {
            self.0.standing.fetch_sub(1, SeqCst);
            self.0.views.add(-1.0);
            self.0.alarm.call();
        }
    }

    /// Attaches a consumer. It gets a snapshot at the view's next evaluation, then changes.
    pub fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let id = TapId(self.0.next_id.fetch_add(1, Relaxed));
        self.0.waiting.lock().insert(id, sink);
        self.enqueue(Control::Tap(view, id));
        id
    }

    /// How far before a tick any view may read, in ms: samples older than that change no answer.
    pub fn reach(&self) -> i64 {
        self.0.reach.load(Relaxed)
    }

    /// Detaches a consumer.
    pub fn untap(&self, tap: TapId) {
        self.enqueue(Control::Untap(tap));
    }

    fn enqueue(&self, control: Control) {
        self.0.enqueue(control);
    }

    /// Describes the first `limit` views from `from` on, as of the end of the next tick, which this
    /// requests. Blocks at most twice `patience`: for its turn, and for the answer.
    pub fn describe(
        &self,
        from: ViewId,
        limit: usize,
        patience: Duration,
    ) -> Result<Description, DescribeError> {
        if self.0.standing.load(SeqCst) == 0 {
            return Ok(Description::default());
        }
        self.ask(DescribeRequest { id: 0, from, limit, rows: false, check: None }, patience)
    }

    /// Describes one view, with its rows; `None` if it does not exist. Blocks like
    /// [`LiveRuntime::describe`].
    pub fn read(&self, view: ViewId, patience: Duration) -> Result<Option<ViewReport>, DescribeError> {
        if self.0.standing.load(SeqCst) == 0 {
            return Ok(None);
        }
        let question = DescribeRequest { id: 0, from: view, limit: 1, rows: true, check: None };
        Ok(self.ask(question, patience)?.views.into_iter().find(|report| report.id == view))
    }

    /// Like [`LiveRuntime::read`], with the report for a check: the tick evaluates the view. In a
    /// cluster, the shards of other processes do not report whether samples arrived in between, so
    /// every check counts as raced there.
    pub fn read_for_check(
        &self,
        view: ViewId,
        check: CheckRequest,
        patience: Duration,
    ) -> Result<Option<ViewReport>, DescribeError> {
        if self.0.standing.load(SeqCst) == 0 {
            return Ok(None);
        }
        let question = DescribeRequest { id: 0, from: view, limit: 1, rows: false, check: Some(check) };
        let mut found = self.ask(question, patience)?.views.into_iter().find(|report| report.id == view);
        if let Some(check) = found.as_mut().and_then(|report| report.answer.check.as_mut()) {
            check.raced |= self.0.process.1 > 1;
        }
        Ok(found)
    }

    fn ask(&self, question: DescribeRequest, patience: Duration) -> Result<Description, DescribeError> {
        let id = self.0.next_id.fetch_add(1, Relaxed);
        // Both executors of each worker answer.
        let expected = 2 * self.0.workers.len();
        let send = || self.enqueue(Control::Describe(DescribeRequest { id, ..question }));
        let mut found = self.0.desk.ask(id, expected, patience, send).map(Description::of)?;
        for view in &mut found.views {
            if let Some(work) = &mut view.work {
                work.spent = self.0.ledger.spent(view.id);
            }
        }
        Ok(found)
    }

    /// The cost of the evaluations of a view; `None` if it does not exist.
    pub fn spent(&self, view: ViewId) -> Option<EvaluationCost> {
        self.0.ledger.spent(view)
    }

    /// How many control messages wait.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.0.queue.lock().len()
    }

    /// Has the state of all views built again from the store at the next tick.
    pub fn rebuild(&self) {
        self.0.bell.samples_lost();
    }

    /// In process 0: another process of the cluster has sent a signal.
    pub fn hear(&self, word: PeerSignal) {
        match word {
            PeerSignal::Arrived => {
                self.0.bell.samples_arrived();
                // The signal may also mean that history has been read there.
                self.0.bell.work_ready();
            }
            PeerSignal::Lost => self.0.bell.samples_lost(),
        }
    }

    /// Whether there is no view and no control message.
    pub fn is_idle(&self) -> bool {
        self.0.standing.load(SeqCst) == 0 && self.0.queue.lock().is_empty()
    }

    /// The distinct schedules of all views.
    pub fn schedules(&self) -> Vec<(i64, i64)> {
        self.0.queue.lock().schedules()
    }

    /// Runs the tick at `t` and returns when all workers have finished it. All views that are being
    /// installed begin at this tick, which waits until their history has been read. One tick at a
    /// time.
    pub fn tick(&self, t: TimeMs) {
        self.run(t, true);
    }

    /// Runs the tick at `t` with the views that have begun. New ones join a later tick, when they
    /// are prepared ([`LiveRuntime::prepare`]) and their history has been read.
    pub fn tick_as_is(&self, t: TimeMs) {
        self.run(t, false);
    }

    /// Between ticks: works on views that are being installed or removed, a bounded share of it.
    /// `t` is after the latest tick. Returns whether more can be done immediately. Before the first
    /// tick there is nothing to do.
    pub fn prepare(&self, t: TimeMs) -> bool {
        if !self.has_work() || self.0.latest.lock().0 == 0 {
            return false;
        }
        let (mut control, more) = self.0.queue.lock().take_some();
        let begins = control.iter().any(|control| matches!(control, Control::Begin(_)));
        control.push(Control::Prepare(t));
        let number = self.next_number();
        self.go(number, control);
        if begins {
            // Consumers wait for their first answer.
            self.0.alarm.ring();
        }
        more || self.0.unfinished.load(SeqCst)
    }

    /// Whether there may be something to prepare.
    pub(super) fn has_work(&self) -> bool {
        self.0.coming.load(SeqCst) || self.0.unfinished.load(SeqCst) || self.0.queue.lock().has_work()
    }

    /// Runs a tick at `t`; with `all`, every view that is being installed begins at it.
    fn run(&self, t: TimeMs, all: bool) {
        let before = std::mem::replace(&mut self.0.latest.lock().1, t);
        // The clock was set back further than rings reach beyond their windows: samples that
        // windows need were dropped.
        let back = before.saturating_sub(t) > SLACK;
        if self.0.alarm.take_lost() || back {
            self.0.rebuilds.inc();
            self.0.queue.lock().renew(None);
        }
        let mut control = if all { self.0.queue.lock().take_all() } else { self.0.queue.lock().take_light() };
        control.push(Control::Tick(t));
        self.0.ticks.inc();
        let number = self.next_number();
        self.go(number, control);
    }

    fn next_number(&self) -> u64 {
        let mut latest = self.0.latest.lock();
        latest.0 += 1;
        latest.0
    }

    /// Sends a tick or a preparation to all workers and waits until they have finished it.
    fn go(&self, number: u64, control: Vec<Control>) {
        // Set again by the workers when they finish.
        self.0.coming.store(false, SeqCst);
        self.0.unfinished.store(false, SeqCst);
        // Worker 0 broadcasts it to the others. Sending fails only if the worker is gone; then it
        // has aborted the process or was stopped.
        let _ = self.0.workers[0].send(WorkerCommand::Go(number, control));
        self.0.threads.lock().iter().take(1).for_each(Thread::unpark);
        if self.0.execution == Execution::Caller {
            return here::work(&self.0, number);
        }
        let mut finished = self.0.finished.lock();
        while finished.iter().any(|f| *f < number) {
            self.0.changed.wait(&mut finished);
        }
    }

    /// Finishes the running tick. No other tick follows.
    pub fn end_ticks(&self) {
        self.0.alarm.stop();
        self.0.desk.close();
        if let Some(driver) = self.0.driver.lock().take() {
            drop(driver.join());
        }
    }

    /// Finishes the running tick and stops the workers.
    pub fn stop(&self) {
        self.end_ticks();
        for worker in &self.0.workers {
            let _ = worker.send(WorkerCommand::Stop);
        }
        self.0.threads.lock().iter().for_each(Thread::unpark);
        if self.0.execution == Execution::Caller {
            here::end(&self.0);
        }
        self.join_workers();
        self.0.finished.lock().iter_mut().for_each(|f| *f = u64::MAX);
        self.0.changed.notify_all();
    }
}

impl LiveShared {
    fn enqueue(&self, control: Control) {
        self.queue.lock().push(control);
        self.alarm.ring();
    }

    /// Acts on a vote of the workers.
    fn follow(&self, verdict: WorkerVote) {
        match verdict {
            WorkerVote::Ready(cohort) => {
                if !self.queue.lock().ready(cohort) {
                    return;
                }
            }
            WorkerVote::Garbage(selector) => {
                self.rebuilds.inc();
                self.queue.lock().renew(Some(selector));
            }
        }
        self.alarm.call();
    }
}

impl LiveRuntime {
    /// Waits for the workers to end. In a cluster they end together, so the wait is limited: a
    /// worker that hangs in another process must not block this one.
    fn join_workers(&self) {
        let Some(guards) = self.0.guards.lock().take() else { return };
        if self.0.process.1 == 1 {
            return drop(guards);
        }
        let (ended, end) = channel();
        std::thread::spawn(move || {
            drop(guards);
            let _ = ended.send(());
        });
        if end.recv_timeout(STOP_PATIENCE).is_err() {
            tracing::warn!("other processes of the cluster have not stopped; this one does");
        }
    }
}
