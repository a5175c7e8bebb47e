//! The table of all flags, and the struct [`Flags`] made from it.
//!
//! A row is a flag: its help (as a comment), field, name, type and default, then its options
//! ([`FlagSpec`]'s builder methods). The order is that of `--help`.

use super::value::{
    AcceptedMessages, ExternalUrl, Flag, FlagValue, InvalidValue, LogFormat, LogLevel, SyncInterval,
    ValueForm,
};
use connectors::config::units::{ConfigDuration, ConfigSize};

/// A row of the table.
#[derive(Debug)]
pub struct FlagSpec {
    /// The name without dashes.
    pub name: &'static str,
    /// What the value looks like.
    pub form: ValueForm,
    /// The default; empty: none.
    pub default: &'static str,
    /// What to show instead of the default if it depends on something.
    pub default_text: Option<&'static str>,
    /// The help as comment lines, each with a space before it.
    help: &'static str,
    /// The heading in `--help`.
    pub group: &'static str,
    /// Why the flag has no effect; `None`: it has one.
    pub no_effect: Option<&'static str>,
}

impl FlagSpec {
    const fn new(
        group: &'static str,
        name: &'static str,
        form: ValueForm,
        default: &'static str,
        help: &'static str,
    ) -> FlagSpec {
        FlagSpec { name, form, default, default_text: None, help, group, no_effect: None }
    }

    /// Shows `text` as the default.
    const fn default_text(self, text: &'static str) -> FlagSpec {
        FlagSpec { default_text: Some(text), ..self }
    }

    /// Marks a flag of Prometheus that is accepted only so that command lines work.
    const fn no_effect(self, why: &'static str) -> FlagSpec {
        FlagSpec { no_effect: Some(why), ..self }
    }

    /// What the flag does, without its default.
    pub fn help(&self) -> String {
        // The reason instead of a description: what Prometheus does with the flag would be wrong
        // here.
        match self.no_effect {
            None => self.help.trim().to_owned(),
            Some(why) => format!("No effect: {why}."),
        }
    }

    /// The default in words; `None`: the flag is off or empty.
    pub fn shown_default(&self) -> Option<&'static str> {
        // A switch that is off and an empty text are what everybody expects of a flag that is not
        // given.
        let default = self.default_text.unwrap_or(self.default);
        (!matches!(default, "" | "false")).then_some(default)
    }
}

