//! The handle of the running live runtime: installs and removes views, attaches consumers, ticks.
//!
//! Everything that changes what stands goes through one queue, which the next tick takes along as the
//! control stream. Samples reach the worker that owns their shard in the order of their append sequence.

use super::driver::{self, Alarm};
use super::gather::GatherHost;
use super::local::{LocalHost, owner};
use super::message::Control;
use super::tap::Waiting;
use super::views::Slots;
use super::{LiveOptions, Sink, TapId, ViewId, ViewKind, ViewSpec, dataflow, time};
use crate::limits::FEED_ITEMS;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::Thread;
use storage::clock::Clock;
use storage::metrics::{Counter, Gauge, Metrics};
use storage::model::TimeMs;
use storage::store::{Feed, FeedItem, Store};
use timely::communication::WorkerGuards;
use timely::worker::Worker;

/// What a worker is told from outside.
enum ToWorker {
    Samples(FeedItem),
    Tick(TimeMs, Vec<Control>),
    Stop,
}

/// The handle of the running live runtime. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    workers: Vec<Sender<ToWorker>>,
    threads: Mutex<Vec<Thread>>,
    guards: Mutex<Option<WorkerGuards<()>>>,
    driver: Mutex<Option<std::thread::JoinHandle<()>>>,
    waiting: Waiting,
    queue: Mutex<Vec<Control>>,
    next_id: AtomicU64,
    slots: Mutex<HashMap<ViewId, Slots>>,
    /// The distinct schedules of recorded views, with how many have them.
    schedules: Mutex<BTreeMap<(i64, i64), usize>>,
    /// Newest finished tick per worker.
    finished: Mutex<Vec<TimeMs>>,
    changed: Condvar,
    alarm: Arc<Alarm>,
    /// Batches on their way to each worker.
    queued: Vec<AtomicUsize>,
    /// The next tick begins with a rebuild.
    rebuild: AtomicBool,
    rebuilds: Arc<Counter>,
    /// Number of views, ahead of the workers: counted before a view is installed, and until it is removed.
    standing: AtomicUsize,
    views: Arc<Gauge>,
    ticks: Arc<Counter>,
}

impl Live {
    /// Starts the workers and the tick driver, and makes the runtime the store's feed.
    pub fn start(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<Live, String> {
        let live = Live::manual(store, &options, metrics)?;
        let handle = driver::spawn(live.clone(), live.0.alarm.clone(), clock, options, metrics)?;
        *live.0.driver.lock() = Some(handle);
        Ok(live)
    }

    /// Starts the workers only: the caller ticks.
    pub fn manual(store: Arc<Store>, options: &LiveOptions, metrics: &Metrics) -> Result<Live, String> {
        let count = options.workers.clamp(1, usize::from(storage::model::SHARDS));
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        let inner = Arc::new(Inner {
            workers: senders,
            threads: Mutex::new(Vec::new()),
            guards: Mutex::new(None),
            driver: Mutex::new(None),
            waiting: Waiting::default(),
            queue: Mutex::new(Vec::new()),
            next_id: AtomicU64::new(1),
            slots: Mutex::new(HashMap::new()),
            schedules: Mutex::new(BTreeMap::new()),
            finished: Mutex::new(vec![TimeMs::MIN; count]),
            changed: Condvar::new(),
            alarm: Arc::new(Alarm::default()),
            queued: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            rebuild: AtomicBool::new(false),
            rebuilds: metrics.counter(
                "perennial_rebuilds_total",
                "Times the state of all views was built anew from the store.",
                &[],
            ),
            standing: AtomicUsize::new(0),
            views: metrics.gauge("perennial_views", "Plans that stand.", &[]),
            ticks: metrics.counter("perennial_ticks_total", "Ticks of the live runtime.", &[]),
        });
        let guards = start_workers(&inner, receivers, store.clone(), options.lookback, metrics, count)?;
        *inner.threads.lock() = guards.guards().iter().map(|g| g.thread().clone()).collect();
        *inner.guards.lock() = Some(guards);
        store.set_feed(Arc::new(Inlet(inner.clone())));
        Ok(Live(inner))
    }

    /// Installs a view; it is full and current from the next tick on.
    /// Fails if the plan cannot stand (a matrix, a string).
    pub fn install(&self, view: ViewSpec) -> Result<ViewId, String> {
        super::check(&view)?;
        let id = ViewId(self.0.next_id.fetch_add(1, Relaxed));
        let slots = match view.kind {
            ViewKind::Continuous => Slots::Always,
            ViewKind::Recorded { interval, offset, .. } => Slots::Every(interval.max(1), offset),
        };
        self.0.slots.lock().insert(id, slots);
        if let Slots::Every(interval, offset) = slots {
            *self.0.schedules.lock().entry((interval, offset)).or_insert(0) += 1;
        }
        self.0.standing.fetch_add(1, SeqCst);
        self.0.views.add(1.0);
        self.enqueue(Control::Install(id, view));
        Ok(id)
    }

    /// Removes a view and its taps. A recorded view's series end with stale markers.
    pub fn remove(&self, view: ViewId) {
        let slots = self.0.slots.lock().remove(&view);
        if let Some(Slots::Every(interval, offset)) = slots {
            let mut schedules = self.0.schedules.lock();
            if let Some(views) = schedules.get_mut(&(interval, offset)) {
                *views -= 1;
            }
            schedules.retain(|_, views| *views > 0);
        }
        if slots.is_some() {
            self.0.standing.fetch_sub(1, SeqCst);
            self.0.views.add(-1.0);
            self.enqueue(Control::Remove(view));
        }
    }

    /// Attaches a consumer: a snapshot at the view's next evaluation, then changes.
    pub fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let id = TapId(self.0.next_id.fetch_add(1, Relaxed));
        self.0.waiting.lock().insert(id, sink);
        self.enqueue(Control::Tap(view, id));
        id
    }

