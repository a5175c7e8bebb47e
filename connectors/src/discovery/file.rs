//! `file_sd_configs`: targets in JSON or YAML files, which are read again when they change.
//!
//! A watch on the directory reports changes quickly; a refresh, by default every five minutes,
//! finds those it missed. A file that cannot be read keeps its previous targets. Targets get the
//! label `__meta_filepath`.

use super::{
    DiscoveredTarget, Discoverer, DiscoveryContext, Mechanism, StartResult, TargetGroup, TargetSender, expand,
};
use crate::config::block::ConfigKeys;
use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::units::ConfigDuration;
use crate::config_block;
use crate::limits;
use futures::future::BoxFuture;
use notify::Watcher;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::Counter;
use tokio::sync::Notify;
use yaml::YamlLimits;

config_block! {
    /// One entry of `file_sd_configs`.
    pub struct FileSdConfig as "file.SDConfig" {
        /// Paths of JSON or YAML files. Only the last part, the name of the file, may contain `*`.
        files: Vec<ConfigPath> = Vec::new(),
        /// Time between refreshes.
        refresh_interval: ConfigDuration = ConfigDuration(300_000),
    }
}

/// File SD: reads targets from files, and again when they change.
pub struct FileSd;

impl Mechanism for FileSd {
    type Config = FileSdConfig;

    fn validate(config: &FileSdConfig) -> Result<(), BlockError> {
        config.validate()
    }

    fn start(config: &FileSdConfig, context: &DiscoveryContext<'_>) -> StartResult {
        let name = "prometheus_sd_file_read_errors_total";
        let errors = context.metrics.counter(name, "The number of File-SD read errors.", &[]);
        Ok(Box::new(FileDiscoverer { config: config.clone(), known: BTreeMap::new(), errors }))
    }
}

impl FileSdConfig {
    /// Checks the patterns. The error is the first problem.
    pub fn validate(&self) -> Result<(), BlockError> {
        if self.files.is_empty() {
            return Err("file service discovery config must contain at least one path name".into());
        }
        if self.refresh_interval.0 <= 0 {
            return Err("file_sd_configs: refresh_interval must be greater than 0".into());
        }
        for file in self.files.iter().map(|file| &**file) {
            if !is_target_file_pattern(file) {
                let text = format!("path name {file:?} is not valid for file discovery");
                return Err(BlockError::new(text));
            }
            let pattern = glob_pattern(file);
            glob::Pattern::new(&pattern).map_err(|e| BlockError::new(format!("path name {file:?}: {e}")))?;
        }
        Ok(())
    }
}

/// Whether Prometheus accepts the path: a name that ends in one of six extensions, with `*` in its
/// last part only, so that no directory is searched for others. In its words:
/// `^[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)$`.
fn is_target_file_pattern(path: &str) -> bool {
    let Some((stem, extension)) = path.rsplit_once('.') else { return false };
    let has_extension = matches!(extension, "json" | "yml" | "yaml" | "JSON" | "YML" | "YAML");
    let after_star = stem.split_once('*').map_or("", |(_, rest)| rest);
    has_extension && !after_star.contains('/')
}

/// The path as the library `glob` wants it. To Go several `*` in a row are as one; the library
/// knows `**` only as a part of its own.
fn glob_pattern(path: &str) -> String {
    let mut pattern = path.to_owned();
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    pattern
}

/// The task of one entry.
struct FileDiscoverer {
    config: FileSdConfig,
    /// The last valid content of every file that still exists.
    known: BTreeMap<PathBuf, Vec<DiscoveredTarget>>,
    /// Counts files that could not be read.
    errors: Arc<Counter>,
}

impl Discoverer for FileDiscoverer {
    fn run(mut self: Box<Self>, report: TargetSender) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let changed = Arc::new(Notify::new());
            // Kept alive: dropping it ends the watch.
            let _watch = self.watch(changed.clone());
            loop {
                self = self.refreshed().await;
                report.send(self.known.values().flatten().cloned().collect());
                let refresh = tokio::time::sleep(self.config.refresh_interval.std());
                tokio::select! {
                    _ = refresh => {}
                    _ = changed.notified() => tokio::time::sleep(Duration::from_millis(limits::TARGET_FILE_SETTLE_MS)).await,
                }
            }
        })
    }
}

