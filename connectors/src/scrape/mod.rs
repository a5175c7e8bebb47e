//! Scraping: fetch a target's metrics on schedule and hand each scrape to the store as one columnar batch.
//!
//! [`config`] is what the file says, [`manager`] keeps one pool of targets per job, [`target`] says
//! what a target is, [`scrape_loop`] runs one, [`fetch`] speaks HTTP, [`work`] does the rest on
//! other threads: [`exposition`] parses, [`series_cache`] knows the series, [`appender`] brings
//! them into the store.

mod append_points;
pub mod appender;
pub mod body;
pub mod config;
pub mod content_type;
mod created;
pub mod exposition;
pub mod fetch;
pub mod manager;
pub mod metadata;
pub mod metrics;
pub mod names;
pub mod non_float;
pub mod pool;
pub mod relabel;
pub mod scrape_batch;
pub mod scrape_loop;
pub mod series_admission;
pub mod series_cache;
pub mod target;
pub mod turn;
mod waiting;
pub mod work;
