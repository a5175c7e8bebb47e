//! Words in, plans out; answers out.
//!
//! [`promql`] turns text into plans, [`rules`] keeps rule files standing, [`http`] is the API; both hold
//! standing plans through [`views`].

pub mod http;
pub mod promql;
pub mod rules;
pub mod views;
