//! Tests with damaged data: reading any bytes gives samples, or an error that names file and
//! offset.

use super::chunks::{ChunkSamples, TsdbChunks};
use super::histogram::Form;
use super::index::TsdbIndex;
use super::tombstones::TsdbTombstones;
use super::{blocks, histogram, xor, xor2};
use proptest::collection::vec;
use proptest::prelude::*;
use storage::model::value::STALE;
use testing::assert_proportional;

/// `body` after its magic, with a valid checksum.
fn sealed(magic: &[u8], body: &[u8]) -> Vec<u8> {
    [magic, body, &crc32c::crc32c(body).to_be_bytes()].concat()
}

proptest! {
    #[test]
    fn arbitrary_chunks_never_panic(bytes in vec(any::<u8>(), 0..400), float in any::<bool>(), starts in any::<bool>()) {
        let _ = xor::read(&bytes, &mut ChunkSamples::default());
        let _ = xor2::read(&bytes, &mut ChunkSamples::default());
        let _ = histogram::read(&bytes, Form { float, starts }, &mut ChunkSamples::default());
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
            if let Ok(index) = TsdbIndex::open(&file("index", &content)) {
                for series in index.series().unwrap() {
                    drop(series);
                }
            }
        }
        prop_assert!(TsdbIndex::open(&file("index", &bytes)).is_err());
        let _ = TsdbTombstones::open(&file("tombstones", &sealed(&[1, 0x30, 0xBA, 0x30, 1], &bytes)));
        file("000001", &[&[0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0], &bytes[..]].concat());
        let chunks = TsdbChunks::open(dir.path()).unwrap();
        prop_assert!(chunks.read(reference, &mut ChunkSamples::default()).is_err());
        prop_assert!(chunks.read(8 + reference % 400, &mut ChunkSamples::default()).is_err());
    }
}

#[test]
fn tombstones_cover_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tombstones");
    assert!(!TsdbTombstones::open(&path).unwrap().covers(3, 0), "there need not be any");
    // Series 3: from -1 to 5 (the sign is in the lowest bit).
    std::fs::write(&path, sealed(&[0x01, 0x30, 0xBA, 0x30, 1], &[3, 1, 10])).unwrap();
    let deleted = TsdbTombstones::open(&path).unwrap();
    let covered: Vec<i64> = (-3..8).filter(|t| deleted.covers(3, *t)).collect();
    assert_eq!((covered, deleted.covers(2, 0)), ((-1..=5).collect(), false));
    std::fs::write(&path, sealed(&[0x01, 0x30, 0xBA, 0x30, 1], &[3, 1])).unwrap();
    assert!(TsdbTombstones::open(&path).is_err());
}

/// A chunk with these bits, given as text.
fn chunk(samples: u16, bits: &str) -> Vec<u8> {
    let bits: Vec<u8> = bits.bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
    let bytes =
        bits.chunks(8).map(|eight| eight.iter().enumerate().fold(0, |sum, (i, b)| sum | b << (7 - i)));
    samples.to_be_bytes().into_iter().chain([0]).chain(bytes).collect()
}

/// Three samples with a histogram of nine buckets. The last two are stale markers, which have no
/// buckets.
#[test]
fn histograms_end_without_buckets() {
    let double = |v: f64| format!("{:064b}", v.to_bits());
    // Threshold 0, schema 0, one span of nine positive buckets, none negative; then the first time,
    // 4.
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
        let mut samples = ChunkSamples::default();
        histogram::read(&chunk(3, &bits), Form { float, starts: false }, &mut samples).expect("whole");
        let (times, values): (Vec<_>, Vec<_>) =
            (samples.ts, samples.vs.iter().map(|v| v.to_bits()).collect());
        assert_eq!((times, values), (vec![7, 10], vec![STALE.to_bits(); 2]), "float: {float}");
        assert_eq!(samples.histograms.iter().map(|(t, h)| (*t, h.sum)).collect::<Vec<_>>(), [(4, 1.0)]);
    }
}

/// Written by Prometheus 3.14 with `histograms-st-encoding`: integer and float counts, with and
/// without a start timestamp of the first sample.
const WITH_STARTS: [(bool, i64, &str); 4] = [
    (
        false,
        500,
        "000883f28c65778fa2b1400400000000000093a01fe0ea622d8168a2d6168aedc0d7fbdcd88dc5fe0ea62d36c0ea7f1adb31b22b7d87e18c5effd4000000000007e0ea60",
    ),
    (
        true,
        500,
        "000883f28c65778fa10050000000000000ffc0000000000001001000000000000100000000000000010000000000000003a01fe0ea63605b605b6036a0fb585b587db81b7034fef736220f83a98b6c0eb6075a85efc6b6cc628a1fd87e1b09d00ae22bffc5effd4000000000007e0ea600",
    ),
    (
        false,
        0,
        "000801f28c65778fa2b1400400000000000093e0ea622d8168f87d116b0b47e0ea6176e06bfdd02646e2ff0753169b60753f8d6d98d915bec3f0c62f7fea000000000003f07530",
    ),
    (
        true,
        0,
        "000801f28c65778fa10050000000000000ffc0000000000001001000000000000100000000000000010000000000000003e0ea63605b605b603f0fa3507dac2dac3ff07530dc0db81a7f74099107c1d4c5b6075b03ad42f7e35b6631450fec3f0d84e8057115ffe2f7fea000000000003f075300",
    ),
];

