//! Tests the decoder of remote read answers with answers that our own server writes: complete, cut
//! into pieces, and damaged.

use super::super::MemoryRefused;
use super::super::server::{SeriesRun, frame_of, put_series, send_chunks};
use super::*;
use crate::chunks::ChunkWriter;
use crate::protobuf::{put_bytes, put_message};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use storage::model::NativeHistogram;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::store::SeriesSource;

/// Some bytes of memory.
struct FreeBytes(AtomicUsize);

impl FreeBytes {
    fn new(bytes: usize) -> FreeBytes {
        FreeBytes(AtomicUsize::new(bytes))
    }
}

impl ReadMemory for FreeBytes {
    fn grow(&self, bytes: usize) -> Result<(), MemoryRefused> {
        let left = self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes));
        left.map(drop).map_err(|_| MemoryRefused("no room".to_owned()))
    }

    fn shrink(&self, bytes: usize) {
        self.0.fetch_add(bytes, Relaxed);
    }
}

fn labels(n: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("cluster", "c1".to_owned()), ("n", n.to_string())])
}

fn histogram(count: f64) -> NativeHistogram {
    NativeHistogram {
        schema: 0,
        zero_threshold: 0.001,
        zero_count: 0.0,
        count,
        sum: count * 2.0,
        positive: Buckets { spans: vec![BucketSpan { offset: 0, length: 1 }], counts: vec![count] },
        ..NativeHistogram::default()
    }
}

/// The samples of three series, the last with histograms.
fn runs() -> Vec<SeriesRun> {
    let run = |n: usize| {
        let ts: Vec<TimeMs> = (0..500).map(|i| 1_000_000 + i * 1_000 + n as i64).collect();
        let vs = (0..500).map(|i| (i * (n + 1)) as f64 / 7.0).collect();
        let times = if n == 2 { 0..30 } else { 0..0 };
        let histograms = times.map(|i| (2_000_000 + i, Arc::new(histogram(i as f64)))).collect();
        SeriesRun { ts, vs, histograms }
    };
    (0..3).map(run).collect()
}

/// The stream with frames of about `most` bytes.
fn stream(most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, run) in runs().iter().enumerate() {
        let chunks = ChunkWriter::write(&run.ts, &run.vs, &run.histograms);
        let mut send = |frame: Vec<u8>| {
            bytes.extend(frame);
            Ok(())
        };
        send_chunks(&labels(n), &chunks, 0, most, &mut send).expect("sent");
    }
    bytes
}

/// Name and value of a label, which need not be texts.
type LabelBytes<'a> = (&'a [u8], &'a [u8]);

/// What was received between two times: labels, floats, number of histograms.
type ReceivedRows = Vec<(String, Vec<(TimeMs, f64)>, usize)>;

fn read(series: &[LabelledSource], from: TimeMs, to: TimeMs) -> ReceivedRows {
    let one = |(labels, source): &LabelledSource| {
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        let mut histograms = Vec::new();
        source.read(from, to, &mut ts, &mut vs).expect("floats");
        source.read_histograms(from, to, &mut histograms).expect("histograms");
        (labels.to_string(), ts.into_iter().zip(vs).collect(), histograms.len())
    };
    series.iter().map(one).collect()
}

/// Receives a stream in pieces of `piece` bytes.
fn receive(bytes: &[u8], piece: usize, removed: &[String]) -> Result<Vec<LabelledSource>, ReadFailure> {
    let room = FreeBytes::new(1 << 24);
    let mut received = ReceivedSeries::new(1_000_000, 3_000_000, removed, &room);
    let mut frames = FrameReader::new(1 << 16);
    for piece in bytes.chunks(piece) {
        frames.push(piece);
        while let Some(frame) = frames.next_frame()? {
            received.frame(frame)?;
        }
    }
    if !frames.is_at_end() {
        return Err(ReadFailure::CutOff);
    }
    received.finish()
}

/// What must be received between two times.
fn expected(from: TimeMs, to: TimeMs, keeps_cluster: bool) -> ReceivedRows {
    let one = |(n, run): (usize, SeriesRun)| {
        let all = run.ts.iter().copied().zip(run.vs);
        let floats = all.filter(|(t, _)| (from..=to).contains(t)).collect();
        let histograms = run.histograms.iter().filter(|(t, _)| (from..=to).contains(t)).count();
        let labels = labels(n).filter(|name| keeps_cluster || name != "cluster");
        (labels.to_string(), floats, histograms)
    };
    runs().into_iter().enumerate().map(one).collect()
}

