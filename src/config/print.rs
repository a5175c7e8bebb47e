//! Prints the normal form of a configuration for `/api/v1/status/config`: with defaults, blocks in
//! Prometheus' order, secrets hidden by their types. It is made from the YAML document, not from
//! [`Config`], so that nothing in the file is lost.

use super::Config;
use super::file::ConfigFile;
use connectors::config::block::ConfigKeys;
use connectors::config::document::Node;
use connectors::config::masked_block::MaskedBlock;
use connectors::config::schema::{BlockSchema, ConfigValue, ValueKind};
use connectors::config::secret::HIDDEN;
use connectors::scrape::config::{GlobalConfig, ScrapeConfig, ScrapeJob};
use rules::yaml::{self, ConfigError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use storage::model::time::parse_duration;

/// Keys and their values.
type Entries = Vec<(String, Node)>;

/// The normal form of `source`; the files that it names are relative to `directory`.
pub(super) fn print_config(
    file: &str,
    directory: &Path,
    source: &str,
    config: &Config,
) -> Result<String, ConfigError> {
    let document: MaskedBlock<ConfigFile> = yaml::parse(file, source)?;
    let Node::Map(mut entries) = spelled_out(document.node, &ConfigFile::schema()) else {
        return Ok(String::new());
    };
    let written = entries.iter().find(|(key, _)| key == "global").map(|(_, global)| global);
    let shared = global(written, config);
    for (key, value) in &mut entries {
        match (key.as_str(), value) {
            ("scrape_configs", Node::List(jobs)) => {
                for (written, job) in jobs.iter_mut().zip(&config.jobs) {
                    *written = scrape(written, job, &shared, config);
                }
            }
            ("remote_write", Node::List(written)) => {
                *written = config.remote_write.iter().map(ConfigValue::node).collect();
            }
            ("remote_read", Node::List(written)) => {
                *written = config.remote_read.iter().map(ConfigValue::node).collect();
            }
            ("rule_files" | "scrape_config_files", Node::List(patterns)) => {
                for pattern in patterns {
                    *pattern = joined(directory, pattern);
                }
            }
            _ => {}
        }
    }
    entries.retain(|(key, value)| key != "global" && *value != Node::Null);
    entries.push(("global".to_owned(), shared));
    let schema = ConfigFile::schema();
    entries.sort_by_key(|(key, _)| schema.keys.iter().position(|spec| spec.name == key));
    let mut out = String::new();
    for (key, value) in &entries {
        entry(&mut out, 0, key, value);
    }
    Ok(out)
}

/// A path relative to the working directory.
fn joined(directory: &Path, path: &Node) -> Node {
    path.text().map_or(Node::Null, |path| Node::Text(directory.join(path).display().to_string()))
}

/// Merges the written values over the defaults, in the order of the schema. Lists of blocks are at
/// the end, in the order of the file.
fn over(defaults: Vec<(&'static str, Node)>, written: Option<&Node>, schema: &BlockSchema) -> Node {
    let is_block = |kind: &ValueKind| matches!(kind, ValueKind::Block(_));
    let is_list = |kind: &ValueKind| matches!(kind, ValueKind::List(inner) if is_block(inner));
    let mut entries: Entries = Vec::new();
    for (key, value) in defaults {
        // No list of blocks has a default: what is there comes from the file.
        if !schema.kind(key).is_some_and(|kind| is_list(&kind)) {
            entries.push((key.to_owned(), value));
        }
    }
    if let Some(Node::Map(written)) = written {
        for (key, value) in written.iter().filter(|(_, value)| *value != Node::Null) {
            match entries.iter_mut().find(|(known, _)| known == key) {
                Some((_, default)) => *default = value.clone(),
                None => entries.push((key.clone(), value.clone())),
            }
        }
    }
    let place = |key: &str| {
        let known = schema.keys.iter().position(|spec| spec.name == key && !is_list(&spec.kind));
        known.unwrap_or(schema.keys.len())
    };
    entries.sort_by_key(|(key, _)| place(key));
    Node::Map(entries)
}

/// A block, and those in it, with what its keys without a value stand for, and with the defaults of
/// the keys that it does not have, in the order of the schema. Keys that may have no value at all
/// stay as they are: whoever inherits them knows their value.
fn spelled_out(block: Node, schema: &BlockSchema) -> Node {
    let Node::Map(written) = block else { return block };
    let mut entries: Entries = Vec::new();
    let mut written_keys = BTreeSet::new();
    for (key, value) in written {
        let Some(spec) = schema.keys.iter().find(|spec| spec.name == key) else { continue };
        let meant = match (value, spec.kind) {
            (Node::Null, _) => spec.null.map_or(Node::Null, |null| null()),
            (Node::List(items), ValueKind::List(ValueKind::Block(inner))) => {
                let inner = inner();
                Node::List(items.into_iter().map(|item| spelled_out(item, &inner)).collect())
            }
            (block, ValueKind::Block(inner)) => spelled_out(block, &inner()),
            (value, _) => value,
        };
        written_keys.insert(spec.name);
        if meant != Node::Null {
            entries.push((key, meant));
        }
    }
    for spec in schema.keys.iter().filter(|spec| !written_keys.contains(spec.name)) {
        entries.extend(spec.printed_default().map(|default| (spec.name.to_owned(), default)));
    }
    entries.sort_by_key(|(key, _)| schema.keys.iter().position(|spec| spec.name == key));
    Node::Map(entries)
}

/// The keys for which zero is as if they were not there.
const INTERVALS: [&str; 3] = ["scrape_interval", "scrape_timeout", "evaluation_interval"];

/// The same of limits of jobs: zero is the global limit.
const LIMITS: [&str; 7] = [
    "body_size_limit",
    "sample_limit",
    "target_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "keep_dropped_targets",
];

/// A written block without intervals and limits of zero.
fn without_zeros(written: &Node) -> Node {
    let Node::Map(entries) = written else { return written.clone() };
    let is_zero = |key: &str, value: &Node| {
        (INTERVALS.contains(&key) && value.text().is_some_and(|text| parse_duration(text) == Ok(0)))
            || (LIMITS.contains(&key) && value.text() == Some("0"))
    };
    let given = entries.iter().filter(|(key, value)| !is_zero(key, value));
    Node::Map(given.cloned().collect())
}

fn global(written: Option<&Node>, config: &Config) -> Node {
    let written = written.map(without_zeros);
    let mut value = over(config.global.in_force().entries(), written.as_ref(), &GlobalConfig::schema());
    if let Node::Map(entries) = &mut value {
        // The labels in force, in which variables are replaced. Empty ones, too: they are no
        // labels, and shown, as in Prometheus, so that one sees what became of a variable without a
        // value.
        let in_force: BTreeMap<&str, &str> = config.external_labels.iter().collect();
        let value = |name: &String| in_force.get(name.as_str()).copied().unwrap_or_default().into();
        let labels = config.global.keys.external_labels.keys().map(|name| (name.clone(), value(name)));
        if let Some((_, written)) = entries.iter_mut().find(|(key, _)| key == "external_labels") {
            *written = Node::Map(labels.collect());
        }
    }
    value
}

/// The printed form of a job. What it does not set comes from the global block, if that has a key
/// of the same name.
fn scrape(written: &Node, job: &ScrapeJob, global: &Node, config: &Config) -> Node {
    let schema = ScrapeConfig::schema();
    let mut defaults = job.in_force(&config.global).entries();
    for spec in &schema.keys {
        let is_set = defaults.iter().any(|(key, _)| *key == spec.name);
        let inherited = global.get(spec.name).filter(|_| !is_set);
        defaults.extend(inherited.map(|value| (spec.name, value.clone())));
    }
    over(defaults, Some(&without_zeros(written)), &schema)
}

fn entry(out: &mut String, depth: usize, key: &str, value: &Node) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(&scalar(key));
    out.push(':');
    node(out, depth, value);
}

/// Prints a value after its key: on the same line, or below it.
fn node(out: &mut String, depth: usize, value: &Node) {
    match value {
        Node::Map(map) if map.is_empty() => out.push_str(" {}\n"),
        Node::List(items) if items.is_empty() => out.push_str(" []\n"),
        Node::Map(map) => {
            out.push('\n');
            for (key, value) in map {
                entry(out, depth + 1, key, value);
            }
        }
        Node::List(items) => {
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
fn list_item(out: &mut String, depth: usize, item: &Node) {
    let indent = "  ".repeat(depth);
    match item {
        Node::Map(map) if !map.is_empty() => {
            let mut inner = String::new();
            for (key, value) in map {
                entry(&mut inner, depth + 1, key, value);
            }
            // The dash replaces the first two columns of the first key's indentation.
            out.push_str(&format!("{indent}- {}", inner.trim_start_matches(' ')));
        }
        other => {
            out.push_str(&format!("{indent}-"));
            node(out, depth + 1, other);
        }
    }
}

fn leaf_text(value: &Node) -> String {
    match value {
        Node::Text(text) => scalar(text),
        Node::Literal(text) => text.clone(),
        Node::Secret => HIDDEN.to_owned(),
        // Not reached for lists and mappings, which are printed on their own lines.
        Node::Null | Node::List(_) | Node::Map(_) => "null".to_owned(),
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
    let size = text.ends_with('B') && connectors::config::units::ConfigSize::parse(text).is_ok();
    if plain || duration || size {
        text.to_owned()
    } else {
        serde_json::Value::String(text.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