#[test]
fn histograms_have_start_timestamps() {
    for (float, first, hex) in WITH_STARTS {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let data: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let form = Form { float, starts: true };
        let mut samples = ChunkSamples::default();
        histogram::read(&data, form, &mut samples).expect("whole");
        let read: Vec<_> =
            samples.histograms.iter().map(|(t, h)| (*t, h.count, h.positive.counts.clone())).collect();
        let expected = [
            (1_000, 5.0, 2.0),
            (16_000, 6.0, 3.0),
            (31_000, 8.0, 5.0),
            (46_000, 9.0, 6.0),
            (61_001, 9.0, 6.0),
            (76_000, 12.0, 9.0),
            (91_000, 13.0, 10.0),
        ];
        assert_eq!(read, expected.map(|(t, count, second)| (t, count, vec![2.0, second])), "float: {float}");
        assert_eq!(samples.ts, [106_000], "the end");
        let starts = [
            (1_000, first),
            (16_000, 500),
            (31_000, 500),
            (46_000, 40_000),
            (61_001, 40_000),
            (91_000, 76_500),
            (106_000, 76_500),
        ];
        let starts: Vec<_> = starts.into_iter().filter(|(_, start)| *start != 0).collect();
        assert_eq!(samples.starts, starts, "float: {float}");
        samples.finish(|_| true);
        assert_eq!(samples.starts, starts, "they stay");
        for cut in 0..data.len() - 2 {
            assert_eq!(histogram::read(&data[..cut], form, &mut ChunkSamples::default()), None, "{cut}");
        }
    }
}

/// `n` with seven bits per byte.
fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// The index of a block with so many series and labels, with one chunk per series.
fn index(series: usize, labels: usize) -> Vec<u8> {
    let checked = |body: &[u8]| [body, &crc32c::crc32c(body).to_be_bytes()].concat();
    let texts: Vec<String> = (0..series.max(labels)).map(|i| format!("text{i:06}")).collect();
    let mut symbols = (texts.len() as u32).to_be_bytes().to_vec();
    for text in texts.iter() {
        symbols.extend([varint(text.len() as u64), text.clone().into()].concat());
    }
    let mut file = vec![0xBA, 0xAA, 0xD7, 0, 2];
    file.extend([&(symbols.len() as u32).to_be_bytes()[..], &checked(&symbols)].concat());
    let begin = file.len().next_multiple_of(16);
    for i in 0..series {
        let mut entry = varint(labels as u64);
        for label in 0..labels {
            entry.extend([varint(label as u64), varint(i as u64)].concat());
        }
        // One chunk: first time, time range, reference.
        entry.extend([1, 0, 0, 8]);
        file.resize(file.len().next_multiple_of(16), 0);
        file.extend([varint(entry.len() as u64), checked(&entry)].concat());
    }
    let end = file.len() as u64;
    let table = [5, begin as u64, end, end, end, end].map(u64::to_be_bytes).concat();
    [file, checked(&table)].concat()
}

