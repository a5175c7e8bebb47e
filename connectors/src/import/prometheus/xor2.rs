//! Decodes chunks of floats with start timestamps (encoding 4, written by Prometheus with
//! `st-storage`): one prefix describes both time and value.

use super::bits::TsdbBitReader;
use super::chunks::ChunkSamples;
use super::starts::StartBits;
use storage::model::value::STALE;

/// Values as XOR with the last one that was not a stale marker.
#[derive(Default)]
struct Column {
    value: f64,
    leading: u32,
    trailing: u32,
}

impl Column {
    /// A changed value, with the same significant bits as the one before or with others.
    fn changed(&mut self, bits: &mut TsdbBitReader<'_>) -> Option<f64> {
        if bits.bit()? {
            return self.within_others(bits);
        }
        self.within(bits)
    }

    fn within_others(&mut self, bits: &mut TsdbBitReader<'_>) -> Option<f64> {
        self.leading = bits.bits(5)? as u32;
        let width = match bits.bits(6)? as u32 {
            0 => 64,
            n => n,
        };
        self.trailing = 64u32.checked_sub(self.leading + width)?;
        self.within(bits)
    }

    fn within(&mut self, bits: &mut TsdbBitReader<'_>) -> Option<f64> {
        let changed = bits.bits(64 - self.leading - self.trailing)? << self.trailing;
        self.value = f64::from_bits(self.value.to_bits() ^ changed);
        Some(self.value)
    }

    /// A value that the prefix says nothing about.
    fn next(&mut self, bits: &mut TsdbBitReader<'_>) -> Option<f64> {
        match bits.ones(3)? {
            0 => Some(self.value),
            1 => self.within(bits),
            2 => self.within_others(bits),
            _ => Some(STALE),
        }
    }
}

/// Appends the samples of a chunk's data (count, description of start timestamps, then bits).
/// `None` if it is too short for its content.
pub fn read(data: &[u8], out: &mut ChunkSamples) -> Option<()> {
    let (head, data) = data.split_first_chunk::<3>()?;
    let count = u16::from_be_bytes([head[0], head[1]]);
    let mut starts = StartBits::new(head[2]);
    let mut bits = TsdbBitReader::new(data);
    let mut t = 0i64;
    let mut delta = 0i64;
    let mut column = Column::default();
    for at in 0..count {
        let previous = t;
        let v = match at {
            0 => {
                t = bits.varint()?;
                let v = bits.double()?;
                // A marker does not become the value that the next one is compared with: the writer
                // leaves it out of the chain, too.
                if v.to_bits() != STALE.to_bits() {
                    column.value = v;
                }
                v
            }
            1 => {
                delta = i64::try_from(bits.uvarint()?).ok()?;
                t = t.checked_add(delta)?;
                column.next(&mut bits)?
            }
            _ => {
                // One prefix for time and value together, because most often both are as expected
                // and one bit says so.
                let prefix = bits.ones(5)?;
                let width = [0, 0, 13, 20, 64, 0][prefix as usize];
                delta = delta.wrapping_add(two_complement(&mut bits, width)?);
                t = t.checked_add(delta)?;
                match prefix {
                    0 => column.value,
                    1 => column.changed(&mut bits)?,
                    5 => STALE,
                    _ => column.next(&mut bits)?,
                }
            }
        };
        out.float(t, v);
        let start = starts.next(at, t, previous, &mut bits)?;
        out.start(t, start);
    }
    Some(())
}

fn two_complement(bits: &mut TsdbBitReader<'_>, width: u32) -> Option<i64> {
    let n = bits.bits(width)?;
    let is_negative = width > 0 && width < 64 && n >> (width - 1) == 1;
    Some(if is_negative { (n as i64).wrapping_sub(1 << width) } else { n as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::value::is_stale;

    /// Written by Prometheus 3.14.
    const CHUNK: &str = "000d86d00f3ff8000000000000e8079875284cfffae0780039a17c30d3d826c007ef2547c00000000010f261383efe37e43c8800759fe704dfff912a88141f60e3f21e44003acff912a880fc8ab3d0f7fffffffffbb732c7fefffffffe611d10f0000000ba43b56b45ffd8000000000007c1d4c0";

    #[test]
    fn times_values_and_starts() {
        let byte = |at| u8::from_str_radix(&CHUNK[at..at + 2], 16).unwrap();
        let data: Vec<u8> = (0..CHUNK.len()).step_by(2).map(byte).collect();
        let mut read_back = ChunkSamples::default();
        read(&data, &mut read_back).unwrap();
        let expected = [
            (500, 1_000, 1.5),
            (500, 16_000, 1.5),
            (500, 31_000, 1.5),
            (500, 46_000, 2.0),
            (500, 61_000, 2.25),
            (500, 76_001, 2.5),
            (90_000, 191_000, 0.0),
            (90_000, 9_191_000, 1e300),
            (90_000, 18_191_000, STALE),
            (90_000, 27_191_000, -1.0),
            (0, 36_191_000, -1.0),
            (36_190_000, 36_206_000, STALE),
            (36_190_000, 100_036_206_000, 7.0),
        ];
        let times: Vec<i64> = expected.iter().map(|(_, t, _)| *t).collect();
        assert_eq!(read_back.ts, times);
        for (v, (.., wanted)) in read_back.vs.iter().zip(expected) {
            assert!(*v == wanted || (is_stale(*v) && is_stale(wanted)), "{v} {wanted}");
        }
        let starts = expected.iter().filter(|(start, ..)| *start != 0).map(|(start, t, _)| (*t, *start));
        assert_eq!(read_back.starts, starts.collect::<Vec<_>>());
        for cut in 0..data.len() - 1 {
            assert_eq!(read(&data[..cut], &mut ChunkSamples::default()), None, "{cut}");
        }
    }
}
