//! The texts of rules as they are in their files, with their lines: for pages that show where in a
//! file something is. The files are read when somebody asks, so they may be newer than the rules
//! that run.

use super::file::RawFile;
use super::limits::RULE_SOURCE_LINES;
use super::yaml::{self, ConfigError};
use std::path::Path;

/// The text of a rule in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSource {
    /// The file, as given.
    pub file: String,
    /// The name of the group.
    pub group: String,
    /// Its position in the group, from 0.
    pub index: usize,
    /// The name of the alert or of the recorded metric.
    pub rule: String,
    /// The line of its first line, from 1.
    pub line: u64,
    /// Its lines, at most [`RULE_SOURCE_LINES`].
    pub lines: Vec<String>,
}

/// The rules of a file, in their order. Blocks.
pub fn sources(file: &str) -> Result<Vec<RuleSource>, ConfigError> {
    let text = yaml::read_text(Path::new(file))?;
    sources_of(file, &text)
}

/// The rules of the text of a file.
fn sources_of(file: &str, text: &str) -> Result<Vec<RuleSource>, ConfigError> {
    let raw: RawFile = yaml::parse(file, text)?;
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for group in raw.groups.unwrap_or_default() {
        for (index, rule) in group.rules.unwrap_or_default().into_iter().enumerate() {
            let name = rule.value.alert.or(rule.value.record).map(|name| name.value);
            found.push(RuleSource {
                file: file.to_owned(),
                group: group.name.value.clone(),
                index,
                rule: name.unwrap_or_default(),
                line: rule.referenced.line(),
                lines: lines_of(&lines, rule.referenced.line(), rule.referenced.column()),
            });
        }
    }
    Ok(found)
}

/// The lines of what begins at a line and column: the first, and those that are as far to the
/// right.
fn lines_of(lines: &[&str], line: u64, column: u64) -> Vec<String> {
    let start = line.saturating_sub(1) as usize;
    let indent = column.saturating_sub(1) as usize;
    // In a rule in flow style all rules of a line begin at the same one, so that line is the whole
    // text of each.
    let belongs = |text: &str| text.trim().is_empty() || text.len() - text.trim_start().len() >= indent;
    let rest = lines.iter().skip(start + 1).take_while(|text| belongs(text));
    let mut own: Vec<String> = lines
        .iter()
        .skip(start)
        .take(1)
        .chain(rest)
        .take(RULE_SOURCE_LINES)
        .map(|text| (*text).to_owned())
        .collect();
    // Empty lines inside a rule belong to it (a block of text may have them); those after its last
    // line separate it from the next one.
    while own.last().is_some_and(|text| text.trim().is_empty()) {
        own.pop();
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_their_own_lines() {
        let text = "groups:\n- name: a\n  rules:\n  - record: x:y\n    expr: |\n      sum(\n\n      x)\n\n  # about the next one\n  - alert: B\n    expr: up == 0\n- name: c\n  rules: [{alert: D, expr: up}, {record: e, expr: up}]\n";
        let found = sources_of("r.yml", text).unwrap();
        let shown: Vec<(&str, &str, usize, u64, String)> = found
            .iter()
            .map(|s| (s.group.as_str(), s.rule.as_str(), s.index, s.line, s.lines.join("|")))
            .collect();
        let flow = "  rules: [{alert: D, expr: up}, {record: e, expr: up}]";
        assert_eq!(
            shown,
            [
                ("a", "x:y", 0, 4, "  - record: x:y|    expr: ||      sum(||      x)".to_owned()),
                ("a", "B", 1, 11, "  - alert: B|    expr: up == 0".to_owned()),
                ("c", "D", 0, 14, flow.to_owned()),
                ("c", "e", 1, 14, flow.to_owned()),
            ]
        );
        assert!(sources_of("r.yml", "groups: [{name: a, rules: [{expr: 1, nonsense: 2}]}]").is_err());
    }
}
