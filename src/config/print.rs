//! Prints the normal form of a configuration for `/api/v1/status/config`: with defaults, blocks in
//! Prometheus' order, secrets hidden. It is made from the YAML document, not from [`Config`], so
//! that nothing in the file is lost.

use super::Config;
use connectors::secret::HIDDEN;
use rules::yaml::{self, ConfigError};
use serde_json::{Map, Value};
use std::path::Path;

/// The blocks in the order in which Prometheus prints them.
const ORDER: [&str; 11] = [
    "global",
    "runtime",
    "alerting",
    "rule_files",
    "scrape_config_files",
    "scrape_configs",
    "storage",
    "tracing",
    "remote_write",
    "remote_read",
    "otlp",
];

/// Keys whose values are secret.
const SECRETS: [&str; 14] = [
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "client_certificate_key",
    "secret_key",
    "secret_access_key",
    "session_token",
    "secrets",
    "key",
    "token",
    "account_key",
    "application_credential_secret",
    "consumer_key",
];

/// The keys of `global` and of a job, in the order in which Prometheus prints them; other keys
/// follow.
const KEYS: [&str; 40] = [
    "job_name",
    "honor_labels",
    "honor_timestamps",
    "track_timestamps_staleness",
    "params",
    "scrape_interval",
    "scrape_timeout",
    "scrape_protocols",
    "fallback_scrape_protocol",
    "evaluation_interval",
    "rule_query_offset",
    "query_log_file",
    "scrape_failure_log_file",
    "external_labels",
    "scrape_native_histograms",
    "always_scrape_classic_histograms",
    "convert_classic_histograms_to_nhcb",
    "metrics_path",
    "scheme",
    "enable_compression",
    "body_size_limit",
    "sample_limit",
    "target_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "native_histogram_bucket_limit",
    "native_histogram_min_bucket_factor",
    "keep_dropped_targets",
    "metric_name_validation_scheme",
    "metric_name_escaping_scheme",
    "extra_scrape_metrics",
    "basic_auth",
    "authorization",
    "oauth2",
    "bearer_token_file",
    "tls_config",
    "follow_redirects",
    "enable_http2",
    "proxy_url",
];

/// The keys at the end of `global`.
const LAST_OF_GLOBAL: [&str; 4] = [
    "scrape_native_histograms",
    "convert_classic_histograms_to_nhcb",
    "always_scrape_classic_histograms",
    "extra_scrape_metrics",
];

/// The keys that a job inherits from `global` if it does not set them, with the default if neither
/// does.
const INHERITED: [(&str, Option<Value>); 13] = [
    ("scrape_protocols", None),
    ("scrape_native_histograms", Some(Value::Bool(false))),
    ("always_scrape_classic_histograms", Some(Value::Bool(false))),
    ("convert_classic_histograms_to_nhcb", Some(Value::Bool(false))),
    ("metric_name_escaping_scheme", None),
    ("extra_scrape_metrics", Some(Value::Bool(false))),
    ("body_size_limit", None),
    ("sample_limit", None),
    ("target_limit", None),
    ("label_limit", None),
    ("label_name_length_limit", None),
    ("label_value_length_limit", None),
    ("keep_dropped_targets", None),
];

/// The normal form of `source`; the files that it names are relative to `directory`.
pub(super) fn print_config(
    file: &str,
    directory: &Path,
    source: &str,
    config: &Config,
) -> Result<String, ConfigError> {
    let mut document: Map<String, Value> = yaml::parse(file, source)?;
    let shared = global(document.get("global"), config);
    if let Some(Value::Array(jobs)) = document.get_mut("scrape_configs") {
        for (written, job) in jobs.iter_mut().zip(&config.jobs) {
            *written = scrape(written, job, &shared);
        }
    }
    document.insert("global".to_owned(), shared);
    for key in ["rule_files", "scrape_config_files"] {
        if let Some(Value::Array(patterns)) = document.get_mut(key) {
            for pattern in patterns.iter_mut() {
                *pattern = joined(directory, pattern);
            }
        }
    }
    let mut out = String::new();
    for key in ORDER {
        if let Some(value) = document.get(key).filter(|v| !v.is_null()) {
            entry(&mut out, 0, key, &redact(key, value));
        }
    }
    Ok(out)
}

