//! Functions that change labels (`label_replace`, `label_join`), and the labels of the one sample
//! of `absent()`. All are pure functions of [`Labels`]: texts are checked and compiled once per
//! query ([`CompiledLabelFunction`]), then applied to each series once, when its row is added.

use super::{Function, Kernel, LabelFunction};
use crate::limits::REPEATED_ARGUMENTS;
use crate::types::ValueType::{Text, Vector};
use crate::types::go_text;
use std::collections::HashSet;
use storage::limits::{LABEL_NAME_BYTES, LABEL_VALUE_BYTES};
use storage::model::labels::METRIC_NAME;
use storage::model::regex::{AnchoredRegex, Template};
use storage::model::{Labels, LabelsBuilder, MatchOp, Matcher};

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    Function::new("label_join", &[Vector, Text, Text, Text], Vector, Kernel::Relabel(LabelFunction::Join))
        .optional(1)
        .repeat(REPEATED_ARGUMENTS)
        .doc(
            "Sets a label to the values of others, joined by a separator.",
            "label_join(up, \"place\", \"/\", \"job\", \"instance\")",
        )
        .keeps_name(),
    Function::new(
        "label_replace",
        &[Vector, Text, Text, Text, Text],
        Vector,
        Kernel::Relabel(LabelFunction::Replace),
    )
    .doc(
        "Sets a label to a template filled from the parts of another label that a regular expression matches.",
        "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    )
    .keeps_name(),
];

/// Why labels cannot be changed. The texts are those of Prometheus, except for limits that it does
/// not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The pattern is not a regular expression.
    #[error("invalid regular expression in label_replace(): {0}")]
    Pattern(String),
    /// The label to set has an invalid name.
    #[error("invalid destination label name in {function}(): {name}")]
    Destination {
        /// The function that was called.
        function: &'static str,
        /// What is not a label name.
        name: String,
    },
    /// A label to read has an invalid name.
    #[error("invalid source label name in {function}(): {name}")]
    Source {
        /// The function that was called.
        function: &'static str,
        /// What is not a label name.
        name: String,
    },
    /// The name of the label to set is longer than that of a stored one may be.
    #[error("the label name that {maker} sets has {bytes} bytes: the limit is {LABEL_NAME_BYTES}")]
    LongName {
        /// The function that sets the label.
        maker: String,
        /// Length of the name.
        bytes: usize,
    },
    /// The value of the label would be longer than a stored one may be.
    #[error(
        "the label {} that {maker} sets would have {bytes} bytes or more: the limit is {LABEL_VALUE_BYTES}",
        go_text::quote(.label)
    )]
    LongValue {
        /// The function that makes the value.
        maker: String,
        /// The label that would be set.
        label: String,
        /// The length that it would have at least.
        bytes: usize,
    },
}

/// Rejects a label name that is longer than a stored one may be; `maker` is the function.
pub fn check_name(maker: &str, name: &str) -> Result<(), LabelError> {
    match name.len() {
        0..=LABEL_NAME_BYTES => Ok(()),
        bytes => Err(LabelError::LongName { maker: maker.to_owned(), bytes }),
    }
}

/// Rejects a label value that is longer than a stored one may be.
pub fn check_value(maker: &str, label: &str, bytes: usize) -> Result<(), LabelError> {
    match bytes {
        0..=LABEL_VALUE_BYTES => Ok(()),
        bytes => Err(LabelError::LongValue { maker: maker.to_owned(), label: label.to_owned(), bytes }),
    }
}

impl LabelFunction {
    /// The function's name, for errors.
    pub fn name(self) -> &'static str {
        // The name is in the table only, see the module's head.
        let is_self = |f: &&Function| matches!(f.kernel, Kernel::Relabel(kind) if kind == self);
        ENTRIES.iter().find(is_self).map_or("", |f| f.name)
    }

    /// The function as it is called, for errors.
    fn maker(self) -> String {
        format!("{}()", self.name())
    }
}

/// The pattern of a replacement, anchored on both sides; compiled once per query.
pub fn pattern(text: &str) -> Result<AnchoredRegex, LabelError> {
    AnchoredRegex::new(text).map_err(|_| LabelError::Pattern(text.to_owned()))
}

/// A call with its texts checked and compiled, once per query. It is applied to each series.
#[derive(Debug)]
pub enum CompiledLabelFunction {
    /// Sets a label to the filled template if the pattern matches the whole value of another label
    /// (missing: ""). Otherwise nothing changes. An empty result removes the label.
    Replace {
        /// The label to set.
        dst: String,
        /// The template of its value.
        template: Template,
        /// The label to read.
        src: String,
        /// The pattern, anchored.
        regex: AnchoredRegex,
    },
    /// Sets a label to the values of other labels (missing: ""), joined. An empty result removes
    /// it.
    Join {
        /// The label to set.
        dst: String,
        /// The text between the values.
        separator: String,
        /// The labels to read.
        sources: Vec<String>,
    },
}

