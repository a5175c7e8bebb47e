//! Scraping: fetches the metrics of targets on a schedule and appends each scrape to the store as
//! columnar batches.
//!
//! [`config`] is the configuration, [`manager`] has one pool of targets per job, [`target`] defines
//! a target, [`scrape_loop`] runs one, and [`fetch`] sends the HTTP request. [`work`] does the rest
//! on other threads: [`crate::exposition`] parses, [`series_cache`] finds the series, and
//! [`appender`] appends to the store.

mod append_points;
pub mod appender;
pub mod body;
pub mod config;
pub mod content_type;
mod created_lines;
pub mod failure_log;
pub mod fetch;
pub mod manager;
pub mod metadata;
pub mod metrics;
pub mod non_float;
pub mod pool;
pub mod scrape_batch;
mod scrape_content;
pub mod scrape_loop;
pub mod series_admission;
pub mod series_cache;
pub mod target;
pub mod turn;
pub mod work;
