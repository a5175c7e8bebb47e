//! The handle of the live runtime, for the rest of the process: installs and removes views,
//! attaches consumers, runs ticks.
//!
//! All changes of views go through one queue ([`super::control_queue`]). Preparations, which are
//! work between ticks, send them to the workers as control messages ([`super::message::Control`]).
//!
//! In a cluster only the handle of process 0 is used like this. Those of other processes only keep
//! their workers running, which receive views and ticks from process 0.

mod remote_signal;
mod threadless_worker;
mod tick_barrier;
mod tick_control;
mod view_compiler;
mod view_control;
mod worker_pool;
mod workers;

use super::check::CheckRequest;
use super::cost::{CostLedger, EvaluationCost};
use super::describe::{DescribeError, DescribeExchange, DescribeRequest, Description, ViewReport};
use super::links::{PeerLinks, PeerSignal};
use super::local::RING_SLACK_MS;
use super::message::{Control, WorkerVote};
use super::sample_queue::{TickSignal, sample_queues};
use super::store_query::HistoryReads;
use super::tick_driver::TickDriver;
use super::{LiveOptions, Sink, StartError, TapId, ViewError, ViewId, ViewSpec};
use remote_signal::RemoteTickSignal;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::{Counter, Metrics};
use storage::model::TimeMs;
use storage::store::Store;
use tick_barrier::TickBarrier;
use tick_control::TickControl;
use view_compiler::ViewCompiler;
use view_control::ViewControl;
use worker_pool::{WorkerCommand, WorkerPool};
use workers::{WorkerInputs, start_workers};

/// The handle of the live runtime. Cheap to clone.
#[derive(Clone)]
pub struct LiveRuntime(Arc<LiveShared>);

/// What all clones of the handle share.
struct LiveShared {
    /// Number of this process in its cluster.
    position: ClusterPosition,
    /// Who does the work: threads, or the caller in a simulation.
    execution: Execution,
    /// Compiles plans to steps.
    compiler: ViewCompiler,
    /// The worker threads of this process.
    workers: WorkerPool,
    /// Waits until all workers have finished a tick.
    barrier: TickBarrier,
    /// Decides when a tick is due.
    ticks: TickControl,
    /// The views, and the messages that tell the workers of them.
    views: ViewControl,
    /// Requests for descriptions, and their answers.
    descriptions: DescribeExchange,
    /// The cost of each view.
    ledger: Arc<CostLedger>,
    /// History that is being read for new views.
    store_reads: Arc<HistoryReads>,
    /// What is counted.
    counters: LiveCounters,
}

/// The position of this process in its cluster.
#[derive(Copy, Clone)]
struct ClusterPosition {
    /// Number of this process.
    process: usize,
    /// Number of processes.
    processes: usize,
}

/// What the handle counts.
struct LiveCounters {
    rebuilds: Arc<Counter>,
    ticks: Arc<Counter>,
}

