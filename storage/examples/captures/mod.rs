//! Helpers of the examples: captures of real targets, replicated as other instances, and resource
//! usage of the process.
//!
//! A capture is a zstd file of scrapes in the text format, each after a line `# SCRAPE <unix ms>`
//! (`zstd --long=27`). Each file (`node_15s` and so on) becomes one [`Capture`].

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use storage::model::Labels;
use storage::model::value::ABSENT;

/// The scrapes of one target.
pub struct Capture {
    /// The name of the file up to its first dot; used as the job.
    pub job: String,
    /// The label pairs of each series, with `__name__`.
    pub series: Vec<Vec<(String, String)>>,
    /// The time of each scrape, and a value per series.
    pub scrapes: Vec<(i64, Vec<f64>)>,
}

impl Capture {
    /// Reads a capture, at most `most` scrapes.
    pub fn read(path: &Path, most: usize) -> Capture {
        let mut zstd = zstd::Decoder::new(std::fs::File::open(path).expect("a capture")).expect("zstd");
        zstd.window_log_max(27).expect("a window of 128 MiB");
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut series = Vec::new();
        let mut scrapes: Vec<(i64, Vec<f64>)> = Vec::new();
        for line in BufReader::new(zstd).lines() {
            let line = line.expect("text");
            if let Some(t) = line.strip_prefix("# SCRAPE ") {
                if scrapes.len() == most {
                    break;
                }
                scrapes.push((t.trim().parse().expect("a time"), vec![ABSENT; series.len()]));
            } else if let Some((name, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) {
                let at = *known.entry(name.to_owned()).or_insert_with(|| {
                    series.push(pairs(name));
                    series.len() - 1
                });
                let row = &mut scrapes.last_mut().expect("a scrape").1;
                row.resize(series.len(), ABSENT);
                row[at] = value.parse().expect("a value");
            }
        }
        for (_, row) in scrapes.iter_mut() {
            row.resize(series.len(), ABSENT);
        }
        let file = path.file_name().expect("a file").to_string_lossy();
        Capture { job: file.split('.').next().unwrap_or_default().to_owned(), series, scrapes }
    }

    /// Reads `{node,prom,vm}_<step>.txt.zst` of a directory.
    pub fn all(dir: &Path, step: &str, most: usize) -> Vec<Capture> {
        let one = |target| Capture::read(&dir.join(format!("{target}_{step}.txt.zst")), most);
        ["node", "prom", "vm"].map(one).into()
    }

    /// The labels of a series for instance `instance`.
    pub fn labels(&self, series: usize, instance: usize) -> Labels {
        let target =
            [("job", self.job.clone()), ("instance", format!("host-{instance:05}.example.org:9100"))];
        let own = self.series[series].iter().map(|(n, v)| (n.as_str(), v.clone()));
        Labels::from_pairs(own.chain(target))
    }
}

/// Parses the label pairs of `name{a="b",…}`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let (name, mut rest) = text.split_once('{').map_or((text, ""), |(name, rest)| (name, rest));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    while let Some((label, value)) = rest.split_once("=\"") {
        let mut end = 0;
        while !value[end..].starts_with('"') {
            end += if value[end..].starts_with('\\') { 2 } else { 1 };
        }
        pairs.push((label.trim_start_matches([',', ' ']).to_owned(), value[..end].replace('\\', "")));
        rest = &value[end + 1..];
    }
    pairs
}

/// A value of `/proc/self/status`, bytes.
pub fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).expect("the line");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

/// The CPU time of this thread, seconds.
#[allow(dead_code, reason = "not every example asks")]
pub fn thread_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("/proc");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("a number") / 1e9
}

/// The CPU time of the process, seconds.
#[allow(dead_code, reason = "not every example asks")]
pub fn process_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = text.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}
