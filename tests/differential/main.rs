//! Sends random queries to our server and to Debian's Prometheus 2.42, which contain the same
//! random series.
//!
//! ```text
//! cargo test --test differential  # 2,000 queries, seed 1
//! PERENNIAL_DIFF_QUERIES=10000 PERENNIAL_DIFF_SEED=7 cargo test --test differential -- --nocapture
//! ```
//!
//! The responses must be equal ([`answer`] defines that), or a rule of [`rules`], described in
//! `docs/differences-from-2.42.md`, must explain the difference. Any other difference fails the
//! test with the seed, the query, its smallest differing part, the time and both responses. The
//! totals are printed.
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
