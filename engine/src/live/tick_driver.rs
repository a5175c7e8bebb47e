//! The driver: decides when to tick.
//!
//! Between ticks it has what comes and goes prepared, in bounded shares: a tick that falls due
//! waits for one at most.
//!
//! It ticks at every slot of a recorded view, soon after samples arrive (gathering those that come
//! close together), and at least so often while nothing happens. One tick is under way at a time: a
//! slow tick makes the next one carry more, it never makes a queue. Slots that the process slept
//! through are skipped and counted, as in Prometheus; each schedule's latest one is made up for.
//! Where the clock jumps back, ticks go on in the new time.

use super::sample_queue::TickSignal;
use super::{LiveOptions, LiveRuntime};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::metrics::{Counter, MetricHistogram, Metrics};
use storage::model::TimeMs;

/// Wakes the driver.
#[derive(Default)]
pub struct TickWaker {
    /// Set by the first arrival since the last tick; spares the others the lock.
    rung: AtomicBool,
    /// There is something to prepare.
    called: AtomicBool,
    /// Samples were not queued since the last tick.
    lost: AtomicBool,
    state: Mutex<bool>,
    condition: Condvar,
}

impl TickWaker {
    /// Something came that the next tick should take along.
    pub fn ring(&self) {
        if !self.rung.swap(true, SeqCst) {
            let _state = self.state.lock();
            self.condition.notify_all();
        }
    }

    /// Something came that need not wait for the next tick.
    pub fn call(&self) {
        if !self.called.swap(true, SeqCst) {
            let _state = self.state.lock();
            self.condition.notify_all();
        }
    }

    /// Whether samples were not queued since the last call.
    pub fn take_lost(&self) -> bool {
        self.lost.swap(false, SeqCst)
    }

    /// Ends the driver.
    pub fn stop(&self) {
        *self.state.lock() = true;
        self.condition.notify_all();
    }

    /// Waits at most `ms`, or until something arrives if nothing has yet. `true`: stop.
    fn wait(&self, ms: i64, until_rung: bool) -> bool {
        let mut stopped = self.state.lock();
        let woken = until_rung && self.rung.load(SeqCst) || self.called.load(SeqCst);
        if !*stopped && !woken {
            self.condition.wait_for(&mut stopped, Duration::from_millis(ms.max(1) as u64));
        }
        *stopped
    }
}

impl TickSignal for TickWaker {
    fn samples_arrived(&self) {
        self.ring();
    }
    fn work_ready(&self) {
        self.call();
    }
    fn samples_lost(&self) {
        self.lost.store(true, SeqCst);
        self.ring();
    }
}

/// See the module.
pub struct TickDriver {
    live: LiveRuntime,
    alarm: Arc<TickWaker>,
    clock: Arc<dyn Clock>,
    options: LiveOptions,
    last: TimeMs,
    /// The latest tick is one of this time: what is prepared as of it is nearly current.
    fresh: bool,
    /// When the first of what the next tick takes along came.
    arrived: Option<TimeMs>,
    /// Nothing stood at the latest turn.
    idle: bool,
    missed: Arc<Counter>,
    seconds: Arc<MetricHistogram>,
    preparing: Arc<MetricHistogram>,
}

/// How long the driver has nothing to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// No longer than that, ms.
    pub ms: i64,
    /// Nothing has arrived that waits for a tick; what arrives ends the pause.
    pub is_idle: bool,
}

/// Starts the driver's thread.
pub fn spawn(driver: TickDriver) -> Result<std::thread::JoinHandle<()>, String> {
    std::thread::Builder::new()
        .name("ticks".to_owned())
        .spawn(move || driver.run())
        .map_err(|e| e.to_string())
}

