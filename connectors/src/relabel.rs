//! Relabelling: rules that rewrite a label set or drop it (Prometheus' `<relabel_config>`).
//!
//! Applied to targets before a scrape, to series after it, and to alerts. [`RelabelConfig`] is a
//! rule as configured; [`Relabeler`] is the validated list of rules with compiled patterns.
//! Patterns have RE2 syntax and are anchored.

use crate::config::document::Node;
use crate::config::error::BlockError;
use crate::config::schema::{ConfigValue, ValueKind};
use crate::config_block;
use crate::limits::{RELABEL_LABELS, SERIES_BYTES};
use crate::names::NameScheme;
use md5::{Digest, Md5};
use regex::Captures;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::ops::Deref;
use storage::model::LabelsBuilder;
use storage::model::regex::{AnchoredRegex, expand};

/// What a rule does.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum RelabelAction {
    /// Sets `target_label` to the expanded `replacement` if the pattern matches.
    #[default]
    Replace,
    /// Drops label sets that do not match.
    Keep,
    /// Drops label sets that match.
    Drop,
    /// Drops unless the joined source equals the value of the target label.
    KeepEqual,
    /// Drops if the joined source equals the value of the target label.
    DropEqual,
    /// Sets `target_label` to the hash of the joined source modulo `modulus`.
    HashMod,
    /// Copies labels whose name matches to the name that `replacement` expands to.
    LabelMap,
    /// Removes labels whose name matches.
    LabelDrop,
    /// Removes labels whose name does not match.
    LabelKeep,
    /// Sets `target_label` to the joined source in lower case.
    Lowercase,
    /// Sets `target_label` to the joined source in upper case.
    Uppercase,
    /// `action: null`, which no rule may have.
    Unset,
}

impl RelabelAction {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            RelabelAction::Replace => "replace",
            RelabelAction::Keep => "keep",
            RelabelAction::Drop => "drop",
            RelabelAction::KeepEqual => "keepequal",
            RelabelAction::DropEqual => "dropequal",
            RelabelAction::HashMod => "hashmod",
            RelabelAction::LabelMap => "labelmap",
            RelabelAction::LabelDrop => "labeldrop",
            RelabelAction::LabelKeep => "labelkeep",
            RelabelAction::Unset => "",
            RelabelAction::Lowercase => "lowercase",
            RelabelAction::Uppercase => "uppercase",
        }
    }
}

config_block! {
    /// A rule as configured. Missing keys have Prometheus' defaults.
    #[derive(Eq)]
    pub struct RelabelConfig as "relabel.Config" {
        /// The labels whose values are joined.
        source_labels: SourceLabels = SourceLabels::default(),
        /// The separator of the joined values.
        separator: String = DEFAULT_SEPARATOR.to_owned() => printed,
        /// The anchored pattern; default `(.*)`.
        regex: RelabelPattern = RelabelPattern(None) => printed,
        /// The modulus of `hashmod`.
        modulus: u64 = 0,
        /// The label to write; may contain `$1`.
        target_label: String = String::new(),
        /// The value to write; may contain `$1`.
        replacement: String = DEFAULT_REPLACEMENT.to_owned() => printed,
        /// What the rule does, in upper or lower case.
        action: RelabelAction = RelabelAction::Replace;
        /// Which names labels may have. Not a key of the rule: comes from its block.
        names: NameScheme = NameScheme::Utf8
    }
}

/// The pattern of a rule, if it has one; `regex:` without a value is the empty pattern, as in
/// Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RelabelPattern(Option<String>);

impl RelabelPattern {
    /// The pattern as written.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl From<&str> for RelabelPattern {
    fn from(pattern: &str) -> RelabelPattern {
        RelabelPattern(Some(pattern.to_owned()))
    }
}

impl ConfigValue for RelabelPattern {
    const KIND: ValueKind = ValueKind::Text;

    fn read<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(String::read(d)?.as_str().into())
    }

    fn null() -> Option<RelabelPattern> {
        Some("".into())
    }

    fn node(&self) -> Node {
        self.0.node()
    }
}

/// The labels whose values a rule joins. As in Prometheus an element without a value is the empty
/// name, and an empty text is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceLabels(Vec<String>);

impl Deref for SourceLabels {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl From<Vec<String>> for SourceLabels {
    fn from(names: Vec<String>) -> SourceLabels {
        SourceLabels(names)
    }
}

impl From<SourceLabels> for Vec<String> {
    fn from(SourceLabels(names): SourceLabels) -> Vec<String> {
        names
    }
}

impl<'de> Deserialize<'de> for SourceLabels {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<SourceLabels, D::Error> {
        let names = Vec::<Option<String>>::deserialize(d)?;
        if names.iter().flatten().any(String::is_empty) {
            return Err(D::Error::custom("\"\" is not a valid label name"));
        }
        Ok(SourceLabels(names.into_iter().map(Option::unwrap_or_default).collect()))
    }
}

impl ConfigValue for SourceLabels {
    const KIND: ValueKind = ValueKind::List(&ValueKind::Text);

