//! Decodes chunks of floats (Gorilla): times as deltas of deltas, values as XOR with the value
//! before.

use super::bits::{TsdbBitReader, TsdbXorDecoder};
use super::chunks::ChunkSamples;

/// Appends the samples of a chunk's data (count, then bits). `None` if it is too short for its
/// content.
pub fn read(data: &[u8], out: &mut ChunkSamples) -> Option<()> {
    let (count, data) = data.split_first_chunk::<2>()?;
    let count = u16::from_be_bytes(*count);
    let mut bits = TsdbBitReader::new(data);
    let mut t = 0i64;
    let mut delta = 0i64;
    let mut column = TsdbXorDecoder::default();
    for at in 0..count {
        let v = match at {
            0 => {
                t = bits.varint()?;
                column = TsdbXorDecoder::begin(bits.double()?);
                column.value
            }
            1 => {
                // Unsigned: the second sample is never before the first.
                delta = i64::try_from(bits.uvarint()?).ok()?;
                t = t.checked_add(delta)?;
                column.next(&mut bits)?
            }
            _ => {
                // The widths of Prometheus' writer, by the number of leading ones; Gorilla's paper
                // has others.
                let width = [0, 14, 17, 20, 64][bits.ones(4)? as usize];
                delta = delta.wrapping_add(bits.signed(width)?);
                t = t.checked_add(delta)?;
                column.next(&mut bits)?
            }
        };
        out.float(t, v);
    }
    Some(())
}
