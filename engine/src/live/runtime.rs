//! The handle of the running live runtime: installs and removes views, attaches consumers, ticks.
//!
//! Everything that changes what stands goes through one queue, which preparations take along
//! between ticks, as the control stream.
//!
//! In a cluster the handle of process 0 is such a handle; those of the others only keep their
//! workers going, which hear of views and ticks from process 0.

mod here;
mod remote_signal;
mod workers;

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

/// What a worker is told from outside.
enum WorkerCommand {
    /// A tick or a preparation: its number, and what it takes along.
    Go(u64, Vec<Control>),
    Stop,
}

/// The handle of the running live runtime. Cheap to clone.
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
    /// Number of the newest finished tick per worker.
    finished: Mutex<Vec<u64>>,
    changed: Condvar,
    alarm: Arc<TickWaker>,
    /// Whom those ask who want a tick: the alarm, or process 0.
    bell: Arc<dyn TickSignal>,
    /// This process' number in its cluster, and how many there are.
    process: (usize, usize),
    hands: Execution,
    /// Number of the latest tick or preparation, and time of the latest tick.
    latest: Mutex<(u64, TimeMs)>,
    rebuilds: Arc<Counter>,
    /// Number of views, ahead of the workers: counted before a view is installed, and until it is removed.
    standing: AtomicUsize,
    views: Arc<Gauge>,
    desk: DescribeExchange,
    ledger: Arc<CostLedger>,
    ticks: Arc<Counter>,
    /// What the workers of this process had left to prepare at the end of the latest tick or
    /// preparation: views that are coming; what can be done at once.
    coming: AtomicBool,
    unfinished: AtomicBool,
    dialect: Dialect,
    /// How far back an instant selector looks, ms.
    lookback: i64,
    /// How far back any view so far has looked, ms.
    reach: AtomicI64,
    store_reads: Arc<PastReads>,
}

