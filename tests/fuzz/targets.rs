//! The fuzz targets: parsers of bytes from outside. A target accepts any bytes, and panics if an
//! invariant is violated.
//!
//! `cargo fuzz` runs them through `fuzz_targets/`. `cargo test --test fuzz` runs them with the
//! inputs in `corpus/` and mutations of these. docs/testing.md explains both.

use connectors::exposition::{BodyFormat, TextFormat};
use connectors::native_histogram::HistogramLimits;
use connectors::otlp::receiver::OtlpEncoding;
use connectors::otlp::{DeltaSums, OtlpConfig, OtlpFeatures, OtlpReceiver};
use connectors::relabel::{RelabelAction, RelabelConfig, Relabeler};
use connectors::remote::{MessageVersion, RemoteWriteError, RemoteWriteReceiver};
use connectors::scrape::appender::{
    HistogramPolicy, IngestError, ScrapeAppender, ScrapeCounts, ScrapeRules, StartRules,
};
use connectors::scrape::config::ScrapeLimits;
use connectors::scrape::series_admission::SeriesAdmission;
use connectors::scrape::turn::Turn;
use promql::{PromqlLanguage, PromqlOptions, printer};
use rules::file::GroupDefaults;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::regex::AnchoredRegex;
use storage::model::{Labels, LabelsBuilder, MatchOp, Matcher, SHARDS, TimeMs};
use storage::store::{Store, StoreBuilder, StoreOptions};
use storage::wal::{
    PayloadReader, RecordBuilder, RecordKind, take_histograms, take_layout, take_samples, take_starts,
};

/// The wall clock of all targets, ms: the time of connectors/tests/data/expositions.jsonl.
const NOW: TimeMs = 1_795_707_594_000;

/// The number of inputs per store. A store keeps all series, and the effect of an input should
/// depend on few others.
const INPUTS_OF_A_STORE: usize = 50;

/// The size of a WAL segment, and the memory limit of a log replay, bytes.
const SEGMENT_BYTES: u64 = 1 << 20;

/// A temporary directory, in memory if possible: stores sync their files, which is slow on a disk.
fn scratch_directory() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// A store without threads, in its own directory.
struct ScratchStore {
    store: Arc<Store>,
    /// Removed together with the store.
    _directory: tempfile::TempDir,
    inputs: usize,
}

thread_local! {
    static STORE: RefCell<Option<ScratchStore>> = const { RefCell::new(None) };
}

fn open(directory: &Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: directory.to_owned(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: 7_200_000,
        out_of_order_ms: 3_600_000,
    };
    let opened =
        StoreBuilder::new(options, Arc::new(OsDisk), &Metrics::default()).manual_log(SEGMENT_BYTES).open();
    opened.expect("a store opens whatever its log holds").0
}

/// Calls `work` with a store, and writes the WAL.
fn with_store(work: impl FnOnce(&Arc<Store>)) {
    let kept = STORE.with(RefCell::take).filter(|kept| kept.inputs < INPUTS_OF_A_STORE);
    let mut scratch = kept.unwrap_or_else(|| {
        let directory = scratch_directory();
        ScratchStore { store: open(directory.path()), _directory: directory, inputs: 0 }
    });
    scratch.inputs += 1;
    work(&scratch.store);
    scratch.store.wal().write_queued(false);
    // Not reached after a panic: then the store may be in any state.
    STORE.with(|place| place.replace(Some(scratch)));
}

/// Reads all samples of a store.
fn read_all(store: &Store) {
    let every = Matcher::new("__name__", MatchOp::Regex, ".*").expect("a matcher");
    for shard in 0..SHARDS {
        let Ok(selection) = store.select(shard, std::slice::from_ref(&every), TimeMs::MIN, TimeMs::MAX)
        else {
            continue;
        };
        for i in 0..selection.labels.len() {
            let mut times = Vec::new();
            let mut values = Vec::new();
            let mut histograms = Vec::new();
            let _ = selection.read(i, TimeMs::MIN, TimeMs::MAX, &mut times, &mut values);
            let _ = selection.read_histograms(i, TimeMs::MIN, TimeMs::MAX, &mut histograms);
            assert_eq!(times.len(), values.len(), "times and values of a series");
            assert!(times.is_sorted(), "times of a series");
        }
    }
}

