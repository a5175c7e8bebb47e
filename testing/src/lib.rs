//! What tests of several crates share. Never part of the server: only `dev-dependencies` name this crate.

pub mod beside;
pub mod doubling;

pub use beside::{beside, skipped};
pub use doubling::{assert_proportional, assert_proportional_anew, assert_proportional_in_process};
