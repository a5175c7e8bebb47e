//! The command line: Prometheus 3's flags and our own, from one table.
//!
//! The table has the type, default and help text of each flag. clap parses the flags into
//! [`Flags`], `--help` prints the table, and `/api/v1/status/flags` shows it ([`Flags::as_map`]).
//! `--a=b` and `--a b` are the same; booleans are `--x`, `--no-x` and `--x=false`. Flags of
//! Prometheus that have no effect in this server are accepted and logged.

#[path = "flags_table.rs"]
mod table;

use crate::machine;
use clap::{Arg, ArgAction, Command};
use connectors::config::units::ConfigSize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use storage::model::time::{format_duration, parse_duration};
use table::{FLAGS, FlagKind, FlagSpec};

/// The shortest time range of a block, ms: shorter blocks would only be many files.
const SHORTEST_BLOCK_MS: i64 = 60_000;

/// The shortest interval between two checks of the configuration files, ms.
const SHORTEST_RELOAD_MS: i64 = 1_000;
/// The memory of one query is the memory of the machine divided by this.
const QUERY_PART: u64 = 8;
/// The memory of all queries together is the memory of the machine divided by this.
const QUERIES_PART: u64 = 4;

/// The memory that queries may use, bytes.
#[derive(Copy, Clone, Debug)]
pub struct QueryMemory {
    /// The limit of one query.
    pub one: usize,
    /// The limit of all queries together.
    pub together: usize,
}

/// The memory of what waits for live subscribers is the memory of the machine divided by this.
const SUBSCRIPTIONS_PART: u64 = 32;

/// The parsed command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    values: BTreeMap<&'static str, Vec<String>>,
    given: Vec<&'static str>,
}

/// Why the process ends before it starts: `--help`, `--version` or an invalid flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyExit {
    /// The exit code: 0, or 2 for an invalid flag.
    pub code: i32,
    /// The text to print: to stdout for code 0, otherwise to stderr.
    pub text: String,
}

/// Parses the arguments (without the name of the program).
pub fn parse<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Result<Flags, EarlyExit> {
    let args = args.into_iter().map(|a| positive(a.into()));
    let all = std::iter::once("perennial".to_owned()).chain(args);
    let matches = command().try_get_matches_from(all).map_err(|e| refuse(&e))?;
    let mut flags = Flags::default();
    for flag in FLAGS {
        let given = matches.value_source(flag.name) == Some(clap::parser::ValueSource::CommandLine);
        let values: Vec<String> =
            matches.get_many::<String>(flag.name).map(|v| v.cloned().collect()).unwrap_or_default();
        for value in &values {
            check(flag, value).map_err(|why| EarlyExit {
                code: 2,
                text: format!(
                    "error: --{}={value}: {why}\n\n  {}\n\nSee perennial --help.\n",
                    flag.name, flag.help
                ),
            })?;
        }
        if given {
            flags.given.push(flag.name);
        }
        flags.values.insert(flag.name, values);
    }
    Ok(flags)
}

