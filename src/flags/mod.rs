//! The command line: Prometheus 3's flags and our own, from one table.
//!
//! A row of the table ([`table`]) is a flag: name, type, default and help. From it come the fields
//! of [`Flags`], the parser, `--help`, `/api/v1/status/flags` ([`Flags::as_map`]) and the table in
//! `docs/configuration.md`. [`value`] has the types of values, [`feature`] the features of
//! `--enable-feature`. `--a=b` and `--a b` are the same; booleans are `--x`, `--no-x` and
//! `--x=false`. Flags of Prometheus that have no effect in this server are accepted and logged.

mod feature;
pub mod mode;
mod table;
pub mod value;

pub use feature::Feature;
pub use table::{FLAGS, FlagSpec, Flags};

use crate::machine;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};
use connectors::config::units::{ConfigDuration, ConfigSize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use value::ValueForm;

/// The shortest time range of a block, ms: shorter blocks would only be many files.
const SHORTEST_BLOCK_MS: i64 = 60_000;

/// The time range that the head of an agent forgets at once, ms.
const AGENT_RANGE_MS: i64 = 300_000;

/// The shortest interval between two checks of the configuration files, ms.
const SHORTEST_RELOAD_MS: i64 = 1_000;
/// The memory of one query is the memory of the machine divided by this.
const QUERY_PART: u64 = 8;
/// The memory of all queries together is the memory of the machine divided by this.
const QUERIES_PART: u64 = 4;
/// The memory of what waits for live subscribers is the memory of the machine divided by this.
const SUBSCRIPTIONS_PART: u64 = 32;

/// The memory that queries may use, bytes.
#[derive(Copy, Clone, Debug)]
pub struct QueryMemory {
    /// The limit of one query.
    pub one: usize,
    /// The limit of all queries together.
    pub together: usize,
}

/// Why the process ends before it starts: `--help`, `--version` or an invalid flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyExit {
    /// The exit code: 0, 2 for an invalid flag, 3 for one of the other mode, 1 for an agent's that
    /// is out of bounds.
    pub code: i32,
    /// The text to print: to stdout for code 0, otherwise to stderr.
    pub text: String,
}

/// Parses the arguments (without the name of the program).
pub fn parse<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Result<Flags, EarlyExit> {
    let args = args.into_iter().map(|a| positive(a.into()));
    let all = std::iter::once("perennial".to_owned()).chain(args);
    let matches = command().try_get_matches_from(all).map_err(|e| refuse(&e))?;
    let mut given = |flag: &'static FlagSpec| {
        // clap also has defaults; those of the table are used, because `/api/v1/status/flags` tells
        // which flags were given.
        if matches.value_source(flag.name) != Some(ValueSource::CommandLine) {
            return Vec::new();
        }
        matches.get_many::<String>(flag.name).map(|v| v.cloned().collect()).unwrap_or_default()
    };
    let flags = Flags::read(&mut given).map_err(|invalid| EarlyExit {
        code: 2,
        text: format!(
            "error: --{}={}: {}\n\n  {}\n\nSee perennial --help.\n",
            invalid.spec.name,
            invalid.value,
            invalid.why,
            invalid.spec.help()
        ),
    })?;
    if flags.has(Feature::OtlpDeltaToCumulative) && flags.has(Feature::OtlpNativeDeltaIngestion) {
        let text = "error: --enable-feature: cannot enable otlp-deltatocumulative and \
                    otlp-native-delta-ingestion features at the same time\n\nSee perennial --help.\n";
        return Err(EarlyExit { code: 2, text: text.to_owned() });
    }
    mode::check(&flags)?;
    Ok(flags)
}

/// Rewrites `--no-x` of a boolean flag to `--x=false`.
fn positive(arg: String) -> String {
    let is_switch = |name: &str| FLAGS.iter().any(|f| f.name == name && f.form == ValueForm::Switch);
    match arg.strip_prefix("--no-") {
        // Only of switches, as in Prometheus: another flag may begin with `no-` itself.
        Some(name) if is_switch(name) => format!("--{name}=false"),
        _ => arg,
    }
}