impl LiveRuntime {
    /// Starts the workers and the tick driver, and makes the runtime the store's change feed.
    pub fn start(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<LiveRuntime, StartError> {
        LiveRuntime::manual(store, &options, metrics)?.drive(clock, options, metrics)
    }

    /// Like [`LiveRuntime::start`], but without threads: the workers run on the calling thread,
    /// which also ticks, by [`TickDriver::turn`]. For simulations.
    pub fn without_threads(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<(LiveRuntime, TickDriver), StartError> {
        let options = LiveOptions { execution: Execution::Caller, ..options };
        let live = LiveRuntime::manual(store, &options, metrics)?;
        live.0.store_reads.read_in_background();
        let driver = TickDriver::new(live.clone(), live.0.ticks.waker().clone(), clock, options, metrics);
        Ok((live, driver))
    }

    /// Starts one process of a cluster. Only process 0 has views and ticks.
    pub fn start_in_cluster(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
        peers: PeerLinks,
    ) -> Result<LiveRuntime, StartError> {
        let live = LiveRuntime::manual_joined(store, &options, metrics, peers)?;
        if live.0.position.process == 0 { live.drive(clock, options, metrics) } else { Ok(live) }
    }

    fn drive(
        self,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<LiveRuntime, StartError> {
        self.0.store_reads.read_in_background();
        let waker = self.0.ticks.waker().clone();
        self.0.ticks.start(TickDriver::new(self.clone(), waker, clock, options, metrics))?;
        Ok(self)
    }

    /// Starts only the workers: the caller ticks.
    pub fn manual(
        store: Arc<Store>,
        options: &LiveOptions,
        metrics: &Metrics,
    ) -> Result<LiveRuntime, StartError> {
        LiveRuntime::build(store, options, metrics, None)
    }

    /// Like [`LiveRuntime::start_in_cluster`]; the caller in process 0 ticks.
    pub fn manual_joined(
        store: Arc<Store>,
        options: &LiveOptions,
        metrics: &Metrics,
        peers: PeerLinks,
    ) -> Result<LiveRuntime, StartError> {
        LiveRuntime::build(store, options, metrics, Some(peers))
    }

    fn build(
        store: Arc<Store>,
        options: &LiveOptions,
        metrics: &Metrics,
        peers: Option<PeerLinks>,
    ) -> Result<LiveRuntime, StartError> {
        // No more workers than shards: a worker without a shard would have nothing to do in the
        // local stage.
        let count = match options.execution {
            Execution::Threads => options.workers.clamp(1, usize::from(storage::model::SHARDS)),
            Execution::Caller => 1,
        };
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        let position = peers.as_ref().map_or(ClusterPosition { process: 0, processes: 1 }, |peers| {
            ClusterPosition { process: peers.process, processes: peers.processes() }
        });
        // Only process 0 ticks, so the others forward their requests for a tick to it.
        let remote = peers.as_ref().filter(|_| position.process > 0);
        let remote = remote
            .map(|peers| -> Arc<dyn TickSignal> { Arc::new(RemoteTickSignal::new(peers.monitor.clone())) });
        let shared = Arc::new(LiveShared {
            position,
            execution: options.execution,
            compiler: ViewCompiler::new(options.dialect, options.lookback_ms, position.processes),
            workers: WorkerPool::new(senders),
            barrier: TickBarrier::new(count),
            ticks: TickControl::new(remote),
            views: ViewControl::new(metrics.gauge("perennial_views", "Views that are installed.", &[])),
            descriptions: DescribeExchange::default(),
            ledger: Arc::default(),
            store_reads: Arc::default(),
            counters: LiveCounters::new(metrics),
        });
        let (queues, samples) = sample_queues(count, &shared.ticks.signal());
        let timely = match peers {
            Some(peers) => peers.build(count)?,
            None => timely::CommunicationConfig::Process(count).try_build().map_err(StartError::Workers)?,
        };
        let inputs = receivers.into_iter().zip(samples);
        let inputs = inputs.map(|(commands, samples)| WorkerInputs { commands, samples }).collect();
        // The workers exist before the store gets its feed: an append must find an open or a closed
        // queue, never none.
        if let Some(guards) = start_workers(&shared, timely, inputs, store.clone(), options, metrics)? {
            shared.workers.set_threads(guards);
        }
        store.subscribers().set_feed(Arc::new(queues));
        Ok(LiveRuntime(shared))
    }

    /// Installs a view. It begins, with its full history, at one of the next ticks. Fails if the
    /// plan cannot be a view (a matrix, a string).
    pub fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        if self.0.position.process > 0 {
            return Err(ViewError::NotCoordinator);
        }
        let id = self.0.views.install(self.0.compiler.compile(view)?);
        self.0.ticks.waker().wake_for_preparation();
        Ok(id)
    }

    /// Whether a plan can be a view here; the error says why not.
    pub fn check(&self, view: &ViewSpec) -> Result<(), ViewError> {
        self.0.compiler.check(view)
    }

    /// Replaces the plan of a view. The current plan is evaluated until the history of the new one
    /// has been read; then consumers get a new snapshot. Recorded series continue, if they have the
    /// same names, labels and evaluation times.
    pub fn change(&self, id: ViewId, view: ViewSpec) -> Result<(), ViewError> {
        self.0.views.replace(id, self.0.compiler.compile(view)?)?;
        self.0.ticks.waker().wake_for_preparation();
        Ok(())
    }

    /// What is installed, changed and removed until [`LiveRuntime::release`] happens in one tick.
    pub fn hold(&self) {
        self.0.views.queue().hold();
    }

    /// Ends what [`LiveRuntime::hold`] began.
    pub fn release(&self) {
        self.0.views.queue().release();
        self.0.ticks.waker().wake_for_preparation();
        self.0.ticks.waker().wake_for_tick();
    }

    /// Removes a view and its taps. The series of a recorded view end with stale markers.
    pub fn remove(&self, view: ViewId) {
        if self.0.views.remove(view) {
            self.0.ticks.waker().wake_for_preparation();
        }
    }

    /// Attaches a consumer. It gets a snapshot at the view's next evaluation, then changes.
    pub fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let id = self.0.views.tap(view, sink);
        self.0.ticks.waker().wake_for_tick();
        id
    }

    /// How far before a tick any view may read, in ms: samples older than that change no answer.
    pub fn reach(&self) -> i64 {
        self.0.compiler.reach()
    }

    /// Detaches a consumer.
    pub fn untap(&self, tap: TapId) {
        self.0.enqueue(Control::Untap(tap));
    }

    /// Describes the first `limit` views from `from` on, as of the end of the next tick, which this
    /// requests. Blocks at most twice `timeout`: for its turn, and for the answer.
    pub fn describe(
        &self,
        from: ViewId,
        limit: usize,
        timeout: Duration,
    ) -> Result<Description, DescribeError> {
        if self.0.views.is_empty() {
            return Ok(Description::default());
        }
        self.request_description(DescribeRequest { id: 0, from, limit, rows: false, check: None }, timeout)
    }

    /// Describes one view, with its rows; `None` if it does not exist. Blocks like
    /// [`LiveRuntime::describe`].
    pub fn read(&self, view: ViewId, timeout: Duration) -> Result<Option<ViewReport>, DescribeError> {
        if self.0.views.is_empty() {
            return Ok(None);
        }
        let request = DescribeRequest { id: 0, from: view, limit: 1, rows: true, check: None };
        Ok(self.request_description(request, timeout)?.views.into_iter().find(|report| report.id == view))
    }

    /// Like [`LiveRuntime::read`], with the report for a check: the tick evaluates the view.
    pub fn read_for_check(
        &self,
        view: ViewId,
        check: CheckRequest,
        timeout: Duration,
    ) -> Result<Option<ViewReport>, DescribeError> {
        if self.0.views.is_empty() {
            return Ok(None);
        }
        let request = DescribeRequest { id: 0, from: view, limit: 1, rows: false, check: Some(check) };
        Ok(self.request_description(request, timeout)?.views.into_iter().find(|report| report.id == view))
    }

    fn request_description(
        &self,
        request: DescribeRequest,
        timeout: Duration,
    ) -> Result<Description, DescribeError> {
        let id = self.0.views.new_id();
        // Both executors of each worker answer.
        // Not those of other processes: they hand in their parts at home, where nobody waits.
        let expected = 2 * self.0.workers.len();
        let send = || self.0.enqueue(Control::Describe(DescribeRequest { id, ..request }));
        let parts = self.0.descriptions.request(id, expected, timeout, send)?;
        let mut description = Description::from_reports(parts);
        for view in &mut description.views {
            if let Some(work) = &mut view.work {
                work.spent = self.0.ledger.spent(view.id);
            }
        }
        Ok(description)
    }

    /// The cost of the evaluations of a view; `None` if it does not exist.
    pub fn spent(&self, view: ViewId) -> Option<EvaluationCost> {
        self.0.ledger.spent(view)
    }

    /// How many control messages wait.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.0.views.queue().len()
    }

