//! What tests of several crates share. Never part of the server: only `dev-dependencies` name this crate.

pub mod doubling;

pub use doubling::assert_proportional;
