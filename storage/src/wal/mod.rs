//! The write-ahead log (WAL): every acknowledged append is in it, and a start replays it into the
//! head. `docs/format/wal.md` specifies the format byte by byte.
//!
//! The log is a series of files (*segments*) of *records*. The *LSN* of a record is its number,
//! counted over all segments. [`samples`] explains the words group, layout, keyframe and delta.
//!
//! [`record`] frames records; [`samples`], [`histograms`] and [`checkpoint`] are their payloads;
//! [`group_encoder`] encodes scrapes as deltas. [`log`] is the interface for appenders (read it
//! first), [`writer`] the thread that writes. [`segment`] describes the files, [`read_log`] reads
//! them back, and [`segment_durability`] makes sure that what was read survives a power loss.
//! [`follower`] reads them while they are written.

mod checkpoint;
mod follower;
mod group_encoder;
mod histograms;
mod log;
mod reader;
mod record;
mod record_error;
mod samples;
mod segment;
mod segment_durability;
mod segment_reader;
mod writer;

pub use checkpoint::{
    Checkpoint, EncodedSeriesRecord, FlushWatermark, GroupRecord, SeriesRecord, add, add_group, add_series,
};
pub use follower::{FollowStep, LogFollower};
pub use group_encoder::GroupEncoder;
pub use histograms::{
    add_histograms, put_histogram, put_starts, take_histogram, take_histograms, take_starts,
};
pub use log::{CommitCallback, Log, LogOptions};
pub use reader::{
    LogContents, RecordOutcomes, RecordPosition, RecordVisitor, ResumePoint, read_log, read_log_again,
};
pub use record::{LogRecord, RecordBuilder, RecordKind};
pub use record_error::RecordError;
pub use samples::{
    EncodedRow, PayloadReader, SCRAPE_HEAD, put_samples, take_layout, take_raw_row, take_samples,
    take_scrape_head,
};
