//! YAML as Prometheus reads it, for the configuration, rule files and target files.
//!
//! The parser follows YAML 1.2 more closely than Go's library does. [`read`] accepts in addition
//! what Go's library accepts: further documents, which are ignored, and quoted text that goes on at
//! any indentation. What a value may become is the business of its type: [`values`] has the
//! conversions of Go's library.

mod documents;
mod quoted_text;
pub mod values;

use serde::de::DeserializeOwned;
use serde_saphyr::{Budget, Error, NonFiniteFloatPolicy, Options};

/// What one text may cost. The number of its values is bounded by its length alone, which the
/// caller bounds; aliases can stand for more than the text and have limits of their own.
#[derive(Copy, Clone, Debug)]
pub struct YamlLimits {
    /// Values and brackets for which all aliases together may stand.
    pub aliased: usize,
    /// Bytes of text for which all aliases together may stand.
    pub aliased_bytes: usize,
    /// Values and brackets that are stored for aliases.
    pub anchored: usize,
    /// Nesting of lists and mappings; every level is a stack frame.
    pub depth: usize,
}

/// Parses the first document of `text`; a document without values is the default of its type.
///
/// # Errors
/// The parser's error, with its position in `text`.
pub fn read<T: DeserializeOwned + Default>(text: &str, limits: YamlLimits) -> Result<T, Error> {
    let document = documents::first(text);
    if documents::is_empty(document) {
        return Ok(T::default());
    }
    let error = match parse(document, limits) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // Only a text that the parser refuses is looked at a second time: all others cost one pass. The
    // lines stay where they are, so that positions of other errors hold.
    match quoted_text::indent_continuations(document) {
        Some(indented) => parse(&indented, limits),
        None => Err(error),
    }
}

fn parse<T: DeserializeOwned + Default>(text: &str, limits: YamlLimits) -> Result<T, Error> {
    let bytes = text.len();
    let mut budget = Budget::default();
    // `{a,` has two values in three bytes, and every list has an end in addition.
    budget.max_nodes = 2 * bytes + limits.aliased;
    budget.max_events = 4 * bytes + limits.aliased;
    budget.max_total_scalar_bytes = bytes + limits.aliased_bytes;
    budget.max_anchors = bytes;
    budget.max_aliases = bytes;
    budget.max_merge_keys = bytes;
    // One anchor with the labels of all rules is a normal use of anchors.
    budget.enforce_alias_anchor_ratio = false;
    budget.max_recorded_anchor_events = limits.anchored;
    budget.max_recorded_anchor_bytes = limits.aliased_bytes;
    budget.max_depth = limits.depth;
    let mut options = Options::default();
    options.with_snippet = false;
    // Comments are no values; kept, a block of 33 comment lines would exceed the parser's buffer.
    options.emit_comments = false;
    options.alias_limits.max_total_replayed_events = limits.aliased;
    // `.inf` is a number; the type of a key says whether it may be infinite.
    options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
    options.budget = Some(budget);
    let value: Option<T> = serde_saphyr::from_str_with_options(text, options)?;
    Ok(value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const LIMITS: YamlLimits = YamlLimits { aliased: 1000, aliased_bytes: 1000, anchored: 1000, depth: 20 };

    fn map(text: &str) -> BTreeMap<String, String> {
        read(text, LIMITS).unwrap_or_else(|error| panic!("{error} in\n{text}"))
    }

    #[test]
    fn the_first_of_several_documents_counts() {
        for text in [
            "a: b\n---\nc: d\n",
            "---\na: b\n---\n[broken\n",
            "a: b\n...\nnot: [yaml\n",
            "# c\n--- \na: b\n---",
        ] {
            assert_eq!(map(text), BTreeMap::from([("a".to_owned(), "b".to_owned())]), "{text}");
        }
        for text in ["", "---\n", "# nothing\n", "---\n---\na: b\n", "\n...\na: b\n"] {
            assert_eq!(map(text), BTreeMap::new(), "{text}");
        }
        assert_eq!(map("a: |\n  b\n  ---\n  c\n")["a"], "b\n---\nc\n");
    }

    #[test]
    fn quoted_text_goes_on_at_any_indentation() {
        for (text, want) in [
            ("m:\n  d: \"one,\n  two\"\n", "one, two"),
            ("m:\n  d: 'it''s\ntwo # 3'\n", "it's two # 3"),
            ("m:\n  d: \"one \\\ntwo\\\" three\"\n", "one two\" three"),
            ("m:\n  d: !!str \"one\n\n  two\" # it's\n", "one\ntwo"),
            ("m:\n  c: it's\n  b: |\n    \"\n  d: \"one\ntwo\"\n", "one two"),
        ] {
            let value: BTreeMap<String, BTreeMap<String, String>> = read(text, LIMITS).expect(text);
            assert_eq!(value["m"]["d"], want, "{text}");
        }
    }

    #[test]
    fn many_comments_after_a_key_are_no_values() {
        let text = format!("a:\n{}  b\n", "  # no\n".repeat(100));
        assert_eq!(map(&text)["a"], "b");
    }
}
