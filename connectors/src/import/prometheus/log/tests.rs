//! Tests of reading Prometheus' log: records of every kind, files that are cut or damaged, and what
//! blocks have already.

use super::super::{TsdbBlock, TsdbMeta};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use storage::disk::OsDisk;
use storage::model::histogram::ResetHint;
use storage::model::value::STALE;
use testing::assert_proportional;

fn uvarint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn varint(n: i64) -> Vec<u8> {
    uvarint(((n << 1) ^ (n >> 63)) as u64)
}

fn series(reference: u64, name: &str) -> Vec<u8> {
    let text = |text: &str| [uvarint(text.len() as u64), text.as_bytes().to_vec()].concat();
    [&reference.to_be_bytes()[..], &[1], &text("__name__"), &text(name)].concat()
}

/// The record of series with these references and names.
fn series_record(all: &[(u64, &str)]) -> Vec<u8> {
    let all = all.iter().map(|(reference, name)| series(*reference, name));
    [vec![1], all.collect::<Vec<_>>().concat()].concat()
}

/// A record of samples, each with what follows its series and time.
fn sample_record(kind: u8, all: &[(u64, i64, Vec<u8>)]) -> Vec<u8> {
    let (first, t, _) = all[0];
    let begin = [&[kind][..], &first.to_be_bytes(), &t.to_be_bytes()].concat();
    let rows = all.iter().map(|(reference, at, value)| {
        [varint(*reference as i64 - first as i64), varint(at - t), value.clone()].concat()
    });
    [begin, rows.collect::<Vec<_>>().concat()].concat()
}

fn float_record(all: &[(u64, i64, f64)]) -> Vec<u8> {
    let rows: Vec<_> = all.iter().map(|(r, t, v)| (*r, *t, v.to_bits().to_be_bytes().to_vec())).collect();
    sample_record(2, &rows)
}

/// A file of the log: records in pages, compressed with this flag.
fn pages(records: &[Vec<u8>], flag: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let body = match flag {
            8 => snap::raw::Encoder::new().compress_vec(record).unwrap(),
            16 => zstd::bulk::compress(record, 1).unwrap(),
            _ => record.clone(),
        };
        let mut rest = &body[..];
        let mut first = true;
        loop {
            let mut space = (32 << 10) - out.len() % (32 << 10);
            if space <= 7 {
                out.resize(out.len() + space, 0);
                space = 32 << 10;
            }
            let (now, later) = rest.split_at(rest.len().min(space - 7));
            let kind = match (first, later.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            out.push(kind | flag);
            out.extend((now.len() as u16).to_be_bytes());
            out.extend(crc32c::crc32c(now).to_be_bytes());
            out.extend(now);
            rest = later;
            first = false;
            if rest.is_empty() {
                break;
            }
        }
    }
    out
}

