//! The simulated wall clock: it follows the clock of the runtime, which stands still during work,
//! and jumps on request.

use parking_lot::Mutex;
use storage::clock::Clock;
use storage::model::TimeMs;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The simulated wall clock.
pub struct WallClock(Mutex<State>);

struct State {
    /// The time at the start of the runtime, plus all jumps since.
    base: TimeMs,
    since: Option<(Handle, Instant)>,
}

impl WallClock {
    pub fn at(t: TimeMs) -> WallClock {
        WallClock(Mutex::new(State { base: t, since: None }))
    }

    /// Connects the clock to a runtime.
    pub fn begin(&self, runtime: &Handle) {
        let mut state = self.0.lock();
        state.base = state.read();
        let _inside = runtime.enter();
        state.since = Some((runtime.clone(), Instant::now()));
    }

    /// Stops the clock, because the runtime ends.
    pub fn stop(&self) {
        let mut state = self.0.lock();
        state.base = state.read();
        state.since = None;
    }

    /// Changes the time by `by` ms.
    pub fn jump(&self, by: i64) {
        self.0.lock().base += by;
    }
}

impl State {
    fn read(&self) -> TimeMs {
        let Some((runtime, since)) = &self.since else { return self.base };
        // Some threads have not entered a runtime.
        let _inside = runtime.enter();
        self.base + since.elapsed().as_millis() as i64
    }
}

impl Clock for WallClock {
    fn now(&self) -> TimeMs {
        self.0.lock().read()
    }
}
