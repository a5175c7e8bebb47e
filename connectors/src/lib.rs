//! The outside world: [`scrape`] and [`discovery`] bring samples in, [`remote`] takes them by push, [`host`]
//! exposes the machine's own, [`alertmanager`] carries alerts out, [`import`] and [`mod@export`] move history, [`objects`] is where
//! old blocks go. Knows the store,
//! but no plan and no query.

pub mod alertmanager;
pub mod blocking;
pub mod decompress;
pub mod discovery;
pub mod export;
pub mod histogram;
pub mod host;
pub mod http_client;
pub mod import;
pub mod limits;
pub mod objects;
pub mod protobuf;
pub mod remote;
pub mod scrape;
pub mod secret;
mod section;
pub mod threads;
pub mod units;
pub mod wall_clock;
