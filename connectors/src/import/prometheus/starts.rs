//! Decodes the start timestamps in chunks. The first sample may have one, and from some sample on
//! every sample has one.

use super::bits::TsdbBitReader;
use storage::model::TimeMs;

/// Reads the start timestamps of one chunk, in the order of its samples.
#[derive(Debug, Default)]
pub(super) struct StartBits {
    begins_with_one: bool,
    /// The first sample whose start timestamp differs from that of the sample before; 0 if there is
    /// none.
    first_change: u16,
    start: TimeMs,
    /// The difference between the time of the sample before and the start timestamp.
    before: i64,
}

impl StartBits {
    /// `head` is the byte of the chunk header that describes them.
    pub(super) fn new(head: u8) -> StartBits {
        StartBits {
            begins_with_one: head & 0x80 != 0,
            first_change: u16::from(head & 0x7F),
            ..StartBits::default()
        }
    }

    /// The start timestamp of sample number `at`, whose time `t` was read already; 0 if it has
    /// none. `previous` is the time of the sample before. `None` if the data are too short.
    pub(super) fn next(
        &mut self,
        at: u16,
        t: TimeMs,
        previous: TimeMs,
        bits: &mut TsdbBitReader<'_>,
    ) -> Option<TimeMs> {
        // As the distance from the sample's own time, which is a small number.
        if at == 0 && self.begins_with_one {
            self.start = t.wrapping_sub(bits.varint()?);
        }
        if self.first_change > 0 && at >= self.first_change {
            let moved = bits.varbit()?;
            self.before = if at == self.first_change { moved } else { self.before.wrapping_add(moved) };
            // Relative to the sample before: a counter that restarted between two samples then
            // costs few bits.
            self.start = previous.wrapping_sub(self.before);
        }
        Some(self.start)
    }
}