    /// Detaches a consumer.
    pub fn untap(&self, tap: TapId) {
        self.enqueue(Control::Untap(tap));
    }

    fn enqueue(&self, control: Control) {
        self.0.queue.lock().push(control);
        self.0.alarm.ring();
    }

    /// Makes the next tick build the state of all views anew from the store.
    pub fn rebuild(&self) {
        self.0.rebuild.store(true, SeqCst);
        self.0.alarm.ring();
    }

    /// Whether there is nothing to keep current: no view, and no word of one.
    pub fn is_idle(&self) -> bool {
        self.0.standing.load(SeqCst) == 0 && self.0.queue.lock().is_empty()
    }

    /// The distinct schedules of all views.
    pub fn schedules(&self) -> Vec<(i64, i64)> {
        self.0.schedules.lock().keys().copied().collect()
    }

    /// Runs the tick at `t` and waits until all workers have finished it. Ticks must ascend.
    pub fn tick(&self, t: TimeMs) {
        let mut control = std::mem::take(&mut *self.0.queue.lock());
        if self.0.rebuild.swap(false, SeqCst) {
            self.0.rebuilds.inc();
            control.insert(0, Control::Rebuild);
        }
        control.push(Control::Tick(t));
        self.0.ticks.inc();
        for (i, worker) in self.0.workers.iter().enumerate() {
            let messages = if i == 0 { std::mem::take(&mut control) } else { Vec::new() };
            // A worker that is gone has aborted the process or was told to stop.
            let _ = worker.send(ToWorker::Tick(t, messages));
        }
        self.0.threads.lock().iter().for_each(Thread::unpark);
        let mut finished = self.0.finished.lock();
        while finished.iter().any(|f| *f < t) {
            self.0.changed.wait(&mut finished);
        }
    }

    /// Finishes the running tick and stops the workers.
    pub fn stop(&self) {
        self.0.alarm.stop();
        if let Some(driver) = self.0.driver.lock().take() {
            drop(driver.join());
        }
        for worker in &self.0.workers {
            let _ = worker.send(ToWorker::Stop);
        }
        self.0.threads.lock().iter().for_each(Thread::unpark);
        drop(self.0.guards.lock().take());
        self.0.finished.lock().iter_mut().for_each(|f| *f = TimeMs::MAX);
        self.0.changed.notify_all();
    }
}

/// The store's end of the sample queues.
struct Inlet(Arc<Inner>);