/// The Prometheus text format.
pub fn exposition_text(data: &[u8]) {
    exposition(data, BodyFormat::Text(TextFormat::Text));
}

/// The OpenMetrics format.
pub fn exposition_openmetrics(data: &[u8]) {
    exposition(data, BodyFormat::Text(TextFormat::OpenMetrics));
}

/// The protobuf exposition.
pub fn exposition_protobuf(data: &[u8]) {
    exposition(data, BodyFormat::Protobuf);
}

/// Scrapes a body with the rules of a simple job, and with all options of a job; as a whole, and in
/// pieces as from the network, which must give the same result.
fn exposition(body: &[u8], format: BodyFormat) {
    let everything = HistogramPolicy {
        scrape: true,
        classic_too: true,
        convert: true,
        limits: HistogramLimits::default(),
        starts: StartRules { keep: true, zeros: true },
    };
    for policy in [HistogramPolicy::default(), everything] {
        with_store(|store| {
            let whole = scrape(store, body, body.len(), format, policy);
            for size in [7, body.len() / 3] {
                let pieces = scrape(store, body, size, format, policy);
                assert_eq!(pieces, whole, "a body in pieces of {size} bytes");
            }
        });
    }
}

/// Scrapes a body that arrives in pieces of `size` bytes; returns what was stored, or nothing if it
/// is refused.
fn scrape(
    store: &Arc<Store>,
    body: &[u8],
    size: usize,
    format: BodyFormat,
    native: HistogramPolicy,
) -> Option<ScrapeCounts> {
    let target = Labels::from_pairs([("instance", "i"), ("job", "fuzz")]);
    let relabel = Relabeler::default();
    let limits = ScrapeLimits {
        body: usize::MAX,
        samples: usize::MAX,
        labels: usize::MAX,
        name_bytes: usize::MAX,
        value_bytes: usize::MAX,
    };
    let admission = SeriesAdmission::new(&target, &relabel, limits);
    let rules = ScrapeRules { admission, honor_timestamps: true, track_timestamps: true, native };
    let mut appender = ScrapeAppender::new(store.clone(), "fuzz".to_owned(), &target, &["up"]);
    let mut counts = ScrapeCounts::default();
    let result = read_in_pieces(&mut appender, body, size.max(1), format, &rules, &mut counts);
    if result.is_err() {
        appender.commit_failure(NOW, &[0.0]).expect("the report is stored");
        return None;
    }
    let read = counts;
    appender.commit(NOW, &[1.0], &mut counts).expect("a store takes what was read");
    appender.metadata(true);
    Some(read)
}

fn read_in_pieces(
    appender: &mut ScrapeAppender,
    body: &[u8],
    size: usize,
    format: BodyFormat,
    rules: &ScrapeRules<'_>,
    counts: &mut ScrapeCounts,
) -> Result<(), IngestError> {
    let turn = Turn::endless();
    let mut begin = 0;
    let mut end = 0;
    loop {
        end = (end + size).min(body.len());
        let last = end == body.len();
        let mut piece = &body[begin..end];
        if let BodyFormat::Text(_) = format
            && !last
        {
            // The reader expects whole lines.
            let whole = piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            piece = &piece[..whole];
        }
        begin += appender.read_piece(piece, last, format, NOW, rules, counts, &turn)?.read;
        if last {
            return appender.finish(NOW, rules, counts, &turn);
        }
    }
}

/// A remote write 1.0 message, and the same bytes as a snappy body.
pub fn remote_write_1(data: &[u8]) {
    remote_write(data, MessageVersion::V1);
}

/// A remote write 2.0 message, and the same bytes as a snappy body.
pub fn remote_write_2(data: &[u8]) {
    remote_write(data, MessageVersion::V2);
}

