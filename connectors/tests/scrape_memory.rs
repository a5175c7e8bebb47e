//! Measures the memory for reading a scrape, without stored samples: at most 64 MiB for any
//! decompressed size. The only test in its program, because it measures the process.

mod bench;

use bench::protobuf::{body, family, submessage};
use connectors::exposition::{BodyFormat, TextFormat};
use connectors::relabel::Relabeler;
use connectors::scrape::appender::{HistogramPolicy, ScrapeAppender, ScrapeCounts, ScrapeRules};
use connectors::scrape::body::Body;
use connectors::scrape::config::ScrapeLimits;
use connectors::scrape::series_admission::SeriesAdmission;
use connectors::scrape::turn::Turn;
use std::io::Write;
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::Labels;
use storage::store::{Store, StoreOptions};

const MOST: usize = 64 << 20;

/// The peak memory of the process since the last call, bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn gzip(parts: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for part in parts {
        encoder.write_all(&part).unwrap();
    }
    encoder.finish().unwrap()
}

/// Scrapes a compressed body as the server does; returns the peak memory, and whether the scrape
/// succeeded.
fn scrape(
    packed: &[u8],
    format: BodyFormat,
    native: HistogramPolicy,
) -> (usize, Result<ScrapeCounts, String>) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        dir: dir.path().into(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default()).unwrap();
    store.exemplars().set_limit(1_000);
    let mut ingest = ScrapeAppender::new(store, "t".into(), &Labels::default(), &["up"]);
    let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
    let most = usize::MAX;
    let limits =
        ScrapeLimits { body: most, samples: most, labels: most, name_bytes: most, value_bytes: most };
    let relabel = Relabeler::default();
    let admission = SeriesAdmission::new(&target, &relabel, limits);
    let rules = ScrapeRules { admission, honor_timestamps: true, track_timestamps: false, native };
    let mut counts = ScrapeCounts::default();
    let turn = Turn::endless();
    let t = 1_000_000;
    peak();
    let before = peak();
    let mut text = Body::new(true, most);
    text.push(packed).unwrap();
    text.end();
    let mut read = || -> Result<(), String> {
        loop {
            text.decode().map_err(|e| e.to_string())?;
            let piece = text.piece(format);
            let last = piece.last;
            let read = ingest.read_piece(piece.bytes, last, format, t, &rules, &mut counts, &turn);
            let read = read.map_err(|e| e.to_string())?.read;
            text.consume(read).map_err(|e| e.to_string())?;
            if last {
                break;
            }
        }
        ingest.finish(t, &rules, &mut counts, &turn).map_err(|e| e.to_string())?;
        ingest.commit(t, &[1.0], &mut counts).map_err(|e| e.to_string())
    };
    let outcome = read();
    (peak().saturating_sub(before), outcome.map(|()| counts))
}

#[test]
fn bodies_that_unpack_to_much_take_little() {
    let text = BodyFormat::Text(TextFormat::Text);
    let lines = |line: &str, times: usize| {
        let part = line.repeat(1_000).into_bytes();
        gzip((0..times / 1_000).map(|_| part.clone()))
    };
    let none = HistogramPolicy::default();
    let native = HistogramPolicy { scrape: true, ..none };
    let converted = HistogramPolicy { convert: true, ..none };
    let open =
        gzip((0..600).map(|_| b"a_total 1 # {id=\"x\"} 1\n".repeat(1_000)).chain([b"# EOF\n".to_vec()]));
    let classic = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\n";
    let empty = body(&[family("h", 4, &vec![submessage(7, b""); 200_000])]);
    let span = submessage(7, &submessage(12, b""));
    let spans = body(&[family("h", 4, &vec![span; 400_000])]);
    let empty_families = vec![family("f", 1, &[vec![]]); 400_000];
    let cases = [
        ("equal lines", lines("a 1\n", 4_000_000), text, none),
        ("two lines in turn", lines("a 1\nb{c=\"d\"} 2\n", 1_000_000), text, none),
        ("metadata", lines("# HELP a some help\n# TYPE a gauge\n", 1_000_000), text, none),
        ("OpenMetrics with exemplars", open, BodyFormat::Text(TextFormat::OpenMetrics), none),
        ("classic lines that become native", lines(classic, 200_000), text, converted),
        ("empty classic histograms", gzip([empty.clone()].into_iter()), BodyFormat::Protobuf, none),
        ("empty histograms as native ones", gzip([empty].into_iter()), BodyFormat::Protobuf, native),
        ("native histograms", gzip([spans].into_iter()), BodyFormat::Protobuf, native),
        ("families", gzip([body(&empty_families)].into_iter()), BodyFormat::Protobuf, native),
    ];
    for (what, packed, format, rules) in cases {
        let (took, outcome) = scrape(&packed, format, rules);
        eprintln!("{what}: {} bytes packed, {} MiB, {outcome:?}", packed.len(), took >> 20);
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
        assert!(took < MOST, "{what}: {} MiB", took >> 20);
    }
    let (took, outcome) = scrape(&lines("a 1 5\nb 1 6\n", 3_000_000), text, none);
    eprintln!("lines with timestamps: {} MiB, {outcome:?}", took >> 20);
    assert!(outcome.unwrap_err().contains("samples with timestamps take more than"));
    assert!(took < MOST + (32 << 20), "{} MiB", took >> 20);
}
