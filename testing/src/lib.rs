//! Helpers that tests of several crates share. Not part of the server: crates use it only as a
//! dev-dependency.

pub mod beside;
pub mod doubling;

pub use beside::{beside, skipped};
pub use doubling::{assert_proportional, assert_proportional_anew, assert_proportional_in_process, timed};

/// The allocator of the server. The C library's allocator returns blocks of 128 KiB or more to the
/// kernel and gets them back page by page, so that twice the bytes may cost five times as much for
/// any work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
