//! Generates the tables of `docs/configuration.md` from the declarations in the code, and checks
//! that the page has them.

use super::config;
use super::flags::{FLAGS, Feature};
use connectors::config::block::ConfigKeys;
use connectors::config::document::Node;
use connectors::config::schema::{BlockSchema, KeySpec, KeySupport, ValueKind};
use connectors::http_client::HttpConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

/// The command that writes the tables anew.
const RENEW: &str = "UPDATE_DOCS=1 cargo test --workspace --test config -- page";

/// The text of a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// The default of a flag or key.
fn code(text: Option<&str>) -> String {
    text.map(|text| format!("`{text}`")).unwrap_or_default()
}

fn flags() -> String {
    let mut table = "| flag | default | what it does |\n|---|---|---|\n".to_owned();
    for flag in FLAGS {
        let default = match flag.default_text {
            Some(text) => text.to_owned(),
            None => code(flag.shown_default()),
        };
        let help = cell(&flag.help());
        writeln!(table, "| `--{}` | {default} | {help} |", flag.name).expect("a string");
    }
    table
}

fn features() -> String {
    let mut table = "| feature | |\n|---|---|\n".to_owned();
    for feature in Feature::ALL {
        let effect = match feature.no_effect() {
            None => "works".to_owned(),
            Some(why) => format!("no effect: {why}"),
        };
        writeln!(table, "| `{}` | {effect} |", feature.name()).expect("a string");
    }
    table
}

fn kind(kind: ValueKind) -> String {
    match kind {
        ValueKind::Flag => "true or false".to_owned(),
        ValueKind::Number => "number".to_owned(),
        ValueKind::Text => "text".to_owned(),
        ValueKind::Url => "URL".to_owned(),
        ValueKind::Secret => "secret".to_owned(),
        ValueKind::Any => "any".to_owned(),
        ValueKind::List(inner) => format!("list of: {}", self::kind(*inner)),
        ValueKind::Map(inner) => format!("mapping to: {}", self::kind(*inner)),
        ValueKind::Block(_) => "block".to_owned(),
    }
}

fn default_of(spec: &KeySpec) -> String {
    let node = spec.default.map_or(Node::Null, |default| default());
    match node.text() {
        Some(text) if !node.is_empty() => code(Some(text)),
        _ => String::new(),
    }
}

fn support(spec: &KeySpec) -> &'static str {
    match spec.support {
        KeySupport::Works => "",
        KeySupport::Ignored => "**No effect.** ",
        KeySupport::Refused => "**Refused.** ",
    }
}

/// The tests of the keys of Prometheus, by block and key; "none" where there is none.
fn key_tests() -> BTreeMap<(&'static str, &'static str), &'static str> {
    let mut tests = BTreeMap::new();
    let mut block = "";
    for line in include_str!("../data/config_key_tests.txt").lines() {
        match line.strip_prefix("  ").and_then(|row| row.split_once(' ')) {
            Some((key, test)) => {
                assert_eq!(tests.insert((block, key), test), None, "{block}: {key} is there twice")
            }
            None => block = line,
        }
    }
    tests
}

/// What a row says of the test of a key.
fn test_of(block: &str, key: &str) -> String {
    // The keys of HTTP clients are those of a job.
    let block = if block == HTTP { "config.ScrapeConfig" } else { block };
    match key_tests().get(&(block, key)).map(|test| test.split_once("::")) {
        Some(Some((file, function))) => format!("`{function}` in `{file}`"),
        Some(None) => "none".to_owned(),
        // A key of ours.
        None => String::new(),
    }
}

/// The row of a key.
fn key_row(block: &str, spec: &KeySpec) -> String {
    let help = cell(spec.help.trim());
    let name = spec.name;
    let kind = kind(spec.kind);
    let default = default_of(spec);
    let test = test_of(block, name);
    format!("| `{name}` | {kind} | {default} | {}{help} | {test} |\n", support(spec))
}

