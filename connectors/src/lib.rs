//! Connections to other systems: [`scrape`] and [`discovery`] pull samples, [`remote`] receives
//! them by push, [`host_metrics`] exposes those of the host, [`alertmanager`] sends alerts,
//! [`import`] and [`mod@export`] move history, [`objects`] is the object store for old blocks. This
//! crate knows the store, but no plans and no queries.

pub mod alertmanager;
pub mod blocking;
mod config_block;
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
pub mod secret;
pub mod threads;
pub mod units;
pub mod wall_clock;
