//! Tests the configuration file and the command line as a user sees them, with golden files and
//! tables: values, printed form, errors. Also that the tables of `docs/configuration.md` are those
//! of the code.
#![allow(dead_code, reason = "the binary uses the rest")]

#[path = "../src/config/mod.rs"]
mod config;
#[path = "../src/flags/mod.rs"]
mod flags;
#[path = "../src/machine.rs"]
mod machine;
#[path = "config_page/mod.rs"]
mod page;
#[path = "../src/retention.rs"]
mod retention;
#[path = "support/secrets.rs"]
mod secrets;

use connectors::config::path::ConfigPath;
use flags::Feature;
use std::path::Path;

fn env(name: &str) -> Option<String> {
    (name == "REGION").then(|| "eu-1".to_owned())
}

fn load(text: &str) -> Result<(config::Config, Vec<String>), String> {
    let (config, warnings) = config::parse(Path::new("p.yml"), text, &env).map_err(|e| e.to_string())?;
    Ok((config, warnings.iter().map(ToString::to_string).collect()))
}

#[test]
fn faults_name_place_and_remedy() {
    let mut count = 0;
    for case in include_str!("data/config_faults.txt").split("=== ").skip(1) {
        let (want, text) = case.split_once('\n').unwrap();
        let got = load(text).map(|_| "no fault".to_owned()).unwrap_or_else(|fault| fault);
        assert_eq!(got, want, "\n{text}");
        count += 1;
    }
    assert!(count > 8, "only {count} cases found");
}

/// Each case has a name, a line of the printed form, and a text that Prometheus accepts.
#[test]
fn what_prometheus_accepts_loads() {
    let mut count = 0;
    for case in include_str!("data/config_accepted.txt").split("=== ").skip(1) {
        let (head, text) = case.split_once('\n').unwrap();
        let (name, want) = head.split_once(" :: ").unwrap();
        let (config, _) = load(text).unwrap_or_else(|fault| panic!("{name}: {fault}\n{text}"));
        let lines: Vec<&str> = config.text.lines().map(str::trim).collect();
        let named = lines.iter().any(|line| *line == want || line.strip_prefix("- ") == Some(want));
        assert!(named, "{name}: {want} is missing in\n{}", config.text);
        assert_eq!(load(&config.text).unwrap().0.text, config.text, "{name}: what is printed loads");
        count += 1;
    }
    assert!(count > 10, "only {count} cases found");
}

/// What Prometheus 3.14 shows at `/api/v1/status/config` of a file with most blocks; secrets are
/// written again.
#[test]
fn what_prometheus_prints_loads() {
    let (config, _) = load(include_str!("data/printed_by_prometheus.yml")).unwrap();
    assert_eq!(config.jobs.len(), 3);
    assert_eq!(config.storage.out_of_order_ms, Some(7_200_000));
    assert_eq!(load(&config.text).unwrap().0.text, config.text);
}

/// Each case has a part of Prometheus' error, and a text that Prometheus refuses.
#[test]
fn what_prometheus_refuses_does_not_load() {
    let mut count = 0;
    for case in include_str!("data/config_refused.txt").split("=== ").skip(1) {
        let (want, text) = case.split_once('\n').unwrap();
        let fault = load(text).expect_err(&format!("{want}: this must not load\n{text}"));
        assert!(fault.contains(want), "{want}: {fault}\n{text}");
        count += 1;
    }
    assert!(count > 40, "only {count} cases found");
}

