//! Remote storage: other servers that get this server's samples, or whose samples it reads.
//!
//! [`mod@write`] sends all samples of the store to the receivers of `remote_write`. [`mod@read`]
//! reads from the servers of `remote_read`, and answers the same requests of other servers.
//! [`config`] has the configuration blocks, [`protobuf`] writes messages, and [`chunks`] the
//! compressed samples in them.
//!
//! The receiver of remote write is in `connectors::remote`. Read `write/mod.rs` next.

#![warn(unreachable_pub)]

pub mod chunks;
pub mod config;
mod http;
pub mod limits;
pub mod protobuf;
pub mod read;
pub mod write;