    fn null() -> Option<SourceLabels> {
        Some(SourceLabels::default())
    }

    fn node(&self) -> Node {
        self.0.node()
    }
}

/// Sets which names labels may have for all rules.
pub fn set_names(configs: &mut [RelabelConfig], names: NameScheme) {
    for config in configs.iter_mut() {
        config.names = names;
    }
}

impl<'de> Deserialize<'de> for RelabelAction {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use RelabelAction::*;
        let all = [
            Replace, Keep, Drop, KeepEqual, DropEqual, HashMod, LabelMap, LabelDrop, LabelKeep, Lowercase,
            Uppercase,
        ];
        let text = String::deserialize(d)?;
        let lower = text.to_lowercase();
        all.into_iter()
            .find(|action| action.as_str() == lower)
            .ok_or_else(|| serde::de::Error::custom(format_args!("unknown relabel action {text:?}")))
    }
}

impl ConfigValue for RelabelAction {
    const KIND: ValueKind = ValueKind::Text;

    fn null() -> Option<RelabelAction> {
        Some(RelabelAction::Unset)
    }

    fn node(&self) -> Node {
        self.as_str().into()
    }
}

/// A rule may expand to at most this many times the bytes of a series before the exact size is
/// computed.
const EXPANSIONS: usize = 8;

const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REPLACEMENT: &str = "$1";

impl RelabelConfig {
    fn validate(&self) -> Result<(), InvalidRule> {
        use RelabelAction::*;
        let action = self.action.as_str();
        if self.action == Unset {
            return Err(InvalidRule::NoAction);
        }
        if self.action == HashMod && self.modulus == 0 {
            return Err(InvalidRule::NoModulus);
        }
        let needs_target =
            matches!(self.action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        // An empty name would be a label without one, which no series may have.
        if needs_target && self.target_label.is_empty() {
            return Err(InvalidRule::NoTarget { action });
        }
        self.validate_names()?;
        // A key with its default value counts as missing, because Prometheus writes out all keys.
        let has_separator = self.separator != DEFAULT_SEPARATOR;
        let has_replacement = self.replacement != DEFAULT_REPLACEMENT;
        // A key without an effect is an error and no warning, as in Prometheus: the user believes
        // that it does something.
        if matches!(self.action, Lowercase | Uppercase | KeepEqual | DropEqual) && has_replacement {
            return Err(InvalidRule::HasReplacement { action });
        }
        let has_regex = self.pattern() != DEFAULT_REGEX;
        let other_keys = has_regex || self.modulus != 0 || has_separator;
        if matches!(self.action, KeepEqual | DropEqual) && other_keys {
            return Err(InvalidRule::MoreThanLabels { action });
        }
        let more_than_regex = !self.source_labels.is_empty()
            || !self.target_label.is_empty()
            || self.modulus != 0
            || has_separator
            || has_replacement;
        if matches!(self.action, LabelDrop | LabelKeep) && more_than_regex {
            return Err(InvalidRule::MoreThanRegex { action });
        }
        Ok(())
    }

    /// Checks that the labels that the rule writes have valid names.
    fn validate_names(&self) -> Result<(), InvalidRule> {
        use RelabelAction::*;
        let action = self.action.as_str();
        let target = &self.target_label;
        let fits = match self.action {
            Replace if target.contains('$') => self.names.allows_template(target),
            Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual => {
                self.names.allows_label(target)
            }
            _ => true,
        };
        if !fits {
            return Err(InvalidRule::BadName { key: "target_label", name: target.clone(), action });
        }
        if self.action == LabelMap && !self.names.allows_template(&self.replacement) {
            let name = self.replacement.clone();
            return Err(InvalidRule::BadName { key: "replacement", name, action });
        }
        Ok(())
    }
}

/// Why a rule cannot be used. The texts are those of Prometheus; `action` is that of the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// `hashmod` has no modulus.
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    NoModulus,
    /// There is no action.
    #[error("relabel action cannot be empty")]
    NoAction,
    /// The action writes a label and none is named.
    #[error("relabel configuration for {action} action requires 'target_label' value")]
    NoTarget {
        /// The action.
        action: &'static str,
    },
    /// A label may not have this name under the naming scheme of the job.
    #[error("{name:?} is invalid '{key}' for {action} action")]
    BadName {
        /// The key that has the name.
        key: &'static str,
        /// The name, or the template of one.
        name: String,
        /// The action.
        action: &'static str,
    },
    /// The action writes its own value.
    #[error("'replacement' can not be set for {action} action")]
    HasReplacement {
        /// The action.
        action: &'static str,
    },
    /// The action compares labels only.
    #[error("{action} action requires only 'source_labels' and `target_label`, and no other fields")]
    MoreThanLabels {
        /// The action.
        action: &'static str,
    },
    /// The action looks at names of labels only.
    #[error("{action} action requires only 'regex', and no other fields")]
    MoreThanRegex {
        /// The action.
        action: &'static str,
    },
    /// The pattern is no regular expression.
    #[error("{0}")]
    Regex(String),
}

