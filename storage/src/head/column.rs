//! The compressed values of one column (the floats of one series) in a chunk: short decimals
//! ([`decimals`]) or XOR coding ([`xor`]), whichever is smaller. The first byte says which.

use super::{decimals, xor};

// The first byte of a column: its coding.
const XOR: u8 = 0;
const DECIMALS: u8 = 1;
/// About how many bits XOR coding needs for a value that differs from the one before.
const XOR_CHANGE_BITS: usize = 5;

/// Appends the compressed form of `values` (bit patterns) to `out`. With `thorough`, both codings
/// are tried: slower, for chunks that are kept for long. Otherwise only XOR is used.
pub(super) fn encode(values: &[u64], thorough: bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(DECIMALS);
    // The number of values that differ from the one before; `None`: these are no short decimals.
    let changes = if thorough { decimals::encode(values, out) } else { None };
    // XOR needs one bit per value, and more per value that changes. If the decimals are smaller
    // than this estimate, XOR need not be tried.
    let xor_bytes = |changes: usize| (values.len() + changes * XOR_CHANGE_BITS) / 8 + 2;
    if changes.is_some_and(|changes| out.len() - start <= xor_bytes(changes)) {
        return;
    }
    let end = if changes.is_some() { out.len() } else { start };
    out.truncate(end);
    out.push(XOR);
    // Both stand in `out` for a moment, the decimals first; XOR gives up where it is not shorter.
    let most = if end > start { end - start } else { usize::MAX };
    if xor::encode(values.iter().copied(), most - 1, out) {
        out.drain(start..end);
    } else {
        out.truncate(end);
    }
}

/// Calls `take(index, bits)` for the first `count` values that [`encode`] wrote.
#[inline]
pub(super) fn decode(bytes: &[u8], count: usize, take: impl FnMut(usize, u64)) {
    match bytes.split_first() {
        Some((&DECIMALS, bytes)) => decimals::decode(bytes, count, take),
        Some((_, bytes)) => xor::decode(bytes, count, take),
        None => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{ABSENT_BITS, STALE_BITS};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bits_round_trip(
            values in proptest::collection::vec(prop_oneof![
                9 => (0i32..3_000).prop_map(|n| (f64::from(n) / 10.0).to_bits()),
                1 => Just(ABSENT_BITS),
                1 => Just(STALE_BITS),
                1 => any::<u64>(),
            ], 1..200),
            whole in any::<bool>(),
            thorough in any::<bool>(),
        ) {
            let values: Vec<u64> = if whole { values.iter().map(|bits| ((bits % 5_000) as f64).to_bits()).collect() } else { values };
            let mut bytes = vec![3, 4];
            encode(&values, thorough, &mut bytes);
            let mut back = Vec::new();
            decode(&bytes[2..], values.len(), |_, bits| back.push(bits));
            prop_assert_eq!(back, values);
        }
    }
}
