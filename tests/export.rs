//! Tests export and import: `perennial export` writes what is stored, other programs can read it,
//! and `perennial import` restores it.

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::channel;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::model::value::STALE;
use storage::model::{Labels, MatchOp, Matcher, NativeHistogram, SHARDS};
use storage::store::{FloatRow, HistogramRow, Store, StoreOptions};
use support::daemon::python;
use support::server::binary_under_test;

const RANGE_MS: i64 = 10_000;
/// A start time with milliseconds, so that the formats must not round.
const START: i64 = 1_795_248_371_731;

fn open(dir: &Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: RANGE_MS,
        out_of_order_ms: 3_600_000,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store").0
}

fn labels(name: &str, kind: &str) -> Labels {
    Labels::from_pairs([
        ("__name__", name),
        ("kind", kind),
        ("value", "of a label"),
        ("Z", "before __name__"),
    ])
}

/// Writes series with difficult names and values, one of another metric, and one of histograms.
fn fill(dir: &Path) {
    let store = open(dir);
    let odd =
        [-0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 0.1 + 0.2, 5e-324, 1e300, -1e17, 123_456_789.125];
    let every = |value: &dyn Fn(i64) -> f64| -> Vec<(i64, f64)> {
        (0..200).map(|i| (START + i * 277, value(i))).collect()
    };
    let all = [
        (labels("out", "odd"), every(&|i| odd[i as usize % odd.len()])),
        (labels("out", "ends"), every(&|i| if i % 7 == 6 { STALE } else { i as f64 / 100.0 })),
        (labels("out", "a \"quoted\" → ü,\nand \\ more"), every(&|i| i as f64)),
        (Labels::from_pairs([("__name__", "dotted.name"), ("la.bel", "x")]), every(&|i| i as f64 * 1e9)),
        (labels("other", "not asked for"), every(&|i| i as f64)),
    ];
    for (labels, samples) in all {
        let series = store.get_or_create_series(&labels);
        store
            .append_rows(&samples.iter().map(|&(t, v)| FloatRow { series, t, v }).collect::<Vec<_>>())
            .expect("rows");
    }
    let series = store.get_or_create_series(&labels("out_histogram", "h"));
    let spans = vec![BucketSpan { offset: 0, length: 2 }];
    let h = |i: i64| {
        let positive = Buckets { spans: spans.clone(), counts: vec![1.0, i as f64] };
        Arc::new(NativeHistogram { count: 1.0 + i as f64, sum: 0.5, positive, ..NativeHistogram::default() })
    };
    let rows: Vec<HistogramRow> =
        (0..20).map(|i| HistogramRow { series, t: START + i * 1_000, h: h(i) }).collect();
    let lsn = store.append_histograms(&rows).expect("histograms").lsn;
    assert!(
        store.maintenance().run_housekeeping(START + 4_000_000).expect("blocks") > 2,
        "some in blocks, some in the head"
    );
    let doomed = [Matcher::equal("kind", "odd")];
    let lsn = lsn.max(store.admin().delete(&doomed, START + 5_000, START + 6_000).expect("deleted"));
    let (told, fate) = channel();
    store.wal().on_committed(lsn, Box::new(move |f| told.send(f).expect("somebody waits")));
    fate.recv().expect("a fate").expect("safe");
    store.close().expect("closed");
}

/// Every sample as a line; if `plain`, with stale markers and NaN as text formats have them.
fn contents(dir: &Path, plain: bool) -> BTreeSet<String> {
    let store = open(dir);
    let mut all = BTreeSet::new();
    let wanted = [Matcher::new("__name__", MatchOp::Regex, "out.*|dotted.name").expect("a regex")];
    for shard in 0..SHARDS {
        let selection = store.select(shard, &wanted, i64::MIN, i64::MAX).expect("a selection");
        for (i, labels) in selection.labels.iter().enumerate() {
            let column = |k: &str| if k == "value" { "exported_value".to_owned() } else { k.to_owned() };
            let mut pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{}={v}", column(k))).collect();
            pairs.sort();
            let labels = pairs.join(",");
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            let mut histograms = Vec::new();
            selection.read(i, i64::MIN, i64::MAX, &mut ts, &mut vs).expect("samples");
            selection.read_histograms(i, i64::MIN, i64::MAX, &mut histograms).expect("histograms");
            for (t, v) in ts.iter().zip(&vs) {
                if v.to_bits() != STALE.to_bits() {
                    let value =
                        if plain && v.is_nan() { "NaN".to_owned() } else { format!("{:016x}", v.to_bits()) };
                    all.insert(format!("{labels} {t} {value}"));
                } else if !plain {
                    all.insert(format!("{labels} {t} stale"));
                }
            }
            let histograms = histograms.iter().filter(|_| !plain);
            all.extend(histograms.map(|(t, h)| format!("{labels} {t} {h}")));
        }
    }
    assert!(all.len() > 500, "{}", all.len());
    all
}

