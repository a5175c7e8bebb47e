//! The table of all flags: name, type, default, help. The order is that of `--help`.

/// The type of a flag's value.
#[derive(Copy, Clone, Debug)]
pub(super) enum FlagKind {
    Text,
    Switch,
    Number,
    Ratio,
    Duration,
    Size,
    OneOf(&'static [&'static str]),
    SyncInterval,
    Url,
}

impl FlagKind {
    pub(super) fn value_name(self) -> &'static str {
        match self {
            FlagKind::Text => "TEXT",
            FlagKind::Switch => "BOOL",
            FlagKind::Number => "N",
            FlagKind::Ratio => "RATIO",
            FlagKind::Duration => "DURATION",
            FlagKind::Size => "SIZE",
            FlagKind::OneOf(_) => "WORD",
            FlagKind::SyncInterval => "DURATION|batch",
            FlagKind::Url => "URL",
        }
    }
}

/// A flag.
#[derive(Debug)]
pub(super) struct FlagSpec {
    pub(super) name: &'static str,
    pub(super) kind: FlagKind,
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    pub(super) group: &'static str,
    /// Whether the flag may be given several times.
    pub(super) repeats: bool,
    /// Whether the flag is accepted only for compatibility with Prometheus.
    pub(super) no_effect: bool,
    /// Whether `--help` omits the flag.
    pub(super) hidden: bool,
}

impl FlagSpec {
    const fn repeated(self) -> FlagSpec {
        FlagSpec { repeats: true, ..self }
    }
}

const fn works(
    group: &'static str,
    name: &'static str,
    kind: FlagKind,
    default: &'static str,
    help: &'static str,
) -> FlagSpec {
    FlagSpec { name, kind, default, help, group, repeats: false, no_effect: false, hidden: false }
}

/// A flag of Prometheus that is accepted and shown, and has no effect.
const fn idle(name: &'static str, kind: FlagKind, default: &'static str) -> FlagSpec {
    let help = "Accepted as Prometheus does; no effect in this build.";
    FlagSpec {
        name,
        kind,
        default,
        help,
        group: "Accepted without effect",
        repeats: false,
        no_effect: true,
        hidden: true,
    }
}

const CONFIG: &str = "Configuration";
const WEB: &str = "Web";
const STORAGE: &str = "Storage";
const QUERY: &str = "Queries";
const RULES: &str = "Rules and alerts";
const LIVE: &str = "Live runtime and scraping";
const CLUSTER: &str = "Cluster: several processes as one server";
const LOG: &str = "Logging and features";

use FlagKind::{Duration, Number, OneOf, Ratio, Size, Switch, SyncInterval, Text, Url};

