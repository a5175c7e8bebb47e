//! Runs the fuzz targets of `tests/fuzz` with a stable compiler: each input of the corpus, and some
//! mutations that depend on a seed. No input may cause a panic, a hang, or much CPU time.
//!
//!     cargo test --workspace --test fuzz                           # some seconds
//!     FUZZ_INPUTS=1000000 FUZZ_SEED=7 cargo test --workspace --test fuzz -- promql

#[path = "fuzz/targets.rs"]
mod targets;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The number of mutated inputs of a target, unless `FUZZ_INPUTS` is set.
const INPUTS: u64 = 200;

/// The most bytes of an input: larger inputs find no further bugs.
const BYTES_MAX: usize = 16 << 10;

/// The most CPU time of one input: a thousand times the usual time, because the code is compiled
/// without optimisation. The CPU time of the thread is measured, so that a busy machine has no
/// effect.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Numbers at the borders of types and encodings.
const BORDERS: [u64; 16] = [
    0,
    1,
    2,
    63,
    64,
    127,
    128,
    255,
    256,
    65_535,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    u64::MAX,
];

/// Bytes with a meaning in one of the formats.
const BYTES: &[u8] = b"\0\x01\x02\x08\x0a\x12\x7f\x80\xff \n\r\t\"'\\`#{}[](),:;|&*?+-.!=<>@$%_09aeinxNI";

/// Random numbers (SplitMix64): the same for the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % (n.max(1) as u64)) as usize
    }

    fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A range of an input, mostly a short one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let begin = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 16 };
        let end = begin + self.below((length - begin).min(most) + 1);
        begin..end
    }
}

/// A number in the spelling of one of the formats.
fn number(random: &mut Random) -> Vec<u8> {
    let mut value = random.choose(&BORDERS);
    match random.below(6) {
        0 => value.to_string().into_bytes(),
        1 => (value as u16).to_le_bytes().to_vec(),
        2 => (value as u32).to_le_bytes().to_vec(),
        3 => value.to_le_bytes().to_vec(),
        4 => vec![value as u8],
        _ => {
            let mut varint = Vec::new();
            while value >= 0x80 {
                varint.push(value as u8 | 0x80);
                value >>= 7;
            }
            varint.push(value as u8);
            varint
        }
    }
}

/// Changes an input at one place; some mutations copy bytes from `other`.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let length = input.len();
    let at = random.below(length);
    match random.below(10) {
        0 | 1 if length > 0 => input[at] ^= 1 << random.below(8),
        2 if length > 0 => input[at] = random.choose(BYTES),
        3 => input.insert(random.below(length + 1), random.choose(BYTES)),
        4 => input.truncate(random.below(length + 1)),
        5 => drop(input.drain(random.range(length))),
        6 => {
            let range = random.range(length);
            let times = if random.below(8) == 0 { 64 } else { 1 };
            let copies = input[range.clone()].repeat(times);
            input.splice(range.end..range.end, copies);
        }
        7 => {
            let piece = other[random.range(other.len())].to_vec();
            input.splice(random.range(length), piece);
        }
        8 => {
            let end = other[random.below(other.len() + 1)..].to_vec();
            input.truncate(random.below(length + 1));
            input.extend(end);
        }
        _ => {
            let number = number(random);
            let end = (at + number.len() * random.below(2)).min(length);
            input.splice(at..end, number);
        }
    }
    input.truncate(BYTES_MAX);
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The inputs in the corpus of a target, by name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&directory).expect("a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
}

/// The file with the current input of a target.
fn current(target: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}.{}", std::process::id()))
}

/// Runs a target on an input. The input is in a file meanwhile, which remains if the process aborts
/// or hangs.
fn run(target: &str, work: fn(&[u8]), input: &[u8], what: &str) -> Duration {
    let path = current(target);
    std::fs::write(&path, input).expect("a file");
    let (outcome, time) = testing::timed(|| std::panic::catch_unwind(AssertUnwindSafe(|| work(input))));
    if outcome.is_err() || time > TIME_MAX {
        let failed = path.with_extension("failed");
        std::fs::rename(&path, &failed).expect("a file");
        let text = String::from_utf8_lossy(input);
        panic!("{what}: {} after {time:?}; keep it in tests/fuzz/corpus/{target}:\n{text}", failed.display());
    }
    time
}

/// Runs a target on its corpus and on mutations.
fn fuzz(target: &str, work: fn(&[u8])) {
    let corpus = corpus(target);
    for (path, input) in &corpus {
        run(target, work, input, &path.display().to_string());
    }
    let seed = setting("FUZZ_SEED", 1);
    let inputs = setting("FUZZ_INPUTS", INPUTS);
    let mut slowest = Duration::ZERO;
    for n in 0..inputs {
        // Each input has its own random numbers, so that a failing one can be repeated alone.
        let mut random = Random(seed.rotate_left(32) ^ n);
        let mut input = corpus[random.below(corpus.len())].1.clone();
        for _ in 0..=random.below(5) {
            let other = &corpus[random.below(corpus.len())].1;
            mutate(&mut input, other, &mut random);
        }
        slowest = slowest.max(run(target, work, &input, &format!("input {n} of seed {seed}")));
    }
    std::fs::remove_file(current(target)).expect("the file of the last input");
    eprintln!("{target}: {} inputs kept, {inputs} mutated, the slowest in {slowest:?}", corpus.len());
}

/// Makes a test for each target, and tests that the corpus has exactly one directory per target.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name), targets::$name);
        })*

        const TARGETS: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    configuration
    delta_binary_packed
    exposition_openmetrics
    exposition_protobuf
    exposition_text
    otlp
    page_header
    promql
    relabel
    remote_write_1
    remote_write_2
    rule_file
    samples_page
    wal_records
    wal_segment
}

#[test]
fn each_target_has_a_program_and_a_corpus() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let names = |of: &str| {
        let entries = std::fs::read_dir(directory.join(of)).expect("a directory");
        let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.map(|entry| stem(entry.expect("an entry").path())).collect();
        names.sort();
        names
    };
    assert_eq!(names("fuzz_targets"), TARGETS);
    assert_eq!(names("corpus"), TARGETS);
    let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).expect("a manifest");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "no program {target} in the manifest");
    }
}
