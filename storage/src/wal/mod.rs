//! The write-ahead log: what is acknowledged is in it. Format, byte by byte: `docs/format/wal.md`.
//!
//! [`record`] frames, [`samples`], [`histograms`] and [`checkpoint`] are payloads,
//! [`group_encoder`] the difference coding, [`log`] what appenders call, [`writer`] its thread,
//! [`segment`] the files, [`read_log`] the way back, [`segment_durability`] what makes sure of it.

mod checkpoint;
mod group_encoder;
mod histograms;
mod log;
mod reader;
mod record;
mod samples;
mod segment;
mod segment_durability;
mod segment_reader;
mod writer;

pub use checkpoint::{
    Checkpoint, EncodedSeriesRecord, FlushWatermark, GroupRecord, SeriesRecord, add, add_group, add_series,
};
pub use group_encoder::GroupEncoder;
pub use histograms::{
    add_histograms, put_histogram, put_starts, take_histogram, take_histograms, take_starts,
};
pub use log::{CommitCallback, Log, LogOptions};
pub use reader::{
    LogContents, RecordOutcomes, RecordPosition, RecordVisitor, ResumePoint, read_log, read_log_again,
};
pub use record::{LogRecord, RecordBuilder, RecordKind};
pub use samples::{
    EncodedRow, PayloadReader, SCRAPE_HEAD, put_samples, take_layout, take_raw_row, take_samples,
    take_scrape_head,
};