/// Each case has a name, what Prometheus 3.14 says, and a text with a key that is empty or null.
#[test]
fn empty_texts_and_nulls_are_judged_as_in_prometheus() {
    let mut differing = Vec::new();
    let mut num_differing = 0;
    let mut count = 0;
    for case in include_str!("data/config_empties.txt").split("=== ").skip(1) {
        let (head, text) = case.split_once('\n').unwrap();
        let (name, want) = head.split_once(" :: ").unwrap();
        let found = load(text).map_or_else(|fault| fault, |_| "ok".to_owned());
        let is_equal = match want {
            "ok" => found == "ok",
            "refused" => found != "ok",
            // Said in docs/configuration.md.
            "differs" => true,
            text => found.contains(text),
        };
        num_differing += usize::from(want == "differs");
        if !is_equal {
            differing.push(format!("{name}: {want}\n  {found}"));
        }
        count += 1;
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(num_differing < 2, "{num_differing} differ");
    assert!(count > 200, "only {count} cases found");
}

#[test]
fn a_whole_file_loads_and_prints_in_normal_form() {
    let (config, warnings) = load(include_str!("data/whole.yml")).unwrap();
    assert_eq!(config.text, include_str!("data/whole.normal.yml"));
    assert_eq!(load(&config.text).unwrap().0.text, config.text, "the normal form is its own normal form");
    let jobs: Vec<(&str, i64)> = config.jobs.iter().map(|j| (j.name(), j.interval.0)).collect();
    assert_eq!(jobs, [("prometheus", 5_000), ("web-app", 15_000), ("kubernetes-pods", 15_000)]);
    assert_eq!(config.external_labels.to_string(), r#"{cluster="production", region="eu-1"}"#);
    assert_eq!(config.alerting.alertmanagers[0].discovery.static_configs[0].targets, ["alertmanager:9093"]);
    assert_eq!(config.storage.old_retention_time, Some(15 * 86_400_000));
    assert_eq!(config.storage.old_retention_size, Some(10 << 30));
    assert_eq!(config.jobs[2].config.keys.relabel_configs[0].regex.as_deref(), Some("true"));
    let warned = warnings.join("\n");
    let part = "storage.tsdb.retention.time is not a key";
    assert!(warned.contains(part), "{part} is missing in\n{warned}");
    let remote: Vec<&str> = warned.lines().filter(|line| line.contains("remote_")).collect();
    assert!(remote.len() == 1 && remote[0].contains("rules and alerts read the own store only"), "{warned}");
    assert!(!warned.contains("_sd_configs"), "{warned}");
    assert!(!format!("{config:?}{}", config.text).contains("hunter2"), "a secret is shown");
}

/// Prometheus' rules read from other servers, too; whoever relies on that is told.
#[test]
fn rules_beside_a_remote_read_of_recent_samples_are_a_warning() {
    let told = |keys: &str, rules: &str| {
        let text = format!("{rules}remote_read: [{{url: 'http://h/read'{keys}}}]\n");
        load(&text).unwrap().1.iter().any(|line| line.contains("rules and alerts read the own store only"))
    };
    let rules = "rule_files: [none-*.yml]\n";
    assert!(told(", read_recent: true", rules));
    assert!(!told("", rules));
    assert!(!told(", read_recent: true", ""));
}

#[test]
fn printed_configuration_hides_secrets_by_type() {
    let text = secrets::accepted();
    let (config, warnings) = load(&text).unwrap();
    for shown in [&config.text, &format!("{config:?}"), &warnings.join("\n")] {
        assert!(!shown.contains(secrets::CANARY), "{shown}");
    }
    // Every secret is there, and nothing else is hidden.
    let hidden = config.text.matches("<secret>").count();
    assert_eq!(hidden, text.matches(secrets::CANARY).count());
    for label in ["token: label-1", "key: label-2", "password: x://u:label-3@h", "- shown"] {
        assert!(config.text.contains(label), "{label} is missing in\n{}", config.text);
    }
    assert_eq!(load(&config.text).unwrap().0.text, config.text);
}

#[test]
fn objects_keys_are_hidden() {
    let keys = "url: s3://b, access_key_id: shown, secret_access_key: CANARY, session_token: CANARY";
    let endpoint = "endpoint: 'https://u:CANARY@h'";
    let (config, _) = load(&format!("storage: {{objects: {{{keys}, {endpoint}}}}}")).unwrap();
    let shown = format!("{}{config:?}", config.text);
    assert!(!shown.contains(secrets::CANARY) && config.text.contains("access_key_id: shown"), "{shown}");
}

/// Each key that has no effect is one line, with the reason; `/api/v1/status/flags` has it, too.
#[test]
fn keys_without_effect_are_said() {
    let aws = ["ecs", "elasticache", "msk", "rds"];
    let jobs: String = aws.iter().fold(String::new(), |jobs, kind| {
        format!("{jobs}- {{job_name: {kind}, {kind}_sd_configs: [{{region: a, request_concurrency: 3}}]}}\n")
    });
    let tsdb = "stale_series_compaction_threshold: 0.5, chunk_encoding: {floats: xor2}";
    let text = format!("runtime: {{gogc: 50}}\nstorage: {{tsdb: {{{tsdb}}}}}\nscrape_configs:\n{jobs}");
    let (config, warnings) = load(&text).unwrap();
    let concurrency = |kind: &str| format!("scrape_configs.{kind}_sd_configs.request_concurrency");
    let mut keys: Vec<String> = aws.iter().map(|kind| concurrency(kind)).collect();
    keys.extend(["runtime.gogc", "storage.tsdb.chunk_encoding.floats"].map(str::to_owned));
    keys.push("storage.tsdb.stale_series_compaction_threshold".to_owned());
    assert_eq!((config.without_effect.len(), warnings.len()), (keys.len(), keys.len()), "{warnings:?}");
    for key in keys {
        let line =
            config.without_effect.iter().find(|line| line.starts_with(&format!("{key} has no effect: ")));
        let line = line.unwrap_or_else(|| panic!("{key} is not said in {:?}", config.without_effect));
        assert!(!line.contains("does not use it"), "{line} gives no reason");
    }
    assert!(load("scrape_configs: [{job_name: a}]").unwrap().0.without_effect.is_empty());
}

#[test]
fn errors_show_no_secrets() {
    for text in secrets::refused() {
        let fault = load(&text).and_then(|(config, _)| config.check_clients().map_err(|e| e.to_string()));
        let fault = fault.expect_err(&text);
        assert!(!fault.contains(secrets::CANARY), "{text}: {fault}");
    }
}

#[test]
fn labels_keep_the_spelling_of_the_file() {
    let labels = "{version: 1.10, zeros: 007, hex: 0x1F, on: yes, none: ''}";
    let text =
        format!("scrape_configs: [{{job_name: a, static_configs: [{{targets: [x], labels: {labels}}}]}}]");
    let (config, _) = load(&text).unwrap();
    for line in ["version: \"1.10\"", "zeros: \"007\"", "hex: \"0x1F\"", "\"on\": \"yes\"", "none: \"\""] {
        assert!(config.text.contains(&format!("      {line}\n")), "{line} is missing in\n{}", config.text);
    }
}

#[test]
fn rule_files_are_relative_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    for name in ["b.yml", "a.yml", "c.txt"] {
        std::fs::write(dir.path().join("rules").join(name), "groups: []\n").unwrap();
    }
    let jobs = "scrape_configs:\n- job_name: from-file\n";
    std::fs::write(dir.path().join("jobs.yml"), jobs).unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, "rule_files: ['rules/*.yml', none/*.yml]\nscrape_config_files: [jobs.yml]\n")
        .unwrap();
    let (config, warnings) = config::load(&file).unwrap();
    let names: Vec<_> = config.rule_files.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!((names, warnings.len()), (vec!["a.yml", "b.yml"], 0));
    assert_eq!(config.jobs[0].name(), "from-file");
    assert_eq!(config.sources.len(), 2);
    let missing = config::load(&dir.path().join("none.yml")).unwrap_err().to_string();
    assert!(missing.contains("none.yml: cannot be opened") && missing.ends_with("permissions"), "{missing}");
}

