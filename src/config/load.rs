//! Reads the configuration and the files that it names (rules, scrape configs), and validates
//! everything before any of it takes effect. The result is a [`Config`].

use super::file::{ConfigFile, ScrapeFile, known_keys};
use super::limits::MATCHED_FILES;
use super::{Config, ConfigError, Warning, print};
use connectors::config::schema::{ConfigValue, Location};
use connectors::scrape::config::{ScrapeConfig, ScrapeJob};
use remote_storage::config::{RemoteReadConfig, RemoteWriteConfig};
use rules::yaml;
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use storage::model::Labels;

/// Reads the file at `path` and everything that it names.
pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
    let text = yaml::read_text(path)?;
    parse(path, &text, &|name| std::env::var(name).ok())
}

/// As [`load`], for the given text of the file at `path`; `env` returns the variables for
/// `external_labels`.
pub fn parse(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let file = path.display().to_string();
    let raw: ConfigFile = yaml::parse_with(&file, text, &known_keys)?;
    let mut loader = Loader {
        directory: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        file,
        warnings: Vec::new(),
        config: Config { sources: vec![path.to_path_buf()], ..Config::default() },
        names: HashMap::new(),
    };
    loader.read(raw, env)?;
    loader.config.text = print::print_config(&loader.file, &loader.directory, text, &loader.config)?;
    Ok((loader.config, loader.warnings))
}

/// Why keys have no effect.
const REASONS: &[(&str, &str)] = &[
    ("runtime.gogc", "this server has no garbage collector"),
    (
        "storage.tsdb.stale_series_compaction_threshold",
        "series that have ended leave the head by themselves, whatever their number",
    ),
    ("storage.tsdb.chunk_encoding.floats", "samples are stored in a format of this server's own"),
    ("request_concurrency", "the calls of an entry follow one another"),
];

struct Loader {
    directory: PathBuf,
    file: String,
    warnings: Vec<Warning>,
    config: Config,
    names: HashMap<String, String>,
}

impl Loader {
    fn read(&mut self, mut raw: ConfigFile, env: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        // First of all: every path of the file is relative to the file, not to the working
        // directory.
        raw.resolve_paths(&self.directory);
        // Before the blocks are taken apart, while keys still have their positions.
        self.without_effect(&raw);
        self.config.global = raw.global.unwrap_or_default();
        self.config.global.replace_zeros();
        self.external_labels(env)?;
        self.check_global()?;
        if let Some(mut alerting) = raw.alerting {
            let place = alerting.referenced;
            // The scheme decides which label names are valid, so it must be known before
            // validation.
            alerting.value.set_names(self.config.global.keys.metric_name_validation_scheme);
            alerting
                .value
                .validate()
                .map_err(|e| ConfigError::at(&self.file, place, format!("alerting: {e}"), ""))?;
            self.config.alerting = alerting.value;
        }
        self.config.names_rules = !raw.rule_files.is_empty();
        let mut rule_files = HashSet::new();
        for pattern in raw.rule_files {
            for path in self.glob("rule", &pattern)? {
                // A file that several patterns match counts once.
                if rule_files.insert(path.clone()) {
                    self.config.rule_files.push(path);
                }
            }
        }
        let file = self.file.clone();
        self.jobs(&file, raw.scrape_configs)?;
        for pattern in raw.scrape_config_files {
            for path in self.glob("scrape config", &pattern)? {
                self.scrape_file(&path)?;
            }
        }
        // After the jobs, so that of several mistakes the one that costs targets is reported.
        self.config.storage = raw.storage.check(&self.file, &mut self.warnings)?;
        if let Some(tracing) = raw.tracing {
            tracing
                .value
                .validate()
                .map_err(|e| ConfigError::at(&self.file, tracing.referenced, format!("tracing: {e}"), ""))?;
            self.config.tracing = Some(tracing.value);
        }
        if let Some(mut otlp) = raw.otlp {
            let names = self.config.global.keys.metric_name_validation_scheme;
            otlp.value
                .validate(names)
                .map_err(|e| ConfigError::at(&self.file, otlp.referenced, format!("otlp: {e}"), ""))?;
            self.config.otlp = otlp.value;
        }
        self.remote_write(raw.remote_write)?;
        self.remote_read(raw.remote_read)
    }

    fn remote_write(&mut self, blocks: Option<Spanned<Vec<RemoteWriteConfig>>>) -> Result<(), ConfigError> {
        let Some(blocks) = blocks else { return Ok(()) };
        let place = blocks.referenced;
        let mut configs = blocks.value;
        for config in &mut configs {
            config.set_names(self.config.global.keys.metric_name_validation_scheme);
        }
        RemoteWriteConfig::check_all(&configs)
            .map_err(|error| ConfigError::at(&self.file, place, error.to_string(), ""))?;
        self.config.remote_write = configs;
        Ok(())
    }

    fn remote_read(&mut self, blocks: Option<Spanned<Vec<RemoteReadConfig>>>) -> Result<(), ConfigError> {
        let Some(blocks) = blocks.filter(|blocks| !blocks.value.is_empty()) else { return Ok(()) };
        RemoteReadConfig::check_all(&blocks.value)
            .map_err(|error| ConfigError::at(&self.file, blocks.referenced, error.to_string(), ""))?;
        // Prometheus' rules read there, too. With the default only what is old is read elsewhere,
        // which rules seldom look at.
        if self.config.names_rules && blocks.value.iter().any(|block| block.keys.read_recent) {
            let what = "remote_read: rules and alerts read the own store only, also with read_recent";
            let fix = "let the server that has the samples evaluate the rules, or let it send them here";
            self.warnings.push(ConfigError::at(&self.file, blocks.referenced, what.to_owned(), fix));
        }
        self.config.remote_read = blocks.value;
        Ok(())
    }