/// A data directory of Prometheus with these files.
fn directory(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

fn block(max_time: i64, hints: &str) -> TsdbBlock {
    let text = format!(
        r#"{{"ulid":"a","minTime":0,"maxTime":{max_time},"version":1,"compaction":{{"hints":[{hints}]}}}}"#
    );
    let meta: TsdbMeta = serde_json::from_str(&text).unwrap();
    TsdbBlock { dir: PathBuf::new(), meta }
}

fn open(dir: &tempfile::TempDir, blocks: &[TsdbBlock]) -> TsdbHead {
    TsdbHead::open(dir.path(), blocks).unwrap().expect("a log")
}

/// Series with their floats, as text; ends of series are `end`.
fn floats(head: &TsdbHead) -> Vec<String> {
    let rows = LoggedRows { head, next: 0, ready: Vec::new().into_iter() };
    let text = |one: BlockSeries| {
        let samples = one.ts.iter().zip(&one.vs).map(|(t, v)| {
            if v.to_bits() == STALE.to_bits() { format!(" {t}=end") } else { format!(" {t}={v}") }
        });
        format!("{}{}", one.labels, samples.collect::<String>())
    };
    rows.map(|one| text(one.unwrap())).collect()
}

#[test]
fn checkpoints_segments_and_late_samples_are_one_history() {
    for flag in [0, 8, 16] {
        let old =
            pages(&[series_record(&[(1, "b"), (2, "a")]), float_record(&[(1, 10, 1.0), (2, 10, 2.0)])], flag);
        let covered = pages(&[float_record(&[(1, 20, -1.0)])], flag);
        let first = pages(&[float_record(&[(1, 30, 3.0), (2, 30, STALE)]), series_record(&[(7, "a")])], flag);
        let second = pages(&[float_record(&[(7, 40, 4.0), (99, 40, 9.0)]), vec![4, 1, 2], vec![77]], flag);
        let late = pages(&[float_record(&[(1, 25, 2.5), (1, 30, -3.0), (2, 5, 0.5)])], flag);
        let dir = directory(&[
            ("wal/checkpoint.00000003/00000000", pages(&[series_record(&[(1, "old")])], flag)),
            ("wal/checkpoint.00000012/00000000", old),
            ("wal/checkpoint.00000013.tmp/00000000", vec![9; 40]),
            ("wal/00000012", covered),
            ("wal/00000013", first),
            ("wal/00000014", second),
            ("wbl/00000000", late),
        ]);
        let mut head = open(&dir, &[]);
        assert!(head.take_damage().is_none());
        // The second reference of `a` is the same series; 99 is nobody's. What was in time wins.
        let all = ["a 5=0.5 10=2 30=end 40=4", "b 10=1 25=2.5 30=3"];
        assert_eq!(floats(&head), all, "{flag}");
        // A block to 30 has the samples before; one of late samples says nothing about the others.
        let head = open(&dir, &[block(30, ""), block(100, r#""from-out-of-order""#)]);
        let rest = ["a 5=0.5 30=end 40=4", "b 25=2.5 30=3"];
        assert_eq!(floats(&head), rest, "{flag}");
        let blocks = tempfile::tempdir().unwrap();
        let meta = head.copy(&OsDisk, blocks.path(), &BTreeSet::new(), |_| {}).unwrap().expect("a block");
        assert_eq!((meta.series, meta.samples, meta.min_time, meta.max_time), (2, 5, 5, 40), "{flag}");
    }
}

#[test]
fn what_is_deleted_stays_deleted() {
    let deleted = [
        &[3][..],
        &2u64.to_be_bytes(),
        &varint(15),
        &varint(25),
        &5u64.to_be_bytes(),
        &varint(0),
        &varint(9),
    ];
    let records = [
        series_record(&[(1, "b"), (2, "a")]),
        float_record(&[(1, 10, 1.0), (2, 10, 1.0), (1, 20, 2.0), (2, 20, 2.0), (2, 30, 3.0)]),
        deleted.concat(),
    ];
    let dir = directory(&[("wal/00000000", pages(&records, 8))]);
    let expected = ["a 10=1 30=3", "b 10=1 20=2"];
    assert_eq!(floats(&open(&dir, &[])), expected);
}

fn double(v: f64) -> Vec<u8> {
    v.to_bits().to_be_bytes().to_vec()
}

/// What a histogram begins with: hint, schema, width of the zero bucket.
fn layout(hint: u8, schema: i64, zero: f64) -> Vec<u8> {
    [vec![hint], varint(schema), double(zero)].concat()
}

/// Two buckets, a gap of three, one bucket; an empty span between them only moves.
fn spans() -> Vec<u8> {
    let positive =
        [(-1, 2), (1, 0), (2, 1)].map(|(offset, length)| [varint(offset), uvarint(length)].concat());
    [uvarint(3), positive.concat(), uvarint(0)].concat()
}

/// A gauge with whole counts.
fn whole_histogram() -> Vec<u8> {
    let deltas = [1, 1, 1].map(varint).concat();
    let head = [layout(3, 2, 0.001), uvarint(1), uvarint(7), double(5.5)].concat();
    [head, spans(), uvarint(3), deltas, uvarint(0)].concat()
}

/// One with float counts.
fn float_histogram() -> Vec<u8> {
    let counts = [1.0, 1.5, 1.0].map(double).concat();
    let head = [layout(0, 2, 0.001), double(0.5), double(4.0), double(5.5)].concat();
    [head, spans(), uvarint(3), counts, uvarint(0)].concat()
}

/// One with a bound of its own.
fn custom_histogram() -> Vec<u8> {
    let head = [layout(0, -53, 0.0), uvarint(0), uvarint(3), double(2.0)].concat();
    let spans = [uvarint(1), varint(0), uvarint(2), uvarint(0)].concat();
    let deltas = [uvarint(2), varint(1), varint(1), uvarint(0)].concat();
    [head, spans, deltas, uvarint(1), double(2.5)].concat()
}

#[test]
fn histograms_come_along() {
    let records = [
        series_record(&[(3, "h")]),
        sample_record(7, &[(3, 100, whole_histogram())]),
        sample_record(8, &[(3, 110, float_histogram())]),
        sample_record(9, &[(3, 120, custom_histogram())]),
    ];
    let dir = directory(&[("wal/00000000", pages(&records, 16))]);
    let mut head = open(&dir, &[]);
    assert!(head.take_damage().is_none());
    let histograms = head.collect(0..1).unwrap().remove(0).histograms;
    let read: Vec<_> = histograms.iter().map(|(t, h)| (*t, h.count, h.positive.counts.clone())).collect();
    let expected =
        [(100, 7.0, vec![1.0, 2.0, 3.0]), (110, 4.0, vec![1.0, 1.5, 1.0]), (120, 3.0, vec![1.0, 2.0])];
    assert_eq!(read, expected);
    let first = &histograms[0].1;
    let spans: Vec<_> = first.positive.spans.iter().map(|span| (span.offset, span.length)).collect();
    assert_eq!((spans, first.hint), (vec![(-1, 2), (3, 1)], ResetHint::Gauge));
    assert_eq!(histograms[2].1.bounds.to_vec(), [2.5]);
}

/// The newer records, in which samples may have a start timestamp.
#[test]
fn start_timestamps_come_along() {
    // Series, time and start of the first; then distances, and which start: the same, none,
    // another.
    let first = [vec![11], varint(1), varint(100), varint(50), double(1.0)].concat();
    let same = [varint(0), varint(10), vec![1], double(2.0)].concat();
    let none = [varint(0), varint(20), vec![0], double(3.0)].concat();
    let other = [varint(1), varint(30), vec![2], varint(5), double(4.0)].concat();
    let one =
        |kind: u8, t: i64, value: Vec<u8>| [vec![kind], varint(3), varint(t), varint(60), value].concat();
    let records = [
        series_record(&[(1, "a"), (2, "b"), (3, "h")]),
        [first, same, none, other].concat(),
        one(12, 140, whole_histogram()),
        one(13, 141, float_histogram()),
    ];
    let dir = directory(&[("wal/00000000", pages(&records, 8))]);
    let mut head = open(&dir, &[]);
    assert!(head.take_damage().is_none());
    assert_eq!(floats(&head)[..2], ["a 100=1 110=2 120=3", "b 130=4"]);
    let starts: Vec<_> = head.collect(0..3).unwrap().into_iter().map(|one| one.starts).collect();
    assert_eq!(starts, [vec![(100, 50), (110, 50)], vec![(130, 55)], vec![(140, 60), (141, 60)]]);
}

/// The newest file ends where its writer was; anything else that is cut or wrong is damage, and
/// what comes before it is imported.
#[test]
fn a_cut_end_is_no_damage_and_a_wrong_byte_is() {
    let records: Vec<Vec<u8>> = std::iter::once(series_record(&[(1, "a")]))
        .chain((0..3).map(|i| float_record(&[(1, 10 * i, i as f64)])))
        .collect();
    let whole = pages(&records, 8);
    let short = pages(&records[..3], 8);
    for cut in short.len()..whole.len() {
        let dir = directory(&[("wal/00000000", whole[..cut].to_vec())]);
        let mut head = open(&dir, &[]);
        assert!(head.take_damage().is_none(), "{cut}");
        assert_eq!(floats(&head), ["a 0=0 10=1"], "{cut}");
        // With a file after it, it cannot be the end.
        if cut > short.len() {
            let dir = directory(&[("wal/00000000", whole[..cut].to_vec()), ("wal/00000001", short.clone())]);
            let error = open(&dir, &[]).take_damage().expect("damage").to_string();
            assert!(error.contains(&format!("wal/00000000: offset {}: ", short.len())), "{error}");
        }
    }
    for at in short.len()..whole.len() {
        let mut wrong = whole.clone();
        wrong[at] ^= 0x20;
        let dir = directory(&[("wal/00000000", [wrong, short.clone()].concat())]);
        let mut head = open(&dir, &[]);
        // Of the first byte only kind and compression count, and a length that goes beyond the file
        // is that of a record that was being written.
        assert_eq!(head.take_damage().is_some(), at > short.len() + 1, "{at}");
        assert!(floats(&head)[0].starts_with("a 0=0 10=1"), "{at}");
    }
}

#[test]
fn a_record_may_be_longer_than_a_page_and_a_group_smaller_than_the_head() {
    let rows: Vec<(u64, i64, f64)> = (0..9_000).map(|i| (i % 9 + 1, i as i64, i as f64)).collect();
    let names: Vec<String> = (1..10).map(|i| format!("s{i}")).collect();
    let names: Vec<(u64, &str)> = names.iter().zip(1..).map(|(name, at)| (at, name.as_str())).collect();
    let dir = directory(&[("wal/00000000", pages(&[series_record(&names), float_record(&rows)], 0))]);
    let head = open(&dir, &[]);
    let counts: Vec<usize> = head.collect(2..5).unwrap().iter().map(|one| one.ts.len()).collect();
    assert_eq!((floats(&head).len(), counts), (9, vec![1_000; 3]));
    // The file has gone since.
    std::fs::remove_file(dir.path().join("wal/00000000")).unwrap();
    assert!(head.collect(0..1).is_err());
    let blocks = tempfile::tempdir().unwrap();
    assert!(head.copy(&OsDisk, blocks.path(), &BTreeSet::new(), |_| {}).is_err());
}

#[test]
fn twice_the_log_costs_at_most_a_little_more_than_twice() {
    let log = |n: usize| {
        let rows: Vec<(u64, i64, f64)> = (0..n as u64).map(|i| (i % 50 + 1, i as i64, 1.0)).collect();
        let names: Vec<String> = (0..50).map(|i| format!("s{i}")).collect();
        let names: Vec<(u64, &str)> = names.iter().zip(1..).map(|(name, at)| (at, name.as_str())).collect();
        directory(&[("wal/00000000", pages(&[series_record(&names), float_record(&rows)], 8))])
    };
    assert_proportional("samples", 5_000, log, |dir| floats(&open(dir, &[])).len());
}

proptest! {
    #[test]
    fn arbitrary_records_never_panic(kind in 0u8..15, bytes in vec(any::<u8>(), 0..300), cut in 0usize..40) {
        let record = [&[kind], &bytes[..]].concat();
        let _ = records::read(&record, |_| Some(()));
        let series = series_record(&[(1, "a")]);
        let whole = pages(&[series, record], 0);
        let dir = directory(&[("wal/00000000", whole[..whole.len().saturating_sub(cut)].to_vec())]);
        let _ = floats_or_error(&open(&dir, &[]));
        let dir = directory(&[("wal/00000000", bytes)]);
        let _ = floats_or_error(&open(&dir, &[]));
    }
}

fn floats_or_error(head: &TsdbHead) -> usize {
    LoggedRows { head, next: 0, ready: Vec::new().into_iter() }.filter(Result::is_ok).count()
}
