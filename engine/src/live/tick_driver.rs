//! The tick driver: decides when a tick is due. A tick is one evaluation of all views that are due
//! at a time.
//!
//! It ticks at every evaluation time of a recorded view, soon after samples arrive (collecting
//! those that come close together), and at least so often while nothing happens. One tick is under
//! way at a time: a slow tick makes the next one carry more, it never makes a queue. Evaluation
//! times that the process slept through are skipped and counted, as in Prometheus; only the latest
//! of each schedule is evaluated. If the clock jumps back, ticks go on in the new time.
//!
//! Between ticks it runs preparations for views that are installed or removed, in bounded shares: a
//! tick that is due waits for at most one.

use super::sample_queue::TickSignal;
use super::{LiveOptions, LiveRuntime, StartError};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::metrics::{Counter, MetricHistogram, Metrics};
use storage::model::TimeMs;

/// Wakes the tick driver.
#[derive(Default)]
pub struct TickWaker {
    /// Set by the first arrival since the last tick, so that further ones need not take the lock.
    samples_pending: AtomicBool,
    /// There is something to prepare.
    preparation_pending: AtomicBool,
    /// Samples were dropped since the last tick.
    samples_lost: AtomicBool,
    state: Mutex<bool>,
    condition: Condvar,
}

impl TickWaker {
    /// There is something for the next tick.
    pub fn wake_for_tick(&self) {
        // The flag is set before the lock is taken. The driver checks the flag under the lock
        // before it waits, so a wake-up between the check and the wait cannot be lost. Further
        // arrivals see the flag and do not touch the lock, which every append would contend for.
        if !self.samples_pending.swap(true, SeqCst) {
            let _state = self.state.lock();
            self.condition.notify_all();
        }
    }

    /// There is something that need not wait for the next tick.
    pub fn wake_for_preparation(&self) {
        if !self.preparation_pending.swap(true, SeqCst) {
            let _state = self.state.lock();
            self.condition.notify_all();
        }
    }

    /// Whether samples were dropped since the last call.
    pub fn take_lost(&self) -> bool {
        self.samples_lost.swap(false, SeqCst)
    }

    /// Ends the driver.
    pub fn stop(&self) {
        *self.state.lock() = true;
        self.condition.notify_all();
    }

    /// Waits at most `ms`; with `until_samples` only until something arrives. `true`: the driver
    /// must stop.
    fn wait(&self, ms: i64, until_samples: bool) -> bool {
        let mut stopped = self.state.lock();
        let woken =
            // While a tick is planned already (`until_samples` is false), more samples must not
            // wake the driver: they are collected until the tick is due.
            until_samples && self.samples_pending.load(SeqCst) || self.preparation_pending.load(SeqCst);
        if !*stopped && !woken {
            self.condition.wait_for(&mut stopped, Duration::from_millis(ms.max(1) as u64));
        }
        *stopped
    }
}

impl TickSignal for TickWaker {
    fn samples_arrived(&self) {
        self.wake_for_tick();
    }
    fn work_ready(&self) {
        self.wake_for_preparation();
    }
    fn samples_lost(&self) {
        // Set before the wake-up: the tick that it causes must see it.
        self.samples_lost.store(true, SeqCst);
        self.wake_for_tick();
    }
}

/// Decides when to tick, and runs ticks and preparations.
pub struct TickDriver {
    live: LiveRuntime,
    waker: Arc<TickWaker>,
    clock: Arc<dyn Clock>,
    options: LiveOptions,
    last: TimeMs,
    /// The latest tick was at the current time, so a preparation as of it is nearly current.
    is_current: bool,
    /// When the first of the samples for the next tick arrived.
    first_arrival: Option<TimeMs>,
    /// There was no view at the latest turn.
    was_idle: bool,
    missed: Arc<Counter>,
    seconds: Arc<MetricHistogram>,
    preparing: Arc<MetricHistogram>,
}

/// How long the driver has nothing to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// At most this long, in ms.
    pub ms: i64,
    /// Nothing waits for a tick; an arrival ends the pause.
    pub is_idle: bool,
}

/// Starts the driver's thread.
pub fn spawn(driver: TickDriver) -> Result<std::thread::JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name("ticks".to_owned())
        .spawn(move || driver.run())
        .map_err(StartError::Thread)
}