fn remote_write(data: &[u8], version: MessageVersion) {
    let packed = snap::raw::Encoder::new().compress_vec(data).expect("short enough for snappy");
    with_store(|store| {
        let receiver = RemoteWriteReceiver::new(store.clone()).with_zeros(true);
        for body in [&packed[..], data] {
            match receiver.apply(body, version, NOW) {
                Ok(outcome) => drop(outcome.refusal()),
                // The sender would retry forever.
                Err(RemoteWriteError::Store(error)) => panic!("{error}"),
                Err(_) => (),
            }
        }
    });
}

/// A request of OTLP, in protobuf and in JSON.
pub fn otlp(data: &[u8]) {
    with_store(|store| {
        let features = OtlpFeatures {
            deltas: DeltaSums::Cumulative,
            type_and_unit: true,
            starts: true,
            zeros: true,
            lookback_ms: 300_000,
        };
        let receiver = OtlpReceiver::new(store.clone(), features, &Metrics::default());
        receiver.configure(OtlpConfig {
            promote_all_resource_attributes: true,
            promote_scope_metadata: true,
            ..OtlpConfig::default()
        });
        for is_json in [false, true] {
            match receiver.apply(data, OtlpEncoding { is_json, is_gzip: false }, NOW) {
                Ok(outcome) => drop(outcome.refusal()),
                // The sender would retry forever.
                Err(RemoteWriteError::Store(error)) => panic!("{error}"),
                Err(_) => (),
            }
        }
    });
}

/// Parses and compiles a query, and prints it in one line and in several. The printed query must
/// mean the same.
pub fn promql(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let options = PromqlOptions::all();
    let _ = promql::parse_selector(text);
    let _ = promql::series::parse_series(text);
    let tree = match promql::parse(text, &options) {
        Ok(tree) => tree,
        Err(error) => {
            let span = error.span;
            assert!(span.start <= span.end && span.end as usize <= text.len(), "{error:?}");
            return;
        }
    };
    let printed = printer::print(&tree);
    let plan = promql::compile(text, &options);
    for again in [printed.clone(), promql::format(text, &options).expect("what is parsed is formatted")] {
        let tree = promql::parse(&again, &options).unwrap_or_else(|error| panic!("{again:?}: {error}"));
        // Infinity is printed with a sign, as upstream does; parsed again before `^`, the sign is
        // an operator.
        let bare = |text: &str| text.replace('+', "");
        assert_eq!(bare(&printer::print(&tree)), bare(&printed));
        // A quoted name is printed after the other matchers, as upstream does.
        let selectors = |text: &str| promql::selectors_of(text, &options).expect("it is parsed");
        if selectors(&again) == selectors(text) && !again.to_ascii_lowercase().contains("inf") {
            assert_eq!(promql::compile(&again, &options).ok(), plan.clone().ok(), "{again:?}");
        }
    }
}

/// A configuration. Keys that name other files are skipped, because their patterns could match any
/// file.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains("_files") || text.contains('\\') {
        return;
    }
    let path = Path::new("/nonexistent/prometheus.yml");
    let none = |_: &str| None;
    if let Ok((config, _)) = perennial::config::parse(path, text, &none) {
        let again = perennial::config::parse(path, &config.text, &none);
        let again = again.unwrap_or_else(|error| panic!("{error}, in what was printed:\n{}", config.text));
        assert_eq!(again.0.text, config.text);
    }
}

/// A rule file.
pub fn rule_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let language = PromqlLanguage(PromqlOptions::all());
    let defaults = GroupDefaults { interval: 60_000, query_offset: 0 };
    let _ = rules::file::parse("rules.yml", text, defaults, &rules::file::compiler(&language));
}

