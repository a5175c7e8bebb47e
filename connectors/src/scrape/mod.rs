//! Scraping: fetch a target's metrics on schedule and hand each scrape to the store as one columnar batch.
//!
//! [`config`] is what the file says, [`manager`] keeps one pool of targets per job, [`target`] says what a
//! target is, [`scrape_loop`] runs one, [`fetch`] speaks HTTP, [`work`] does the rest on other threads: [`exposition`] parses,
//! [`cache`] knows the series, [`ingest`] brings them into the store.

pub mod admit;
pub mod batch;
pub mod body;
pub mod cache;
pub mod config;
pub mod content_type;
mod created;
pub mod exposition;
pub mod extras;
pub mod fetch;
pub mod ingest;
mod ingest_points;
pub mod manager;
pub mod metadata;
pub mod metrics;
pub mod names;
pub mod pool;
pub mod relabel;
pub mod scrape_loop;
pub mod target;
pub mod turn;
mod waiting;
pub mod work;