#[test]
fn paths_are_relative_to_the_file_they_stand_in() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("more")).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let job = "scrape_configs:\n- job_name: {name}\n  file_sd_configs: [{files: [t/*.json, /abs/t.yml]}]\n  \
               tls_config: {ca_file: ca, cert_file: cert, key_file: key}\n  basic_auth: {username_file: u, \
               password_file: p}\n  http_headers: {X-Key: {files: [h]}}\n";
    std::fs::write(at("more/jobs.yml"), job.replace("{name}", "there")).unwrap();
    let alerting = "alerting: {alertmanagers: [{authorization: {credentials_file: token}, file_sd_configs: \
                    [{files: [am.yml]}]}, {bearer_token_file: /abs/token}]}\n";
    let text = format!("scrape_config_files: [more/*.yml]\n{alerting}{}", job.replace("{name}", "here"));
    std::fs::write(at("p.yml"), text).unwrap();
    let (config, _) = config::load(Path::new(&at("p.yml"))).unwrap();
    for (job, prefix) in config.jobs.iter().zip(["", "more/"]) {
        let http = &job.config.http;
        let own = |name: &str| Some(ConfigPath::from(at(&format!("{prefix}{name}"))));
        let tls = &http.tls_config;
        assert_eq!((&tls.ca_file, &tls.cert_file, &tls.key_file), (&own("ca"), &own("cert"), &own("key")));
        let basic = http.basic_auth.as_ref().unwrap();
        assert_eq!((&basic.username_file, &basic.password_file), (&own("u"), &own("p")));
        assert_eq!(http.http_headers["X-Key"].files, [own("h").unwrap()]);
        let files = &job.config.discovery.file_sd_configs[0].files;
        assert_eq!(*files, [own("t/*.json").unwrap(), "/abs/t.yml".into()]);
    }
    let [first, second] = &config.alerting.alertmanagers[..] else { panic!("two Alertmanagers") };
    assert_eq!(first.http.authorization.as_ref().unwrap().credentials_file.as_deref(), Some(&*at("token")));
    assert_eq!(first.discovery.file_sd_configs[0].files, [ConfigPath::from(at("am.yml"))]);
    assert_eq!(second.http.bearer_token_file.as_deref(), Some("/abs/token"));
}

/// Makes a certificate and a key in `directory`.
fn make_certificate(directory: &Path, name: &str) {
    let arguments = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.crt \
         -days 2 -subj /CN={name} -addext subjectAltName=DNS:{name}"
    );
    let made = std::process::Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("openssl (Debian package openssl)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The example files of Prometheus' exporter toolkit, and further ones: a verdict, which is a part
/// of the error or nothing, and the file.
#[test]
fn web_files_are_judged_as_in_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    make_certificate(dir.path(), "server");
    make_certificate(dir.path(), "client");
    let file = dir.path().join("web.yml");
    let inline = |name: &str| {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        text.lines().map(|line| format!("    {line}\n")).collect::<String>()
    };
    let [certificate, key] = ["server.crt", "server.key"].map(inline);
    let mut count = 0;
    for case in include_str!("data/web_files.txt").split("=== ").skip(1) {
        let (want, text) = case.split_once('\n').unwrap();
        let text = text.replace("{certificate}\n", &certificate).replace("{key}\n", &key);
        std::fs::write(&file, &text).unwrap();
        let verdict = config::read_web_file(&file).map_err(|e| e.to_string());
        match (&verdict, want.is_empty()) {
            (Ok(_), true) => {}
            (Err(fault), false) => assert!(fault.contains(want), "{text}: {fault}"),
            _ => panic!("{want:?}: {verdict:?}\n{text}"),
        }
        count += 1;
    }
    assert!(count > 40, "only {count} cases found");
    assert!(config::read_web_file(&dir.path().join("none.yml")).is_err());
}

