//! [`ReloadChanges`]: what a reload of the configuration has changed (jobs, rule groups, other
//! blocks), by name, for the line in the log.

use crate::server::LoadedConfig;
use connectors::config::changes::NamedChanges;
use rules::file::RuleGroup;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What is compared: a fingerprint of each part. Not the parts themselves, which would be in memory
/// twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigParts {
    /// By file and name.
    rule_groups: BTreeMap<String, u64>,
    /// By the key at the top of the file.
    blocks: BTreeMap<String, u64>,
}

/// What is other than before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReloadChanges {
    /// Scrape jobs.
    pub jobs: NamedChanges,
    /// Rule groups, as `file;name`.
    pub rule_groups: NamedChanges,
    /// Blocks at the top of the file, except the jobs. A secret that has changed is not seen.
    pub blocks: NamedChanges,
}

impl ConfigParts {
    /// The parts of a configuration.
    pub(crate) fn new(loaded: &LoadedConfig) -> ConfigParts {
        let groups = loaded.groups.iter();
        let groups = groups.map(|group| (format!("{};{}", group.file, group.name), fingerprint(group)));
        ConfigParts { rule_groups: groups.collect(), blocks: blocks(&loaded.config.text) }
    }
}

impl ReloadChanges {
    /// The difference of two configurations, without their jobs.
    pub(crate) fn between(before: &ConfigParts, after: &ConfigParts) -> ReloadChanges {
        ReloadChanges {
            jobs: NamedChanges::default(),
            rule_groups: NamedChanges::between(&before.rule_groups, &after.rule_groups),
            blocks: NamedChanges::between(&before.blocks, &after.blocks),
        }
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A hash of everything that a group says.
fn fingerprint(group: &RuleGroup) -> u64 {
    let RuleGroup { interval, query_offset, limit, evaluation, lateness, rules, .. } = group;
    let mut hasher = DefaultHasher::new();
    format!("{interval} {query_offset} {limit} {evaluation:?} {lateness:?}").hash(&mut hasher);
    for rule in rules {
        (&rule.name, &rule.expr.text, &rule.labels, rule.backfill).hash(&mut hasher);
        format!("{:?}", rule.alert).hash(&mut hasher);
    }
    hasher.finish()
}

/// The blocks of a printed configuration: a line that is not indented begins one.
fn blocks(text: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut start = 0;
    let mut key = "";
    for (at, line) in lines(text).chain([(text.len(), "end:")]) {
        // Lists are not indented below their key.
        if line.starts_with([' ', '-']) {
            continue;
        }
        if !key.is_empty() && key != "scrape_configs" {
            found.insert(key.to_owned(), hash(&text[start..at]));
        }
        key = line.split(':').next().unwrap_or_default();
        start = at;
    }
    found
}

/// The lines of a text, and where they begin.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_compared_by_their_printed_form() {
        let of = |text: &str| ConfigParts { blocks: blocks(text), ..ConfigParts::default() };
        let before = "global:\n  scrape_interval: 1m\nrule_files:\n- a.yml\nscrape_configs:\n- job_name: a\nstorage:\n  tsdb: {}\n";
        let after = "global:\n  scrape_interval: 2m\nrule_files:\n- a.yml\nscrape_configs:\n- job_name: b\ntracing:\n  endpoint: e\n";
        let changes = ReloadChanges::between(&of(before), &of(after));
        assert_eq!(changes.blocks.to_string(), "added tracing; changed global; removed storage");
        assert_eq!(ReloadChanges::between(&of(after), &of(after)), ReloadChanges::default());
    }
}