fn perennial(args: &[&str], data: &Path) -> Output {
    let data = format!("--storage.tsdb.path={}", data.display());
    Command::new(binary_under_test()).args(args).arg(data).output().expect("our program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The exported text.
fn exported(data: &Path, format: &str, more: &[&str]) -> (String, String) {
    let format = format!("--format={format}");
    let mut args = vec!["export", "--match={__name__=~\"out.*\"}", "--match", "{\"dotted.name\"}", &format];
    args.extend(more);
    let done = perennial(&args, data);
    assert!(done.status.success(), "{}", text(&done.stderr));
    (text(&done.stdout), text(&done.stderr))
}

fn assert_same(found: &BTreeSet<String>, want: &BTreeSet<String>, what: &str) {
    let missing: Vec<&String> = want.difference(found).take(5).collect();
    let phantom: Vec<&String> = found.difference(want).take(5).collect();
    assert!(missing.is_empty() && phantom.is_empty(), "{what}: missing {missing:?}, phantom {phantom:?}");
}

/// Every file with its content, except the lock, which exists while the directory is read.
fn image(dir: &Path) -> BTreeSet<(String, u64)> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(image(&path));
        } else if !path.ends_with("lock") {
            let bytes = std::fs::read(&path).expect("a file");
            all.insert((path.display().to_string(), u64::from(sum_of(&bytes))));
        }
    }
    all
}

fn sum_of(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, b| sum.rotate_left(5) ^ u32::from(*b))
}

#[test]
fn other_programs_read_an_export() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    fill(&data);
    let before = image(&data);
    let file = dir.path().join("out.parquet");
    let output = format!("--output={}", file.display());
    let (said, told) = exported(&data, "parquet", &[&output]);
    assert_eq!((said.as_str(), told.as_str()), ("", "5 series, 817 samples written\n"));
    let (csv, _) = exported(&data, "csv", &[]);
    assert_eq!(image(&data), before, "nothing is changed");
    let want = contents(&data, false);
    let script = support::data("read_export.py");
    for reader in ["duckdb", "pyarrow", "pandas"] {
        let answer =
            Command::new(python()).args(["-c", &script, reader]).arg(&file).output().expect("python");
        assert!(answer.status.success(), "{reader}: {}", text(&answer.stderr));
        // A line feed in a label splits one line into two.
        let found = text(&answer.stdout).replace("ü,\nand", "ü,|and");
        let found: BTreeSet<String> = found.lines().map(|l| l.replace("ü,|and", "ü,\nand")).collect();
        assert_same(&found, &want, reader);
    }
    let program = "import csv, sys\nrows = list(csv.DictReader(open(sys.argv[1], newline='')))\n\
                   print(len(rows), sorted(rows[0]), sum(r['value'] == '' and r['histogram'] == '' for r in rows), \
                   {r['kind'] for r in rows if r['value'] == '-0'})";
    let path = dir.path().join("out.csv");
    std::fs::write(&path, csv).expect("a file");
    let answer = Command::new(python()).args(["-c", program]).arg(&path).output().expect("python");
    let columns = "['Z', '__name__', 'exported_value', 'histogram', 'kind', 'la.bel', 'timestamp', 'value']";
    assert_eq!(text(&answer.stdout), format!("817 {columns} 28 {{'odd'}}\n"), "{}", text(&answer.stderr));
}

#[test]
fn openmetrics_comes_back_as_it_was_also_through_promtool() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    fill(&data);
    let want = contents(&data, true);
    let (om, told) = exported(&data, "openmetrics", &[]);
    assert!(
        told.contains("20 native histograms left out") && told.contains("28 stale markers left out"),
        "{told}"
    );
    let file = dir.path().join("out.txt");
    std::fs::write(&file, &om).expect("a file");
    let name = file.display().to_string();
    let again = dir.path().join("again");
    // Twice: an interrupted import is repeated.
    for _ in 0..2 {
        std::fs::create_dir_all(again.join("import.tmp/left")).expect("a directory");
        let done = perennial(&["import", "openmetrics", &name], &again);
        let said = text(&done.stdout);
        let told = text(&done.stderr);
        assert!(done.status.success(), "{told}");
        assert!(said.starts_with(&format!("1 blocks imported, {} samples, 2026-11-2", want.len())), "{said}");
        assert!(!again.join("import.tmp").exists());
    }
    assert_same(&contents(&again, true), &want, "our import");

    // Debian's promtool does not allow dots in names.
    let plain: String =
        om.lines().filter(|line| !line.contains("dotted")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, plain).expect("a file");
    let theirs = dir.path().join("theirs");
    let done = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .arg(&file)
        .arg(&theirs)
        .output()
        .expect("promtool, of the package prometheus");
    assert!(done.status.success(), "{}", text(&done.stderr));
    let through = dir.path().join("through");
    let done = perennial(&["import", "prometheus", &theirs.display().to_string()], &through);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let done = Command::new(binary_under_test())
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .arg(&file)
        .arg(dir.path().join("ours"))
        .output()
        .expect("our program");
    assert!(done.status.success(), "{}", text(&done.stderr));
    let want: BTreeSet<String> = want.into_iter().filter(|line| !line.contains("dotted")).collect();
    assert_same(&contents(&through, true), &want, "promtool's blocks");
    assert_same(&contents(&dir.path().join("ours"), true), &want, "promtool's spelling");
}