#[test]
fn a_web_file_says_what_is_not_spoken_and_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    make_certificate(dir.path(), "server");
    let file = dir.path().join("web.yml");
    let text = "tls_server_config: {cert_file: server.crt, key_file: server.key, min_version: TLS10, \
        cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]}\n\
        basic_auth_users: {us: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay}\n";
    std::fs::write(&file, text).unwrap();
    let web = config::read_web_file(&file).unwrap();
    assert_eq!(web.notes.len(), 2, "{:?}", web.notes);
    assert!(web.notes[0].contains("below 1.2") && web.notes[1].contains("CBC"), "{:?}", web.notes);
    assert!(!format!("{web:?}").contains("hNf2lSsxfm0"), "a hash is shown");
    std::fs::write(&file, text.replace("us: $2b", "us: CANARY$2b")).unwrap();
    let fault = config::read_web_file(&file).unwrap_err().to_string();
    assert!(fault.contains("bcrypt") && !fault.contains("CANARY"), "{fault}");
}

#[test]
fn flags_in_every_spelling() {
    let flags = flags::parse([
        "--config.file",
        "/etc/p.yml",
        "--storage.tsdb.path=/prometheus",
        "--web.enable-lifecycle",
        "--no-alertmanager.drain-notification-queue-on-shutdown",
        "--storage.tsdb.retention.time=30d",
        "--web.enable-admin-api=false",
        "--web.listen-address=:9090",
        "--web.listen-address=[::1]:9091",
        "--no-storage.tsdb.wal-compression",
        "--query.timeout",
        "30s",
        "--storage.wal-sync-interval=batch",
        "--enable-feature=promql-experimental-functions,old-ui",
        "--enable-feature=promql-experimental-function",
        "--web.console.libraries=/etc/prometheus/console_libraries",
    ])
    .unwrap();
    assert_eq!(flags.config_file().unwrap(), Path::new("/etc/p.yml"));
    assert!(*flags.web_enable_lifecycle && !*flags.alertmanager_drain_notification_queue_on_shutdown);
    assert_eq!(flags.listen_addresses(), [":9090", "[::1]:9091"]);
    assert_eq!((flags.retention_time(), flags.query_timeout.0), (Some(30 * 86_400_000), 30_000));
    assert_eq!(flags.wal_sync_interval(), 0);
    assert!(flags.has(Feature::PromqlExperimentalFunctions));
    assert_eq!(flags.unknown_features().len(), 1);
    assert!(flags.unknown_features()[0].contains("did you mean \"promql-experimental-functions\"?"));
    let without_effect = flags.without_effect();
    // `--web.console.libraries` has one.
    assert_eq!(without_effect.len(), 2, "{without_effect:?}");
    assert!(
        without_effect
            .contains(&"--enable-feature=old-ui has no effect: this server has a page of its own".to_owned())
    );
    let map = flags.as_map();
    assert_eq!((map["query.timeout"].as_str(), map["storage.tsdb.path"].as_str()), ("30s", "/prometheus"));
    assert_eq!(
        (map["web.enable-admin-api"].as_str(), map["storage.tsdb.wal-compression"].as_str()),
        ("false", "false")
    );
}

/// All flags of Prometheus 3.14: those that `cmd/prometheus/main.go` defines, hidden ones included,
/// and those of its libraries for the log and the web server.
const FLAGS_OF_PROMETHEUS: &str =
    "agent alertmanager.drain-notification-queue-on-shutdown alertmanager.notification-batch-size
alertmanager.notification-queue-capacity auto-gomaxprocs auto-gomemlimit auto-gomemlimit.ratio
auto-gomemlimit.refresh-interval config.auto-reload config.auto-reload-interval config.file
enable-feature log.format log.level query.lookback-delta query.max-concurrency query.max-samples
query.timeout rules.alert.for-grace-period rules.alert.for-outage-tolerance rules.alert.resend-delay
rules.max-concurrent-evals scrape.adjust-timestamps scrape.discovery-reload-interval
scrape.timestamp-tolerance storage.agent.checkpoint-batch-size
storage.agent.checkpoint-from-in-memory-series storage.agent.no-lockfile storage.agent.path
storage.agent.retention.max-time storage.agent.retention.min-time storage.agent.wal-compression
storage.agent.wal-compression-type storage.agent.wal-segment-size
storage.agent.wal-truncate-frequency storage.remote.flush-deadline
storage.remote.read-concurrent-limit storage.remote.read-max-bytes-in-frame
storage.remote.read-sample-limit storage.tsdb.allow-overlapping-compaction
storage.tsdb.block-reload-interval storage.tsdb.delay-compact-file.path
storage.tsdb.delayed-compaction.max-percent storage.tsdb.head-chunks-write-queue-size
storage.tsdb.max-block-chunk-segment-size storage.tsdb.max-block-duration
storage.tsdb.min-block-duration storage.tsdb.no-lockfile storage.tsdb.path
storage.tsdb.retention.size storage.tsdb.retention.time storage.tsdb.samples-per-chunk
storage.tsdb.wal-compression storage.tsdb.wal-compression-type storage.tsdb.wal-segment-size
web.config.file web.console.libraries web.console.templates web.cors.origin web.enable-admin-api
web.enable-lifecycle web.enable-otlp-receiver web.enable-remote-write-receiver web.external-url
web.listen-address web.max-connections web.max-notifications-subscribers web.page-title
web.read-timeout web.remote-write-receiver.accepted-protobuf-messages web.route-prefix
web.search.max-limit web.user-assets write-documentation";