/// A path relative to the working directory.
fn joined(directory: &Path, path: &Value) -> Value {
    let path = path.as_str().map(|path| directory.join(path).display().to_string());
    path.map_or(Value::Null, Value::String)
}

/// Merges the written values over the defaults, in the order of [`KEYS`] except for those of
/// `last`.
fn over(defaults: Vec<(&str, Value)>, written: Option<&Value>, last: &[&str]) -> Value {
    let mut map: Map<String, Value> = defaults.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    if let Some(Value::Object(written)) = written {
        let said = written.iter().filter(|(_, v)| !v.is_null());
        map.extend(said.map(|(k, v)| (k.clone(), v.clone())));
    }
    let in_list = |list: &[&str], key: &str| list.iter().position(|known| *known == key);
    let place = |key: &str| (in_list(last, key), in_list(&KEYS, key).unwrap_or(KEYS.len()));
    let mut entries: Vec<(String, Value)> = map.into_iter().collect();
    entries.sort_by_key(|(key, _)| place(key));
    Value::Object(entries.into_iter().collect())
}

fn global(written: Option<&Value>, config: &Config) -> Value {
    let keys = &config.global.keys;
    let timeout = keys.scrape_timeout.map_or_else(
        || storage::model::time::format_duration(keys.scrape_interval.0.min(10_000)),
        |timeout| timeout.to_string(),
    );
    let mut value = over(
        vec![
            ("scrape_interval", keys.scrape_interval.to_string().into()),
            ("scrape_timeout", timeout.into()),
            ("evaluation_interval", keys.evaluation_interval.to_string().into()),
            ("scrape_native_histograms", false.into()),
            ("metric_name_validation_scheme", "utf8".into()),
            ("extra_scrape_metrics", false.into()),
        ],
        written,
        &LAST_OF_GLOBAL,
    );
    if !config.external_labels.is_empty() {
        let labels: Map<String, Value> =
            config.external_labels.iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
        value["external_labels"] = Value::Object(labels);
    }
    value
}

/// The scrape protocols of a job that sets none.
fn protocols(native: bool) -> Value {
    let all = [
        "PrometheusProto",
        "OpenMetricsText1.0.0",
        "OpenMetricsText0.0.1",
        "PrometheusText1.0.0",
        "PrometheusText0.0.4",
    ];
    all[usize::from(!native)..].into()
}

fn scrape(written: &Value, job: &connectors::scrape::config::ScrapeJob, global: &Value) -> Value {
    let keys = &job.config.keys;
    let mut defaults = vec![
        ("job_name", job.name().into()),
        ("honor_timestamps", keys.honor_timestamps.into()),
        ("track_timestamps_staleness", keys.track_timestamps_staleness.into()),
        ("scrape_interval", job.interval.to_string().into()),
        ("scrape_timeout", job.timeout.to_string().into()),
        ("metrics_path", keys.metrics_path.as_str().into()),
        ("scheme", keys.scheme.as_str().into()),
        ("enable_compression", keys.enable_compression.into()),
        ("follow_redirects", job.config.http.follow_redirects.into()),
        ("enable_http2", job.config.http.enable_http2.into()),
    ];
    for (key, default) in INHERITED {
        defaults.extend(global.get(key).cloned().or(default).map(|value| (key, value)));
    }
    let said = |key: &str| written.get(key).or(global.get(key)).filter(|value| !value.is_null()).cloned();
    let names = said("metric_name_validation_scheme").unwrap_or("utf8".into());
    let escaping = if names == "legacy" { "underscores" } else { "allow-utf-8" };
    let native = said("scrape_native_histograms").is_some_and(|native| native == Value::Bool(true));
    defaults.push(("metric_name_validation_scheme", names));
    let has = |defaults: &[(&str, Value)], key: &str| defaults.iter().any(|(known, _)| *known == key);
    if !has(&defaults, "metric_name_escaping_scheme") {
        defaults.push(("metric_name_escaping_scheme", escaping.into()));
    }
    if !has(&defaults, "scrape_protocols") {
        defaults.push(("scrape_protocols", protocols(native)));
    }
    over(defaults, Some(written), &[])
}

