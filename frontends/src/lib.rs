//! Words in, plans out; answers out.
//!
//! [`promql`] turns text into plans, [`promqltest`] checks their answers, [`rules`] keeps rule files standing,
//! [`http`] is the API; both hold standing plans through [`views`].

pub mod http;
pub mod promql;
pub mod promqltest;
pub mod rules;
pub mod views;