fn command() -> Command {
    let mut command = Command::new("perennial")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Prometheus-compatible monitoring server in which every rule is a live dataflow.")
        .long_about(table::ABOUT)
        .after_help(table::AFTER)
        .disable_help_subcommand(true);
    for (at, flag) in FLAGS.iter().enumerate() {
        command = command.arg(argument(flag).display_order(at));
    }
    command
}

fn argument(flag: &'static FlagSpec) -> Arg {
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .help(help(flag))
        .help_heading(flag.group)
        // Accepted, because start scripts of Prometheus have them, but nobody should begin to use
        // them.
        .hide(flag.no_effect.is_some());
    match flag.form {
        // Given twice, the last one counts, as in Prometheus: scripts append flags to a list.
        ValueForm::Required(name) => arg.value_name(name).action(ArgAction::Set).overrides_with(flag.name),
        ValueForm::Repeated(name) => arg.value_name(name).action(ArgAction::Append),
        ValueForm::Switch => arg
            .value_name("BOOL")
            .action(ArgAction::Set)
            .overrides_with(flag.name)
            .num_args(0..=1)
            // Without it, `--web.enable-lifecycle data/` would take the next word for its value.
            .require_equals(true)
            .default_missing_value("true"),
    }
}

fn help(flag: &FlagSpec) -> String {
    match flag.shown_default() {
        None => flag.help(),
        Some(default) => format!("{} [default: {default}]", flag.help()),
    }
}

fn refuse(error: &clap::Error) -> EarlyExit {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion => EarlyExit { code: 0, text: error.to_string() },
        _ => EarlyExit {
            code: 2,
            text: format!(
                "{}\nperennial --help lists every flag with what it does.\n",
                error.to_string().trim_end()
            ),
        },
    }
}

/// A path; an empty one is none.
fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// A size in bytes; zero is none.
fn bytes(size: ConfigSize) -> Option<usize> {
    (size.0 > 0).then(|| usize::try_from(size.0).unwrap_or(usize::MAX))
}

/// A share of the memory of the machine.
fn share(machine: u64, part: u64) -> usize {
    usize::try_from(machine / part).unwrap_or(usize::MAX)
}

/// Values that follow from several flags, or from a flag and something else. Everything else is
/// read from the fields.
impl Flags {
    /// A line for each flag and feature on the command line that has no effect, or another one
    /// than it says, with the reason.
    pub fn without_effect(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (flag, is_given) in FLAGS.iter().zip(self.is_given()) {
            if let Some(why) = flag.no_effect.filter(|_| is_given) {
                lines.push(format!("--{} has no effect: {why}", flag.name));
            }
        }
        lines.extend(self.truncate_note());
        for feature in self.features().filter_map(Feature::named) {
            if let Some(why) = feature.no_effect() {
                lines.push(format!("--enable-feature={} has no effect: {why}", feature.name()));
            }
        }
        lines
    }

    /// Every flag with its value, as `/api/v1/status/flags` shows it.
    pub fn as_map(&self) -> BTreeMap<String, String> {
        let names = FLAGS.iter().map(|flag| flag.name.to_owned());
        let mut map: BTreeMap<String, String> = names.zip(self.shown()).collect();
        // The default depends on whether there is a configuration file, so the table cannot have
        // it.
        map.insert("web.listen-address".to_owned(), self.listen_addresses().join(","));
        map
    }

    /// The configuration file; `None`: the embedded configuration.
    pub fn config_file(&self) -> Option<PathBuf> {
        path(&self.config_file)
    }

    /// The interval at which the configuration files are checked for changes, ms; `None`: they are
    /// not.
    pub fn auto_reload(&self) -> Option<i64> {
        let is_on = *self.config_auto_reload || self.has(Feature::AutoReloadConfig);
        is_on.then(|| self.config_auto_reload_interval.0.max(SHORTEST_RELOAD_MS))
    }

