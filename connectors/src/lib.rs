//! The outside world: [`scrape`] and [`discovery`] bring samples in, [`remote`] takes them by push,
//! [`host_metrics`] exposes the machine's own, [`alertmanager`] carries alerts out, [`import`] and
//! [`mod@export`] move history, [`objects`] is where old blocks go. Knows the store, but no plan
//! and no query. What their configuration blocks are made of is in [`config`].

#![warn(unreachable_pub)]

pub mod alertmanager;
pub mod aws_signature;
pub mod blocking;
pub mod config;
pub mod decompress;
pub mod discovery;
pub mod export;
pub mod host_metrics;
pub mod http_client;
pub mod import;
pub mod limits;
pub mod native_histogram;
pub mod objects;
pub mod protobuf;
pub mod remote;
pub mod scrape;
pub mod threads;
pub mod wall_clock;