/// Rewrites `--no-x` of a boolean flag to `--x=false`.
fn positive(arg: String) -> String {
    let named = |name: &str| FLAGS.iter().any(|f| f.name == name && matches!(f.kind, FlagKind::Switch));
    match arg.strip_prefix("--no-") {
        Some(name) if named(name) => format!("--{name}=false"),
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
    let mut arg = Arg::new(flag.name)
        .long(flag.name)
        .help(help(flag))
        .help_heading(flag.group)
        .hide_default_value(true)
        .hide(flag.hidden)
        .value_name(flag.kind.value_name());
    arg = if flag.repeats {
        arg.action(ArgAction::Append)
    } else {
        arg.action(ArgAction::Set).overrides_with(flag.name)
    };
    if matches!(flag.kind, FlagKind::Switch) {
        arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    if flag.default.is_empty() { arg } else { arg.default_value(flag.default) }
}

fn help(flag: &FlagSpec) -> String {
    match flag.default {
        "" | "false" => flag.help.to_owned(),
        default => format!("{} [default: {default}]", flag.help),
    }
}

fn check(flag: &FlagSpec, value: &str) -> Result<(), String> {
    match flag.kind {
        FlagKind::Text => Ok(()),
        FlagKind::Switch => match value {
            "true" | "false" => Ok(()),
            _ => Err("write true or false, or leave the value out".to_owned()),
        },
        FlagKind::Number => value.parse::<u64>().map(|_| ()).map_err(|_| "not a whole number".to_owned()),
        FlagKind::Ratio => value.parse::<f64>().map(|_| ()).map_err(|_| "not a number".to_owned()),
        FlagKind::Duration => parse_duration(value)
            .map(|_| ())
            .map_err(|e| format!("{e}; write a number and a unit: 30s, 5m, 15d")),
        FlagKind::Size => ConfigSize::parse(value).map(|_| ()),
        FlagKind::OneOf(words) if words.contains(&value) => Ok(()),
        FlagKind::OneOf(words) => Err(format!("possible here: {}", words.join(", "))),
        FlagKind::Url if value.is_empty() => Ok(()),
        FlagKind::Url => check_url(value),
        FlagKind::SyncInterval if value == "batch" => Ok(()),
        FlagKind::SyncInterval => {
            parse_duration(value).map(|_| ()).map_err(|e| format!("{e}; write e.g. 100ms, or batch"))
        }
    }
}

/// Checks the URL that links begin with: an http URL, or one without scheme (`host:port/path`).
fn check_url(value: &str) -> Result<(), String> {
    let full = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    match reqwest::Url::parse(&full) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Err(format!("the scheme {:?} is neither http nor https", url.scheme()))
        }
        Ok(_) => Ok(()),
        Err(e) => Err(format!("not a valid URL: {e}; write e.g. https://example.com/prometheus")),
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

impl Flags {
    fn text(&self, name: &str) -> &str {
        self.values.get(name).and_then(|v| v.last()).map_or("", String::as_str)
    }

    fn switch(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    fn millis(&self, name: &str) -> i64 {
        parse_duration(self.text(name)).unwrap_or(0)
    }

    fn number(&self, name: &str) -> usize {
        self.text(name).parse().unwrap_or(0)
    }

    /// Whether the flag is on the command line.
    pub fn given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// One log line for each given flag that has no effect in this build.
    pub fn without_effect(&self) -> Vec<String> {
        let idle = |f: &&FlagSpec| f.no_effect && self.given(f.name);
        FLAGS
            .iter()
            .filter(idle)
            .map(|f| format!("--{} is accepted, but has no effect in this build", f.name))
            .collect()
    }

    /// Every flag with its value, as `/api/v1/status/flags` shows it.
    pub fn as_map(&self) -> BTreeMap<String, String> {
        let shown = |flag: &FlagSpec| match flag.kind {
            _ if flag.name == "web.listen-address" => self.listen_addresses().join(","),
            FlagKind::Duration if !self.text(flag.name).is_empty() => format_duration(self.millis(flag.name)),
            FlagKind::Size => ConfigSize::parse(self.text(flag.name)).unwrap_or_default().to_string(),
            FlagKind::Switch if self.text(flag.name).is_empty() => "false".to_owned(),
            _ => self.values.get(flag.name).map(|v| v.join(",")).unwrap_or_default(),
        };
        FLAGS.iter().map(|flag| (flag.name.to_owned(), shown(flag))).collect()
    }

    /// The configuration file; `None`: the embedded configuration.
    pub fn config_file(&self) -> Option<PathBuf> {
        Some(self.text("config.file")).filter(|f| !f.is_empty()).map(PathBuf::from)
    }

    /// The interval at which the configuration files are checked for changes, ms; `None`: they are
    /// not.
    pub fn auto_reload(&self) -> Option<i64> {
        let on = self.switch("config.auto-reload") || self.feature("auto-reload-config");
        on.then(|| self.millis("config.auto-reload-interval").max(SHORTEST_RELOAD_MS))
    }

    /// The listen addresses. Without a configuration file the server is reachable from this machine
    /// only.
    pub fn listen_addresses(&self) -> Vec<String> {
        let given = self.values.get("web.listen-address").cloned().unwrap_or_default();
        match (given.is_empty(), self.config_file()) {
            (false, _) => given.iter().flat_map(|a| a.split(',')).map(str::to_owned).collect(),
            (true, Some(_)) => vec!["0.0.0.0:9090".to_owned()],
            (true, None) => vec!["127.0.0.1:9090".to_owned()],
        }
    }

    /// The path of `--web.config.file`.
    pub fn web_config_file(&self) -> Option<PathBuf> {
        Some(self.text("web.config.file")).filter(|f| !f.is_empty()).map(PathBuf::from)
    }

    /// The URL at which users reach the server, without a slash at the end; by default made from
    /// `hostname` and the port.
    pub fn external_url(&self, hostname: &str) -> String {
        let given = self.text("web.external-url").trim_end_matches('/');
        if given.is_empty() {
            let address = self.listen_addresses().into_iter().next().unwrap_or_default();
            let port = address.rsplit(':').next().unwrap_or("9090").to_owned();
            return format!("http://{hostname}:{port}");
        }
        if given.contains("://") { given.to_owned() } else { format!("http://{given}") }
    }

    /// The prefix of all paths: `/` or `/a/b`; by default the path of the external URL.
    pub fn route_prefix(&self) -> String {
        let given = self.text("web.route-prefix");
        let external = self.text("web.external-url");
        let after_scheme = external.split_once("://").map_or(external, |(_, rest)| rest);
        let prefix =
            if given.is_empty() { after_scheme.split_once('/').map_or("", |(_, path)| path) } else { given };
        format!("/{}", prefix.trim_matches('/'))
    }

    /// Whether `/-/reload` and `/-/quit` are enabled.
    pub fn enable_lifecycle(&self) -> bool {
        self.switch("web.enable-lifecycle")
    }

    /// Whether the admin API is enabled.
    pub fn enable_admin_api(&self) -> bool {
        self.switch("web.enable-admin-api")
    }

    /// Whether remote writes are accepted.
    pub fn enable_remote_write_receiver(&self) -> bool {
        self.switch("web.enable-remote-write-receiver")
    }

    /// The largest number of simultaneous connections.
    pub fn max_connections(&self) -> usize {
        self.number("web.max-connections")
    }

    /// The largest memory of the bodies of all current requests, bytes.
    pub fn max_body_memory(&self) -> usize {
        let size = ConfigSize::parse(self.text("web.max-body-memory")).unwrap_or_default();
        usize::try_from(size.0).unwrap_or(usize::MAX)
    }

    /// The largest number of connections from one address; 0: a share of all connections.
    pub fn max_connections_per_address(&self) -> usize {
        self.number("web.max-connections-per-address")
    }

    /// The longest time for the body of a request, and between two requests, ms.
    pub fn read_timeout(&self) -> i64 {
        self.millis("web.read-timeout")
    }

    /// The bytes that may wait for all live subscribers together.
    pub fn subscription_buffers(&self) -> usize {
        let given = ConfigSize::parse(self.text("web.max-subscription-buffers")).unwrap_or_default().0;
        let bytes = if given > 0 { given } else { machine::memory() / SUBSCRIPTIONS_PART };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The largest number of results of a search; 0: no limit.
    pub fn search_max_limit(&self) -> usize {
        self.number("web.search.max-limit")
    }

    /// The title of the page.
    pub fn page_title(&self) -> &str {
        self.text("web.page-title")
    }

    /// The regex of origins that may send cross-origin requests.
    pub fn cors_origin(&self) -> &str {
        self.text("web.cors.origin")
    }

    /// The data directory; the configuration's `storage.tsdb.path` applies if the flag is not
    /// given.
    pub fn data_path(&self, configured: Option<&PathBuf>) -> PathBuf {
        match configured {
            Some(path) if !self.given("storage.tsdb.path") => path.clone(),
            _ => PathBuf::from(self.text("storage.tsdb.path")),
        }
    }

    /// The retention time, ms; `None` if it is not on the command line.
    pub fn retention_time(&self) -> Option<i64> {
        let flags = ["storage.tsdb.retention.time", "storage.tsdb.retention"];
        flags.into_iter().find(|flag| self.given(flag)).map(|flag| self.millis(flag))
    }

    /// The largest size of blocks and WAL, bytes; `None` if it is not on the command line.
    pub fn retention_size(&self) -> Option<u64> {
        let flag = "storage.tsdb.retention.size";
        self.given(flag).then(|| ConfigSize::parse(self.text(flag)).unwrap_or_default().0)
    }

    /// The time range of a block, ms; the value of the configuration file applies if the flag is
    /// not given.
    pub fn block_range(&self, configured: Option<i64>) -> i64 {
        let flag = "storage.tsdb.min-block-duration";
        let length = configured.filter(|_| !self.given(flag)).unwrap_or_else(|| self.millis(flag));
        length.max(SHORTEST_BLOCK_MS)
    }

    /// Whether the server locks the data directory.
    pub fn lock_data(&self) -> bool {
        !self.switch("storage.tsdb.no-lockfile")
    }

    /// The interval between fdatasyncs of the WAL, ms; 0: before every acknowledgement (`batch`).
    pub fn wal_sync_interval(&self) -> u64 {
        self.millis("storage.wal-sync-interval").max(0) as u64
    }

    /// The number of worker threads of the live runtime; by default `cores`.
    pub fn live_workers(&self, cores: usize) -> usize {
        if self.given("live.workers") { self.number("live.workers").max(1) } else { cores.max(1) }
    }

    /// The addresses at which the processes of the cluster reach each other; empty: the process
    /// runs alone.
    pub fn cluster_addresses(&self) -> Vec<String> {
        let given = self.text("cluster.addresses").split(',').map(str::trim);
        given.filter(|address| !address.is_empty()).map(str::to_owned).collect()
    }

    /// The number of this process in the cluster.
    pub fn cluster_process(&self) -> Option<usize> {
        self.given("cluster.process").then(|| self.number("cluster.process"))
    }

    /// How long a process waits for the others of its cluster, ms.
    pub fn cluster_join_timeout(&self) -> i64 {
        self.millis("cluster.join-timeout")
    }

    /// The lookback of instant selectors, ms.
    pub fn lookback(&self) -> i64 {
        self.millis("query.lookback-delta")
    }

    /// The longest duration of a query, ms.
    pub fn query_timeout(&self) -> i64 {
        self.millis("query.timeout")
    }

    /// The largest number of simultaneous queries.
    pub fn query_concurrency(&self) -> usize {
        self.number("query.max-concurrency").max(1)
    }

    /// The largest number of samples of a query in memory.
    pub fn query_max_samples(&self) -> usize {
        self.number("query.max-samples")
    }

    /// The memory limits of queries on a machine with `machine` bytes of memory.
    pub fn query_memory(&self, machine: u64) -> QueryMemory {
        let given = |flag: &str| {
            let bytes = ConfigSize::parse(self.text(flag)).unwrap_or_default().0;
            usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
        };
        let share = |part: u64| usize::try_from(machine / part).unwrap_or(usize::MAX);
        QueryMemory {
            one: given("query.max-bytes").unwrap_or(share(QUERY_PART)),
            together: given("query.max-total-bytes").unwrap_or(share(QUERIES_PART)),
        }
    }

    /// The longest outage after which the state of an alert is restored, ms.
    pub fn for_outage_tolerance(&self) -> i64 {
        self.millis("rules.alert.for-outage-tolerance")
    }

    /// The shortest time from a restart until a restored alert fires, ms.
    pub fn for_grace_period(&self) -> i64 {
        self.millis("rules.alert.for-grace-period")
    }

    /// The interval at which a firing alert is sent again, ms.
    pub fn resend_delay(&self) -> i64 {
        self.millis("rules.alert.resend-delay")
    }

    /// The largest number of alerts that wait for an Alertmanager.
    pub fn notification_queue(&self) -> usize {
        self.number("alertmanager.notification-queue-capacity")
    }

    /// The largest number of alerts in one request to an Alertmanager.
    pub fn notification_batch(&self) -> usize {
        self.number("alertmanager.notification-batch-size")
    }

    /// Whether queued alerts are sent before the process ends.
    pub fn drain_notifications(&self) -> bool {
        self.switch("alertmanager.drain-notification-queue-on-shutdown")
    }

    /// Whether only responses with a known content type are ingested, as in Prometheus 3.
    pub fn strict_content_type(&self) -> bool {
        self.switch("scrape.strict-content-type")
    }

    /// The memory that all scrapes together may use while they are read, bytes.
    pub fn scrape_max_memory(&self) -> usize {
        let bytes = ConfigSize::parse(self.text("scrape.max-memory")).unwrap_or_default().0;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// `debug`, `info`, `warn` or `error`.
    pub fn log_level(&self) -> &str {
        self.text("log.level")
    }

    /// Whether log lines are JSON.
    pub fn log_json(&self) -> bool {
        self.text("log.format") == "json"
    }

    /// Whether a feature is enabled.
    pub fn feature(&self, name: &str) -> bool {
        self.features().any(|f| f == name)
    }

    /// The enabled features, known or not.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        let given = self.values.get("enable-feature").into_iter().flatten();
        given.flat_map(|list| list.split(',')).map(str::trim).filter(|f| !f.is_empty())
    }

    /// One warning per unknown feature.
    pub fn unknown_features(&self) -> Vec<String> {
        let unknown = self.features().filter(|f| !table::FEATURES.contains(f));
        unknown
            .map(|f| {
                let hint = rules::yaml::suggestion(f, table::FEATURES);
                format!("--enable-feature={f}: no such feature; {hint}")
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
