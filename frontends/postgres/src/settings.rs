//! The settings of a connection: `SET`, `SHOW`, and the parameters that a client is told at the
//! start.
//!
//! Only `statement_timeout` and `perennial.time` have an effect here. The others are stored, so
//! that a client reads back what it has set.

use crate::catalog::rows::SEARCH_PATH;
use crate::failure::{Failure, state};
use crate::limits;
use chrono::DateTime;
use std::collections::BTreeMap;
use std::time::Duration;
use storage::model::TimeMs;

/// The version that clients are told: the catalogs are those of PostgreSQL 15.
const SERVER_VERSION: &str = "15.0";

/// The time of `now()`: RFC 3339, or seconds since 1970; empty: the current one.
const TIME: &str = "perennial.time";

/// Settings that cannot be changed, and the first values of others.
const DEFAULTS: &[(&str, &str)] = &[
    ("server_version", SERVER_VERSION),
    ("server_version_num", "150000"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("timezone", "UTC"),
    ("intervalstyle", "postgres"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("in_hot_standby", "off"),
    ("is_superuser", "off"),
    ("application_name", ""),
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("default_transaction_read_only", "off"),
    ("transaction_deferrable", "off"),
    ("statement_timeout", "0"),
    (TIME, ""),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("client_min_messages", "notice"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("row_security", "on"),
    ("search_path", ""),
    // What clients and tools look at before they decide something. The values say what is true
    // here, in PostgreSQL's words: nothing is written behind an answer, there is no replication,
    // no parallel worker, one process.
    ("superuser_reserved_connections", "0"),
    ("authentication_timeout", "15s"),
    ("idle_session_timeout", "0"),
    ("default_transaction_deferrable", "off"),
    ("default_table_access_method", "heap"),
    ("default_tablespace", ""),
    ("temp_tablespaces", ""),
    ("default_text_search_config", "pg_catalog.simple"),
    ("block_size", "8192"),
    ("data_checksums", "on"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_replication_slots", "0"),
    ("max_prepared_transactions", "0"),
    ("max_worker_processes", "0"),
    ("max_parallel_workers", "0"),
    ("max_parallel_workers_per_gather", "0"),
    ("autovacuum", "off"),
    ("jit", "off"),
    ("password_encryption", "scram-sha-256"),
    ("ssl_library", ""),
    ("shared_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("backslash_quote", "safe_encoding"),
    ("escape_string_warning", "on"),
    ("array_nulls", "on"),
    ("quote_all_identifiers", "off"),
    ("transform_null_equals", "off"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("track_activities", "on"),
    ("timezone_abbreviations", "Default"),
];

/// Settings that depend on the server: its limits, and whether it takes TLS.
fn of_server(has_tls: bool) -> [(&'static str, String); 3] {
    [
        ("max_connections", limits::WIRE_CONNECTIONS.to_string()),
        // What the operators of a statement may hold, in PostgreSQL's unit.
        ("work_mem", format!("{}MB", sql::limits::OPERATOR_BYTES / 1024 / 1024)),
        ("ssl", if has_tls { "on" } else { "off" }.to_owned()),
    ]
}

/// Settings that a client is told at the start and whenever they change, with the case of
/// PostgreSQL.
const REPORTED: &[&str] = &[
    "server_version",
    "server_encoding",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "IntervalStyle",
    "integer_datetimes",
    "standard_conforming_strings",
    "in_hot_standby",
    "is_superuser",
    "application_name",
    "session_authorization",
    "default_transaction_read_only",
];

const FIXED: &[&str] = &[
    "server_version",
    "server_version_num",
    "server_encoding",
    "integer_datetimes",
    "is_superuser",
    "max_connections",
    "work_mem",
    "ssl",
    "in_hot_standby",
    "block_size",
    "data_checksums",
    "wal_level",
    "max_identifier_length",
    "max_index_keys",
    "lc_collate",
    "lc_ctype",
];

/// The settings of a connection, by name in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
    /// Those of the start, for `RESET`.
    first: BTreeMap<String, String>,
}

impl Settings {
    /// The settings that a connection begins with; `given` are those of its first message.
    /// `has_tls`: the listener takes TLS.
    pub(crate) fn new(user: &str, given: &BTreeMap<String, String>, has_tls: bool) -> Settings {
        let defaults = DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut values: BTreeMap<String, String> = defaults.collect();
        values.insert("search_path".to_owned(), SEARCH_PATH.join(", "));
        values.extend(of_server(has_tls).map(|(name, value)| (name.to_owned(), value)));
        values.insert("session_authorization".to_owned(), user.to_owned());
        let mut settings = Settings { values, first: BTreeMap::new() };
        for (name, value) in
            given.iter().filter(|(name, _)| !["user", "database", "options"].contains(&name.as_str()))
        {
            // A wish that cannot be met is no reason not to begin.
            let _ = settings.set(name, value);
        }
        for (name, value) in options(given.get("options").map_or("", String::as_str)) {
            let _ = settings.set(&name, &value);
        }
        // After the settings of the first message: `RESET` goes back to these and not to the
        // defaults.
        settings.first = settings.values.clone();
        settings
    }

    /// A setting; `None`: there is none of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&canonical(name)).map(String::as_str)
    }

    /// Changes a setting.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let name = canonical(name);
        if FIXED.contains(&name.as_str()) {
            return Err(Failure::new("55P02", format!("parameter \"{name}\" cannot be changed")));
        }
        if name.len() + value.len() > limits::WIRE_SETTING_BYTES {
            return Err(Failure::new(state::LIMIT, format!("the value of \"{name}\" is too long")));
        }
        let is_utf8 = |value: &str| {
            // Drivers spell it in several ways. SQL_ASCII means: no conversion, which is what
            // happens.
            let plain = value.replace(['-', '_', ' '], "").to_ascii_uppercase();
            ["UTF8", "UNICODE", "SQLASCII"].contains(&plain.as_str())
        };
        if name == "client_encoding" && !is_utf8(value) {
            return Err(Failure::new(
                "22023",
                format!("invalid value for parameter \"client_encoding\": \"{value}\""),
            )
            .hint("texts are in UTF8"));
        }
        if name == "statement_timeout" && milliseconds(value).is_none() {
            return Err(Failure::new(
                "22023",
                format!("invalid value for parameter \"statement_timeout\": \"{value}\""),
            ));
        }
        if name == TIME && !value.is_empty() && moment(value).is_none() {
            return Err(Failure::new(
                "22023",
                format!("invalid value for parameter \"{TIME}\": \"{value}\""),
            )
            .hint("2026-11-25T00:00:00Z, or seconds since 1970"));
        }
        // Clients may invent names with a point, and nothing removes them before the connection
        // ends.
        if self.values.len() >= limits::WIRE_SETTINGS + DEFAULTS.len() && !self.values.contains_key(&name) {
            return Err(Failure::new(state::LIMIT, format!("more than {} settings", limits::WIRE_SETTINGS)));
        }
        // Told as UTF8 in any spelling: some drivers compare it with exactly this.
        let value = if name == "client_encoding" { "UTF8" } else { value };
        self.values.insert(name, value.to_owned());
        Ok(())
    }

    /// Sets one back to what it was at the start, or all.
    pub(crate) fn reset(&mut self, name: Option<&str>) {
        match name.map(canonical) {
            None => self.values = self.first.clone(),
            Some(name) => match self.first.get(&name) {
                Some(value) => {
                    self.values.insert(name, value.clone());
                }
                None => {
                    self.values.remove(&name);
                }
            },
        }
    }

    /// All settings, by name.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        self.values.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// What a client is told at the start.
    pub(crate) fn reported(&self) -> Vec<(String, String)> {
        let told = |name: &&str| Some(((*name).to_owned(), self.get(name)?.to_owned()));
        REPORTED.iter().filter_map(told).collect()
    }

    /// The name that a change of this setting is told under; `None`: it is not told.
    pub(crate) fn reported_name(name: &str) -> Option<&'static str> {
        REPORTED.iter().find(|known| known.eq_ignore_ascii_case(&canonical(name))).copied()
    }

    /// The time of `now()`; `None`: the current one.
    pub(crate) fn time(&self) -> Option<TimeMs> {
        moment(self.get(TIME)?)
    }

    /// `statement_timeout`; `None`: only that of the server.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        milliseconds(self.get("statement_timeout")?).filter(|ms| *ms > 0).map(Duration::from_millis)
    }
}

/// A moment in RFC 3339 or in seconds since 1970, ms.
fn moment(text: &str) -> Option<TimeMs> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let seconds: f64 = text.parse().ok()?;
    (seconds.abs() < 1e11).then_some((seconds * 1_000.0).round() as TimeMs)
}

/// `-c name=value -c name=value`, as clients send settings with their first message.
fn options(text: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let pair = match word.strip_prefix("-c") {
            Some("") => words.get(at + 1).copied(),
            Some(rest) => Some(rest),
            None => word.strip_prefix("--"),
        };
        found.extend(pair.and_then(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
    found
}

/// A name as settings are looked up.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "time zone" => "timezone".to_owned(),
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "session authorization" => "session_authorization".to_owned(),
        "names" => "client_encoding".to_owned(),
        _ => name,
    }
}

/// `2000`, `2s`, `500ms`, `1min`.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let factor = match text[end..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept_within_limits() {
        let given =
            BTreeMap::from([("options".to_owned(), "-c statement_timeout=2s -c geqo=off".to_owned())]);
        let mut settings = Settings::new("ana", &given, false);
        assert_eq!(settings.timeout(), Some(Duration::from_secs(2)));
        assert_eq!(settings.get("geqo"), Some("off"));
        for (name, value) in [
            ("max_connections", "64"),
            ("work_mem", "256MB"),
            ("ssl", "off"),
            ("TimeZone", "UTC"),
            ("lc_collate", "C"),
            ("server_encoding", "UTF8"),
            ("integer_datetimes", "on"),
            ("default_transaction_isolation", "read committed"),
            ("transaction_read_only", "off"),
            ("max_index_keys", "32"),
        ] {
            assert_eq!(settings.get(name), Some(value), "{name}");
        }
        assert_eq!(settings.get("Search_Path"), Some("public, metrics, meta"));
        settings.set("statement_timeout", "0").unwrap();
        assert_eq!(settings.timeout(), None);
        settings.reset(Some("statement_timeout"));
        assert_eq!(settings.timeout(), Some(Duration::from_secs(2)));
        for (name, value) in [
            ("server_version", "9"),
            ("max_connections", "9"),
            ("client_encoding", "LATIN1"),
            ("statement_timeout", "soon"),
            ("perennial.time", "tomorrow"),
            ("application_name", &"x".repeat(2_000)),
        ] {
            assert!(settings.set(name, value).is_err(), "{name}");
        }
        assert_eq!(settings.time(), None);
        for value in ["2026-11-25T00:00:00Z", "1795564800"] {
            settings.set("perennial.time", value).unwrap();
            assert_eq!(settings.time(), Some(1_795_564_800_000));
        }
        settings.reset(Some("perennial.time"));
        assert_eq!(settings.time(), None);
        let added = (0..1_000).filter(|n| settings.set(&format!("x.n{n}"), "1").is_ok()).count();
        assert!(added <= limits::WIRE_SETTINGS, "{added}");
        assert_eq!(Settings::reported_name("time zone"), Some("TimeZone"));
    }
}
