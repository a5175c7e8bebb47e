//! The write-ahead log: what is acknowledged is in it. Format, byte by byte: `docs/format/wal.md`.
//!
//! [`record`] frames, [`samples`], [`histograms`] and [`checkpoint`] are payloads, [`group`] the difference coding, [`log`]
//! what appenders call, [`writer`] its thread, [`segment`] the files, [`replay`] the way back,
//! [`secure`] what makes sure of it.

mod checkpoint;
mod group;
mod histograms;
mod log;
mod record;
mod replay;
mod samples;
mod secure;
mod segment;
mod tape;
mod writer;

pub use checkpoint::{Checkpoint, Flushed, GroupRecord, RawSeries, SeriesRecord, add, add_group, add_series};
pub use group::GroupLog;
pub use histograms::{
    add_histograms, put_histogram, put_starts, take_histogram, take_histograms, take_starts,
};
pub use log::{Done, Log, LogOptions};
pub use record::{Batch, Found, Kind};
pub use replay::{Outcome, Place, Resume, Used, Visitor, again, replay};
pub use samples::{
    Cursor, RawRow, SCRAPE_HEAD, put_samples, take_layout, take_raw_row, take_samples, take_scrape_head,
};