impl TickDriver {
    /// A driver for `live`, which is woken by `waker`.
    pub fn new(
        live: LiveRuntime,
        waker: Arc<TickWaker>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> TickDriver {
        let last = clock.now();
        let missed = metrics.counter(
            "perennial_slots_missed_total",
            "Evaluation times of recorded views that passed without an evaluation.",
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
        let is_current = false;
        let first_arrival = None;
        let was_idle = false;
        TickDriver {
            live,
            waker,
            clock,
            options,
            last,
            is_current,
            first_arrival,
            was_idle,
            missed,
            seconds,
            preparing,
        }
    }

    fn run(mut self) {
        loop {
            // `turn` does not wait itself, so that a simulation can call it with a clock of its
            // own.
            if let Some(pause) = self.turn()
                && self.waker.wait(pause.ms, pause.is_idle)
            {
                return;
            }
            if *self.waker.state.lock() {
                return;
            }
        }
    }

    /// Does what is due. Returns how long there is nothing to do; `None`: there may be more
    /// immediately.
    pub fn turn(&mut self) -> Option<Pause> {
        // Without views nothing takes these signals. They are reset, or the wait below would return
        // at once for ever.
        if self.was_idle {
            self.waker.samples_pending.store(false, SeqCst);
            self.waker.preparation_pending.store(false, SeqCst);
        }
        if self.live.is_idle() {
            // Without views there are no ticks.
            self.was_idle = true;
            self.is_current = false;
            return Some(Pause { ms: self.options.idle_tick_ms, is_idle: true });
        }
        let now = self.clock.now();
        // Before `due` is computed from `last`: if the clock was set back by an hour, no tick would
        // be due for an hour.
        self.follow_back(now);
        self.first_arrival = self.first_arrival.map(|t| t.min(now));
        // The first view was installed: tick soon, even if no samples come, so that the view gets
        // its first answer.
        if std::mem::take(&mut self.was_idle)
            || self.first_arrival.is_none() && self.waker.samples_pending.load(SeqCst)
        {
            self.first_arrival = Some(now);
        }
        // Counted from the first arrival, not from the latest: a steady stream of samples must not
        // put off the tick.
        let due = self
            .first_arrival
            .map_or(self.last + self.options.idle_tick_ms, |t| t + self.options.coalesce_ms);
        // Never before the last tick, even if the clock was set back a little.
        let due = due.max(self.last + 1);
        let wake = due.min(self.next_evaluation_time());
        if now < wake {
            // The pause until the next tick is used for views that come and go. A preparation is
            // bounded, so the tick is late by at most one of them.
            let prepared = self.prepare(now);
            return (!prepared).then_some(Pause { ms: wake - now, is_idle: self.first_arrival.is_none() });
        }
        // Recorded views first, each at its own evaluation time, which may be earlier than now:
        // their samples must have exactly these times.
        for time in self.evaluation_times(now) {
            tracing::debug!(target: "live::tick", t = time, "a recorded view is due");
            self.tick(time);
        }
        if now >= due && now > self.last {
            tracing::debug!(target: "live::tick", t = now, samples = self.first_arrival.is_some(), "a tick is due");
            self.waker.samples_pending.store(false, SeqCst);
            self.first_arrival = None;
            self.tick(now);
        }
        // At least one preparation, so that ticks without a pause do not keep views from being
        // installed.
        self.prepare(self.clock.now());
        None
    }

    /// Runs a preparation, if there is something to prepare. Returns whether it did.
    #[allow(clippy::disallowed_methods, reason = "measures itself; no answer depends on this reading")]
    fn prepare(&mut self, now: TimeMs) -> bool {
        // The next tick requests it again.
        // A preparation evaluates as of the latest tick. If that was at an evaluation time long
        // ago, new views would get old answers.
        if !self.waker.preparation_pending.swap(false, SeqCst) || !self.is_current {
            return false;
        }
        let started = Instant::now();
        // After the last tick, so that the stale markers of series that end come after their last
        // samples.
        if self.live.prepare(now.max(self.last + 1)) {
            self.waker.wake_for_preparation();
        }
        self.preparing.observe(started.elapsed().as_secs_f64());
        true
    }

    /// If the clock was set back by less than twice the idle interval, the driver waits for it:
    /// nothing is missed, and times stay in order. Otherwise ticks go on in the new time.
    fn follow_back(&mut self, now: TimeMs) {
        if now < self.last - self.options.idle_tick_ms {
            tracing::warn!(
                target: "live::tick",
                seconds = (self.last - now) / 1000,
                "the clock was set back: ticks go on in the new time; if this repeats, check the \
                 synchronisation of the clock"
            );
            // One less, so that a tick at `now` is still after it.
            self.last = now - 1;
            self.is_current = false;
        }
    }

    #[allow(clippy::disallowed_methods, reason = "measures itself; no answer depends on this reading")]
    fn tick(&mut self, t: TimeMs) {
        // An evaluation time and the coalesced tick can be the same millisecond.
        if t <= self.last {
            return;
        }
        let _span = tracing::debug_span!(target: "live::tick", "tick", t).entered();
        let started = Instant::now();
        self.live.tick_as_is(t);
        let seconds = started.elapsed().as_secs_f64();
        tracing::debug!(target: "live::tick", seconds, "all workers have finished the tick");
        self.seconds.observe(seconds);
        self.last = t;
        self.is_current = true;
        if self.live.has_work() {
            self.waker.wake_for_preparation();
        }
    }

    /// The first evaluation time after the last tick.
    fn next_evaluation_time(&self) -> TimeMs {
        let schedules = self.live.schedules().into_iter();
        let next = schedules
            .map(|(interval, offset)| self.last + interval - (self.last - offset).rem_euclid(interval));
        next.min().unwrap_or(TimeMs::MAX)
    }

    /// The evaluation times between the last tick and `now`: the latest of each schedule.
    fn evaluation_times(&self, now: TimeMs) -> Vec<TimeMs> {
        let mut times = Vec::new();
        for (interval, offset) in self.live.schedules() {
            // Only the latest of each schedule: after a long pause, for example a suspended
            // machine, evaluating every missed time would delay the current ones. The others are
            // counted as missed; backfill can compute them.
            let latest = now - (now - offset).rem_euclid(interval);
            if latest > self.last {
                times.push(latest);
                let missed = (latest - self.last - 1) / interval;
                self.missed.add(missed as u64);
            }
        }
        times.sort_unstable();
        // Several schedules often meet, for example at full minutes: that is one tick.
        times.dedup();
        times
    }
}