/// Adds the table of a block and those of the blocks in it. Keys of HTTP clients and of discovery
/// are named once.
fn block_tables(path: &str, schema: &BlockSchema, seen: &mut BTreeSet<&'static str>, out: &mut String) {
    if !seen.insert(schema.name) {
        return;
    }
    let http: Vec<&str> = HttpConfig::keys().iter().map(|spec| spec.name).collect();
    let is_http = |spec: &&KeySpec| path != HTTP && http.contains(&spec.name);
    let is_discovery = |spec: &&KeySpec| spec.name.ends_with("_sd_configs") || spec.name == "static_configs";
    write!(out, "\n**`{path}`**\n\n| key | type | default | meaning | test |\n|---|---|---|---|---|\n")
        .expect("a string");
    for spec in schema.keys.iter().filter(|spec| !is_http(spec) && !is_discovery(spec)) {
        out.push_str(&key_row(schema.name, spec));
    }
    if schema.keys.iter().any(|spec| is_http(&spec)) {
        out.push_str("| | | | and the keys of `<http_config>` | |\n");
    }
    if schema.keys.iter().any(|spec| is_discovery(&spec)) {
        out.push_str("| | | | and the mechanisms of [discovery](discovery.md), below | |\n");
    }
    for spec in schema.keys.iter().filter(|spec| !is_http(spec) && !is_discovery(spec)) {
        // The keys of blocks that this build does not use have no help.
        if let Some(inner) = spec.kind.block().filter(|inner| !inner.keys.iter().all(|k| k.help.is_empty())) {
            let prefix = if path == WHOLE { String::new() } else { format!("{path}.") };
            block_tables(&format!("{prefix}{}", spec.name), &inner, seen, out);
        }
    }
}

const WHOLE: &str = "prometheus.yml";
const HTTP: &str = "<http_config>";

fn keys() -> String {
    let mut out = String::new();
    let mut seen = BTreeSet::new();
    block_tables(WHOLE, &config::schema(), &mut seen, &mut out);
    let http = BlockSchema { name: HTTP, keys: HttpConfig::keys() };
    block_tables(HTTP, &http, &mut seen, &mut out);
    let whole = config::schema();
    let jobs = whole.keys.iter().find(|spec| spec.name == "scrape_configs").expect("jobs");
    for spec in jobs.kind.block().expect("a block").keys {
        if let Some(mechanism) = spec.kind.block().filter(|_| spec.name.ends_with("_sd_configs")) {
            block_tables(spec.name, &mechanism, &mut seen, &mut out);
        }
    }
    out.push('\n');
    out
}

/// The page with the tables of today between its markers.
fn renewed(page: &str) -> String {
    let mut page = page.to_owned();
    for (name, table) in [("flags", flags()), ("features", features()), ("keys", keys())] {
        let start = format!("<!-- {name}: generated -->\n");
        let end = format!("<!-- end of {name} -->");
        let from = page.find(&start).unwrap_or_else(|| panic!("{start} is missing")) + start.len();
        let to = page.find(&end).unwrap_or_else(|| panic!("{end} is missing"));
        page.replace_range(from..to, &table);
    }
    page
}

#[test]
fn the_page_has_the_tables_of_the_sources() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let current = renewed(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &current).expect("the page");
        return;
    }
    assert!(page == current, "docs/configuration.md is stale; renew it with\n  {RENEW}");
}

/// Every key of Prometheus has a row that names its test, and every test that is named is there.
#[test]
fn the_tests_of_keys_are_there() {
    let tests = key_tests();
    let mut rows = tests.len();
    for line in include_str!("../data/config_keys.txt").lines() {
        let (block, keys) = line.split_once(": ").expect("a block");
        for key in keys.split(' ') {
            assert!(tests.contains_key(&(block, key)), "{block}: {key} has no row in config_key_tests.txt");
            rows -= 1;
        }
    }
    assert_eq!(rows, 0, "config_key_tests.txt has keys that config_keys.txt has not");
    for ((block, key), test) in tests.into_iter().filter(|(_, test)| *test != "none") {
        let (file, function) = test.split_once("::").unwrap_or_else(|| panic!("{block}: {key}: {test}"));
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{block}: {key}: {file}: {e}"));
        let at = text.find(&format!("fn {function}()"));
        let at = at.unwrap_or_else(|| panic!("{block}: {key}: there is no {function} in {file}"));
        let before = text[..at].trim_end_matches("async ").trim_end();
        // Attributes and comments may stand between.
        let is_test = before.lines().rev().take_while(|line| line.trim_start().starts_with(['#', '/']));
        let is_test =
            is_test.into_iter().any(|line| line.contains("#[test]") || line.contains("#[tokio::test"));
        assert!(is_test, "{block}: {key}: {function} in {file} is no test");
    }
}