impl FileDiscoverer {
    /// Reads all files, on a thread that may block.
    async fn refreshed(self: Box<Self>) -> Box<Self> {
        let config = self.config.clone();
        let errors = self.errors.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut files = self;
            files.refresh();
            files
        });
        read.await.unwrap_or_else(|_| Box::new(FileDiscoverer { config, known: BTreeMap::new(), errors }))
    }

    fn refresh(&mut self) {
        let found: BTreeSet<PathBuf> = self
            .config
            .files
            .iter()
            .filter_map(|path| glob::glob(&glob_pattern(path)).ok())
            .flat_map(|paths| paths.filter_map(Result::ok))
            .take(limits::TARGET_FILES)
            .collect();
        self.known.retain(|path, _| found.contains(path));
        for path in found {
            match read(&path) {
                Ok(targets) => drop(self.known.insert(path, targets)),
                Err(reason) => {
                    self.errors.inc();
                    tracing::error!(
                        target: "discovery", file = %path.display(), %reason,
                        "cannot read a target file, whose last targets are kept; correct the file"
                    );
                }
            }
        }
    }

    fn watch(&self, changed: Arc<Notify>) -> Option<notify::RecommendedWatcher> {
        let on_event = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|e| !e.kind.is_access()) {
                changed.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(on_event)
            .inspect_err(
                |error| tracing::warn!(
                    target: "discovery", %error,
                    "cannot watch files: target files are read every refresh_interval only; raise the limit of inotify instances"
                ),
            )
            .ok()?;
        let directories: BTreeSet<PathBuf> =
            self.config.files.iter().map(|file| directory(Path::new(&**file))).collect();
        for directory in directories {
            if let Err(error) = watcher.watch(&directory, notify::RecursiveMode::NonRecursive) {
                tracing::warn!(
                    target: "discovery", directory = %directory.display(), %error,
                    "cannot watch a directory: its target files are read every refresh_interval only; check that it exists"
                );
            }
        }
        Some(watcher)
    }
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Why a file gives no targets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum TargetFileError {
    /// It cannot be read.
    #[error("{0}")]
    Io(String),
    /// It is too large.
    #[error("larger than {} MiB: split it into several files", limits::TARGET_FILE_BYTES >> 20)]
    TooLarge,
    /// It is no list of groups; the text says where.
    #[error("{0}")]
    Content(String),
    /// It becomes too large when aliases are written out.
    #[error(
        "its aliases (`*name`) stand for more than {} values{place}, or lists are nested too deep: write the values out",
        limits::TARGET_FILE_ALIASED
    )]
    Aliases {
        /// The line, if it is known.
        place: String,
    },
}

fn read(path: &Path) -> Result<Vec<DiscoveredTarget>, TargetFileError> {
    let text = read_text(path)?;
    let is_json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let groups = if is_json { read_json(&text)? } else { read_yaml(&text)? };
    let shown = path.display().to_string();
    Ok(groups.iter().flat_map(|group| expand(group, &[("__meta_filepath", &shown)])).collect())
}

/// Reads the text of a file up to the size limit. The size is not checked before, because the file
/// may grow while it is read.
fn read_text(path: &Path) -> Result<String, TargetFileError> {
    let unreadable = |error: std::io::Error| TargetFileError::Io(error.to_string());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(limits::TARGET_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limits::TARGET_FILE_BYTES {
        return Err(TargetFileError::TooLarge);
    }
    Ok(text)
}

/// Parses JSON. `null` is no groups, as in Go.
fn read_json(text: &str) -> Result<Vec<TargetGroup>, TargetFileError> {
    let groups: Option<Vec<JsonGroup>> =
        serde_json::from_str(text).map_err(|e| TargetFileError::Content(e.to_string()))?;
    Ok(groups.unwrap_or_default().into_iter().map(|group| group.0).collect())
}

/// A group whose keys count in upper and lower case, because Go's JSON library reads them so: a
/// program that writes a structure without names for its fields writes `Targets` and `Labels`.
#[derive(Default)]
struct JsonGroup(TargetGroup);

impl<'de> Deserialize<'de> for JsonGroup {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<JsonGroup, D::Error> {
        d.deserialize_map(JsonGroup::default())
    }
}

impl<'de> Visitor<'de> for JsonGroup {
    type Value = JsonGroup;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a group of targets")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<JsonGroup, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if !self.0.take(&key.to_lowercase(), &mut map)? {
                return Err(A::Error::custom(format_args!("json: unknown field {key:?}")));
            }
        }
        Ok(self)
    }
}

/// Parses YAML. Its number of values is limited only by the size of the file, which is bounded;
/// what its aliases expand to has a limit of its own.
fn read_yaml(text: &str) -> Result<Vec<TargetGroup>, TargetFileError> {
    let limits = YamlLimits {
        aliased: limits::TARGET_FILE_ALIASED,
        aliased_bytes: limits::TARGET_FILE_ALIASED_BYTES,
        anchored: limits::TARGET_FILE_ALIASED,
        depth: limits::TARGET_FILE_DEPTH,
    };
    yaml::read(text, limits).map_err(|error| file_error(&error))
}