    /// Has the state of all views built again from the store at the next tick.
    pub fn rebuild(&self) {
        self.0.ticks.signal().samples_lost();
    }

    /// In process 0: another process of the cluster has sent a signal.
    pub fn on_peer_signal(&self, signal: PeerSignal) {
        let waker = self.0.ticks.signal();
        match signal {
            // One signal for both, because a signal sets two flags and costs nothing more; a
            // separate message would be another kind to lose.
            PeerSignal::Arrived => {
                waker.samples_arrived();
                // The signal may also mean that history has been read there.
                waker.work_ready();
            }
            PeerSignal::Lost => waker.samples_lost(),
        }
    }

    /// Whether there is no view and no control message.
    pub fn is_idle(&self) -> bool {
        self.0.views.is_idle()
    }

    /// The distinct schedules of all views.
    pub fn schedules(&self) -> Vec<(i64, i64)> {
        self.0.views.queue().schedules()
    }

    /// Runs the tick at `t` and returns when all workers have finished it. All views that are being
    /// installed begin at this tick, which waits until their history has been read. One tick at a
    /// time.
    pub fn tick(&self, t: TimeMs) {
        self.run_tick(t, true);
    }

    /// Runs the tick at `t` with the views that have begun. New ones join a later tick, when they
    /// are prepared ([`LiveRuntime::prepare`]) and their history has been read.
    pub fn tick_as_is(&self, t: TimeMs) {
        self.run_tick(t, false);
    }

