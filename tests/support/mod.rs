//! What the integration tests share: child programs that die with the test, a small HTTP client, an exporter
//! that the test writes by hand, a remote-write client, and waiting with a deadline.
//!
//! The server under test is this package's binary. `PERENNIAL_UNDER_TEST=/usr/bin/prometheus` puts another
//! server in its place: the way to check the tests themselves. `PERENNIAL_TEST_WORKERS=4` sets the number of
//! workers of its live runtime. Read next: [`daemon`], [`server`].

pub mod compare;
pub mod daemon;
pub mod exporter;
pub mod http;
pub mod receiver;
pub mod remote_write;
pub mod s3;
pub mod server;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Calls `probe` until it returns a value; panics with `what` and the last complaint after `seconds`.
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

/// A file of `tests/data`.
pub fn data(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// How often a test of running programs may be stopped by the machine before its failure counts.
const RUNS: usize = 3;

/// Runs a test in which several programs meet on the wall clock. A machine that stalls for half a second changes what each of
/// them saw, so one failed run says little: the test fails when all of its [`RUNS`] runs fail, and every failure is printed.
/// What is wrong in the programs fails every time.
pub fn wall_clock(test: impl Fn()) {
    for run in 1..=RUNS {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(&test)) {
            Ok(()) => return,
            Err(failure) if run == RUNS => std::panic::resume_unwind(failure),
            Err(_) => eprintln!("run {run} of {RUNS} failed; once more"),
        }
    }
}
