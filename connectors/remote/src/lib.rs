//! Other servers as storage. [`mod@write`] sends all samples of the store to the receivers of
//! `remote_write`. [`mod@read`] asks the servers of `remote_read`, and answers other servers. [`config`] has the blocks of the configuration,
//! [`protobuf`] writes messages and [`chunks`] the chunks in them.
//!
//! The other direction of remote write, the receiver, is `connectors::remote`.

#![warn(unreachable_pub)]

pub mod chunks;
pub mod config;
mod http;
pub mod limits;
pub mod protobuf;
pub mod read;
pub mod write;