/// The file has the keys of Prometheus 3.14, by the Go type of their block: `yaml` tags of
/// `config`, `discovery`, `model/relabel`, and of the libraries for HTTP clients and clouds.
#[test]
fn no_key_of_prometheus_is_unknown() {
    let schema = config::schema();
    let mut count = 0;
    for line in include_str!("data/config_keys.txt").lines() {
        let (block, keys) = line.split_once(": ").unwrap();
        let known = schema.keys_of(block).unwrap_or_else(|| panic!("there is no block {block}"));
        let unknown: Vec<&str> = keys.split(' ').filter(|key| !known.contains(key)).collect();
        assert!(unknown.is_empty(), "{block}: {unknown:?}");
        count += 1;
    }
    assert!(count > 60, "only {count} blocks found");
}

/// Both messages of remote write are taken unless the flag names one.
#[test]
fn a_flag_names_the_messages_of_remote_write_that_are_taken() {
    let flag = "--web.remote-write-receiver.accepted-protobuf-messages";
    let parse = |names: &[&str]| flags::parse(names.iter().map(|name| format!("{flag}={name}")));
    let taken = |names: &[&str]| {
        let flags = parse(names).unwrap();
        flags
            .web_remote_write_receiver_accepted_protobuf_messages
            .0
            .iter()
            .map(|m| m.name())
            .collect::<Vec<_>>()
    };
    let [v1, v2] = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];
    assert_eq!(taken(&[]), [v1, v2]);
    assert_eq!(taken(&[v2]), [v2]);
    let refused = parse(&["x"]).unwrap_err().text;
    let says = format!("unknown type for remote write protobuf message x, supported: {v1}, {v2}");
    assert!(refused.contains(&says), "{refused}");
    assert!(parse(&[v1, v1]).is_err());
}