    /// Between ticks: works on views that are being installed or removed, a bounded share of it.
    /// `t` is after the latest tick. Returns whether more can be done immediately. Before the first
    /// tick there is nothing to do.
    pub fn prepare(&self, t: TimeMs) -> bool {
        // Before the first tick the executors have no time as of which they could evaluate.
        if !self.has_work() || self.0.barrier.is_new() {
            return false;
        }
        let (mut control, more) = self.0.views.queue().take_for_preparation();
        let begins = control.iter().any(|control| matches!(control, Control::Begin(_)));
        control.push(Control::Prepare(t));
        self.run_workers(control);
        if begins {
            // Consumers wait for their first answer.
            self.0.ticks.waker().wake_for_tick();
        }
        // More in the queue, or more that the workers have left over because a preparation is
        // bounded.
        more || self.0.barrier.is_ready_now()
    }

    /// Whether there may be something to prepare.
    pub(super) fn has_work(&self) -> bool {
        self.0.barrier.has_work() || self.0.views.queue().has_work()
    }

    /// Runs a tick at `t`; with `all`, every view that is being installed begins at it.
    fn run_tick(&self, t: TimeMs, all: bool) {
        let before = self.0.barrier.set_time(t);
        // The clock was set back further than rings reach beyond their windows: samples that
        // windows need were dropped.
        // Within the slack, rings still have all samples of the earlier windows, and the executors
        // reset what they have computed.
        let back = before.saturating_sub(t) > RING_SLACK_MS;
        if self.0.ticks.waker().take_lost() || back {
            self.0.counters.rebuilds.inc();
            self.0.views.queue().rebuild(None);
        }
        let mut control =
            if all { self.0.views.queue().take_everything() } else { self.0.views.queue().take_for_tick() };
        control.push(Control::Tick(t));
        self.0.counters.ticks.inc();
        self.run_workers(control);
        self.0.barrier.set_finished_time(t);
    }

    /// Sends a tick or a preparation to all workers and waits until they have finished it.
    fn run_workers(&self, control: Vec<Control>) {
        let number = self.0.barrier.begin();
        self.0.workers.run(number, control);
        match self.0.execution {
            Execution::Caller => threadless_worker::work(&self.0, number),
            Execution::Threads => self.0.barrier.wait(number),
        }
    }

    /// Time of the newest tick that all workers have finished; `None`: there was none. The sinks
    /// have received all events of that tick and of those before.
    pub fn finished_tick(&self) -> Option<TimeMs> {
        self.0.barrier.finished_time()
    }

    /// Finishes the running tick. No other tick follows.
    pub fn end_ticks(&self) {
        // First, so that callers who wait for a description of a tick that will not come are
        // released.
        self.0.descriptions.close();
        self.0.ticks.stop();
    }

    /// Finishes the running tick and stops the workers.
    pub fn stop(&self) {
        self.end_ticks();
        self.0.workers.stop();
        if self.0.execution == Execution::Caller {
            threadless_worker::end(&self.0);
        }
        self.0.workers.join(self.0.position.processes);
        self.0.barrier.stop();
    }
}

impl LiveShared {
    fn enqueue(&self, control: Control) {
        self.views.queue().push(control);
        self.ticks.waker().wake_for_tick();
    }

    /// Acts on a vote of the workers.
    fn act_on(&self, vote: WorkerVote) {
        match vote {
            WorkerVote::Ready(batch) => {
                // Some of its views are still in the queue: the workers vote again after they have
                // got them.
                if !self.views.queue().ready(batch) {
                    return;
                }
            }
            WorkerVote::Garbage(selector) => {
                self.counters.rebuilds.inc();
                self.views.queue().rebuild(Some(selector));
            }
        }
        self.ticks.waker().wake_for_preparation();
    }
}

impl LiveCounters {
    fn new(metrics: &Metrics) -> LiveCounters {
        LiveCounters {
            rebuilds: metrics.counter(
                "perennial_rebuilds_total",
                "Times the state of the views of a selector, or of all, was built again from the store.",
                &[],
            ),
            ticks: metrics.counter("perennial_ticks_total", "Ticks of the live runtime.", &[]),
        }
    }
}
