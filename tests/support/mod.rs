//! Helpers of the integration tests: child processes that end with the test, an HTTP client, an
//! exporter with a given body, a remote-write client, and waiting with a deadline.
//!
//! The server under test is the binary of this package. `PERENNIAL_UNDER_TEST=/usr/bin/prometheus`
//! replaces it by another server, to check the tests themselves. `PERENNIAL_TEST_WORKERS=4` sets
//! the number of workers of its live runtime. Read next: [`daemon`], [`server`].

pub mod compare;
pub mod daemon;
pub mod exporter;
pub mod http;
pub mod receiver;
pub mod recorder;
pub mod remote_write;
pub mod s3;
pub mod server;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Calls `probe` until it returns a value; panics with `what` and the last error after `seconds`.
pub fn eventually<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match probe() {
            Ok(value) => return value,
            Err(complaint) if Instant::now() > deadline => {
                panic!("{what}: not within {seconds} s; last: {complaint}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// The text of a file in `tests/data`.
pub fn data(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// How often a test is run before its failure counts, for failures caused by a slow machine.
const RUNS: usize = 3;

/// Runs a test in which several programs depend on the wall clock.
///
/// A machine that stalls for half a second changes what each program sees, so one failed run has
/// little meaning. The test fails only if all [`RUNS`] runs fail, because a bug fails every time;
/// every failure is printed.
pub fn wall_clock(test: impl Fn()) {
    for run in 1..=RUNS {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(&test)) {
            Ok(()) => return,
            Err(failure) if run == RUNS => std::panic::resume_unwind(failure),
            Err(_) => eprintln!("run {run} of {RUNS} failed; once more"),
        }
    }
}
