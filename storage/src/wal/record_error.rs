//! [`RecordError`]: why a record of the write-ahead log with a valid checksum cannot be used in a
//! replay. Its bytes are what was written, but it contradicts other records, or one that it depends
//! on is lost.

use crate::codec::CodecError;
use crate::limits::SHARD_SLOTS;
use crate::model::Labels;

/// Why a record of the log cannot be used: it contradicts other records, or it is malformed. The
/// replay skips the record, and reports it with its file and offset.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The payload is shorter, longer or otherwise not what its kind says.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The payload cannot be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The record names a shard that does not exist.
    #[error("there is no shard {0}")]
    NoShard(u32),
    /// The slot is larger than any that the store gives.
    #[error("slot {0} is beyond {SHARD_SLOTS}")]
    SlotTooLarge(u32),
    /// The group is larger than any that the store gives.
    #[error("group {0} is beyond {SHARD_SLOTS}")]
    GroupTooLarge(u32),
    /// The slot was given to a series with other labels.
    #[error("slot {0} belongs to another series")]
    SlotOccupied(u32),
    /// The labels of the record have a slot already.
    #[error("the series of slot {0} has another slot")]
    SeriesHasOtherSlot(u32),
    /// The log scan refused the series: see [`RecordError::SlotOccupied`] and
    /// [`RecordError::SeriesHasOtherSlot`].
    #[error("series {labels} cannot have slot {slot}: another series has it, or it has another slot")]
    SeriesRefused {
        /// The labels of the record.
        labels: Labels,
        /// The slot of the record.
        slot: u32,
    },
    /// The labels of the series belong to another shard.
    #[error("series {labels} does not belong to shard {shard}")]
    WrongShard {
        /// The labels of the record.
        labels: Labels,
        /// The shard of the record.
        shard: u16,
    },
    /// The scrape's group has no layout: the record that had it is lost.
    #[error("the layout of its group is missing")]
    NoLayout,
    /// The layout continues columns that are not there.
    #[error("the layout that it extends is missing")]
    NoLayoutToExtend,
    /// The scrape has more values than its group has columns.
    #[error("{values} values for {columns} columns")]
    TooManyValues {
        /// Values of the record.
        values: usize,
        /// Columns of the group.
        columns: usize,
    },
    /// The scrape is a difference to a scrape that is lost.
    #[error("a scrape rests on record {0}, which is missing")]
    NoBase(u64),
}