    /// The listen addresses. Without a configuration file the server is reachable from this machine
    /// only.
    pub fn listen_addresses(&self) -> Vec<String> {
        if self.web_listen_address.is_given {
            return self.web_listen_address.iter().flat_map(|a| a.split(',')).map(str::to_owned).collect();
        }
        // Whoever only tries the server out should not open a port to the network by that.
        let host = if self.config_file().is_some() { "0.0.0.0" } else { "127.0.0.1" };
        vec![format!("{host}:9090")]
    }

    /// The path of `--web.config.file`.
    pub fn web_config_file(&self) -> Option<PathBuf> {
        path(&self.web_config_file)
    }

    /// The URL at which users reach the server, without a slash at the end; by default made from
    /// `hostname` and the port.
    pub fn external_url(&self, hostname: &str) -> String {
        let given = self.web_external_url.0.trim_end_matches('/');
        if given.is_empty() {
            let mut addresses = self.listen_addresses().into_iter();
            let address = addresses.find(|address| !address.starts_with("unix:")).unwrap_or_default();
            let port =
                address.rsplit(':').next().filter(|port| !port.is_empty()).unwrap_or("9090").to_owned();
            return format!("http://{hostname}:{port}");
        }
        // Prometheus takes a URL without a scheme, too.
        if given.contains("://") { given.to_owned() } else { format!("http://{given}") }
    }

    /// The prefix of all paths: `/` or `/a/b`; by default the path of the external URL.
    pub fn route_prefix(&self) -> String {
        let external = self.web_external_url.0.as_str();
        let after_scheme = external.split_once("://").map_or(external, |(_, rest)| rest);
        let prefix = if self.web_route_prefix.is_empty() {
            after_scheme.split_once('/').map_or("", |(_, path)| path)
        } else {
            &self.web_route_prefix
        };
        format!("/{}", prefix.trim_matches('/'))
    }

    /// The largest memory of the bodies of all current requests, bytes.
    pub fn max_body_memory(&self) -> usize {
        bytes(*self.web_max_body_memory).unwrap_or(0)
    }

    /// The bytes that may wait for all live subscribers together.
    pub fn subscription_buffers(&self) -> usize {
        let given = bytes(*self.web_max_subscription_buffers);
        given.unwrap_or_else(|| share(machine::memory(), SUBSCRIPTIONS_PART))
    }

    /// The data directory; the configuration's `storage.tsdb.path` applies if the flag is not
    /// given.
    pub fn data_path(&self, configured: Option<&PathBuf>) -> PathBuf {
        if *self.agent {
            return PathBuf::from(self.storage_agent_path.as_str());
        }
        match configured {
            // The flag wins: it is what is changed for a single start.
            Some(path) if !self.storage_tsdb_path.is_given => path.clone(),
            _ => PathBuf::from(self.storage_tsdb_path.as_str()),
        }
    }

    /// The retention time, ms; `None` if it is not on the command line.
    pub fn retention_time(&self) -> Option<i64> {
        let time = self.storage_tsdb_retention_time.given();
        // The old flag counts only without the new one, as in Prometheus.
        time.or(*self.storage_tsdb_retention).map(|time| time.0)
    }

    /// The largest size of blocks and WAL, bytes; `None` if it is not on the command line.
    pub fn retention_size(&self) -> Option<u64> {
        self.storage_tsdb_retention_size.given().map(|size| size.0)
    }

    /// The time range of a block, ms; the value of the configuration file applies if the flag is
    /// not given.
    pub fn block_range(&self, configured: Option<i64>) -> i64 {
        if *self.agent {
            return AGENT_RANGE_MS;
        }
        let flag = &self.storage_tsdb_min_block_duration;
        let length = configured.filter(|_| !flag.is_given).unwrap_or(flag.0);
        length.max(SHORTEST_BLOCK_MS)
    }

    /// Whether the server locks the data directory.
    pub fn lock_data(&self) -> bool {
        let flag = if *self.agent { &self.storage_agent_no_lockfile } else { &self.storage_tsdb_no_lockfile };
        !**flag
    }