#[test]
fn no_flag_of_prometheus_is_unknown() {
    let unknown: Vec<&str> = FLAGS_OF_PROMETHEUS
        .split_whitespace()
        .filter(|name| !flags::FLAGS.iter().any(|flag| flag.name == *name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let features = "auto-reload-config concurrent-rule-eval created-timestamp-zero-ingestion delayed-compaction \
        exemplar-storage extra-scrape-metrics fast-startup histograms-st-encoding memory-snapshot-on-shutdown \
        metadata-wal-records native-histograms old-ui ooo-native-histograms otlp-deltatocumulative \
        otlp-native-delta-ingestion promql-binop-fill-modifiers promql-delayed-name-removal promql-duration-expr \
        promql-experimental-functions promql-extended-range-selectors promql-per-step-stats search-api st-storage \
        st-synthesis type-and-unit-labels use-start-timestamps use-uncached-io xor2-encoding";
    let unknown: Vec<&str> =
        features.split_whitespace().filter(|name| Feature::named(name).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Each mode refuses the flags of the other in Prometheus' words.
#[test]
fn a_mode_has_its_own_flags() {
    let refused: [(&[&str], i32, &str); 5] = [
        (
            &["--agent", "--storage.tsdb.path=x", "--query.timeout=1m"],
            3,
            "The following flag(s) can not be used in agent mode: [\"--storage.tsdb.path\" \"--query.timeout\"]\n",
        ),
        (
            &["--agent", "--rules.enable-sql"],
            3,
            "The following flag(s) can not be used in agent mode: [\"--rules.enable-sql\"]\n",
        ),
        (
            &["--storage.agent.path=x", "--storage.agent.no-lockfile"],
            3,
            "The following flag(s) can only be used in agent mode: [\"--storage.agent.path\" \"--storage.agent.no-lockfile\"]\n",
        ),
        (
            &["--agent", "--storage.agent.checkpoint-batch-size=0"],
            1,
            "--storage.agent.checkpoint-batch-size must be greater than 0.\n",
        ),
        (
            &["--agent", "--storage.agent.wal-segment-size=1MB"],
            1,
            "flag 'storage.agent.wal-segment-size' must be set between 10MB and 256MB\n",
        ),
    ];
    for (args, code, text) in refused {
        let exit = flags::parse(args.iter().copied()).expect_err(text);
        assert_eq!((exit.code, exit.text.as_str()), (code, text), "{args:?}");
    }
    let agent =
        flags::parse(["--agent", "--storage.agent.retention.min-time=6h", "--storage.agent.no-lockfile"]);
    let agent = agent.unwrap();
    let kept = agent.agent_retention().unwrap();
    assert_eq!((kept.least, kept.most, kept.every.as_secs()), (21_600_000, 21_600_000, 60));
    assert_eq!((agent.data_path(None), agent.lock_data()), ("data-agent/".into(), false));
    let frequent = flags::parse(["--agent", "--storage.agent.wal-truncate-frequency=5s"]).unwrap();
    assert_eq!(frequent.agent_retention().unwrap().every.as_secs(), 5);
    assert_eq!(frequent.without_effect(), [""; 0]);
    // Each flag of the log works, or says that it does not.
    let all = [
        "wal-compression",
        "wal-compression-type=zstd",
        "checkpoint-from-in-memory-series",
        "checkpoint-batch-size=9",
    ];
    let all = all.map(|flag| format!("--storage.agent.{flag}"));
    let all =
        all.into_iter().chain(["--agent", "--storage.agent.wal-truncate-frequency=2h"].map(str::to_owned));
    let lines = flags::parse(all).unwrap().without_effect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("--storage.agent.")), "{lines:?}");
    assert_eq!(flags::parse(["--config.file=x"]).unwrap().agent_retention(), None);
    let refused =
        ["rule_files: [a.yml]", "alerting: {alertmanagers: [{}]}", "remote_read: [{url: 'http://h'}]"];
    for (text, field) in refused.iter().zip(["rule_files", "alerting", "remote_read"]) {
        let (config, _) = load(text).unwrap();
        let error = config.check_mode(&agent).unwrap_err().to_string();
        assert!(error.contains(&format!("field {field} is not allowed in agent mode")), "{error}");
    }
}

#[test]
fn defaults_depend_on_the_configuration_file() {
    let none: [&str; 0] = [];
    let flags = flags::parse(none).unwrap();
    assert_eq!((flags.config_file(), flags.listen_addresses()), (None, vec!["127.0.0.1:9090".to_owned()]));
    assert_eq!(
        (flags.wal_sync_interval(), flags.live_workers(3), flags.query_lookback_delta.0),
        (100, 3, 300_000)
    );
    assert_eq!(flags.data_path(None), Path::new("data/"));
    assert_eq!(flags.data_path(Some(&"/from/file".into())), Path::new("/from/file"));
    assert_eq!((flags.block_range(None), flags.block_range(Some(3_600_000))), (7_200_000, 3_600_000));
    let short = flags::parse(["--storage.tsdb.min-block-duration=5m"]).unwrap();
    assert_eq!(short.block_range(Some(3_600_000)), 300_000);
    assert_eq!((flags.auto_reload(), flags.lock_data()), (None, true));
    let watched = ["--enable-feature=auto-reload-config", "--config.auto-reload-interval=10ms"];
    assert_eq!(flags::parse(watched).unwrap().auto_reload(), Some(1_000));
    assert!(!flags::parse(["--storage.tsdb.no-lockfile"]).unwrap().lock_data());
    assert_eq!(
        (
            flags.rules_alert_resend_delay.0,
            flags.rules_alert_for_outage_tolerance.0,
            flags.rules_alert_for_grace_period.0
        ),
        (60_000, 3_600_000, 600_000)
    );
    assert_eq!(flags.external_url("host"), "http://host:9090");
    assert_eq!(flags::parse(["--config.file=x"]).unwrap().listen_addresses(), ["0.0.0.0:9090"]);
    let proxied = flags::parse(["--web.external-url=https://h/prom/"]).unwrap();
    assert_eq!(
        (proxied.external_url("x").as_str(), proxied.route_prefix().as_str()),
        ("https://h/prom", "/prom")
    );
    let rooted = flags::parse(["--web.external-url=https://h/prom/", "--web.route-prefix=/"]).unwrap();
    assert_eq!(rooted.route_prefix(), "/");
}

/// The retention for these flags and this `storage.tsdb` block, as the API shows it.
fn kept(args: &[&str], tsdb: &str) -> String {
    let flags = flags::parse(args.iter().copied()).unwrap();
    let (config, _) = load(&format!("storage: {{tsdb: {tsdb}}}\n")).unwrap();
    retention::text(retention::in_force(&flags, &config.storage, Some(1_000_000)))
}

#[test]
fn the_file_wins_over_flags_and_flags_over_old_spellings() {
    const TIME: &str = "--storage.tsdb.retention.time=30d";
    const SIZE: &str = "--storage.tsdb.retention.size=512MB";
    let cases: [(&[&str], &str, &str); 19] = [
        (&[], "{}", "15d"),
        (&[TIME], "{}", "30d"),
        (&[SIZE], "{}", "512MiB"),
        (&[TIME, SIZE], "{}", "30d or 512MiB"),
        (&["--storage.tsdb.retention=4w"], "{}", "4w"),
        (&["--storage.tsdb.retention=4w", TIME], "{}", "30d"),
        (&["--storage.tsdb.retention.time=0", "--storage.tsdb.retention.size=0"], "{}", "15d"),
        (&["--storage.tsdb.retention.size=-1GB"], "{}", "15d"),
        (&[], "{retention: {size: 1.5GB}}", "1GiB512MiB"),
        (&[TIME, SIZE], "{retention: {time: 1h}}", "1h or 512MiB"),
        (&[TIME, SIZE], "{retention: {time: 0s, size: 1GB}}", "30d or 1GiB"),
        (&[TIME], "{retention.time: 1h, retention.size: 1GB}", "30d or 1GiB"),
        (&[], "{retention.time: 1h, retention: {time: 2h}}", "2h"),
        (&[], "{retention.time: 1h}", "1h"),
        (&[], "{retention: {percentage: 80}}", "80%"),
        (&[TIME, SIZE], "{retention: {percentage: 0.5}}", "30d or 0.5%"),
        (&[], "{retention: {percentage: 0}}", "15d"),
        (&[SIZE], "{retention: {percentage: 0, size: 1GB}}", "1GiB"),
        (&[], "{retention: {time: 1d, size: 1GB, percentage: 100}}", "1d or 100%"),
    ];
    for (args, tsdb, want) in cases {
        assert_eq!(kept(args, tsdb), want, "{args:?} {tsdb}");
    }
    assert_eq!(flags::parse([SIZE]).unwrap().as_map()["storage.tsdb.retention.size"], "512MiB");
    let (config, _) = load("storage: {tsdb: {retention: {percentage: 25, size: 7B}}}").unwrap();
    let flags = flags::parse([SIZE]).unwrap();
    let bytes = |disk| retention::in_force(&flags, &config.storage, disk).limits.size_bytes;
    assert_eq!((bytes(Some(1_000_000)), bytes(None)), (250_000, 7), "of a disk that is not known: the size");
}

#[test]
fn some_series_have_a_retention_of_their_own() {
    let (config, warnings) = load(
        "storage:\n  retention:\n  - {match: 'slo:requests', time: 1y}\n  - {match: '{job=~\"debug.*\"}', time: 6h}\n  \
         - match: keep\n    time: 0s\n  tsdb: {retention: {time: 30d}}\n",
    )
    .unwrap();
    assert_eq!(warnings.len(), 0);
    let rules = &config.storage.series_retention;
    let shown: Vec<_> = rules.iter().map(|r| (r.matchers[0].value.as_str(), r.time_ms / 3_600_000)).collect();
    assert_eq!(shown, [("slo:requests", 365 * 24), ("debug.*", 6), ("keep", 0)]);
    for (rule, part) in [
        (
            "{match: 'a{', time: 1d}",
            "p.yml:1:23: storage.retention: 1:3: parse error: unexpected end of input",
        ),
        ("{match: '{a=~\".*\"}', time: 1d}", "at least one non-empty matcher"),
        ("{match: up, time: often}", "not a valid duration string"),
        ("{match: up}", "time"),
        ("{match: up, time: 1d, size: 3}", "size"),
    ] {
        let fault = load(&format!("storage: {{retention: [{rule}]}}\n")).unwrap_err().to_string();
        assert!(fault.contains(part), "{rule}: {fault}");
    }
}

#[test]
fn old_blocks_have_a_place() {
    let text = "storage:\n  objects: {url: s3://bucket/prefix, after: 2d, cache_size: 5GB, access_key_id: me, \
                secret_access_key: hunter2, ca_file: ca.pem}\n";
    let (config, warnings) = load(text).unwrap();
    let objects = config.storage.objects.clone().unwrap();
    assert_eq!((warnings.len(), objects.after.0, objects.cache_size.0), (0, 2 * 86_400_000, 5 << 30));
    assert!(objects.ca_file.is_some_and(|file| file.ends_with("ca.pem")));
    assert!(
        config.text.contains("s3://bucket/prefix") && config.text.contains("<secret>"),
        "{}",
        config.text
    );
    assert!(!format!("{config:?}{}", config.text).contains("hunter2"), "a secret is shown");
    let (config, _) = load("storage: {objects: {url: 'file:///srv/blocks'}}\n").unwrap();
    assert_eq!(config.storage.objects.unwrap().after.0, 7 * 86_400_000);
    for (objects, part) in [
        ("{url: bucket}", "storage.objects: url \"bucket\""),
        ("{after: 1d}", "url"),
        ("{url: s3://bucket, bucket: x}", "bucket"),
        ("{url: s3://bucket, after: 0s}", "after must be greater than 0"),
    ] {
        let fault = load(&format!("storage: {{objects: {objects}}}\n")).unwrap_err().to_string();
        assert!(fault.contains(part), "{objects}: {fault}");
    }
}

#[test]
fn wrong_flags_say_what_to_do() {
    let cases: [(&[&str], &str); 11] = [
        (&["--storage.tsdb.retention.time=15"], "not a valid duration string: \"15\""),
        (&["--storage.tsdb.retention.time=300y"], "duration out of range"),
        (&["--storage.tsdb.retention.size=10XB"], "units: unknown unit XB in 10XB"),
        (&["--storage.tsdb.pth=x"], "--storage.tsdb.path"),
        (&["--query.timeout=5 minutes"], "write a number and a unit"),
        (&["--web.external-url=:bad"], "--web.external-url=:bad: not a valid URL"),
        (&["--web.external-url=ftp://h/"], "the scheme \"ftp\" is neither http nor https"),
        (&["--log.level=loud"], "possible here: debug, info, warn, error"),
        (&["--web.enable-lifecycle=perhaps"], "write true or false"),
        (&["--query.max-samples=many"], "not a whole number"),
        (&["stray"], "stray"),
    ];
    for (args, part) in cases {
        let exit = flags::parse(args.iter().copied()).unwrap_err();
        assert_eq!(exit.code, 2, "{args:?}");
        assert!(
            exit.text.contains(part) && exit.text.contains("perennial --help"),
            "{args:?}: {}",
            exit.text
        );
    }
    let help = flags::parse(["--help"]).unwrap_err();
    assert_eq!(help.code, 0);
    for part in
        ["--config.file", "127.0.0.1:9090", "Rules and alerts", "SIGHUP", "--storage.wal-sync-interval"]
    {
        assert!(help.text.contains(part), "{part} is missing in\n{}", help.text);
    }
    assert!(flags::parse(["--version"]).unwrap_err().text.contains(env!("CARGO_PKG_VERSION")));
}

/// Makes a configuration of a given size.
type Text = fn(usize) -> String;

fn list(n: usize, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect()
}

/// A configuration with one job that has these keys.
fn job(keys: &str) -> String {
    format!("scrape_configs:\n- job_name: j\n{keys}")
}

#[test]
fn twice_the_configuration_costs_at_most_a_little_more_than_twice() {
    let texts: [(&str, usize, Text); 10] = [
        ("jobs", 200, |n| {
            let one = |i: usize| format!("- job_name: j{i}\n  static_configs: [{{targets: ['a:{i}']}}]\n");
            format!("scrape_configs:\n{}", list(n, one))
        }),
        ("targets", 2_000, |n| {
            let target = |i: usize| format!("    - 10.0.0.{}:{i}\n", i % 256);
            job(&format!("  static_configs:\n  - targets:\n{}", list(n, target)))
        }),
        ("groups of targets", 500, |n| {
            let group = |i: usize| format!("  - targets: ['a:{i}']\n    labels: {{l: v{i}}}\n");
            job(&format!("  static_configs:\n{}", list(n, group)))
        }),
        ("labels of a group", 1_000, |n| {
            let label = |i: usize| format!("      l{i}: v\n");
            job(&format!("  static_configs:\n  - targets: ['a:1']\n    labels:\n{}", list(n, label)))
        }),
        ("relabelling rules", 200, |n| {
            let rule =
                |i: usize| format!("  - {{source_labels: [a{i}], regex: '(.*)x', target_label: b{i}}}\n");
            job(&format!("  relabel_configs:\n{}", list(n, rule)))
        }),
        ("parameters", 500, |n| job(&format!("  params:\n{}", list(n, |i| format!("    p{i}: [a, b]\n"))))),
        ("external labels", 1_000, |n| {
            format!("global:\n  external_labels:\n{}", list(n, |i| format!("    l{i}: '${{REGION}}'\n")))
        }),
        ("variables of a label", 2_000, |n| {
            format!("global:\n  external_labels:\n    l: '{}'\n", "${REGION} $$ ".repeat(n))
        }),
        ("rule files", 200, |n| {
            format!("rule_files:\n{}", list(n, |i| format!("- /nothing/of/the/kind/{i}.yml\n")))
        }),
        ("Alertmanagers", 200, |n| {
            let one = |i: usize| format!("  - static_configs: [{{targets: ['a:{i}']}}]\n");
            format!("alerting:\n  alertmanagers:\n{}", list(n, one))
        }),
    ];
    for (what, n, text) in texts {
        testing::assert_proportional(what, n, text, |text| load(text).unwrap().0.text.len());
    }
    let twice = |n: usize| {
        let one = |i: usize| format!("- job_name: j{i}\n");
        format!("scrape_configs:\n{}- job_name: j0\n", list(n, one))
    };
    testing::assert_proportional("a job that comes twice", 200, twice, |text| load(text).unwrap_err());
}

/// The keys that a job inherits from `global`, in the order of Prometheus 3.14; file patterns are
/// relative to the working directory.
#[test]
fn jobs_print_what_they_inherit() {
    let text = "global: {scrape_native_histograms: true, sample_limit: 7, metric_name_validation_scheme: legacy}\n\
                rule_files: [r.yml, /a/b.yml]\n\
                scrape_configs: [{job_name: a}, {job_name: b, sample_limit: 8, scrape_native_histograms: false}, \
                {job_name: c, sample_limit: 0, honor_timestamps: , follow_redirects: ~, metrics_path: null}]\n";
    let (config, _) = config::parse(Path::new("dir/p.yml"), text, &env).unwrap();
    let printed = config.text;
    let lines = |from: &str, to: &str| {
        let behind = printed.split_once(from).unwrap().1;
        behind.split_once(to).map_or(behind, |(before, _)| before).to_owned()
    };
    let global = lines("global:\n", "rule_files:");
    assert!(global.ends_with(
        "sample_limit: 7\n  metric_name_validation_scheme: legacy\n  scrape_native_histograms: true\n  extra_scrape_metrics: false\n"
    ));
    assert_eq!(lines("rule_files:\n", "scrape_configs:"), "- dir/r.yml\n- /a/b.yml\n");
    let a = lines("job_name: a\n", "job_name: b");
    let b = lines("job_name: b\n", "job_name: c");
    let c = lines("job_name: c\n", "nothing");
    // Zero is the global limit; a key without a value is nothing, whatever its default.
    for line in [
        "sample_limit: 7\n",
        "honor_timestamps: false\n",
        "follow_redirects: false\n",
        "enable_http2: true\n",
        "metrics_path: \"\"\n",
    ] {
        assert!(c.contains(line), "{line} is not in {c}");
    }
    for line in [
        "  - PrometheusProto\n  - OpenMetricsText1.0.0\n",
        "scrape_native_histograms: true\n  always_scrape_classic_histograms: false\n  convert_classic_histograms_to_nhcb: false\n",
        "sample_limit: 7\n  metric_name_validation_scheme: legacy\n  metric_name_escaping_scheme: underscores\n  extra_scrape_metrics: false\n",
    ] {
        assert!(a.contains(line), "{line} is not in {a}");
    }
    assert!(b.contains("sample_limit: 8\n") && b.contains("scrape_native_histograms: false\n"), "{b}");
    assert!(!b.contains("PrometheusProto"), "{b}");
}