impl TickDriver {
    /// A driver for `live`, whose alarm this is.
    pub fn new(
        live: LiveRuntime,
        alarm: Arc<TickWaker>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> TickDriver {
        let last = clock.now();
        let missed = metrics.counter(
            "perennial_slots_missed_total",
            "Slots of recorded views that passed without an evaluation.",
            &[],
        );
        let bounds = [
            0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0,
            5.0,
        ];
        let seconds =
            metrics.histogram("perennial_tick_duration_seconds", "Duration of ticks.", &[], &bounds);
        let preparing = metrics.histogram(
            "perennial_preparation_duration_seconds",
            "Duration of preparations: what is done between ticks for views that come and go.",
            &[],
            &bounds,
        );
        let fresh = false;
        let arrived = None;
        let idle = false;
        TickDriver { live, alarm, clock, options, last, fresh, arrived, idle, missed, seconds, preparing }
    }

    fn run(mut self) {
        loop {
            if let Some(pause) = self.turn()
                && self.alarm.wait(pause.ms, pause.is_idle)
            {
                return;
            }
            if *self.alarm.state.lock() {
                return;
            }
        }
    }

    /// Does what is due. Then how long there is nothing to do; `None`: there may be more at once.
    pub fn turn(&mut self) -> Option<Pause> {
        if self.idle {
            self.alarm.rung.store(false, SeqCst);
            self.alarm.called.store(false, SeqCst);
        }
        if self.live.is_idle() {
            // Cost follows change: nothing stands, nothing ticks.
            (self.idle, self.fresh) = (true, false);
            return Some(Pause { ms: self.options.idle_tick, is_idle: true });
        }
        let now = self.clock.now();
        self.follow_back(now);
        self.arrived = self.arrived.map(|t| t.min(now));
        if std::mem::take(&mut self.idle) || self.arrived.is_none() && self.alarm.rung.load(SeqCst) {
            self.arrived = Some(now);
        }
        let due = self.arrived.map_or(self.last + self.options.idle_tick, |t| t + self.options.coalesce);
        // Not before the last tick, if the clock went back a little.
        let due = due.max(self.last + 1);
        let wake = due.min(self.next_slot());
        if now < wake {
            let prepared = self.prepare(now);
            return (!prepared).then_some(Pause { ms: wake - now, is_idle: self.arrived.is_none() });
        }
        for slot in self.slots(now) {
            self.tick(slot);
        }
        if now >= due && now > self.last {
            self.alarm.rung.store(false, SeqCst);
            self.arrived = None;
            self.tick(now);
        }
        // One at least, so that ticks without a pause keep nothing from coming.
        self.prepare(self.clock.now());
        None
    }

    /// Has a share of what comes and goes prepared; whether there was something to do.
    #[allow(clippy::disallowed_methods, reason = "measures itself; no answer depends on this reading")]
    fn prepare(&mut self, now: TimeMs) -> bool {
        // A tick that makes it fresh calls again.
        if !self.alarm.called.swap(false, SeqCst) || !self.fresh {
            return false;
        }
        let started = Instant::now();
        // Series that end have their markers after their last samples.
        if self.live.prepare(now.max(self.last + 1)) {
            self.alarm.call();
        }
        self.preparing.observe(started.elapsed().as_secs_f64());
        true
    }

    /// A clock that stepped back by less than the distance of two idle ticks is waited for: nobody
    /// misses anything, and times stay in order. Otherwise ticks go on in the new time.
    fn follow_back(&mut self, now: TimeMs) {
        if now < self.last - self.options.idle_tick {
            tracing::warn!(
                seconds = (self.last - now) / 1000,
                "the clock jumped back: ticks go on in the new time"
            );
            (self.last, self.fresh) = (now - 1, false);
        }
    }

    #[allow(clippy::disallowed_methods, reason = "measures itself; no answer depends on this reading")]
    fn tick(&mut self, t: TimeMs) {
        if t <= self.last {
            return;
        }
        let started = Instant::now();
        self.live.tick_as_is(t);
        self.seconds.observe(started.elapsed().as_secs_f64());
        (self.last, self.fresh) = (t, true);
        if self.live.has_work() {
            self.alarm.call();
        }
    }

    /// The first slot after the last tick.
    fn next_slot(&self) -> TimeMs {
        let next =
            |(interval, offset): (i64, i64)| self.last + interval - (self.last - offset).rem_euclid(interval);
        self.live.schedules().into_iter().map(next).min().unwrap_or(TimeMs::MAX)
    }

    /// The slots between the last tick and `now`: of each schedule the latest.
    fn slots(&self, now: TimeMs) -> Vec<TimeMs> {
        let mut slots = Vec::new();
        for (interval, offset) in self.live.schedules() {
            let latest = now - (now - offset).rem_euclid(interval);
            if latest > self.last {
                slots.push(latest);
                let missed = (latest - self.last - 1) / interval;
                self.missed.add(missed as u64);
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }
}