#[test]
fn frames_are_read_however_they_are_cut() {
    for most in [1, 700, 1 << 20] {
        let bytes = stream(most);
        for piece in [1, 3, 1_000, bytes.len()] {
            let series = receive(&bytes, piece, &[]).expect("a stream");
            assert_eq!(series.len(), 3, "the frames of a series are one");
            for (from, to) in [(0, TimeMs::MAX), (1_100_000, 1_400_000), (1_499_000, 2_000_005)] {
                assert_eq!(read(&series, from, to), expected(from, to, true), "{most} {piece} {from}");
            }
        }
    }
    let series = receive(&stream(700), 64, &["cluster".to_owned()]).expect("a stream");
    assert_eq!(read(&series, 0, TimeMs::MAX), expected(0, TimeMs::MAX, false));
}

#[test]
fn what_is_beyond_the_question_is_left_out() {
    let room = FreeBytes::new(1 << 24);
    for run in [0, 2] {
        let SeriesRun { ts, vs, histograms } = &runs()[run];
        let mut samples = SamplesBuilder::default();
        for chunk in ChunkWriter::write(ts, vs, histograms) {
            samples.chunk(chunk.encoding as u64, &chunk.data, &room).expect("a chunk");
        }
        let source = samples.finish(1_010_000, 1_012_999, &room).expect("samples");
        let mut found = Vec::new();
        source.read(0, TimeMs::MAX, &mut found, &mut Vec::new()).expect("floats");
        assert_eq!(found.len(), 3);
        let mut found = Vec::new();
        source.read_histograms(0, TimeMs::MAX, &mut found).expect("histograms");
        assert_eq!(found.len(), 0);
    }
}

#[test]
fn damaged_streams_are_told_as_prometheus_tells_them() {
    let bytes = stream(700);
    let error = |bytes: &[u8]| match receive(bytes, 100, &[]) {
        Ok(_) => String::new(),
        Err(failure) => failure.to_string(),
    };
    assert_eq!(error(&bytes[..bytes.len() - 1]), "unexpected EOF");
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    assert_eq!(error(&flipped), "chunkedReader: corrupted frame; checksum mismatch");
    let large = [0x80, 0x80, 0x08, 0, 0, 0, 0];
    assert_eq!(
        error(&large),
        "chunkedReader: message size exceeded the limit 65536 bytes; got: 131072 bytes"
    );
    let series = |pairs: &[LabelBytes]| {
        let mut message = Vec::new();
        for (name, value) in pairs {
            put_message(&mut message, 1, |out| {
                put_bytes(out, 1, name);
                put_bytes(out, 2, value);
            });
        }
        frame_of(&message, 0)
    };
    let cases: &[(&[LabelBytes], &str)] = &[
        (&[(b"__name__", b"")], "invalid metric name: "),
        (&[(b"", b"v")], "invalid label name: "),
        (&[(b"a", b"\xff")], "invalid label value: \u{fffd}"),
        (&[(b"a", b"1"), (b"a", b"2")], "duplicate label with name: a"),
    ];
    for (pairs, text) in cases {
        assert_eq!(error(&series(pairs)), *text);
    }
    // A chunk that says that it has more samples than it has, and one that nobody knows.
    for (encoding, text) in
        [(1, "the chunk does not hold what it says"), (99, "encoding 99 of a chunk is unknown")]
    {
        let mut message = Vec::new();
        put_message(&mut message, 2, |out| {
            crate::protobuf::put_number(out, 3, encoding);
            put_bytes(out, 4, &[0xff, 0xff, 0]);
        });
        assert_eq!(error(&frame_of(&message, 0)), text);
    }
}

#[test]
fn one_message_has_all_samples() {
    let mut result = Vec::new();
    // In another order than that of labels.
    for (n, run) in runs().iter().enumerate().rev() {
        put_message(&mut result, 1, |out| put_series(out, &labels(n), run));
    }
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &result);
    let receive = |room: &FreeBytes| {
        let mut received = ReceivedSeries::new(0, 3_000_000, &[], room);
        received.message(&message)?;
        received.finish()
    };
    let series = receive(&FreeBytes::new(1 << 24)).expect("a message");
    assert_eq!(read(&series, 0, TimeMs::MAX), expected(0, TimeMs::MAX, true));
    let full = receive(&FreeBytes::new(5_000)).map(drop).expect_err("too little room");
    assert_eq!(full, ReadFailure::Memory(MemoryRefused("no room".to_owned())));
    message.extend(message.clone());
    let room = FreeBytes::new(1 << 24);
    let two = ReceivedSeries::new(0, 9, &[], &room).message(&message).expect_err("two results");
    assert_eq!(two.to_string(), "responses: want 1, got 2");
}