impl LiveRuntime {
    /// Starts the workers and the tick driver, and makes the runtime the store's feed.
    pub fn start(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<LiveRuntime, String> {
        LiveRuntime::manual(store, &options, metrics)?.drive(clock, options, metrics)
    }

    /// As [`LiveRuntime::start`], but nothing happens by itself: the workers do their part on the
    /// thread that calls this, which is also the one that ticks, by [`TickDriver::turn`].
    pub fn by_hand(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<(LiveRuntime, TickDriver), String> {
        let options = LiveOptions { hands: Execution::Caller, ..options };
        let live = LiveRuntime::manual(store, &options, metrics)?;
        live.0.store_reads.go_beside_ticks();
        let driver = TickDriver::new(live.clone(), live.0.alarm.clone(), clock, options, metrics);
        Ok((live, driver))
    }

    /// As one process of a cluster. Only process 0 has views and ticks.
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

    /// Starts the workers only: the caller ticks.
    pub fn manual(
        store: Arc<Store>,
        options: &LiveOptions,
        metrics: &Metrics,
    ) -> Result<LiveRuntime, String> {
        LiveRuntime::build(store, options, metrics, None)
    }

    /// As [`LiveRuntime::join`]; process 0's caller ticks.
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
        let count = match options.hands {
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
            hands: options.hands,
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

    /// Installs a view; it is full and current from the tick on at which it begins.
    /// Fails if the plan cannot stand (a matrix, a string).
    pub fn install(&self, view: ViewSpec) -> Result<ViewId, String> {
        if self.0.process.0 > 0 {
            return Err("in a cluster only process 0 keeps views: ask there".to_owned());
        }
        let wanted = self.wanted(view)?;
        let id = ViewId(self.0.next_id.fetch_add(1, Relaxed));
        self.0.standing.fetch_add(1, SeqCst);
        self.0.views.add(1.0);
        self.0.queue.lock().install(id, wanted);
        self.0.alarm.call();
        Ok(id)
    }

    /// In a cluster a step would have to ask the other processes, in the middle of their ticks.
    fn queries(&self) -> StoreQueries {
        if self.0.process.1 == 1 { StoreQueries::Allowed } else { StoreQueries::Refused }
    }

    /// Whether a view can stand here; the error says why not.
    pub fn check(&self, view: &ViewSpec) -> Result<(), String> {
        super::check(view, self.0.dialect, self.queries())
    }

    /// Cuts the plan of a view into steps, once for all workers of this process.
    fn wanted(&self, view: ViewSpec) -> Result<ViewRequest, String> {
        super::check_kind(&view)?;
        let wanted = ViewRequest::new(view, self.0.dialect, self.queries()).map_err(|e| e.0)?;
        self.0.reach.fetch_max(wanted.reach(self.0.lookback), Relaxed);
        Ok(wanted)
    }

    /// Asks another question under the id of a view. What it answers now stands until the past of
    /// the new question has been read; then consumers get a fresh snapshot. Its series go on, if
    /// they are the same ones at the same slots.
    pub fn change(&self, id: ViewId, view: ViewSpec) -> Result<(), String> {
        let wanted = self.wanted(view)?;
        let mut queue = self.0.queue.lock();
        if !queue.has(id) {
            return Err("there is no such view".to_owned());
        }
        queue.install(id, wanted);
        drop(queue);
        self.0.alarm.call();
        Ok(())
    }

    /// What is installed, changed and removed until [`LiveRuntime::release`] happens at one tick,
    /// and begins at one.
    pub fn hold(&self) {
        self.0.queue.lock().hold();
    }

    /// See [`LiveRuntime::hold`].
    pub fn release(&self) {
        self.0.queue.lock().release();
        self.0.alarm.call();
        self.0.alarm.ring();
    }

    /// Removes a view and its taps. A recorded view's series end with stale markers.
    pub fn remove(&self, view: ViewId) {
        if self.0.queue.lock().remove(view) {
            self.0.standing.fetch_sub(1, SeqCst);
            self.0.views.add(-1.0);
            self.0.alarm.call();
        }
    }

    /// Attaches a consumer: a snapshot at the view's next evaluation, then changes.
    pub fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let id = TapId(self.0.next_id.fetch_add(1, Relaxed));
        self.0.waiting.lock().insert(id, sink);
        self.enqueue(Control::Tap(view, id));
        id
    }

    /// How far before a tick any view may look, ms: what is stored about earlier times moves none of them.
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

    /// What the first `limit` views from `from` on say of themselves at the end of the next tick,
    /// which this makes come soon. Blocks: for its turn and for the answer, `patience` each.
    pub fn describe(
        &self,
        from: ViewId,
        limit: usize,
        patience: Duration,
    ) -> Result<Description, DescribeError> {
        if self.0.standing.load(SeqCst) == 0 {
            return Ok(Description::default());
        }
        self.ask(DescribeRequest { id: 0, from, limit, rows: false }, patience)
    }

    /// What one view says of itself, and its rows; `None`: there is no such view. As
    /// [`LiveRuntime::describe`] otherwise.
    pub fn read(&self, view: ViewId, patience: Duration) -> Result<Option<ViewReport>, DescribeError> {
        if self.0.standing.load(SeqCst) == 0 {
            return Ok(None);
        }
        let found = self.ask(DescribeRequest { id: 0, from: view, limit: 1, rows: true }, patience)?;
        Ok(found.views.into_iter().find(|report| report.id == view))
    }

    fn ask(&self, question: DescribeRequest, patience: Duration) -> Result<Description, DescribeError> {
        let id = self.0.next_id.fetch_add(1, Relaxed);
        // Both hosts of each worker answer.
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

    /// What the evaluations of a view took; `None`: there is no such view.
    pub fn spent(&self, view: ViewId) -> Option<EvaluationCost> {
        self.0.ledger.spent(view)
    }

    /// How many control messages wait for a tick.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.0.queue.lock().len()
    }

    /// Makes the next tick have the state of all views built anew from the store.
    pub fn rebuild(&self) {
        self.0.bell.samples_lost();
    }

    /// Process 0: another process of the cluster has something to say.
    pub fn hear(&self, word: PeerSignal) {
        match word {
            PeerSignal::Arrived => {
                self.0.bell.samples_arrived();
                // It may be that something has been read there.
                self.0.bell.work_ready();
            }
            PeerSignal::Lost => self.0.bell.samples_lost(),
        }
    }

    /// Whether there is nothing to keep current: no view, and no word of one.
    pub fn is_idle(&self) -> bool {
        self.0.standing.load(SeqCst) == 0 && self.0.queue.lock().is_empty()
    }

    /// The distinct schedules of all views.
    pub fn schedules(&self) -> Vec<(i64, i64)> {
        self.0.queue.lock().schedules()
    }

    /// Runs the tick at `t` and waits until all workers have finished it. Whatever is installed
    /// stands at this tick, which waits until its past has been read. One tick at a time.
    pub fn tick(&self, t: TimeMs) {
        self.run(t, true);
    }

    /// The same, with what stands by now: what is installed joins a later tick, when it has been
    /// prepared ([`LiveRuntime::prepare`]) and its past has been read.
    pub fn tick_as_is(&self, t: TimeMs) {
        self.run(t, false);
    }

    /// Between ticks, at `t` after the latest one: works on what comes and goes, a bounded share of
    /// it. Returns whether more of it can be done at once. Before the first tick there is nothing
    /// to do.
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

    /// A tick at `t`; with `all`, everything that waits and is coming stands at it.
    fn run(&self, t: TimeMs, all: bool) {
        let before = std::mem::replace(&mut self.0.latest.lock().1, t);
        // Rings have let go of what an earlier time looks back on.
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

    /// Has all workers go through a tick or preparation and waits until they have.
    fn go(&self, number: u64, control: Vec<Control>) {
        // Those who finish say it again.
        self.0.coming.store(false, SeqCst);
        self.0.unfinished.store(false, SeqCst);
        // Worker 0 tells the others. One that is gone has aborted the process or was told to stop.
        let _ = self.0.workers[0].send(WorkerCommand::Go(number, control));
        self.0.threads.lock().iter().take(1).for_each(Thread::unpark);
        if self.0.hands == Execution::Caller {
            return here::work(&self.0, number);
        }
        let mut finished = self.0.finished.lock();
        while finished.iter().any(|f| *f < number) {
            self.0.changed.wait(&mut finished);
        }
    }

    /// Finishes the running tick; there will be no other.
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
        if self.0.hands == Execution::Caller {
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

    /// Does what all workers have come to.
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
    /// Waits for the workers to end. In a cluster they end together: one that hangs elsewhere must
    /// not keep us.
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