impl CompiledLabelFunction {
    /// A call of a function of this kind with these texts, in the order of its parameters.
    pub fn new(kind: LabelFunction, texts: &[String]) -> Result<CompiledLabelFunction, LabelError> {
        let text = |i: usize| texts.get(i).cloned().unwrap_or_default();
        let relabeling = match kind {
            LabelFunction::Replace => {
                // Prometheus checks the pattern before the name of the label, and reports the first
                // error only.
                let regex = pattern(&text(3))?;
                destination(kind, &text(0))?;
                let template = Template::new(&text(1), &regex);
                CompiledLabelFunction::Replace { dst: text(0), template, src: text(2), regex }
            }
            LabelFunction::Join => {
                let sources = texts.get(2..).unwrap_or_default().to_vec();
                source(kind, &sources)?;
                destination(kind, &text(0))?;
                CompiledLabelFunction::Join { dst: text(0), separator: text(1), sources }
            }
        };
        check_name(&kind.maker(), &text(0))?;
        Ok(relabeling)
    }

    /// Whether the label is set: `label_replace` sets nothing if its pattern does not match.
    pub fn sets(&self, labels: &Labels) -> bool {
        match self {
            CompiledLabelFunction::Replace { src, regex, .. } => {
                regex.is_match(labels.get(src).unwrap_or(""))
            }
            CompiledLabelFunction::Join { .. } => true,
        }
    }

    /// The new labels of one series.
    pub fn apply(&self, labels: &Labels) -> Result<Labels, LabelError> {
        let long = |kind: LabelFunction, label: &str, bytes: usize| LabelError::LongValue {
            maker: kind.maker(),
            label: label.to_owned(),
            bytes,
        };
        match self {
            CompiledLabelFunction::Replace { dst, template, src, regex } => {
                let Some(captures) = regex.inner().captures(labels.get(src).unwrap_or("")) else {
                    return Ok(labels.clone());
                };
                // The limit is given to the filling itself: a template may repeat a long capture
                // many times.
                let value = template.fill(&captures, LABEL_VALUE_BYTES);
                let value = value.map_err(|bytes| long(LabelFunction::Replace, dst, bytes))?;
                Ok(labels.with_sorted([(dst.as_str(), value.as_str())]))
            }
            CompiledLabelFunction::Join { dst, separator, sources } => {
                let values: Vec<&str> = sources.iter().map(|name| labels.get(name).unwrap_or("")).collect();
                // Computed before joining, since the joined text could be of any size.
                let separators = separator.len() * values.len().saturating_sub(1);
                let bytes = separators + values.iter().map(|value| value.len()).sum::<usize>();
                if bytes > LABEL_VALUE_BYTES {
                    return Err(long(LabelFunction::Join, dst, bytes));
                }
                Ok(labels.with_sorted([(dst.as_str(), values.join(separator).as_str())]))
            }
        }
    }
}

/// Label names may be any text but the empty one.
fn destination(kind: LabelFunction, name: &str) -> Result<(), LabelError> {
    if name.is_empty() || !go_text::is_utf8(name) {
        return Err(LabelError::Destination { function: kind.name(), name: go_text::lossy(name) });
    }
    Ok(())
}

/// Checks the labels to read, like [`destination`].
fn source(kind: LabelFunction, names: &[String]) -> Result<(), LabelError> {
    match names.iter().find(|name| name.is_empty() || !go_text::is_utf8(name)) {
        Some(name) => Err(LabelError::Source { function: kind.name(), name: go_text::lossy(name) }),
        None => Ok(()),
    }
}