    /// The interval between fdatasyncs of the WAL, ms; 0: before every acknowledgement (`batch`).
    pub fn wal_sync_interval(&self) -> u64 {
        self.storage_wal_sync_interval.0.0.max(0).unsigned_abs()
    }

    /// The number of worker threads of the live runtime; by default `cores`.
    pub fn live_workers(&self, cores: usize) -> usize {
        // An agent has no views.
        let usual = if *self.agent { 1 } else { cores };
        self.live_workers.unwrap_or(usual).max(1)
    }

    /// The addresses at which the processes of the cluster reach each other; empty: the process
    /// runs alone.
    pub fn cluster_addresses(&self) -> Vec<String> {
        let given = self.cluster_addresses.split(',').map(str::trim);
        given.filter(|address| !address.is_empty()).map(str::to_owned).collect()
    }

    /// The largest number of simultaneous queries.
    pub fn query_concurrency(&self) -> usize {
        (*self.query_max_concurrency).max(1)
    }

    /// The memory limits of queries on a machine with `machine` bytes of memory.
    pub fn query_memory(&self, machine: u64) -> QueryMemory {
        QueryMemory {
            one: bytes(*self.query_max_bytes).unwrap_or_else(|| share(machine, QUERY_PART)),
            together: bytes(*self.query_max_total_bytes).unwrap_or_else(|| share(machine, QUERIES_PART)),
        }
    }

    /// The memory that all scrapes together may use while they are read, bytes.
    pub fn scrape_memory(&self) -> usize {
        bytes(*self.scrape_max_memory).unwrap_or(0)
    }

    /// How far the time of a scrape may be from its schedule and still count as the time of the
    /// schedule.
    pub fn timestamp_tolerance(&self) -> ConfigDuration {
        if *self.scrape_adjust_timestamps { *self.scrape_timestamp_tolerance } else { ConfigDuration(0) }
    }

    /// Whether a feature is enabled.
    pub fn has(&self, feature: Feature) -> bool {
        // By name, because the list may have names that this build does not know.
        self.features().any(|name| name == feature.name())
    }

    /// The enabled features, known or not.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        self.enable_feature.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|f| !f.is_empty())
    }

    /// One warning per unknown feature.
    pub fn unknown_features(&self) -> Vec<String> {
        let known: Vec<&str> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        let unknown = self.features().filter(|name| Feature::named(name).is_none());
        unknown
            .map(|name| {
                let hint = rules::yaml::suggestion(name, &known);
                format!("--enable-feature={name}: no such feature; {hint}")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs generate command lines, too, so parsing must scale.
    #[test]
    fn twice_the_command_line_costs_at_most_a_little_more_than_twice() {
        let listed = |n: usize| (0..n).map(|i| format!("feature{i}")).collect::<Vec<_>>().join(",");
        let list = |n: usize| vec![format!("--enable-feature={}", listed(n))];
        let many = |n: usize| (0..n).map(|i| format!("--enable-feature=feature{i}")).collect::<Vec<_>>();
        let long = |n: usize| vec![format!("--storage.tsdb.path={}", "d/".repeat(n))];
        let switches = |n: usize| vec!["--no-storage.tsdb.no-lockfile".to_owned(); n];
        let unknown = |n: usize| vec![format!("--{}", "x".repeat(n))];
        let bytes = |n: usize| vec![format!("--query.max-bytes={}", "1".repeat(n))];
        let parsed = |args: &Vec<String>| parse(args.clone()).map(|flags| flags.unknown_features().len());
        assert_eq!(parsed(&list(3)).ok(), Some(3));
        assert_eq!(parsed(&many(3)).ok(), Some(3));
        for (what, n, args) in [
            ("a list", 500, &list as &dyn Fn(usize) -> Vec<String>),
            ("a flag again and again", 500, &many),
            ("a long value", 20_000, &long),
            ("a switch again and again", 500, &switches),
            ("a flag that nobody knows", 2_000, &unknown),
            ("a long number", 2_000, &bytes),
        ] {
            testing::assert_proportional(what, n, args, parsed);
        }
    }
}
