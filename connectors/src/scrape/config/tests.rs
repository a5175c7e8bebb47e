//! Tests of the keys of scrape blocks, of their defaults and of the errors that a wrong block
//! gives.

use super::*;
use crate::config::error::BlockError;
use crate::native_histogram::HistogramLimits;
use crate::scrape::appender::HistogramPolicy;

fn load(global: &str, scrape: &str) -> Result<ScrapeJob, BlockError> {
    let global: GlobalConfig = serde_saphyr::from_str(global).map_err(|e| e.to_string())?;
    ScrapeJob::new(serde_saphyr::from_str(scrape).map_err(|e| e.to_string())?, &global)
}

#[test]
fn defaults_are_prometheus() {
    let job = load("{}", "{job_name: x}").unwrap();
    assert_eq!((job.interval, job.timeout), (ConfigDuration(60_000), ConfigDuration(10_000)));
    assert_eq!(
        (job.config.keys.metrics_path.as_str(), job.config.keys.scheme.as_str()),
        ("/metrics", "http")
    );
    assert!(
        job.config.keys.honor_timestamps && !job.config.keys.honor_labels && job.config.http.follow_redirects
    );
    let job = load("scrape_interval: 5s", "job_name: x").unwrap();
    assert_eq!((job.interval, job.timeout), (ConfigDuration(5_000), ConfigDuration(5_000)));
    assert_eq!(
        job.accept,
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
}

#[test]
fn native_histograms_are_asked_for_in_protobuf() {
    let accept = |global, scrape| load(global, scrape).unwrap().accept;
    let native = accept("{}", "{job_name: x, scrape_native_histograms: true}");
    assert!(native.starts_with(
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    ));
    assert_eq!(accept("scrape_native_histograms: true", "job_name: x"), native);
    let text = "{job_name: x, scrape_native_histograms: true, scrape_protocols: [PrometheusText0.0.4]}";
    assert_eq!(accept("{}", text), "text/plain;version=0.0.4;q=0.6,*/*;q=0.5");
    let job = load(
        "{always_scrape_classic_histograms: true, scrape_native_histograms: true}",
        "{job_name: x, scrape_native_histograms: false, convert_classic_histograms_to_nhcb: true, \
         native_histogram_bucket_limit: 9, native_histogram_min_bucket_factor: 2}",
    );
    let mut old = load("{}", "job_name: x").unwrap();
    old.assume(JobFeatures { native: true, ..JobFeatures::default() });
    assert!(old.native.scrape && old.accept == native);
    let limits = HistogramLimits { buckets: 9, max_schema: 0 };
    let rules = HistogramPolicy { classic_too: true, convert: true, limits, ..HistogramPolicy::default() };
    assert_eq!(job.unwrap().native, rules);
}

/// Limits are those of the job, or else of `global`.
#[test]
fn limits_are_inherited() {
    let limit = |global: &str, scrape: &str| {
        load(global, &format!("{{job_name: x{scrape}}}")).unwrap().limits.name_bytes
    };
    let own = ", label_name_length_limit: 9";
    assert_eq!((limit("label_name_length_limit: 5", ""), limit("label_name_length_limit: 5", own)), (5, 9));
}

#[test]
fn features_stand_in_for_keys_that_are_not_there() {
    let features = JobFeatures { extra_metrics: true, starts: true, ..JobFeatures::default() };
    let with = |global: &str, scrape: &str| {
        let mut job = load(global, scrape).unwrap();
        job.assume(features);
        (job.extra_metrics, job.accept.starts_with("application/vnd.google.protobuf"), job.native.scrape)
    };
    assert_eq!(with("{}", "job_name: x"), (true, true, false));
    assert_eq!(with("extra_scrape_metrics: false", "job_name: x"), (false, true, false));
    let own = "{job_name: x, extra_scrape_metrics: false, scrape_protocols: [PrometheusText0.0.4]}";
    assert_eq!(with("extra_scrape_metrics: true", own), (false, false, false));
    assert_eq!(with("scrape_protocols: [PrometheusText1.0.0]", "job_name: x"), (true, false, false));
}

#[test]
fn names_are_asked_for_and_checked_as_the_schemes_say() {
    let schemes = |global: &str, scrape: &str| {
        let job = load(global, &format!("{{job_name: x{scrape}}}"))?;
        assert!(job.accept.contains(&format!(";escaping={};q=0.6", job.escaping.as_str())), "{}", job.accept);
        Ok::<_, BlockError>((job.names, job.escaping.as_str()))
    };
    let legacy = ", metric_name_validation_scheme: legacy";
    let table = [
        ("{}", "", NameScheme::Utf8, "allow-utf-8"),
        ("{}", legacy, NameScheme::Legacy, "underscores"),
        ("{}", ", metric_name_escaping_scheme: dots", NameScheme::Utf8, "dots"),
        ("metric_name_escaping_scheme: values", "", NameScheme::Utf8, "values"),
        ("metric_name_escaping_scheme: values", legacy, NameScheme::Legacy, "underscores"),
        ("metric_name_validation_scheme: legacy", "", NameScheme::Legacy, "underscores"),
        (
            "metric_name_validation_scheme: legacy",
            ", metric_name_validation_scheme: utf8",
            NameScheme::Utf8,
            "allow-utf-8",
        ),
    ];
    for (global, scrape, names, escaping) in table {
        assert_eq!(schemes(global, scrape), Ok((names, escaping)), "{global} {scrape}");
    }
    for (global, scrape, reason) in [
        (
            "{}",
            ", metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8",
            "utf8 metric names requested",
        ),
        (
            "{metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}",
            "",
            "utf8 metric names requested",
        ),
        ("{}", ", metric_name_validation_scheme: ascii", "ascii"),
        ("{}", ", metric_name_escaping_scheme: none", "none"),
        (
            "{}",
            ", metric_name_validation_scheme: legacy, relabel_configs: [{target_label: a.b, replacement: x}]",
            "\"a.b\" is invalid 'target_label'",
        ),
        (
            "metric_name_validation_scheme: legacy",
            ", metric_relabel_configs: [{target_label: a.b, replacement: x}]",
            "\"a.b\" is invalid 'target_label'",
        ),
    ] {
        let error = schemes(global, scrape).unwrap_err().to_string();
        assert!(error.contains(reason), "{global} {scrape}: {error}");
    }
}

#[test]
fn a_full_block_loads() {
    let job = load(
        "{scrape_interval: 15s, sample_limit: 7, external_labels: {cluster: production}}",
        r#"
job_name: full
scrape_interval: 10s
scrape_timeout: 5s
metrics_path: /m
scheme: https
params:
  match[]: ['{job="a"}', up]
body_size_limit: 15MB
basic_auth: {username: admin, password: secret}
tls_config: {insecure_skip_verify: true}
static_configs:
  - targets: [localhost:9090]
    labels: {env: 1, on: true}
triton_sd_configs:
  - {account: a, dns_suffix: d, endpoint: e, tls_config: {insecure_skip_verify: true}}
relabel_configs:
  - {source_labels: [a], action: keep, regex: true}
"#,
    )
    .unwrap();
    assert_eq!(job.limits.body, 15 << 20);
    assert_eq!(job.limits.samples, 7);
    assert_eq!(job.config.keys.relabel_configs[0].regex.as_deref(), Some("true"));
    assert_eq!(job.config.discovery.static_configs[0].labels["env"], "1");
    assert_eq!(job.config.discovery.triton_sd_configs.len(), 1);
    assert!(!format!("{job:?}").contains("\"secret\""));
}

#[test]
fn problems_are_named() {
    let table = [
        (
            "{job_name: x, scrape_intervall: 5s}",
            "field scrape_intervall not found in type config.ScrapeConfig",
        ),
        ("{job_name: x, nonsense_sd_configs: []}", "field nonsense_sd_configs not found"),
        ("{metrics_path: /x}", "job_name is empty"),
        ("{job_name: x, scrape_timeout: 2m}", "scrape timeout greater than scrape interval (2m > 1m)"),
        ("{job_name: x, scrape_interval: soon}", "not a valid duration string"),
        (
            "{job_name: x, static_configs: [{targets: ['http://a/b']}]}",
            "\"http://a/b\" is not a valid hostname",
        ),
        ("{job_name: x, relabel_configs: [{action: replace}]}", "requires 'target_label' value"),
        ("{job_name: x, oauth2: {client_id: a}}", "oauth2 token_url must be configured"),
        ("{job_name: x, job_name: y}", "duplicate"),
    ];
    for (yaml, expected) in table {
        let error = load("{}", yaml).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
}
