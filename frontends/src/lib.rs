//! Words in, plans out; answers out.
//!
//! [`promql`] turns text into plans, [`promqltest`] checks their answers, [`rules`] keeps rule
//! files standing, [`http`] is the API, [`saved`] the queries that were put there; all hold
//! standing plans through [`views`], and what cannot stand is [`scheduled`]. [`recording`] computes
//! what rules would have recorded earlier.

pub mod http;
pub mod limits;
pub mod promql;
pub mod promqltest;
pub mod recording;
pub mod rules;
pub mod saved;
pub mod scheduled;
pub mod views;