impl Feed for Inlet {
    fn push(&self, item: FeedItem) {
        // Without views nobody reads it; a view that comes later is filled from the store, where it is already.
        if self.0.standing.load(SeqCst) == 0 {
            return;
        }
        let worker = owner(item.shard, self.0.workers.len());
        if self.0.queued[worker].fetch_add(1, Relaxed) < FEED_ITEMS {
            let _ = self.0.workers[worker].send(ToWorker::Samples(item));
        } else {
            // The queue is bounded and the caller must not wait: what is not queued is read from the store.
            self.0.queued[worker].fetch_sub(1, Relaxed);
            self.0.rebuild.store(true, SeqCst);
        }
        self.0.alarm.ring();
    }
}

type Receivers = Arc<Mutex<Vec<Option<Receiver<ToWorker>>>>>;

fn start_workers(
    inner: &Arc<Inner>,
    receivers: Vec<Receiver<ToWorker>>,
    store: Arc<Store>,
    lookback: i64,
    metrics: &Metrics,
    count: usize,
) -> Result<WorkerGuards<()>, String> {
    let receivers: Receivers = Arc::new(Mutex::new(receivers.into_iter().map(Some).collect()));
    let local_counters = [
        metrics.counter(
            "perennial_tick_rows_touched_total",
            "Rows of windows and selectors that ticks looked at.",
            &[],
        ),
        metrics.counter(
            "perennial_views_without_past_total",
            "Selectors of views that started without their past, as the store could not be read.",
            &[],
        ),
    ];
    let counters = [
        metrics.counter("perennial_view_evaluations_total", "Evaluations of views.", &[]),
        metrics.counter("perennial_view_evaluation_failures_total", "Evaluations of views that failed.", &[]),
    ];
    let inner = inner.clone();
    timely::execute(timely::Config::process(count), move |worker| {
        let _fail_stop = FailStop;
        let index = worker.index();
        let Some(receiver) = receivers.lock()[index].take() else { return };
        let local = LocalHost::new(index, count, store.clone(), lookback, local_counters.clone());
        let gather = GatherHost::new(index, count, store.clone(), inner.waiting.clone(), counters.clone());
        let inputs = dataflow::build(worker, local, gather, reports(&inner, index));
        work(worker, inputs, &receiver, &inner.queued[index]);
    })
}

fn reports(inner: &Arc<Inner>, index: usize) -> dataflow::Reports {
    let (finished, garbage) = (Arc::downgrade(inner), Arc::downgrade(inner));
    dataflow::Reports {
        done: Box::new(move |t| {
            let Some(inner) = finished.upgrade() else { return };
            inner.finished.lock()[index] = t;
            inner.changed.notify_all();
        }),
        garbage: Box::new(move || {
            if let Some(inner) = garbage.upgrade() {
                inner.rebuild.store(true, SeqCst);
            }
        }),
    }
}

/// Feeds a worker's dataflow until it is told to stop. Samples belong to the tick that follows them.
fn work(
    worker: &mut Worker,
    mut inputs: dataflow::Inputs,
    receiver: &Receiver<ToWorker>,
    queued: &AtomicUsize,
) {
    let mut samples = Vec::new();
    loop {
        match receiver.try_recv() {
            Ok(ToWorker::Samples(item)) => samples.push(item),
            Ok(ToWorker::Tick(t, control)) => {
                inputs.samples.advance_to(time::at(t, 0));
                inputs.control.advance_to(time::at(t, 0));
                queued.fetch_sub(samples.len(), Relaxed);
                samples.drain(..).for_each(|item| inputs.samples.send(item));
                control.into_iter().for_each(|message| inputs.control.send(message));
                inputs.samples.advance_to(time::at(t + 1, 0));
                inputs.control.advance_to(time::at(t + 1, 0));
                worker.step();
            }
            Ok(ToWorker::Stop) | Err(TryRecvError::Disconnected) => return,
            // Never spin: with the cores shared, a spinning worker turns a 0.5 ms tick into 30 ms.
            Err(TryRecvError::Empty) => drop(worker.step_or_park(None)),
        }
    }
}

/// A worker's panic must not leave the others waiting for ever: the process ends, and a restart recovers.
struct FailStop;

impl Drop for FailStop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "a worker of the live runtime panicked; aborting, the log will be replayed at restart"
            );
            std::process::abort();
        }
    }
}