    /// Adds a warning for each key that has no effect.
    fn without_effect(&mut self, raw: &ConfigFile) {
        let mut found = Vec::new();
        raw.ignored("", Location::UNKNOWN, &mut found);
        for key in found {
            let reason = REASONS.iter().find(|(path, _)| key.path.ends_with(path)).map(|(_, reason)| *reason);
            let what =
                format!("{} has no effect: {}", key.path, reason.unwrap_or("this build does not use it"));
            self.config.without_effect.push(what.clone());
            let fix = "leave it for Prometheus, or remove it";
            self.warnings.push(ConfigError::at(&self.file, key.place, what, fix));
        }
    }

    fn external_labels(&mut self, env: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let mut expanded: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &self.config.global.keys.external_labels {
            let names = self.config.global.keys.metric_name_validation_scheme;
            // As a label of all series, `__name__` would rename every metric that is sent.
            if !names.allows_label(name) || name == "__name__" {
                let what = format!("{name:?} is not a valid label name in external_labels");
                return Err(ConfigError::whole(&self.file, what, "use another name"));
            }
            expanded.insert(name.clone(), expand(value, env));
        }
        self.config.external_labels = Labels::from_pairs(expanded);
        Ok(())
    }

    fn check_global(&self) -> Result<(), ConfigError> {
        let keys = &self.config.global.keys;
        match keys.scrape_timeout {
            // A default timeout that is too long is cut instead: the user did not write it.
            Some(timeout) if timeout > keys.scrape_interval => Err(ConfigError::whole(
                &self.file,
                "global scrape timeout greater than scrape interval",
                "make scrape_timeout at most scrape_interval",
            )),
            _ => Ok(()),
        }
    }

    fn jobs(&mut self, file: &str, configs: Vec<Spanned<ScrapeConfig>>) -> Result<(), ConfigError> {
        for config in configs {
            let place = config.referenced;
            let fault = |what: String, fix: &str| ConfigError::at(file, place, what, fix);
            let job = ScrapeJob::new(config.value, &self.config.global)
                .map_err(|e| fault(e.to_string(), "correct this scrape config"))?;
            let name = job.name().to_owned();
            let here = format!("{file}:{}", place.line());
            // Over all files: the job's name is the key of its pool.
            if let Some(there) = self.names.insert(name.clone(), here) {
                let what =
                    format!("found multiple scrape configs with job name {name:?} (the other: {there})");
                return Err(fault(what, "rename one of them"));
            }
            self.config.jobs.push(job);
        }
        Ok(())
    }

    fn scrape_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        let mut raw: ScrapeFile = yaml::parse_with(&name, &yaml::read_text(path)?, &known_keys)?;
        raw.resolve_paths(path.parent().unwrap_or(Path::new("")));
        self.config.sources.push(path.to_path_buf());
        self.jobs(&name, raw.scrape_configs)
    }

    /// The files that match a pattern, which is relative to the configuration file. A pattern
    /// without matches is no error.
    fn glob(&self, kind: &str, pattern: &Spanned<String>) -> Result<Vec<PathBuf>, ConfigError> {
        let fault =
            |what: String| ConfigError::at(&self.file, pattern.referenced, what, "correct the pattern");
        // As in Go: the empty pattern matches nothing.
        if pattern.value.is_empty() {
            return Ok(Vec::new());
        }
        // As in Prometheus: `*` only in the last part of a path.
        if pattern.value.split_once('*').is_some_and(|(_, rest)| rest.contains('/')) {
            return Err(fault(format!("invalid {kind} file path {:?}", pattern.value)));
        }
        let full = self.directory.join(&pattern.value);
        let text = full.to_str().ok_or_else(|| fault("the pattern is not UTF-8".to_owned()))?;
        let paths = glob::glob(text)
            .map_err(|e| fault(format!("bad file pattern {:?}: {}", pattern.value, e.msg)))?;
        // Directories that cannot be read match nothing, as in Go. One more than allowed, to tell
        // whether there are more.
        let files: Vec<PathBuf> = paths.filter_map(Result::ok).take(MATCHED_FILES + 1).collect();
        if files.len() > MATCHED_FILES {
            return Err(fault(format!("{:?} matches more than {MATCHED_FILES} files", pattern.value)));
        }
        Ok(files)
    }
}

/// Replaces `$VAR` and `${VAR}` by environment variables (unknown: empty), and `$$` by a dollar; as
/// Go's `os.Expand`.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            out.push_str(&env(name).unwrap_or_default());
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            // A dollar that begins no name stays.
            if end == 0 {
                out.push('$');
            } else {
                out.push_str(&env(&rest[..end]).unwrap_or_default());
            }
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let env = |name: &str| (name == "REGION").then(|| "eu-1".to_owned());
        let cases = [
            ("a-${REGION}", "a-eu-1"),
            ("$REGION/x", "eu-1/x"),
            ("$$5", "$5"),
            ("${NONE}.", "."),
            ("5$", "5$"),
            ("$-", "$-"),
            ("plain", "plain"),
        ];
        for (text, want) in cases {
            assert_eq!(expand(text, &env), want, "{text}");
        }
    }
}
