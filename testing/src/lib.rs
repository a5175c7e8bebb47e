//! What tests of several crates share. Never part of the server: only `dev-dependencies` name this crate.

pub mod beside;
pub mod doubling;

pub use beside::{beside, skipped};
pub use doubling::{assert_proportional, assert_proportional_anew, assert_proportional_in_process, timed};

/// The server's allocator. With the C library's, blocks from 128 KiB on go back to the kernel and come again page by page,
/// so that twice the bytes may cost five times as much, whatever the work is.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