#[test]
fn twice_the_block_costs_at_most_a_little_more_than_twice() {
    let dir = tempfile::tempdir().unwrap();
    let file = |what: &str, n: usize, content: Vec<u8>| {
        let path = dir.path().join(format!("{what} {n}"));
        std::fs::write(&path, content).unwrap();
        path
    };
    let read = |path: &std::path::PathBuf| {
        let index = TsdbIndex::open(path).unwrap();
        let found: Vec<_> = index.series().unwrap().map(Result::unwrap).collect();
        found.len()
    };
    assert_eq!(read(&file("some", 3, index(3, 2))), 3);
    assert_proportional("series", 2_000, |n| file("series", n, index(n, 3)), read);
    assert_proportional("labels", 2_000, |n| file("labels", n, index(1, n)), read);
    // All samples at the time and with the value of the first.
    let floats = |n: usize| {
        let bits = format!("00000000 {:064b} 00000001 0 {}", 1f64.to_bits(), "00".repeat(n - 2));
        let mut bytes = chunk(n as u16, &bits);
        // Remove the byte that only histogram headers have.
        bytes.remove(2);
        bytes
    };
    assert_proportional("floats", 20_000, floats, |bytes| {
        let mut samples = ChunkSamples::default();
        xor::read(bytes, &mut samples).expect("whole");
        samples.finish(|_| true);
    });
    // Of one series, one after the other.
    let deleted = |n: usize| {
        let stretches: Vec<u8> =
            (0..n as u64).flat_map(|i| [varint(3), varint(8 * i), varint(8 * i + 2)].concat()).collect();
        file("deleted", n, sealed(&[0x01, 0x30, 0xBA, 0x30, 1], &stretches))
    };
    assert_proportional("deletions", 1_000, deleted, |path| {
        let deleted = TsdbTombstones::open(path).unwrap();
        (0..20_000).filter(|t| deleted.covers(3, *t)).count()
    });
    let looked_at = |n: usize| {
        let deleted = TsdbTombstones::open(&deleted(n)).unwrap();
        (0..4 * n as i64).filter(|t| deleted.covers(3, *t)).count()
    };
    assert_proportional("samples and deletions", 1_000, |n| n, |n| looked_at(*n));
}

/// An unsigned integer below 2^18, as bits of a chunk.
fn unsigned(n: usize) -> String {
    format!("111110{n:018b}")
}

/// `samples` samples of a histogram of `buckets` buckets with 1 each, after as many spans without
/// buckets.
fn histograms(samples: usize, buckets: usize, float: bool) -> Vec<u8> {
    let one = format!("{:064b}", 1f64.to_bits());
    let none = "0".repeat(64);
    // Threshold 0, schema 0, the positive spans, no negative ones; then the first time, 0.
    let spans = format!("{} {} {} 0", unsigned(buckets + 1), "00".repeat(buckets), unsigned(buckets));
    let layout = format!("00000000 0 {spans} 0 0");
    let first = if !float {
        format!("{} 0 {one} 10001 {}", unsigned(buckets), "0".repeat(buckets - 1))
    } else {
        let count = (buckets as f64).to_bits();
        format!("{count:064b} {none} {one} {}", one.repeat(buckets))
    };
    // Nothing changes: one bit for time, count, zero bucket, sum and each bucket.
    let others = "0".repeat(4 + buckets).repeat(samples - 1);
    chunk(samples as u16, &format!("{layout} {first} {others}"))
}

/// A histogram of so many buckets, and as many stale markers.
fn ends(buckets: usize, float: bool) -> Vec<u8> {
    let first = histograms(1, buckets, float);
    let mut bits: String = first[3..].iter().map(|byte| format!("{byte:08b}")).collect();
    let before = 8 + 1 + 24 + 2 * buckets + 24 + 1 + 1 + 1;
    let values = if float { 64 } else { 1 };
    let of_first = if float { 3 * values } else { 24 + 1 + 64 };
    let of_buckets = if float { 64 * buckets } else { 5 + buckets - 1 };
    bits.truncate(before + of_first + of_buckets);
    let stale = format!("1 1 00000 000000 {:064b}", 1f64.to_bits() ^ STALE.to_bits());
    chunk(buckets as u16 + 1, &format!("{bits} 000 {stale} {}", "0000".repeat(buckets - 1)))
}

#[test]
fn twice_the_chunk_of_histograms_costs_at_most_a_little_more_than_twice() {
    for float in [false, true] {
        let read = |bytes: &Vec<u8>| {
            let mut samples = ChunkSamples::default();
            histogram::read(bytes, Form { float, starts: false }, &mut samples).expect("whole");
            (samples.histograms.len(), samples.ts.len())
        };
        assert_eq!(read(&histograms(5, 7, float)), (5, 0));
        assert_eq!(read(&ends(7, float)), (1, 7));
        assert_proportional("buckets", 10_000, |n| histograms(3, n, float), read);
        assert_proportional("samples", 5_000, |n| histograms(n, 9, float), read);
        assert_proportional("ends", 20_000, |n| ends(n, float), read);
    }
}

#[test]
fn twice_the_meta_json_costs_at_most_a_little_more_than_twice() {
    let meta = |n: usize| {
        let dir = tempfile::tempdir().expect("a directory");
        let sources = vec![r#""01ARZ3NDEKTSV4RRFFQ69G5FAV""#; n].join(",");
        let text = format!(
            r#"{{"ulid":"a","minTime":1,"maxTime":2,"version":1,"compaction":{{"level":2,"sources":[{sources}]}}}}"#
        );
        std::fs::write(dir.path().join("meta.json"), text).expect("a file");
        dir
    };
    assert_proportional("sources", 4_000, meta, |dir| blocks(dir.path()).expect("a block").len());
}
