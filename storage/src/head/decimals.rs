//! Compression of columns of short decimals: every value is an integer divided by one power of ten.
//! The differences of these integers are packed eight at a time, with as many bits as the largest
//! needs. Counters that grow evenly take half the bytes of XOR coding ([`super::xor`]), prices a
//! fifth.
//!
//! Layout: exponent, first integer (zigzag varint), then for each eight differences (zigzag) the
//! number of bits `n` and `n` bytes. The control byte `0x80 | n` stands for `n + 1` groups of eight
//! zeros. The bytes live only in memory; reading past the end gives zeros.

use crate::encoding::decimal;
use crate::encoding::varint::{put_varint, take_varint, unzigzag, zigzag};

/// Differences that are packed with one width. Eight, so that their bits fill whole bytes.
const TOGETHER: usize = 8;
const ZEROS: u8 = 0x80;

/// Appends the compressed form of `values` (bit patterns). Returns how many differ from the value
/// before; `None` if they are not short decimals, and then nothing is appended.
pub(super) fn encode(values: &[u64], out: &mut Vec<u8>) -> Option<usize> {
    let (exp, integers) = integers(values)?;
    let (mut before, others) = integers.split_first().map(|(first, others)| (*first, others))?;
    out.push(exp as u8);
    put_varint(out, zigzag(before));
    let mut zeros: Option<usize> = None;
    let mut moves = 0;
    for some in others.chunks(TOGETHER) {
        let mut differences = [0; TOGETHER];
        for (difference, now) in differences.iter_mut().zip(some) {
            *difference = zigzag(now - before);
            moves += usize::from(*now != before);
            before = *now;
        }
        let width = 64 - differences.iter().fold(0, |all, d| all | d).leading_zeros();
        if width > 0 {
            zeros = None;
            put(differences, width, out);
            continue;
        }
        match zeros.filter(|at| out[*at] < u8::MAX) {
            Some(at) => out[at] += 1,
            None => {
                zeros = Some(out.len());
                out.push(ZEROS);
            }
        }
    }
    Some(moves)
}

/// The smallest exponent with which all values are integers, and these integers.
fn integers(values: &[u64]) -> Option<(usize, Vec<i64>)> {
    let mut exp = 0;
    let mut integers = Vec::with_capacity(values.len());
    while let Some(bits) = values.get(integers.len()) {
        match decimal::mantissa(f64::from_bits(*bits), exp) {
            Some(integer) => integers.push(integer),
            None if exp == decimal::MAX_EXP => return None,
            // A larger exponent changes the integers that were found so far: start again.
            None => {
                exp += 1;
                integers.clear();
            }
        }
    }
    Some((exp, integers))
}

fn put(differences: [u64; TOGETHER], width: u32, out: &mut Vec<u8>) {
    out.push(width as u8);
    let mut word = 0u64;
    let mut used = 0;
    for difference in differences {
        // Mantissas are below 2^53, so a zigzag difference has at most 56 bits; with the at most 7
        // bits that wait in `word` it fits into 64.
        word |= difference << used;
        used += width;
        while used >= 8 {
            out.push(word as u8);
            word >>= 8;
            used -= 8;
        }
    }
}

/// Calls `take(index, bits)` for the first `count` values that [`encode`] wrote.
#[inline]
pub(super) fn decode(bytes: &[u8], count: usize, mut take: impl FnMut(usize, u64)) {
    let Some(value) = bytes.first().and_then(|exp| decimal::value(*exp as i8)) else { return };
    let mut at = 1;
    let mut integer = unzigzag(take_varint(bytes, &mut at));
    let mut i = 0;
    let mut next = |difference: u64| {
        integer = integer.wrapping_add(unzigzag(difference));
        take(i, value(integer).to_bits());
        i += 1;
        i < count
    };
    if count == 0 || !next(0) {
        return;
    }
    loop {
        let control = bytes.get(at).copied().unwrap_or(ZEROS);
        at += 1;
        if control >= ZEROS {
            for _ in 0..TOGETHER * (usize::from(control - ZEROS) + 1) {
                if !next(0) {
                    return;
                }
            }
            continue;
        }
        let width = usize::from(control);
        let mask = u64::MAX >> (64 - u32::from(control).clamp(1, 64));
        for k in 0..TOGETHER {
            let bit = k * width;
            if !next((word(bytes, at + bit / 8) >> (bit % 8)) & mask) {
                return;
            }
        }
        at += width;
    }
}

/// Eight bytes from `at`, little-endian; bytes past the end are zero.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8).and_then(|b| b.first_chunk::<8>()) {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let mut word = [0; 8];
            let tail = bytes.get(at..).unwrap_or(&[]);
            word[..tail.len()].copy_from_slice(tail);
            u64::from_le_bytes(word)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decimals_round_trip_and_others_are_left(
            values in proptest::collection::vec(prop_oneof![
                4 => (-50i64..50).prop_map(|n| n as f64 / 4.0),
                4 => Just(7.0),
                2 => (-9_000_000_000_000_000i64..9_000_000_000_000_000).prop_map(|n| n as f64),
                1 => (0i64..1_000_000_000).prop_map(|n| n as f64 / 1e9),
                1 => any::<f64>(),
            ], 1..300),
        ) {
            let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
            let mut bytes = vec![9];
            if let Some(moves) = encode(&bits, &mut bytes) {
                prop_assert_eq!(moves, bits.windows(2).filter(|pair| pair[0] != pair[1]).count());
                let mut back = Vec::new();
                decode(&bytes[1..], bits.len(), |i, v| {
                    assert_eq!(i, back.len());
                    back.push(v);
                });
                prop_assert_eq!(back, bits);
            } else {
                prop_assert_eq!(bytes, vec![9]);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            decode(&bytes, 300, |_, _| ());
        }
    }

    #[test]
    fn long_stretches_without_change_cost_nothing() {
        let mut bytes = Vec::new();
        assert_eq!(encode(&[2.5f64.to_bits(); 900], &mut bytes), Some(0));
        assert_eq!(bytes.len(), 3, "{bytes:?}");
        assert_eq!(encode(&[(-0.0f64).to_bits()], &mut bytes), None);
        assert_eq!(encode(&[0.1f64.to_bits(), f64::NAN.to_bits()], &mut bytes), None);
    }
}
