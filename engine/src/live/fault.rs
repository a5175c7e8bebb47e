//! A deliberate fault, for the test that a check of a view finds wrong values. Release builds do
//! not contain it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// While this is set, leaves are not notified of samples that arrive in their rings: answers do not
/// change until a timer expires.
pub static IGNORE_SAMPLES: AtomicBool = AtomicBool::new(false);

pub(super) fn ignores_samples() -> bool {
    IGNORE_SAMPLES.load(SeqCst)
}
