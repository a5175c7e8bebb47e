//! SQL over PostgreSQL's wire protocol, for psql, Grafana and every driver of PostgreSQL.
//!
//! [`listener`] accepts connections, [`startup`] finds out who it is, [`connection`] reads messages
//! and answers them: [`simple`] the simple protocol, [`extended`] prepared statements. [`statement`]
//! says what a text is: a query for the engine (which runs like one over HTTP, [`run`]), a query of the
//! [`catalog`]s, something about the session itself ([`session`]), a [`copy`] or a [`cursor`]. [`cells`]
//! and [`params`] have the forms of values, [`failure`] those of errors.

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