/// A value without its secrets; `key` is the key of the value.
pub(super) fn redact(key: &str, value: &Value) -> Value {
    match value {
        Value::Array(items) if key == "secrets" => {
            Value::Array(items.iter().map(|_| HIDDEN.into()).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| redact(key, item)).collect()),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), redact(k, v))).collect()),
        Value::Null => Value::Null,
        _ if SECRETS.contains(&key) => HIDDEN.into(),
        Value::String(text) if text.contains("://") => without_password(text).into(),
        other => other.clone(),
    }
}

/// A URL with a hidden password, as Prometheus prints it.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:{HIDDEN}@{host}{tail}"),
        None => url.to_owned(),
    }
}

fn entry(out: &mut String, depth: usize, key: &str, value: &Value) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(&scalar(key));
    out.push(':');
    node(out, depth, value);
}

/// Prints a value after its key: on the same line, or below it.
fn node(out: &mut String, depth: usize, value: &Value) {
    match value {
        Value::Object(map) if map.is_empty() => out.push_str(" {}\n"),
        Value::Array(items) if items.is_empty() => out.push_str(" []\n"),
        Value::Object(map) => {
            out.push('\n');
            map.iter().for_each(|(k, v)| entry(out, depth + 1, k, v));
        }
        Value::Array(items) => {
            out.push('\n');
            for item in items.iter() {
                list_item(out, depth, item);
            }
        }
        leaf => {
            out.push(' ');
            out.push_str(&leaf_text(leaf));
            out.push('\n');
        }
    }
}

/// Prints an item of a list, which has the same indentation as the key of the list.
fn list_item(out: &mut String, depth: usize, item: &Value) {
    let indent = "  ".repeat(depth);
    match item {
        Value::Object(map) if !map.is_empty() => {
            let mut inner = String::new();
            map.iter().for_each(|(k, v)| entry(&mut inner, depth + 1, k, v));
            // The dash replaces the first two columns of the first key's indentation.
            out.push_str(&format!("{indent}- {}", inner.trim_start_matches(' ')));
        }
        other => {
            out.push_str(&format!("{indent}-"));
            node(out, depth + 1, other);
        }
    }
}

fn leaf_text(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A string as a YAML scalar: plain if it cannot be read as another type.
fn scalar(text: &str) -> String {
    let special = ["true", "false", "yes", "no", "on", "off", "null", "~", "y", "n", ""];
    let first = text.chars().next().unwrap_or(' ');
    let plain = (first.is_ascii_alphabetic() || first == '/' || first == '_' || first == '<' || first == '(')
        && !special.contains(&text.to_ascii_lowercase().as_str())
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        && !text.chars().any(char::is_control);
    let duration = storage::model::time::parse_duration(text).is_ok() && text != "0";
    let size = text.ends_with('B') && connectors::units::ConfigSize::parse(text).is_ok();
    if plain || duration || size { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_passwords() {
        assert_eq!(without_password("http://u:p@h:1/x?a=b"), "http://u:<secret>@h:1/x?a=b");
        assert_eq!(without_password("http://h:1/x@y:z"), "http://h:1/x@y:z");
    }

    #[test]
    fn scalars_are_quoted_where_they_must_be() {
        let cases = [
            ("a b", "a b"),
            ("true", "\"true\""),
            ("15s", "15s"),
            ("10", "\"10\""),
            ("a: b", "\"a: b\""),
            ("", "\"\""),
            ("<secret>", "<secret>"),
            ("(.+)", "(.+)"),
            ("{a}", "\"{a}\""),
            ("1.0", "\"1.0\""),
        ];
        for (text, want) in cases {
            assert_eq!(scalar(text), want);
        }
    }
}