/// Defines [`Flags`] and [`FLAGS`] from the table.
macro_rules! flag_table {
    ($($group:literal {
        $($(#[doc = $help:literal])*
        $field:ident $name:literal: $ty:ty = $default:literal $(, $option:ident($text:literal))*;)*
    })*) => {
        /// The command line: a field per flag.
        #[derive(Clone, Debug)]
        pub struct Flags {
            $($(#[doc = concat!("`--", $name, "`.")] pub $field: Flag<$ty>,)*)*
        }

        /// All flags.
        pub const FLAGS: &[FlagSpec] = &[
            $($(FlagSpec::new($group, $name, <$ty as FlagValue>::FORM, $default, concat!($($help),*))
                $(.$option($text))*,)*)*
        ];

        impl Flags {
            /// Reads every flag in the order of the table; `given` returns the values on the
            /// command line.
            pub(super) fn read(
                given: &mut dyn FnMut(&'static FlagSpec) -> Vec<String>,
            ) -> Result<Flags, InvalidFlag> {
                // Rows and fields come from the same lines of the macro, so their order is the
                // same.
                let mut specs = FLAGS.iter();
                Ok(Flags { $($($field: read_flag(specs.next().expect("a row per field"), given)?,)*)* })
            }

            /// The values of all flags in the order of the table, as text.
            pub(super) fn shown(&self) -> Vec<String> {
                vec![$($(self.$field.value.show(),)*)*]
            }

            /// Whether each flag is on the command line, in the order of the table.
            pub(super) fn is_given(&self) -> Vec<bool> {
                vec![$($(self.$field.is_given,)*)*]
            }
        }
    };
}

/// A flag with a value that is refused.
pub(super) struct InvalidFlag {
    pub(super) spec: &'static FlagSpec,
    pub(super) value: String,
    pub(super) why: InvalidValue,
}

fn read_flag<T: FlagValue>(
    spec: &'static FlagSpec,
    given: &mut dyn FnMut(&'static FlagSpec) -> Vec<String>,
) -> Result<Flag<T>, InvalidFlag> {
    let mut values = given(spec);
    let is_given = !values.is_empty();
    // The default goes through the same reader as a given value, so it is written in the same way.
    if !is_given && !spec.default.is_empty() {
        values.push(spec.default.to_owned());
    }
    let invalid = |why| InvalidFlag { spec, value: values.last().cloned().unwrap_or_default(), why };
    let value = T::read(&values).map_err(invalid)?;
    Ok(Flag { value, is_given })
}

flag_table! {
    "Configuration" {
        /// The configuration file (prometheus.yml). Without it the server watches itself and this
        /// machine, and is reachable from this machine only.
        config_file "config.file": String = "";
        /// Load the configuration again when it, or a rule file or scrape config file it names,
        /// changes. SIGHUP always does.
        config_auto_reload "config.auto-reload": bool = "false";
        /// How often the files are looked at.
        config_auto_reload_interval "config.auto-reload-interval": ConfigDuration = "30s";
    }
    "Web" {
        /// Address and port to listen on, or a socket of this machine: unix:///path; may be
        /// repeated.
        web_listen_address "web.listen-address": Vec<String> = "",
            default_text("0.0.0.0:9090 with --config.file, 127.0.0.1:9090 without");
        /// Listen on the sockets that systemd hands over (LISTEN_FDS) and on nothing else.
        web_systemd_socket "web.systemd-socket": bool = "false";
        /// The URL under which people reach this server: links in alerts begin with it. A path in
        /// it is the route prefix too.
        web_external_url "web.external-url": ExternalUrl = "";
        /// Path before all routes, if a proxy keeps it.
        web_route_prefix "web.route-prefix": String = "",
            default_text("the path of --web.external-url");
        /// Allow POST /-/reload and /-/quit.
        web_enable_lifecycle "web.enable-lifecycle": bool = "false";
        /// The most that limit of /api/v1/search/… may say (feature search-api); 0: anything.
        web_search_max_limit "web.search.max-limit": usize = "10000";
        /// Allow /api/v1/admin/tsdb/…: delete series, clean tombstones, snapshot; and PUT and
        /// DELETE of /api/v1/views/{name}: standing queries that come and go while the server runs.
        web_enable_admin_api "web.enable-admin-api": bool = "false";
        /// Accept samples by push at /api/v1/write.
        web_enable_remote_write_receiver "web.enable-remote-write-receiver": bool = "false";
        /// A message of remote write to accept; may be repeated. Others are answered with 415.
        web_remote_write_receiver_accepted_protobuf_messages "web.remote-write-receiver.accepted-protobuf-messages": AcceptedMessages = "",
            default_text("prometheus.WriteRequest,io.prometheus.write.v2.Request");
        /// Accept metrics of OpenTelemetry by push at /api/v1/otlp/v1/metrics.
        web_enable_otlp_receiver "web.enable-otlp-receiver": bool = "false";
        /// A file with TLS, passwords and headers of the web server, in the form of Prometheus'
        /// exporter toolkit; see docs/security.md.
        web_config_file "web.config.file": String = "";
        /// Address and port for SQL over PostgreSQL's wire protocol, such as 127.0.0.1:5432; empty:
        /// it is off. Users and TLS are those of --web.config.file; without users only addresses of
        /// this machine can be listened on. See docs/sql.md.
        sql_listen_address "sql.listen-address": String = "";
        /// Longest time for the body of a request, and for a connection without a request. Headers
        /// have 10s.
        web_read_timeout "web.read-timeout": ConfigDuration = "5m";
        /// Most connections at a time. Beyond it a connection that only waits for its client is
        /// closed for a new one; if there is none, only /-/healthy, /-/ready and /metrics are
        /// answered, and everything else with 503.
        web_max_connections "web.max-connections": usize = "512";
        /// Most connections of one client address (IPv6: of one /64 network). 0: three quarters of
        /// --web.max-connections. Behind a proxy all clients have one address.
        web_max_connections_per_address "web.max-connections-per-address": usize = "0";
        /// Bytes that may wait for all live subscribers together. Beyond it the subscription that
        /// holds most is ended, and new ones are answered with 503. 0B is 1/32 of the machine's
        /// memory, or of the container's.
        web_max_subscription_buffers "web.max-subscription-buffers": ConfigSize = "0B";
        /// Most bytes that the bodies of all requests at work hold, as sent and decompressed.
        /// Beyond it a request is answered 503 with Retry-After; one that would not fit alone
        /// cannot be sent at all. Bodies below 16KB always fit.
        web_max_body_memory "web.max-body-memory": ConfigSize = "64MB";
        /// Title of the page.
        web_page_title "web.page-title": String = "Perennial Time Series Collection and Processing Server";
        /// Folder of console templates, the pages of /consoles/.
        web_console_templates "web.console.templates": String = "consoles";
        /// Folder of the libraries (*.lib) of console templates.
        web_console_libraries "web.console.libraries": String = "console_libraries";
        /// Folder of files that are served at /user/.
        web_user_assets "web.user-assets": String = "";
        /// Regex of the origins that may ask from another site; anchored. The default lets any page
        /// read; to change something (reload, quit, delete, write) or to subscribe, the origin must
        /// match a regex that is given here, or be this server's own.
        web_cors_origin "web.cors.origin": String = ".*";
    }
    "Storage" {
        /// The data directory.
        storage_tsdb_path "storage.tsdb.path": String = "data/";
        /// How long samples are kept: a block goes when its newest sample is older. For ever if
        /// only a size is given. The configuration file's storage.tsdb.retention.time wins.
        storage_tsdb_retention_time "storage.tsdb.retention.time": ConfigDuration = "15d";
        /// Most bytes of blocks and log together; the oldest blocks go. A number and a unit: B, KB,
        /// MB, GB, TB, PB, EB, powers of 1024; 0 is no limit. The configuration file's
        /// storage.tsdb.retention.size wins.
        storage_tsdb_retention_size "storage.tsdb.retention.size": ConfigSize = "0B";
        /// Deprecated: write --storage.tsdb.retention.time, which wins.
        storage_tsdb_retention "storage.tsdb.retention": Option<ConfigDuration> = "";
        /// Length of a block.
        storage_tsdb_min_block_duration "storage.tsdb.min-block-duration": ConfigDuration = "2h";
        /// Do not lock the data directory. Two servers on one directory damage it.
        storage_tsdb_no_lockfile "storage.tsdb.no-lockfile": bool = "false";
        /// What a power failure may cost at most (a killed process costs nothing). `batch`: sync
        /// before every acknowledgement.
        storage_wal_sync_interval "storage.wal-sync-interval": SyncInterval = "100ms";
        /// How long the end of the server waits until remote write has sent what is stored. What is
        /// left then is sent after the next start.
        storage_remote_flush_deadline "storage.remote.flush-deadline": ConfigDuration = "1m";
        /// Most samples of one query of a remote read that is answered as one message; 0: no limit.
        storage_remote_read_sample_limit "storage.remote.read-sample-limit": usize = "50000000";
        /// Remote reads that are answered at a time; 0: no limit.
        storage_remote_read_concurrent_limit "storage.remote.read-concurrent-limit": usize = "10";
        /// About the most bytes of a frame of a remote read that is streamed.
        storage_remote_read_max_bytes_in_frame "storage.remote.read-max-bytes-in-frame": usize = "1048576";
    }
    "Queries" {
        /// How far back an instant selector looks for its sample.
        query_lookback_delta "query.lookback-delta": ConfigDuration = "5m";
        /// Longest query.
        query_timeout "query.timeout": ConfigDuration = "2m";
        /// Queries at a time.
        query_max_concurrency "query.max-concurrency": usize = "20";
        /// Samples one query may hold in memory.
        query_max_samples "query.max-samples": usize = "50000000";
        /// Bytes of values, labels and answer that one query may hold in memory, and of labels that
        /// one step of a rule or subscription may make; beyond it: an error. 0B is an eighth of the
        /// machine's memory, or of the container's.
        query_max_bytes "query.max-bytes": ConfigSize = "0B";
        /// The same of all queries together, answers that are being sent included; and once more of
        /// all rules and subscriptions. 0B is a quarter of the memory.
        query_max_total_bytes "query.max-total-bytes": ConfigSize = "0B";
    }
    "Rules and alerts" {
        /// How long the server may be down and still remember how long an alert's condition has
        /// held.
        rules_alert_for_outage_tolerance "rules.alert.for-outage-tolerance": ConfigDuration = "1h";
        /// Least time from a restart until a pending alert fires of which only the ALERTS_FOR_STATE
        /// series is known; only for alerts whose `for` is longer.
        rules_alert_for_grace_period "rules.alert.for-grace-period": ConfigDuration = "10m";
        /// Rules may have a statement in SQL under `sql` instead of `expr`. Other tools that read
        /// rule files refuse those.
        rules_enable_sql "rules.enable-sql": bool = "false";
        /// A firing alert is sent again after this time.
        rules_alert_resend_delay "rules.alert.resend-delay": ConfigDuration = "1m";
        /// Alerts that may wait for an Alertmanager.
        alertmanager_notification_queue_capacity "alertmanager.notification-queue-capacity": usize = "10000";
        /// Most alerts in one request to an Alertmanager.
        alertmanager_notification_batch_size "alertmanager.notification-batch-size": usize = "256";
        /// Send waiting alerts before the process ends.
        alertmanager_drain_notification_queue_on_shutdown "alertmanager.drain-notification-queue-on-shutdown": bool = "true";
    }
    "Live runtime and scraping" {
        /// Worker threads of the live runtime.
        live_workers "live.workers": Option<usize> = "", default_text("number of cores");
        /// Refuse a scrape whose content type is not a metrics format (Prometheus 3). Otherwise
        /// text that reads as metrics is taken, with a warning.
        scrape_strict_content_type "scrape.strict-content-type": bool = "false";
        /// Memory that all scrapes together may take while they are read: new series, native
        /// histograms, samples with timestamps. One scrape gets half of it at most, some million
        /// new series; others wait within their timeouts. Scrapes of known series need none.
        scrape_max_memory "scrape.max-memory": ConfigSize = "2GB";
        /// Give a sample the time of the schedule if the scrape began within
        /// --scrape.timestamp-tolerance of it.
        scrape_adjust_timestamps "scrape.adjust-timestamps": bool = "true";
        /// Most that --scrape.adjust-timestamps moves a time; at most a hundredth of the interval.
        scrape_timestamp_tolerance "scrape.timestamp-tolerance": ConfigDuration = "2ms";
    }
    "Cluster: several processes as one server" {
        /// Where each process of the cluster listens for the others: host:port, separated by
        /// commas, the same list for all. The network must be trusted: nothing is encrypted.
        /// Without it the process is alone.
        cluster_addresses "cluster.addresses": String = "";
        /// This process' place in --cluster.addresses, from 0. Process 0 has the rules and alerts;
        /// targets are divided among all.
        cluster_process "cluster.process": Option<usize> = "";
        /// How long a process that starts waits for the others.
        cluster_join_timeout "cluster.join-timeout": ConfigDuration = "5m";
    }
    "Agent mode: scrape and send, and nothing else" {
        /// Run as an agent: targets are scraped, and samples sent by remote write; there are no
        /// rules, no alerts and no queries. docs/remote.md has more.
        agent "agent": bool = "false";
        /// The data directory of an agent. Use with agent mode only.
        storage_agent_path "storage.agent.path": String = "data-agent/";
        /// Samples that are younger are kept, although they were sent. Use with agent mode only.
        storage_agent_retention_min_time "storage.agent.retention.min-time": ConfigDuration = "5m";
        /// Samples that are older are given up, although a receiver has not got them. Use with
        /// agent mode only.
        storage_agent_retention_max_time "storage.agent.retention.max-time": ConfigDuration = "4h";
        /// How often what was sent is forgotten, at most a minute. Use with agent mode only.
        storage_agent_wal_truncate_frequency "storage.agent.wal-truncate-frequency": Option<ConfigDuration> = "", default_text("1m");
        /// Size at which a file of the log ends, 10MB to 256MB. Use with agent mode only.
        storage_agent_wal_segment_size "storage.agent.wal-segment-size": ConfigSize = "0B";
        /// Do not lock the data directory of an agent. Use with agent mode only.
        storage_agent_no_lockfile "storage.agent.no-lockfile": bool = "false";
    }
    "Logging and features" {
        /// What is logged: debug, info, warn or error.
        log_level "log.level": LogLevel = "info";
        /// How it is logged: logfmt or json.
        log_format "log.format": LogFormat = "logfmt";
        /// Features, separated by commas; may be repeated. The table of features is in
        /// docs/configuration.md.
        enable_feature "enable-feature": Vec<String> = "";
    }
    "Accepted without effect" {
        web_max_notifications_subscribers "web.max-notifications-subscribers": usize = "16",
            no_effect("the page has no stream of notifications");
        storage_tsdb_max_block_duration "storage.tsdb.max-block-duration": ConfigDuration = "2h",
            no_effect("the longest block follows from the retention time");
        storage_tsdb_wal_segment_size "storage.tsdb.wal-segment-size": ConfigSize = "0B",
            no_effect("samples are stored in a format of this server's own");
        storage_tsdb_max_block_chunk_segment_size "storage.tsdb.max-block-chunk-segment-size": ConfigSize = "0B",
            no_effect("samples are stored in a format of this server's own");
        storage_tsdb_allow_overlapping_blocks "storage.tsdb.allow-overlapping-blocks": bool = "true",
            no_effect("blocks may always overlap");
        storage_tsdb_allow_overlapping_compaction "storage.tsdb.allow-overlapping-compaction": bool = "true",
            no_effect("blocks may always overlap");
        storage_tsdb_wal_compression "storage.tsdb.wal-compression": bool = "true",
            no_effect("samples are stored in a format of this server's own");
        storage_tsdb_wal_compression_type "storage.tsdb.wal-compression-type": String = "snappy",
            no_effect("samples are stored in a format of this server's own");
        storage_tsdb_head_chunks_write_queue_size "storage.tsdb.head-chunks-write-queue-size": usize = "0",
            no_effect("samples are stored in a format of this server's own");
        storage_tsdb_samples_per_chunk "storage.tsdb.samples-per-chunk": usize = "120",
            no_effect("samples are stored in a format of this server's own");
        storage_tsdb_delayed_compaction_max_percent "storage.tsdb.delayed-compaction.max-percent": usize = "10",
            no_effect("writing blocks is never delayed");
        storage_tsdb_delay_compact_file_path "storage.tsdb.delay-compact-file.path": String = "",
            no_effect("merging blocks is never delayed");
        storage_tsdb_block_reload_interval "storage.tsdb.block-reload-interval": ConfigDuration = "1m",
            no_effect("this server alone changes its blocks");
        storage_agent_wal_compression "storage.agent.wal-compression": bool = "true",
            no_effect("samples are stored in a format of this server's own");
        storage_agent_wal_compression_type "storage.agent.wal-compression-type": String = "snappy",
            no_effect("samples are stored in a format of this server's own");
        storage_agent_checkpoint_from_in_memory_series "storage.agent.checkpoint-from-in-memory-series": bool = "false",
            no_effect("what a checkpoint needs is always in memory");
        storage_agent_checkpoint_batch_size "storage.agent.checkpoint-batch-size": usize = "1000",
            no_effect("what a checkpoint needs is always in memory");
        rules_max_concurrent_evals "rules.max-concurrent-evals": usize = "4",
            no_effect("rules are evaluated by the threads of --live.workers");
        scrape_discovery_reload_interval "scrape.discovery-reload-interval": ConfigDuration = "5s",
            no_effect("targets are taken as soon as they are discovered");
        scrape_name_escaping_scheme "scrape.name-escaping-scheme": String = "values",
            no_effect("the key metric_name_escaping_scheme of the configuration decides");
        write_documentation "write-documentation": bool = "false",
            no_effect("--help and docs/configuration.md describe the flags");
        auto_gomaxprocs "auto-gomaxprocs": bool = "true",
            no_effect("this server is not written in Go: it follows the limits of its container by itself");
        auto_gomemlimit "auto-gomemlimit": bool = "true",
            no_effect("this server is not written in Go: it follows the limits of its container by itself");
        auto_gomemlimit_ratio "auto-gomemlimit.ratio": f64 = "0.9",
            no_effect("this server is not written in Go: it follows the limits of its container by itself");
        auto_gomemlimit_refresh_interval "auto-gomemlimit.refresh-interval": ConfigDuration = "0s",
            no_effect("this server is not written in Go: it follows the limits of its container by itself");
    }
}

/// The first lines of `--help`.
pub(super) const ABOUT: &str = "\
A Prometheus-compatible monitoring server in which every rule is a live dataflow.

Start it without any flag: it watches itself and this machine, and shows both at http://127.0.0.1:9090.
Open that address in a browser: every server has a web page of live queries, alerts, targets and rules.
Start it as Prometheus:    perennial --config.file=prometheus.yml --storage.tsdb.path=data/

Flags are those of Prometheus 3, and a few of our own. Both `--flag=value` and `--flag value` work; switches are
`--switch`, `--no-switch` and `--switch=false`.";

/// The last lines of `--help`.
pub(super) const AFTER: &str = "\
perennial test promql FILE... runs test files in Prometheus' language for PromQL instead of a server.
perennial check views --url=URL compares the views of a running server with its history.
perennial import prometheus DIRECTORY brings the history of a Prometheus into the data directory; openmetrics FILE... that of texts.
perennial export --match=SELECTOR --format=parquet|csv|openmetrics writes samples of a data directory.
Signals: SIGHUP loads the configuration again (all of it or nothing), SIGTERM ends the server in order.
Flags of Prometheus that are not listed are accepted and have no effect; docs/configuration.md says why of each.";
