//! Damage: whatever bytes there are, reading them ends with samples or with an error that names file and offset.

use super::chunks::{Chunks, Samples};
use super::index::Index;
use super::tombstones::Tombstones;
use super::{histogram, xor};
use proptest::collection::vec;
use proptest::prelude::*;
use storage::model::value::STALE;

/// `body` behind its magic, with a checksum that fits.
fn sealed(magic: &[u8], body: &[u8]) -> Vec<u8> {
    [magic, body, &crc32c::crc32c(body).to_be_bytes()].concat()
}

proptest! {
    #[test]
    fn arbitrary_chunks_never_panic(bytes in vec(any::<u8>(), 0..400), float in any::<bool>()) {
        let _ = xor::read(&bytes, &mut Samples::default());
        let _ = histogram::read(&bytes, float, &mut Samples::default());
    }

    #[test]
    fn arbitrary_files_never_panic(bytes in vec(any::<u8>(), 0..400), reference in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let table = |offset: u64| [offset.to_be_bytes(); 6].concat();
        for offset in [5, 7, u64::from(reference as u8)] {
            let content = [&[0xBA, 0xAA, 0xD7, 0, 2], &bytes[..], &sealed(&[], &table(offset))].concat();
            if let Ok(index) = Index::open(&file("index", &content)) {
                index.series().unwrap().for_each(drop);
            }
        }
        prop_assert!(Index::open(&file("index", &bytes)).is_err());
        let _ = Tombstones::open(&file("tombstones", &sealed(&[1, 0x30, 0xBA, 0x30, 1], &bytes)));
        file("000001", &[&[0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0], &bytes[..]].concat());
        let chunks = Chunks::open(dir.path()).unwrap();
        prop_assert!(chunks.read(reference, &mut Samples::default()).is_err());
        prop_assert!(chunks.read(8 + reference % 400, &mut Samples::default()).is_err());
    }
}

#[test]
fn tombstones_cover_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tombstones");
    assert!(!Tombstones::open(&path).unwrap().covers(3, 0), "there need not be any");
    // Series 3: from -1 to 5 (signs are in the lowest bit).
    std::fs::write(&path, sealed(&[0x01, 0x30, 0xBA, 0x30, 1], &[3, 1, 10])).unwrap();
    let deleted = Tombstones::open(&path).unwrap();
    let covered: Vec<i64> = (-3..8).filter(|t| deleted.covers(3, *t)).collect();
    assert_eq!((covered, deleted.covers(2, 0)), ((-1..=5).collect(), false));
    std::fs::write(&path, sealed(&[0x01, 0x30, 0xBA, 0x30, 1], &[3, 1])).unwrap();
    assert!(Tombstones::open(&path).is_err());
}

/// A chunk whose bits are these, as text.
fn chunk(samples: u16, bits: &str) -> Vec<u8> {
    let bits: Vec<u8> = bits.bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
    let bytes =
        bits.chunks(8).map(|eight| eight.iter().enumerate().fold(0, |sum, (i, b)| sum | b << (7 - i)));
    samples.to_be_bytes().into_iter().chain([0]).chain(bytes).collect()
}

/// Three samples with a histogram of nine buckets, of which the last two are stale markers: these have no buckets.
#[test]
fn histograms_end_without_buckets() {
    let double = |v: f64| format!("{:064b}", v.to_bits());
    // Threshold 0, schema 0, one span of nine positive buckets, none negative; then the first time, 4.
    let layout = "00000000 0 10001 110001001 0 0 10100";
    let stale = format!("1 1 00000 000000 {:064b}", 1f64.to_bits() ^ STALE.to_bits());
    let whole = {
        let first = format!("110001001 0 {} 10001 00000000", double(1.0));
        format!("{layout} {first} 10011 110110111 0 {stale} 0 110001001 0 0")
    };
    let float = {
        let buckets = double(1.0) + &double(0.0).repeat(8);
        format!(
            "{layout} {} {} {} {buckets} 10011 0 0 {stale} 0 0 0 0",
            double(9.0),
            double(0.0),
            double(1.0)
        )
    };
    for (bits, float) in [(whole, false), (float, true)] {
        let mut samples = Samples::default();
        histogram::read(&chunk(3, &bits), float, &mut samples).expect("whole");
        let (times, values): (Vec<_>, Vec<_>) =
            (samples.ts, samples.vs.iter().map(|v| v.to_bits()).collect());
        assert_eq!((times, values), (vec![7, 10], vec![STALE.to_bits(); 2]), "float: {float}");
        assert_eq!(samples.histograms.iter().map(|(t, h)| (*t, h.sum)).collect::<Vec<_>>(), [(4, 1.0)]);
    }
}
