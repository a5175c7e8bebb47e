//! Plans, functions and operators; the live and the query runtime.
//!
//! A *plan* ([`plan`]) is a question. [`query`] answers it over a stretch of history, [`live`] keeps its
//! answer current. Both run the same [`operators`], which call the same kernels ([`functions`]).
//! Layers, each knows only those before it: [`types`], [`annotations`], [`functions`], [`plan`],
//! [`operators`], [`query`], [`live`] (which asks the query runtime for what it cannot maintain).
//! This crate knows no HTTP, no YAML and no query text. It reads no clock: ticks come to it.

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