/// All flags.
pub(super) const FLAGS: &[FlagSpec] = &[
    works(CONFIG, "config.file", Text, "", "The configuration file (prometheus.yml). Without it the server watches itself and this machine, and is reachable from this machine only."),
    works(CONFIG, "config.auto-reload", Switch, "false", "Load the configuration again when it, or a rule file or scrape config file it names, changes. SIGHUP always does."),
    works(CONFIG, "config.auto-reload-interval", Duration, "30s", "How often the files are looked at."),
    works(WEB, "web.listen-address", Text, "", "Address and port to listen on; may be repeated. [default: 0.0.0.0:9090 with --config.file, 127.0.0.1:9090 without]").repeated(),
    works(WEB, "web.external-url", Url, "", "The URL under which people reach this server: links in alerts begin with it. A path in it is the route prefix too."),
    works(WEB, "web.route-prefix", Text, "", "Path before all routes, if a proxy keeps it. [default: the path of --web.external-url]"),
    works(WEB, "web.enable-lifecycle", Switch, "false", "Allow POST /-/reload and /-/quit."),
    works(WEB, "web.search.max-limit", Number, "10000", "The most that limit of /api/v1/search/… may say (feature search-api); 0: anything."),
    works(WEB, "web.enable-admin-api", Switch, "false", "Allow /api/v1/admin/tsdb/…: delete series, clean tombstones, snapshot; and PUT and DELETE of /api/v1/views/{name}: standing queries that come and go while the server runs."),
    works(WEB, "web.enable-remote-write-receiver", Switch, "false", "Accept samples by push at /api/v1/write."),
    works(WEB, "web.config.file", Text, "", "A file with TLS and passwords of the web server. This build has neither, and refuses to start unless the file is empty."),
    works(WEB, "web.read-timeout", Duration, "5m", "Longest time for the body of a request, and for a connection without a request. Headers have 10s."),
    works(WEB, "web.max-connections", Number, "512", "Most connections at a time. Beyond it a connection that only waits for its client is closed for a new one; if there is none, only /-/healthy, /-/ready and /metrics are answered, and everything else with 503."),
    works(WEB, "web.max-connections-per-address", Number, "0", "Most connections of one client address (IPv6: of one /64 network). 0: three quarters of --web.max-connections. Behind a proxy all clients have one address."),
    works(WEB, "web.max-subscription-buffers", Size, "0B", "Bytes that may wait for all live subscribers together. Beyond it the subscription that holds most is ended, and new ones are answered with 503. 0B is 1/32 of the machine's memory, or of the container's."),
    works(WEB, "web.max-body-memory", Size, "64MB", "Most bytes that the bodies of all requests at work hold, as sent and decompressed. Beyond it a request is answered 503 with Retry-After; one that would not fit alone cannot be sent at all. Bodies below 16KB always fit."),
    works(WEB, "web.page-title", Text, "Perennial Time Series Collection and Processing Server", "Title of the page."),
    works(WEB, "web.cors.origin", Text, ".*", "Regex of the origins that may ask from another site; anchored. The default lets any page read; to change something (reload, quit, delete, write) or to subscribe, the origin must match a regex that is given here, or be this server's own."),
    works(STORAGE, "storage.tsdb.path", Text, "data/", "The data directory."),
    works(STORAGE, "storage.tsdb.retention.time", Duration, "15d", "How long samples are kept: a block goes when its newest sample is older. For ever if only a size is given. The configuration file's storage.tsdb.retention.time wins."),
    works(STORAGE, "storage.tsdb.retention.size", Size, "0B", "Most bytes of blocks and log together; the oldest blocks go. A number and a unit: B, KB, MB, GB, TB, PB, EB, powers of 1024; 0 is no limit. The configuration file's storage.tsdb.retention.size wins."),
    works(STORAGE, "storage.tsdb.retention", Duration, "", "Deprecated: write --storage.tsdb.retention.time, which wins."),
    works(STORAGE, "storage.tsdb.min-block-duration", Duration, "2h", "Length of a block."),
    works(STORAGE, "storage.tsdb.no-lockfile", Switch, "false", "Do not lock the data directory. Two servers on one directory damage it."),
    works(STORAGE, "storage.wal-sync-interval", SyncInterval, "100ms", "What a power failure may cost at most (a killed process costs nothing). `batch`: sync before every acknowledgement."),
    works(QUERY, "query.lookback-delta", Duration, "5m", "How far back an instant selector looks for its sample."),
    works(QUERY, "query.timeout", Duration, "2m", "Longest query."),
    works(QUERY, "query.max-concurrency", Number, "20", "Queries at a time."),
    works(QUERY, "query.max-samples", Number, "50000000", "Samples one query may hold in memory."),
    works(QUERY, "query.max-bytes", Size, "0B", "Bytes of values, labels and answer that one query may hold in memory, and of labels that one step of a rule or subscription may make; beyond it: an error. 0B is an eighth of the machine's memory, or of the container's."),
    works(QUERY, "query.max-total-bytes", Size, "0B", "The same of all queries together, answers that are being sent included; and once more of all rules and subscriptions. 0B is a quarter of the memory."),
    works(RULES, "rules.alert.for-outage-tolerance", Duration, "1h", "How long the server may be down and still remember how long an alert's condition has held."),
    works(RULES, "rules.alert.for-grace-period", Duration, "10m", "Least time from a restart until a pending alert fires of which only the ALERTS_FOR_STATE series is known; only for alerts whose `for` is longer."),
    works(RULES, "rules.alert.resend-delay", Duration, "1m", "A firing alert is sent again after this time."),
    works(RULES, "alertmanager.notification-queue-capacity", Number, "10000", "Alerts that may wait for an Alertmanager."),
    works(RULES, "alertmanager.notification-batch-size", Number, "256", "Most alerts in one request to an Alertmanager."),
    works(RULES, "alertmanager.drain-notification-queue-on-shutdown", Switch, "true", "Send waiting alerts before the process ends."),
    works(LIVE, "live.workers", Number, "", "Worker threads of the live runtime. [default: number of cores]"),
    works(LIVE, "scrape.strict-content-type", Switch, "false", "Refuse a scrape whose content type is not a metrics format (Prometheus 3). Otherwise text that reads as metrics is taken, with a warning."),
    works(LIVE, "scrape.max-memory", Size, "2GB", "Memory that all scrapes together may take while they are read: new series, native histograms, samples with timestamps. One scrape gets half of it at most, some million new series; others wait within their timeouts. Scrapes of known series need none."),
    works(CLUSTER, "cluster.addresses", Text, "", "Where each process of the cluster listens for the others: host:port, separated by commas, the same list for all. The network must be trusted: nothing is encrypted. Without it the process is alone."),
    works(CLUSTER, "cluster.process", Number, "", "This process' place in --cluster.addresses, from 0. Process 0 has the rules and alerts; targets are divided among all."),
    works(CLUSTER, "cluster.join-timeout", Duration, "5m", "How long a process that starts waits for the others."),
    works(LOG, "log.level", OneOf(&["debug", "info", "warn", "error"]), "info", "What is logged: debug, info, warn or error."),
    works(LOG, "log.format", OneOf(&["logfmt", "json"]), "logfmt", "How it is logged: logfmt or json."),
    works(LOG, "enable-feature", Text, "", "Features, separated by commas; may be repeated. Those with an effect: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels, extra-scrape-metrics, created-timestamp-zero-ingestion, exemplar-storage, native-histograms, st-storage, search-api, auto-reload-config.").repeated(),
    idle("web.max-notifications-subscribers", Number, "16"),
    idle("web.user-assets", Text, ""),
    idle("web.remote-write-receiver.accepted-protobuf-messages", Text, "").repeated(),
    idle("web.enable-otlp-receiver", Switch, "false"),
    idle("web.console.templates", Text, "consoles"),
    idle("web.console.libraries", Text, "console_libraries"),
    idle("storage.tsdb.max-block-duration", Duration, "2h"),
    idle("storage.tsdb.wal-segment-size", Size, "0B"),
    idle("storage.tsdb.max-block-chunk-segment-size", Size, "0B"),
    idle("storage.tsdb.allow-overlapping-blocks", Switch, "true"),
    idle("storage.tsdb.allow-overlapping-compaction", Switch, "true"),
    idle("storage.tsdb.wal-compression", Switch, "true"),
    idle("storage.tsdb.wal-compression-type", Text, "snappy"),
    idle("storage.tsdb.head-chunks-write-queue-size", Number, "0"),
    idle("storage.tsdb.samples-per-chunk", Number, "120"),
    idle("storage.tsdb.delayed-compaction.max-percent", Number, "10"),
    idle("storage.tsdb.delay-compact-file.path", Text, ""),
    idle("storage.tsdb.block-reload-interval", Duration, "1m"),
    idle("storage.remote.flush-deadline", Duration, "1m"),
    idle("storage.remote.read-sample-limit", Number, "50000000"),
    idle("storage.remote.read-concurrent-limit", Number, "10"),
    idle("storage.remote.read-max-bytes-in-frame", Number, "1048576"),
    idle("storage.agent.path", Text, "data-agent/"),
    idle("storage.agent.wal-segment-size", Size, "0B"),
    idle("storage.agent.wal-compression", Switch, "true"),
    idle("storage.agent.wal-compression-type", Text, "snappy"),
    idle("storage.agent.wal-truncate-frequency", Duration, ""),
    idle("storage.agent.retention.min-time", Duration, ""),
    idle("storage.agent.retention.max-time", Duration, ""),
    idle("storage.agent.no-lockfile", Switch, "false"),
    idle("rules.max-concurrent-evals", Number, "4"),
    idle("scrape.adjust-timestamps", Switch, "true"),
    idle("scrape.timestamp-tolerance", Duration, "2ms"),
    idle("scrape.discovery-reload-interval", Duration, "5s"),
    idle("scrape.name-escaping-scheme", Text, "values"),
    idle("auto-gomaxprocs", Switch, "true"),
    idle("auto-gomemlimit", Switch, "true"),
    idle("auto-gomemlimit.ratio", Ratio, "0.9"),
    idle("auto-gomemlimit.refresh-interval", Duration, "0s"),
    idle("agent", Switch, "false"),
];

