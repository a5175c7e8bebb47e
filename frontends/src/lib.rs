//! Words in, plans out; answers out.
//!
//! [`promql`] turns text into plans, [`promqltest`] checks their answers, [`rules`] keeps rule files standing,
//! [`http`] is the API, [`standing`] the queries that were put there; all hold standing plans through [`views`], and what
//! cannot stand is [`asked`]. [`past`] computes what rules would have recorded earlier.

pub mod asked;
pub mod http;
pub mod limits;
pub mod past;
pub mod promql;
pub mod promqltest;
pub mod rules;
pub mod standing;
pub mod views;