impl From<InvalidRule> for BlockError {
    fn from(error: InvalidRule) -> BlockError {
        BlockError::new(error.to_string())
    }
}

/// A compiled rule.
#[derive(Clone, Debug)]
struct RelabelRule {
    action: RelabelAction,
    source_labels: SourceLabels,
    separator: String,
    target_label: String,
    regex: AnchoredRegex,
    modulus: u64,
    replacement: String,
    names: NameScheme,
    /// Whether the rule writes a constant for every source, so that the pattern need not run.
    constant: bool,
}

/// A list of compiled rules: cheap to apply, expensive to build.
#[derive(Clone, Debug, Default)]
pub struct Relabeler {
    rules: Vec<RelabelRule>,
}

impl Relabeler {
    /// Validates and compiles `configs`; the error is that of the first rule that has one.
    pub fn new(configs: &[RelabelConfig]) -> Result<Relabeler, InvalidRule> {
        configs.iter().map(RelabelRule::new).collect::<Result<_, _>>().map(|rules| Relabeler { rules })
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Applies all rules to `labels`; `false` means that the label set is dropped. Also drops, and
    /// logs, label sets that become too large.
    #[must_use]
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        self.apply_while(labels, || true).unwrap_or_else(|error| {
            tracing::error!(
                target: "scrape", %error,
                "relabeling drops a label set that is too large; correct the rules"
            );
            false
        })
    }

    /// As [`Relabeler::apply`], but stops as soon as `goes_on` returns false; it is called before
    /// each rule.
    pub fn apply_while(
        &self,
        labels: &mut LabelsBuilder,
        goes_on: impl Fn() -> bool,
    ) -> Result<bool, RelabelError> {
        let mut joined = String::new();
        for rule in &self.rules {
            // Between rules and not inside one: a rule is bounded by the size of its input, a list
            // of rules is not.
            if !goes_on() {
                return Err(RelabelError::Interrupted);
            }
            if !rule.apply(labels, &mut joined)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What one rule makes of a label set.
pub struct RelabelStep {
    /// The rule.
    pub rule: RelabelConfig,
    /// The labels after it.
    pub output: BTreeMap<String, String>,
    /// Whether the label set is kept.
    pub keep: bool,
}

impl RelabelConfig {
    /// The pattern, with the default.
    pub fn pattern(&self) -> &str {
        self.regex.as_deref().unwrap_or(DEFAULT_REGEX)
    }
}

/// Applies one rule after the other and keeps what each makes of `labels`, up to one that drops
/// them.
pub fn relabel_steps(rules: &[RelabelConfig], labels: &BTreeMap<String, String>) -> Vec<RelabelStep> {
    let mut builder = LabelsBuilder::default();
    for (name, value) in labels {
        builder.set(name, value);
    }
    let mut steps = Vec::new();
    for rule in rules {
        // The rules of a job were compiled before: this one is valid.
        let keep = Relabeler::new(std::slice::from_ref(rule)).is_ok_and(|one| one.apply(&mut builder));
        let output = if keep { builder.pairs().clone() } else { BTreeMap::new() };
        steps.push(RelabelStep { rule: rule.clone(), output, keep });
        if !keep {
            break;
        }
    }
    steps
}

/// Why not all rules were applied.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelabelError {
    /// The caller's `goes_on` returned false.
    #[error("relabelling was interrupted")]
    Interrupted,
    /// The labels became too large: a few rules that write their source several times grow labels
    /// exponentially.
    #[error(
        "relabelling makes more than {RELABEL_LABELS} labels, or labels of more than {SERIES_BYTES} bytes together"
    )]
    TooLarge,
}

