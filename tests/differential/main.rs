//! Random queries, asked of our server and of Debian's Prometheus 2.42, which hold the same random series.
//!
//! ```text
//! cargo test --test differential                                              # 2,000 queries, seed 1
//! PERENNIAL_DIFF_QUERIES=10000 PERENNIAL_DIFF_SEED=7 cargo test --test differential -- --nocapture
//! ```
//!
//! Answers must be equal ([`answer`] says what that means), or the difference must be one of those that
//! [`rules`] names, which `docs/differences-from-2.42.md` describes. Anything else fails the test with the seed, the
//! query, its smallest part that differs, the time and both answers. The totals are printed.
//!
//! To check the test itself: with `PERENNIAL_UNDER_TEST=/usr/bin/prometheus` it must fail.
//!
//! Begin with [`expr`], then [`series`], [`generator`], [`shrink`], [`rules`].

#[allow(dead_code, reason = "shared with other tests")]
#[path = "../support/mod.rs"]
mod support;

mod answer;
mod expr;
mod generator;
mod pairs;
mod random;
mod rules;
mod run;
mod selection;
mod series;
mod shrink;