/// Tells a limit of the parser, which has a remedy, from any other error.
fn file_error(error: &serde_saphyr::Error) -> TargetFileError {
    use serde_saphyr::Error as E;
    let mut error = error.without_snippet();
    while let E::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    match error {
        E::Budget { .. } | E::AliasReplayLimitExceeded { .. } | E::AliasReplayStackDepthExceeded { .. } => {
            let place = error.location().map_or(String::new(), |l| format!(" at line {}", l.line()));
            TargetFileError::Aliases { place }
        }
        other => TargetFileError::Content(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{ADDRESS, DiscoveryConfigs, DiscoverySet, DiscoveryUser};
    use crate::http_client::Peers;
    use storage::metrics::Metrics;

    async fn addresses(discovery: &mut DiscoverySet) -> Vec<String> {
        discovery.changed().await;
        discovery.current().0.iter().map(|t| t[ADDRESS].clone()).collect()
    }

    #[tokio::test]
    async fn a_changed_file_is_seen_and_a_broken_one_keeps_its_targets() {
        let dir = tempfile::tempdir().unwrap();
        let pattern = dir.path().join("*.yml").display().to_string();
        let path = dir.path().join("a.yml");
        std::fs::write(&path, "- targets: [a:1]\n  labels: {env: prod}\n").unwrap();
        let config = FileSdConfig { files: vec![pattern.into()], ..FileSdConfig::default() };
        config.validate().unwrap();
        let config = DiscoveryConfigs { file_sd_configs: vec![config], ..DiscoveryConfigs::default() };
        let metrics = Metrics::default();
        let mut discovery = DiscoverySet::start(
            &config,
            &DiscoveryContext {
                peers: &Peers::default(),
                metrics: &metrics,
                pool: "job",
                user: DiscoveryUser::Scrape,
            },
        );
        let wait = Duration::from_secs(10);
        assert_eq!(tokio::time::timeout(wait, addresses(&mut discovery)).await.unwrap(), ["a:1"]);
        let target = discovery.current().0.remove(0);
        assert_eq!(target["env"], "prod");
        assert_eq!(target["__meta_filepath"], path.display().to_string());
        std::fs::write(&path, "- targets: [b:1, c:1]\n").unwrap();
        assert_eq!(tokio::time::timeout(wait, addresses(&mut discovery)).await.unwrap(), ["b:1", "c:1"]);
        std::fs::write(&path, "- tarrgets: [").unwrap();
        std::fs::write(dir.path().join("d.yml"), "- targets: [d:1]\n").unwrap();
        assert_eq!(
            tokio::time::timeout(wait, addresses(&mut discovery)).await.unwrap(),
            ["b:1", "c:1", "d:1"]
        );
        assert!(metrics.render().contains("prometheus_sd_file_read_errors_total 1"));
    }

    /// What no watch tells (the file is behind a link of which only the end changes) is read at the
    /// interval.
    #[tokio::test]
    async fn files_that_no_watch_tells_of_are_read_at_the_interval() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let real = elsewhere.path().join("real");
        let path = dir.path().join("a.yml");
        std::fs::write(&real, "- targets: [a:1]\n").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        let yaml = format!("{{files: ['{}'], refresh_interval: 50ms}}", path.display());
        let config: FileSdConfig = serde_saphyr::from_str(&yaml).unwrap();
        let config = DiscoveryConfigs { file_sd_configs: vec![config], ..DiscoveryConfigs::default() };
        let context = DiscoveryContext {
            peers: &Peers::default(),
            metrics: &Metrics::default(),
            pool: "job",
            user: DiscoveryUser::Scrape,
        };
        let mut discovery = DiscoverySet::start(&config, &context);
        assert_eq!(addresses(&mut discovery).await, ["a:1"]);
        std::fs::write(&real, "- targets: [b:1]\n").unwrap();
        // The default is five minutes.
        let changed = tokio::time::timeout(Duration::from_secs(20), addresses(&mut discovery));
        assert_eq!(changed.await.unwrap(), ["b:1"]);
    }

    /// As many targets as Prometheus accepts, in every form.
    #[test]
    fn forty_thousand_entries_are_forty_thousand_targets() {
        let dir = tempfile::tempdir().unwrap();
        let n = 40_000;
        let block: String = (0..n)
            .map(|i| format!("- targets:\n  - 10.0.0.1:{i}\n  labels:\n    rack: r{}\n    zone: a\n", i % 40))
            .collect();
        let flow: String = (0..n).map(|i| format!("- targets: ['10.0.0.1:{i}']\n")).collect();
        let json: Vec<_> = (0..n)
            .map(|i| serde_json::json!({"targets": [format!("a:{i}")], "labels": {"x": "y"}}))
            .collect();
        let json = serde_json::to_string(&json).unwrap();
        for (name, text) in [("block.yml", block), ("flow.yaml", flow), ("list.json", json)] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().len(), n, "{name}");
        }
    }

    #[test]
    fn twice_the_targets_cost_twice_as_much() {
        let json = |n: usize| {
            let one = |i| serde_json::json!({"targets": [format!("a:{i}")], "labels": {"x": "y"}});
            serde_json::to_string(&(0..n).map(one).collect::<Vec<_>>()).unwrap()
        };
        let yaml = |n: usize| {
            (0..n).map(|i| format!("- targets: ['a:{i}']\n  labels: {{x: y}}\n")).collect::<String>()
        };
        let one_group = |n: usize| format!("- targets: [{}]\n", "'a:1', ".repeat(n));
        let read_json = |text: &String| read_json(text).unwrap();
        let read_yaml = |text: &String| read_yaml(text).unwrap();
        testing::assert_proportional("groups in JSON", 1_000, json, read_json);
        testing::assert_proportional("groups in YAML", 1_000, yaml, read_yaml);
        testing::assert_proportional("targets of a group", 1_000, one_group, read_yaml);
        let group = |n: usize| TargetGroup { targets: vec!["a:1".to_owned(); n], labels: BTreeMap::new() };
        testing::assert_proportional("targets with labels", 1_000, group, |group| {
            expand(group, &[("f", "x")])
        });
    }

    #[test]
    fn aliases_are_bounded() {
        let mut bomb = "- &a0 {targets: [x, x, x, x, x, x, x, x, x, x]}\n".to_owned();
        bomb.push_str(&"- *a0\n".repeat(300_000));
        let error = read_yaml(&bomb).unwrap_err().to_string();
        assert!(error.starts_with("its aliases (`*name`) stand for more than"), "{error}");
        assert_eq!(read_yaml("- &a {targets: [x]}\n- *a\n").unwrap().len(), 2);
    }

    #[test]
    fn files_are_read_as_go_reads_them() {
        let group = |labels: &[(&str, &str)]| TargetGroup {
            targets: vec!["a:1".to_owned()],
            labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        };
        let capitals = r#"[{"Targets":["a:1"],"LABELS":{"x":"y"}}]"#;
        assert_eq!(read_json(capitals), Ok(vec![group(&[("x", "y")])]));
        assert_eq!(read_json(r#"[{"targets":["a:1"],"labels":null}]"#), Ok(vec![group(&[])]));
        assert_eq!(read_json("null"), Ok(Vec::new()));
        let error = read_json(r#"[{"target":["a:1"]}]"#).unwrap_err();
        assert!(error.to_string().contains("unknown field \"target\""), "{error}");
        assert_eq!(read_yaml("- targets: [a:1]\n  labels: {x: ~}\n"), Ok(vec![group(&[("x", "")])]));
        assert_eq!(read_yaml("# none\n"), Ok(Vec::new()));
        let commented = format!("- targets:\n{}  - a:1\n", "# b:1\n".repeat(40));
        assert_eq!(read_yaml(&commented), Ok(vec![group(&[])]));
    }

    /// As Prometheus 3.14: the extension in lower or in upper case, `*` in the name of the file
    /// only.
    #[test]
    fn paths_are_checked_as_in_prometheus() {
        let config = |file: &str| FileSdConfig { files: vec![file.into()], ..FileSdConfig::default() };
        for path in [
            "a.json",
            "a.yml",
            "a.yaml",
            "a.JSON",
            "a.YML",
            "d/a.YAML",
            "d/*.yml",
            "d/a*b*.yml",
            "d/a**.yml",
            ".yml",
        ] {
            assert!(config(path).validate().is_ok(), "{path}");
        }
        for path in [
            "a",
            "a.txt",
            "a.yml.bak",
            "a.Json",
            "a.yAML",
            "*/a.yml",
            "d*/a.yml",
            "**/a.yml",
            "d/*/*.yml",
            "d/a.*",
            "d/",
        ] {
            let error = config(path).validate().unwrap_err().to_string();
            assert_eq!(error, format!("path name {path:?} is not valid for file discovery"));
        }
        assert_eq!(glob_pattern("d/a***b*.yml"), "d/a*b*.yml");
    }

    #[test]
    fn only_json_and_yaml_files() {
        let config = |file: &str| FileSdConfig { files: vec![file.into()], ..FileSdConfig::default() };
        assert!(config("a/*.json").validate().is_ok());
        assert!(
            config("a/*.txt").validate().unwrap_err().to_string().contains("not valid for file discovery")
        );
        assert!(FileSdConfig::default().validate().is_err());
    }
}
