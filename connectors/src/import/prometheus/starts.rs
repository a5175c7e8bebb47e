//! Start timestamps in chunks that have some: one may stand behind the first sample, and from some
//! sample on each has one.

use super::bits::TsdbBitReader;
use storage::model::TimeMs;

/// Reads those of one chunk, in the order of its samples.
#[derive(Debug, Default)]
pub struct StartBits {
    begins_with_one: bool,
    /// The first sample that has another one than the sample before; 0: none.
    first_change: u16,
    start: TimeMs,
    /// How far before the sample before the start lies.
    before: i64,
}

impl StartBits {
    /// What a byte of the chunk's head says of them.
    pub fn new(head: u8) -> StartBits {
        StartBits {
            begins_with_one: head & 0x80 != 0,
            first_change: u16::from(head & 0x7F),
            ..StartBits::default()
        }
    }

    /// The start of sample number `at`, whose time is `t` and which is read; 0: it has none.
    /// `previous` is the time of the sample before. `None`: the bits are too short.
    pub fn next(
        &mut self,
        at: u16,
        t: TimeMs,
        previous: TimeMs,
        bits: &mut TsdbBitReader<'_>,
    ) -> Option<TimeMs> {
        if at == 0 && self.begins_with_one {
            self.start = t.wrapping_sub(bits.varint()?);
        }
        if self.first_change > 0 && at >= self.first_change {
            let moved = bits.varbit()?;
            self.before = if at == self.first_change { moved } else { self.before.wrapping_add(moved) };
            self.start = previous.wrapping_sub(self.before);
        }
        Some(self.start)
    }
}
