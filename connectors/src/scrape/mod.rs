//! Scraping: fetch a target's metrics on schedule and hand each scrape to the store as one columnar batch.
//!
//! [`config`] is what the file says, [`manager`] keeps one pool of targets per job, [`target`] says what a
//! target is, [`scrape_loop`] runs one, [`fetch`] speaks HTTP, [`exposition`] parses, [`cache`] knows the series.

pub mod admit;
pub mod batch;
pub mod cache;
pub mod config;
pub mod exposition;
pub mod extras;
pub mod fetch;
pub mod ingest;
mod ingest_points;
pub mod manager;
pub mod metadata;
pub mod metrics;
pub mod pool;
pub mod relabel;
pub mod scrape_loop;
pub mod target;