/// The labels of the sample for an empty vector: those that the selector requires by equality.
///
/// In the order of the matchers, the first equality sets its label; any later matcher of the same
/// label removes it again.
pub fn absent_labels(matchers: &[Matcher]) -> Labels {
    let mut builder = LabelsBuilder::default();
    let mut pinned: HashSet<&str> = HashSet::new();
    for matcher in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        // `insert` only for equalities: a matcher of another kind before the equality does not
        // count against it.
        let first = matcher.op == MatchOp::Equal && pinned.insert(&matcher.name);
        builder.set(&matcher.name, if first { &matcher.value } else { "" });
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(labels: &[(&str, &str)], dst: &str, template: &str, src: &str, regex: &str) -> String {
        let texts = [dst, template, src, regex].map(str::to_owned);
        let call = CompiledLabelFunction::new(LabelFunction::Replace, &texts).expect("valid names");
        call.apply(&Labels::from_pairs(labels.iter().copied())).expect("short values").to_string()
    }

    #[test]
    fn replacement() {
        let up = &[("__name__", "up"), ("src", "source-value-10"), ("n", "a\nb")][..];
        for (dst, template, src, regex, want) in [
            ("dst", "$1", "src", "source-value-(.*)", r#"dst="10""#),
            ("dst", "${1}x", "src", "source-value-(.*)", r#"dst="10x""#),
            ("dst", "$1x", "src", "source-value-(.*)", ""), // the group named 1x
            ("dst", "$1x", "src", "source-(?P<1x>.*)", r#"dst="value-10""#),
            ("dst", "[$w]$$", "src", "(?P<w>.*)", r#"dst="[source-value-10]$""#),
            ("dst", "$", "src", ".*", r#"dst="$""#),
            ("dst", "${1", "src", ".*", r#"dst="${1""#),
            ("dst", "${a b}", "src", ".*", r#"dst="${a b}""#),
            ("dst", "$7-$01", "src", "(.*)", r#"dst="-""#),
            ("dst", "x", "src", "value", ""),          // anchored
            ("dst", "x", "missing", "", r#"dst="x""#), // missing is empty
            ("dst", "x", "n", "a.b", r#"dst="x""#),    // the dot matches a newline
        ] {
            let got = replaced(up, dst, template, src, regex);
            let rest = r#"n="a\nb", src="source-value-10"}"#;
            let comma = if want.is_empty() { "" } else { ", " };
            assert_eq!(got, format!("up{{{want}{comma}{rest}"), "{template} {regex}");
        }
        assert_eq!(replaced(&[("a", "1")], "a", "", "b", ".*"), "{}");
        assert_eq!(replaced(&[("__name__", "up")], "__name__", "rate_$0", "__name__", ".*"), "rate_up");
    }

    #[test]
    fn joining() {
        let labels = Labels::from_pairs([("a", "1"), ("c", "3")]);
        let joined = |dst: &str, sources: &[&str]| {
            let texts: Vec<String> =
                [dst, "-"].iter().chain(sources).map(|text| (*text).to_owned()).collect();
            let call = CompiledLabelFunction::new(LabelFunction::Join, &texts)?;
            Ok::<_, LabelError>(call.apply(&labels)?.to_string())
        };
        assert_eq!(joined("d", &["a", "b", "c"]).as_deref(), Ok(r#"{a="1", c="3", d="1--3"}"#));
        assert_eq!(joined("a", &["b"]).as_deref(), Ok(r#"{c="3"}"#));
        assert_eq!(joined("a", &[]).as_deref(), Ok(r#"{c="3"}"#));
        let error = joined("", &["a"]).expect_err("no name").to_string();
        assert_eq!(error, "invalid destination label name in label_join(): ");
        let error = joined("d", &["a", ""]).expect_err("no name").to_string();
        assert_eq!(error, "invalid source label name in label_join(): ");
    }

    #[test]
    fn what_is_longer_than_a_stored_label_is_refused() {
        let labels = Labels::from_pairs([("a", "x".repeat(LABEL_VALUE_BYTES / 2))]);
        let call = |kind, texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            CompiledLabelFunction::new(kind, &texts)?.apply(&labels)
        };
        let join = |sources: &[&str]| call(LabelFunction::Join, sources);
        assert!(join(&["d", "", "a", "a"]).is_ok());
        let refused = join(&["d", "-", "a", "a"]).expect_err("too long").to_string();
        let want =
            "the label \"d\" that label_join() sets would have 1048577 bytes or more: the limit is 1048576";
        assert_eq!(refused, want);
        // This holds for the constant part of a replacement and for the groups in it.
        let replace = |template: &str| call(LabelFunction::Replace, &["d", template, "a", "(.*)"]);
        assert!(replace("$1$1").is_ok());
        assert!(matches!(replace("$1$1-"), Err(LabelError::LongValue { bytes: 1_048_577, .. })));
        assert!(matches!(replace(&"y".repeat(LABEL_VALUE_BYTES + 1)), Err(LabelError::LongValue { .. })));
        // It stops at the limit: the complete value would have 64 GB.
        let some = 3 * LABEL_VALUE_BYTES / 2;
        assert!(
            matches!(replace(&"$1".repeat(125_000)), Err(LabelError::LongValue { bytes, .. }) if bytes == some)
        );
        let name = "n".repeat(LABEL_NAME_BYTES + 1);
        assert!(matches!(join(&[&name, "", "b"]), Err(LabelError::LongName { bytes: 65_537, .. })));
    }

    #[test]
    fn labels_of_the_absent() {
        let m = |name: &str, op, value: &str| Matcher::new(name, op, value).expect("a matcher");
        let eq = MatchOp::Equal;
        let re = MatchOp::Regex;
        for (matchers, want) in [
            (vec![m("__name__", eq, "up"), m("a", eq, "x")], r#"{a="x"}"#),
            (vec![m("a", eq, "x"), m("a", re, "y")], "{}"),
            (vec![m("a", re, "y"), m("a", eq, "x")], r#"{a="x"}"#),
            (vec![m("a", eq, "x"), m("a", eq, "y"), m("b", eq, "z")], r#"{b="z"}"#),
            (vec![m("a", eq, "x"), m("a", eq, "y"), m("a", eq, "z")], "{}"),
        ] {
            assert_eq!(absent_labels(&matchers).to_string(), want);
        }
    }
}
