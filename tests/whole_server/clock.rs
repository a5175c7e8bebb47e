//! The wall clock: it goes with the runtime's, which stands still while something is done, and jumps when it is told to.

use parking_lot::Mutex;
use storage::clock::Clock;
use storage::model::TimeMs;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// See the module.
pub struct WallClock(Mutex<State>);

struct State {
    /// What it showed when the runtime began, moved by all jumps since.
    base: TimeMs,
    since: Option<(Handle, Instant)>,
}

impl WallClock {
    pub fn at(t: TimeMs) -> WallClock {
        WallClock(Mutex::new(State { base: t, since: None }))
    }

    /// From now on it goes with the clock of this runtime.
    pub fn begin(&self, runtime: &Handle) {
        let mut state = self.0.lock();
        state.base = state.read();
        let _inside = runtime.enter();
        state.since = Some((runtime.clone(), Instant::now()));
    }

    /// The runtime goes: it stands still.
    pub fn stop(&self) {
        let mut state = self.0.lock();
        state.base = state.read();
        state.since = None;
    }

    /// It is set to another time.
    pub fn jump(&self, by: i64) {
        self.0.lock().base += by;
    }
}

impl State {
    fn read(&self) -> TimeMs {
        let Some((runtime, since)) = &self.since else { return self.base };
        // Also on threads that know no runtime.
        let _inside = runtime.enter();
        self.base + since.elapsed().as_millis() as i64
    }
}

impl Clock for WallClock {
    fn now(&self) -> TimeMs {
        self.0.lock().read()
    }
}