/// The features that Prometheus or this server knows.
pub(super) const FEATURES: &[&str] = &[
    "auto-reload-config",
    "concurrent-rule-eval",
    "created-timestamp-zero-ingestion",
    "delayed-compaction",
    "exemplar-storage",
    "extra-scrape-metrics",
    "histograms-st-encoding",
    "memory-snapshot-on-shutdown",
    "metadata-wal-records",
    "native-histograms",
    "native-histograms",
    "old-ui",
    "otlp-deltatocumulative",
    "otlp-native-delta-ingestion",
    "promql-binop-fill-modifiers",
    "promql-delayed-name-removal",
    "promql-duration-expr",
    "promql-experimental-functions",
    "promql-extended-range-selectors",
    "promql-per-step-stats",
    "search-api",
    "st-storage",
    "st-synthesis",
    "type-and-unit-labels",
    "use-start-timestamps",
    "use-uncached-io",
    "xor2-encoding",
];

pub(super) const ABOUT: &str = "\
A Prometheus-compatible monitoring server in which every rule is a live dataflow.

Start it without any flag: it watches itself and this machine, and shows both at http://127.0.0.1:9090.
Start it as Prometheus:    perennial --config.file=prometheus.yml --storage.tsdb.path=data/

Flags are those of Prometheus 3, and a few of our own. Both `--flag=value` and `--flag value` work; switches are
`--switch`, `--no-switch` and `--switch=false`.";

pub(super) const AFTER: &str = "\
perennial test promql FILE... runs test files in Prometheus' language for PromQL instead of a server.
perennial check views --url=URL compares the views of a running server with its history.
perennial import prometheus DIRECTORY brings the history of a Prometheus into the data directory; openmetrics FILE... that of texts.
perennial export --match=SELECTOR --format=parquet|csv|openmetrics writes samples of a data directory.
Signals: SIGHUP loads the configuration again (all of it or nothing), SIGTERM ends the server in order.
Flags of Prometheus that are not listed are accepted and have no effect; /api/v1/status/flags shows all of them.";
