//! The PostgreSQL wire protocol in front of the SQL engine, for psql, Grafana and every PostgreSQL
//! driver.
//!
//! [`listener`] accepts connections, [`startup`] handles TLS and the login, [`connection`] reads
//! the messages. [`simple`] and [`extended`] are the two query protocols. [`statement`] classifies
//! a text: a query for the SQL engine ([`run`]), a query of the system catalogs ([`catalog`]), a
//! statement about the session ([`session`]), a [`copy`] or a [`cursor`]. [`cells`] and [`params`]
//! convert values, [`failure`] errors.
//!
//! Read [`connection`] next.

#![warn(unreachable_pub)]

mod catalog;
mod cells;
mod connection;
mod copy;
mod cursor;
mod extended;
mod failure;
pub mod limits;
mod listener;
mod params;
mod run;
mod session;
mod settings;
mod simple;
mod startup;
mod statement;
mod stream;

pub use listener::{WireOptions, WireServer};