impl RelabelRule {
    fn new(config: &RelabelConfig) -> Result<RelabelRule, InvalidRule> {
        config.validate()?;
        let pattern = config.pattern();
        let replacement = config.replacement.clone();
        let constant = config.action == RelabelAction::Replace
            && pattern == DEFAULT_REGEX
            && !replacement.contains('$')
            && !config.target_label.contains('$');
        Ok(RelabelRule {
            action: config.action,
            source_labels: config.source_labels.clone(),
            separator: config.separator.clone(),
            target_label: config.target_label.clone(),
            regex: AnchoredRegex::new(pattern).map_err(|e| InvalidRule::Regex(e.to_string()))?,
            modulus: config.modulus,
            replacement,
            names: config.names,
            constant,
        })
    }

    /// Applies the rule; `false` means that the label set is dropped.
    fn apply(&self, labels: &mut LabelsBuilder, joined: &mut String) -> Result<bool, RelabelError> {
        joined.clear();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                joined.push_str(&self.separator);
            }
            joined.push_str(labels.get(name));
        }
        match self.action {
            RelabelAction::Drop => return Ok(!self.regex.is_match(joined)),
            RelabelAction::Keep => return Ok(self.regex.is_match(joined)),
            // No pattern: the values are compared as they are.
            RelabelAction::DropEqual => return Ok(labels.get(&self.target_label) != joined),
            RelabelAction::KeepEqual => return Ok(labels.get(&self.target_label) == joined),
            RelabelAction::Replace => self.replace(labels, joined)?,
            RelabelAction::Lowercase => {
                labels.set(&self.target_label, joined.to_lowercase());
            }
            RelabelAction::Uppercase => {
                labels.set(&self.target_label, joined.to_uppercase());
            }
            RelabelAction::HashMod => {
                let digest = Md5::digest(joined.as_bytes());
                // The last eight bytes of MD5, as in Prometheus. Any other hash would send targets
                // to other shards than its servers do.
                let hash = digest[8..].iter().fold(0u64, |h, b| h << 8 | u64::from(*b));
                labels.set(&self.target_label, (hash % self.modulus).to_string());
            }
            RelabelAction::LabelMap => self.map(labels)?,
            RelabelAction::LabelDrop => self.retain(labels, |hit| !hit),
            RelabelAction::LabelKeep => self.retain(labels, |hit| hit),
            // Refused when the rules were read.
            RelabelAction::Unset => {}
        }
        // After each rule: one that writes its source three times, ten times in a row, makes
        // gigabytes of a short label.
        let bytes: usize = labels.pairs().iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > SERIES_BYTES || labels.pairs().len() > RELABEL_LABELS {
            return Err(RelabelError::TooLarge);
        }
        Ok(true)
    }

    fn replace(&self, labels: &mut LabelsBuilder, joined: &str) -> Result<(), RelabelError> {
        // Most rules that set a label set a constant; the pattern `(.*)` matches anything.
        if self.constant {
            labels.set(&self.target_label, &self.replacement);
            return Ok(());
        }
        // No match leaves the label as it is; only a match with an empty result removes it.
        let Some(captures) = self.regex.inner().captures(joined) else { return Ok(()) };
        let target = expand_within(&self.target_label, &captures)?;
        // The name was a template, so it could not be checked before. Prometheus leaves the label
        // out, too.
        if !self.names.allows_label(&target) {
            return Ok(());
        }
        let value = expand_within(&self.replacement, &captures)?;
        if value.is_empty() {
            labels.remove(&target);
        } else {
            labels.set(target, value);
        }
        Ok(())
    }

    fn map(&self, labels: &mut LabelsBuilder) -> Result<(), RelabelError> {
        let mut copies = Vec::new();
        for (name, value) in labels.pairs().iter().filter(|(_, v)| !v.is_empty()) {
            if let Some(captures) = self.regex.inner().captures(name) {
                copies.push((expand_within(&self.replacement, &captures)?, value.clone()));
            }
        }
        // After all names were matched: a copy must not be copied again by the same rule.
        for (name, value) in copies.into_iter().filter(|(n, _)| !n.is_empty()) {
            labels.set(name, value);
        }
        Ok(())
    }

    fn retain(&self, labels: &mut LabelsBuilder, keep: impl Fn(bool) -> bool) {
        labels.retain(|name| keep(self.regex.is_match(name)));
    }
}

/// As [`expand`], but fails if a large text is referenced many times in the template.
fn expand_within(template: &str, captures: &Captures<'_>) -> Result<String, RelabelError> {
    let references = template.bytes().filter(|byte| *byte == b'$').count();
    let longest = captures.get(0).map_or(0, |whole| whole.len());
    // Before the text is built, by what it could become at most; the exact size is checked after
    // the rule.
    if references.saturating_mul(longest) > EXPANSIONS * SERIES_BYTES {
        return Err(RelabelError::TooLarge);
    }
    Ok(expand(template, captures))
}

#[cfg(test)]
mod tests;