#[test]
fn a_mistake_is_named_with_its_line_and_nothing_is_imported() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = dir.path().join("good.txt");
    let bad = dir.path().join("bad.txt");
    std::fs::write(&good, "# TYPE a counter\na_total 1 1\n# EOF\n").expect("a file");
    let good = good.display().to_string();
    let name = bad.display().to_string();
    for (content, line, why) in [
        ("a 1 1\nb 1\n# EOF\n", 2, "the sample has no timestamp"),
        ("a 1 1\n\n# EOF\n", 2, "expected a metric name"),
        ("a 1 1\na one 1\n# EOF\n", 2, "expected a value, got \"one\""),
        ("a 1 soon\n# EOF\n", 1, "expected a timestamp in seconds"),
        ("# TYPE a counter\na{b=\"c\" 1 1\n# EOF\n", 2, ""),
        ("a{b=\"c\",b=\"d\"} 1 1\n# EOF\n", 1, "label name \"b\" is not unique"),
        ("{b=\"c\"} 1 1\n# EOF\n", 1, "metric name not set"),
        ("a 1 1\nb 1 1\na 2 1\n# EOF\n", 3, "a has another value at this time in line 1"),
        ("a 1 1\n", 2, "data does not end with # EOF"),
        ("a 1 1\n# EOF\na 1 2\n", 2, "unexpected data after # EOF"),
    ] {
        std::fs::write(&bad, content).expect("a file");
        let data = dir.path().join("data");
        let done = perennial(&["import", "openmetrics", &good, &name], &data);
        let told = text(&done.stderr);
        let place = format!("{name}:{line}: ");
        assert_eq!(done.status.code(), Some(1), "{content:?}: {told}");
        assert!(
            told.contains(&place) && told.contains(why) && told.contains("nothing is imported"),
            "{content:?}: {told}"
        );
        assert!(!data.join("blocks").exists() && !data.join("import.tmp").exists());
    }
}

#[test]
fn the_same_text_twice_is_imported_once_and_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.txt");
    std::fs::write(&file, "# TYPE a counter\na_total 1 1\na_total 2 2\n# EOF\n").expect("a file");
    let file = file.display().to_string();
    let data = dir.path().join("data");
    for _ in 0..2 {
        let done = perennial(&["import", "openmetrics", &file, &file], &data);
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(text(&done.stdout).starts_with("1 blocks imported, 2 samples"), "{}", text(&done.stdout));
    }
    let (csv, _) = exported(&data, "csv", &["--match=a_total"]);
    assert_eq!(csv.lines().count(), 3, "{csv}");
}

#[test]
fn what_is_exported_without_a_damaged_block_is_not_called_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    fill(dir.path());
    let block = std::fs::read_dir(dir.path().join("blocks")).expect("blocks").next().expect("a block");
    let path = block.expect("a block").path().join("clocks.parquet");
    let mut bytes = std::fs::read(&path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("a file");
    let done = perennial(&["export", "--match=out", "--format=csv"], dir.path());
    let told = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("clocks.parquet") && told.contains("1 damaged blocks are left out"), "{told}");
    assert!(text(&done.stdout).lines().count() > 1, "the others are written");
}

#[test]
fn a_directory_in_use_and_what_is_none_are_refused() {
    let server = support::server::Server::start("", &[]);
    let refused = perennial(&["export", "--match=up", "--format=csv"], &server.file("data"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is in use by another server"), "{}", text(&refused.stderr));
    let refused = perennial(&["export", "--match=up", "--format=csv"], &server.file("nothing"));
    assert!(text(&refused.stderr).contains("is no data directory"), "{}", text(&refused.stderr));
    for (args, why) in [
        (vec!["--format=csv"], "--match is missing"),
        (vec!["--match=up"], "--format is missing"),
        (vec!["--match=a{", "--format=csv"], "--match=a{: 1:3: parse error"),
        (vec!["--match={a=~\".*\"}", "--format=csv"], "at least one non-empty matcher"),
        (vec!["--match=up", "--format=xml"], "possible are parquet, csv, openmetrics"),
        (vec!["--match=up", "--format=csv", "--start=then"], "--start: cannot parse \"then\""),
        (vec!["--match=up", "--format=csv", "--fast=1"], "unknown flag --fast"),
    ] {
        let mut all = vec!["export"];
        all.extend(&args);
        let refused = perennial(&all, &server.file("data"));
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(text(&refused.stderr).contains(why), "{args:?}: {}", text(&refused.stderr));
    }
}
