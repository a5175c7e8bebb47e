//! A deliberate fault, for the test that shows that a check of a view finds wrong values. Release
//! builds do not have it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// While this is set, leaves are not told of samples that come into their rings: answers stay as
/// they are until a timer rings.
pub static IGNORE_SAMPLES: AtomicBool = AtomicBool::new(false);

pub(super) fn ignores_samples() -> bool {
    IGNORE_SAMPLES.load(SeqCst)
}
