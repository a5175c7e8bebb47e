//! The engine: plans, functions and operators, and the two runtimes that run them.
//!
//! A *plan* ([`plan`]) says what to compute, independent of the query language. [`query`] evaluates
//! it over stored history, [`live`] keeps its answer current, tick by tick. Both use the same
//! [`operators`], which call the same kernels ([`functions`]). The layers, each of which uses only
//! those before it: [`types`], [`annotations`], [`functions`], [`plan`], [`operators`], [`query`],
//! [`live`] (which queries history for what it cannot keep current). This crate has no HTTP, no
//! YAML and no query text, and reads no clock: the caller passes the time of each tick.

#![warn(unreachable_pub)]
// Tests may touch the disk and the clock; the crate may not (clippy.toml).
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests drive the real world"))]

pub mod annotations;
pub mod functions;
pub mod heap_size;
pub mod limits;
pub mod live;
pub mod memory;
pub mod operators;
pub mod plan;
pub mod query;
pub mod types;
