//! mimalloc's settings: it reads them from the environment before `main`, so a server that has none starts itself anew with ours.
//!
//! Memory that was given back goes to the system after 10 ms, not after a second: while the log is replayed the server then takes
//! a quarter less, for the same CPU (measured: docs/benchmarks.md). Whoever sets the variable has his way.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// How long freed memory is kept, ms.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10");

/// Makes this process run with our settings. Where it cannot be started anew it goes on as it is.
pub fn settle() {
    let (name, value) = PURGE_DELAY;
    if std::env::var_os(name).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let Some(called) = arguments.next() else { return };
    let Ok(program) = std::env::current_exe() else { return };
    // Returns only if it failed: then memory is kept longer, and nothing else is lost.
    let _ = Command::new(program).arg0(called).args(arguments).env(name, value).exec();
}