/// A pattern, target, replacement and value for relabelling, one per line, with every action. What
/// the code derives from a pattern without running it must be true.
pub fn relabel(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or("");
    let [pattern, target, replacement, value] = [next(), next(), next(), next()];
    if let Ok(regex) = AnchoredRegex::new(pattern) {
        let matches = regex.inner().is_match(value);
        assert_eq!(regex.is_match(value), matches, "{pattern:?} on {value:?}");
        assert!(!matches || value.starts_with(regex.prefix()), "prefix of {pattern:?}");
        let literals = regex.literals();
        assert!(literals.is_none_or(|all| all.iter().any(|one| one == value) == matches), "{pattern:?}");
    }
    use RelabelAction::*;
    for action in [
        Replace, Keep, Drop, KeepEqual, DropEqual, HashMod, LabelMap, LabelDrop, LabelKeep, Lowercase,
        Uppercase,
    ] {
        let writes = matches!(action, Replace | LabelMap);
        let config = RelabelConfig {
            source_labels: vec!["__address__".to_owned(), "value".to_owned()].into(),
            target_label: target.to_owned(),
            regex: pattern.into(),
            modulus: u64::from(action == HashMod) * 17,
            replacement: if writes { replacement.to_owned() } else { RelabelConfig::default().replacement },
            action,
            ..RelabelConfig::default()
        };
        let bare = RelabelConfig {
            regex: pattern.into(),
            target_label: target.to_owned(),
            source_labels: vec!["value".to_owned()].into(),
            action,
            ..RelabelConfig::default()
        };
        for config in [config, bare] {
            if let Ok(relabeler) = Relabeler::new(&[config]) {
                let mut labels = LabelsBuilder::default();
                labels.set("__address__", "host:9090").set("value", value);
                let _ = relabeler.apply_while(&mut labels, || true);
                labels.build();
            }
        }
    }
}

/// A WAL segment: the store opens, reports the damage, and opens again.
pub fn wal_segment(data: &[u8]) {
    let directory = scratch_directory();
    let log = directory.path().join("wal");
    std::fs::create_dir(&log).expect("a directory");
    std::fs::write(log.join("00000001.wal"), data).expect("a file");
    for _ in 0..2 {
        let store = open(directory.path());
        read_all(&store);
        store.close().expect("the log can be written");
    }
}

/// Records with slot or group numbers above this are skipped: a shard allocates an entry for each
/// number up to the highest, and only a writer with that many series makes such records.
const NUMBERS_MAX: u32 = 1 << 16;

/// The highest slot or group number in the payload of a record.
fn largest_number(kind: RecordKind, payload: &[u8]) -> u32 {
    let at = |at: usize| {
        payload.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
    };
    let mut largest = 0;
    match kind {
        RecordKind::Series => largest = at(2),
        // The lowest bits are the shard.
        RecordKind::Group => largest = at(0) / u32::from(SHARDS),
        RecordKind::Layout | RecordKind::LayoutAndKeyframe => {
            largest = at(0) / u32::from(SHARDS);
            if let Some(layout) = take_layout(&mut PayloadReader::new(payload)) {
                largest = layout.slots.into_iter().fold(largest, u32::max);
            }
        }
        RecordKind::Samples | RecordKind::Corrections => {
            take_samples(payload, |_, slot, _, _| largest = largest.max(slot));
        }
        RecordKind::Histograms => {
            take_histograms(payload, |_, slot, _, _| largest = largest.max(slot));
        }
        RecordKind::Starts => {
            take_starts(payload, |_, slot, _, _| largest = largest.max(slot));
        }
        _ => (),
    }
    largest
}

/// Records with valid checksums around any payload. `data` has for each record its kind, the length
/// of its payload (two bytes, little-endian), and the payload.
pub fn wal_records(mut data: &[u8]) {
    /// The header of a segment: magic, version 1, no flags, the LSN of the first record, and the
    /// checksum.
    const HEADER: &[u8; 32] = b"PERENWAL\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0\x06\xf2\x5c\xcd";
    let mut records = RecordBuilder::default();
    while let [kind, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, after) = rest.split_at(length);
        let kind = RecordKind::ALL[usize::from(*kind).wrapping_sub(1) % RecordKind::ALL.len()];
        if largest_number(kind, payload) < NUMBERS_MAX {
            records.add(kind, |out| out.extend_from_slice(payload));
        }
        data = after;
    }
    records.seal(1);
    wal_segment(&[HEADER, records.bytes()].concat());
}

/// Integers in pages of blocks.
pub fn delta_binary_packed(data: &[u8]) {
    storage::block::fuzz::delta_binary_packed(data);
}

/// The headers of pages in blocks.
pub fn page_header(data: &[u8]) {
    storage::block::fuzz::page_header(data);
}

/// Pages of samples.
pub fn samples_page(data: &[u8]) {
    storage::block::fuzz::samples_page(data);
}
