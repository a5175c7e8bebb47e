//! Errors in YAML files: file, line, column, error and remedy.
//!
//! Rule files and the main configuration share them. Positions inside a scalar (an expression, a
//! template) are mapped to the file by [`inside_scalar`], so that an editor can jump to them.

use super::limits::{FILE_BYTES, HINT_DISTANCE, YAML_ALIASED, YAML_ALIASED_BYTES, YAML_ANCHORED, YAML_DEPTH};
use ::yaml::YamlLimits;
use language::edit_distance;
use serde::de::DeserializeOwned;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Location, Spanned};
use std::io::Read;
use std::path::Path;

/// An error in a file. Displayed as `file:line:column: what; fix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as given.
    pub file: String,
    /// Line, from 1; 0: the whole file.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// What is wrong.
    pub what: String,
    /// What to do about it; may be empty.
    pub fix: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.what)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", self.fix) }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// An error at a position in a file.
    pub fn at(
        file: &str,
        location: Location,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            line: location.line(),
            column: location.column(),
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// An error of the whole file.
    pub fn whole(file: &str, what: impl Into<String>, fix: impl Into<String>) -> ConfigError {
        ConfigError::at(file, Location::UNKNOWN, what, fix)
    }
}

/// Reads a text file of at most [`FILE_BYTES`].
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let open = std::fs::File::open(path).map_err(|e| {
        ConfigError::whole(&name, format!("cannot be opened: {e}"), "check the path and its permissions")
    })?;
    let mut text = String::new();
    // One byte more than allowed, to tell a file of exactly the limit from a larger one; and not by
    // the size from the file system, which is zero for pipes and `/proc`.
    let mut limited = open.take(FILE_BYTES + 1);
    limited.read_to_string(&mut text).map_err(|e| {
        ConfigError::whole(&name, format!("cannot be read as UTF-8 text: {e}"), "save it as UTF-8")
    })?;
    if text.len() as u64 > FILE_BYTES {
        let what = format!("larger than {} MiB", FILE_BYTES >> 20);
        return Err(ConfigError::whole(&name, what, "split it into several files"));
    }
    Ok(text)
}

/// Parses YAML strictly; an empty document counts as `{}`.
pub fn parse<T: DeserializeOwned + Default>(file: &str, text: &str) -> Result<T, ConfigError> {
    parse_with(file, text, &|_| Vec::new())
}

/// Like [`parse`]; `known` lists the fields of a type whose errors for unknown fields have
/// Prometheus' text (`field x not found in type config.ScrapeConfig`).
pub fn parse_with<T: DeserializeOwned + Default>(
    file: &str,
    text: &str,
    known: &dyn Fn(&str) -> Vec<&'static str>,
) -> Result<T, ConfigError> {
    ::yaml::read(text, LIMITS).map_err(|e| explain(file, &e, known))
}

/// The text itself is bounded by [`FILE_BYTES`].
const LIMITS: YamlLimits = YamlLimits {
    aliased: YAML_ALIASED,
    aliased_bytes: YAML_ALIASED_BYTES,
    anchored: YAML_ANCHORED,
    depth: YAML_DEPTH,
};

/// Converts a parser's error.
fn explain(
    file: &str,
    error: &serde_saphyr::Error,
    known: &dyn Fn(&str) -> Vec<&'static str>,
) -> ConfigError {
    use serde_saphyr::Error as E;
    let mut error = error.without_snippet();
    let location = error.location().unwrap_or(Location::UNKNOWN);
    // The position is that of the alias, where the value is used; what is wrong is inside.
    while let E::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    let (what, fix) = match error {
        E::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown field {field:?}"), suggestion(field, expected))
        }
        E::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("unknown value {variant:?}"), suggestion(variant, expected))
        }
        E::SerdeMissingField { field, .. } => {
            (format!("the field {field:?} is missing"), format!("add `{field}: …`"))
        }
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            (format!("the key {key:?} appears twice"), "keep one of them".to_owned())
        }
        E::SerdeInvalidType { unexpected, expected, .. } => {
            (format!("found {unexpected}, expected {expected}"), String::new())
        }
        E::NullIntoString { .. } => {
            ("a value is missing".to_owned(), "write one, or \"\" for empty".to_owned())
        }
        // Types that are read by hand report unknown fields with Prometheus' words. The list of
        // known fields makes the same hint possible as for derived ones.
        E::Message { msg, .. } => match not_found(msg) {
            Some((field, kind)) => (format!("unknown field {field:?}"), suggestion(field, &known(kind))),
            None => (msg.clone(), String::new()),
        },
        E::Unexpected { expected, .. } => {
            (format!("expected {expected}"), "check the indentation".to_owned())
        }
        E::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            (format!("nested deeper than {YAML_DEPTH} levels"), "check the indentation".to_owned())
        }
        E::Budget { .. } | E::AliasReplayLimitExceeded { .. } | E::AliasReplayStackDepthExceeded { .. } => {
            let what = format!(
                "its aliases (`*name`) stand for more than {YAML_ALIASED} values or {} MiB of text",
                YAML_ALIASED_BYTES >> 20
            );
            (what, "use fewer of them, or write the values out".to_owned())
        }
        other => (strip_position(&other.to_string()), String::new()),
    };
    ConfigError::at(file, location, what, fix)
}

/// Field and type of `field x not found in type y`.
fn not_found(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix("field ")?.split_once(" not found in type ")
}

/// Removes the position, which the parser repeats in its text.
fn strip_position(text: &str) -> String {
    let first = text.lines().next().unwrap_or("not valid YAML");
    let first = first.strip_prefix("error: ").unwrap_or(first);
    match first.rfind(" at line ") {
        Some(at) => first[..at].to_owned(),
        None => first.to_owned(),
    }
}

/// "did you mean …", or the list of possible words.
pub fn suggestion<S: AsRef<str>>(word: &str, known: &[S]) -> String {
    let best = known.iter().map(|k| (edit_distance(word, k.as_ref()), k.as_ref())).min();
    match best {
        // At most half of the letters, or short words would get hints that have nothing to do with
        // them.
        Some((d, name)) if d <= HINT_DISTANCE.min(word.len().div_ceil(2)) => {
            format!("did you mean {name:?}?")
        }
        Some(_) => {
            let mut names: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
            names.sort_unstable();
            format!("possible here: {}", names.join(", "))
        }
        None => "remove it".to_owned(),
    }
}

/// Line and column in the file of a position inside a scalar's text (`line`, `column` from 1). If
/// the lines of the scalar are folded, the position of the scalar itself.
pub fn inside_scalar(source: &str, scalar: Location, line: u64, column: u64) -> (u64, u64) {
    let here = (scalar.line(), scalar.column());
    let lines: Vec<&str> = source.lines().take(scalar.line() as usize).collect();
    let Some((own, before)) = lines.split_last() else { return here };
    match block_indicator(before) {
        // The scalar begins at its first line of text.
        Some('|') => return (here.0 + line - 1, here.1 + column - 1),
        Some(_) => return here,
        None => {}
    }
    let head = own.chars().nth(scalar.column().saturating_sub(1) as usize);
    let quoted = matches!(head, Some('"' | '\''));
    if line == 1 { (here.0, here.1 + column - 1 + u64::from(quoted)) } else { here }
}

/// `|` or `>` if the last line of text before a scalar opens a block with it.
fn block_indicator(before: &[&str]) -> Option<char> {
    let line = before.iter().rev().find(|l| !l.trim().is_empty())?;
    let last = line.split_whitespace().next_back()?;
    let mut chars = last.chars();
    let first = chars.next().filter(|c| matches!(c, '|' | '>'))?;
    chars.all(|c| c.is_ascii_digit() || matches!(c, '+' | '-')).then_some(first)
}

/// A Prometheus duration in a YAML scalar, in ms.
pub fn duration(file: &str, text: &Spanned<String>) -> Result<i64, ConfigError> {
    storage::model::time::parse_duration(&text.value).map_err(|e| {
        ConfigError::at(file, text.referenced, e.to_string(), "write a number and a unit: 15s, 5m, 1h30m, 2d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Doc {
        #[serde(default)]
        interval: Option<Spanned<String>>,
        #[serde(default)]
        flag: bool,
    }

    #[test]
    fn faults_name_place_and_remedy() {
        let cases = [
            (
                "interval: 1m\nintervall: 2m\n",
                r#"f.yml:2:1: unknown field "intervall"; did you mean "interval"?"#,
            ),
            ("colour: red\n", r#"f.yml:1:1: unknown field "colour"; possible here: flag, interval"#),
            ("flag: true\nflag: true\n", r#"f.yml:2:1: the key "flag" appears twice; keep one of them"#),
        ];
        for (text, want) in cases {
            let got = parse::<Doc>("f.yml", text).unwrap_err().to_string();
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn a_text_is_as_large_as_its_file_may_be() {
        let list = format!("[{}]", vec!["a"; 400_000].join(","));
        assert_eq!(parse::<Vec<String>>("f.yml", &list).unwrap().len(), 400_000);
        let pairs: String = (0..150_000).map(|i| format!("k{i}: v\n")).collect();
        let map: std::collections::BTreeMap<String, String> = parse("f.yml", &pairs).unwrap();
        assert_eq!(map.len(), 150_000);
    }

    #[test]
    fn one_anchor_serves_many_rules() {
        let text = format!("- &common {{team: a, tier: b}}\n{}", "- *common\n".repeat(20_000));
        let all: Vec<std::collections::BTreeMap<String, String>> = parse("f.yml", &text).unwrap();
        assert!(all.len() == 20_001 && all[20_000]["tier"] == "b");
    }

    #[test]
    fn aliases_stand_for_no_more_than_memory_holds() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let lines = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{lines}]\n"));
        }
        let fat = format!("- &a {}\n{}", "x".repeat(1_000_000), "- *a\n".repeat(500));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (text, what) in [
            (&bomb, "its aliases (`*name`) stand for more than"),
            (&fat, "its aliases"),
            (&deep, "nested deeper than 64 levels"),
        ] {
            let fault = parse::<serde_json::Value>("f.yml", text).unwrap_err();
            assert!(fault.what.starts_with(what) && !fault.fix.is_empty(), "{fault}");
        }
    }

    #[test]
    fn yaml_1_1_booleans_and_empty_files_are_accepted() {
        assert!(parse::<Doc>("f.yml", "flag: yes\n").unwrap().flag);
        let empty = parse::<Doc>("f.yml", "# nothing\n").unwrap();
        assert!(empty.interval.is_none() && !empty.flag);
    }

    #[test]
    fn durations_are_checked_at_their_place() {
        let doc = parse::<Doc>("f.yml", "interval: 5 minutes\n").unwrap();
        let fault = duration("f.yml", &doc.interval.unwrap()).unwrap_err();
        assert_eq!((fault.line, fault.column), (1, 11));
        assert!(fault.to_string().contains("not a valid duration string"), "{fault}");
    }

    #[test]
    fn places_inside_scalars() {
        let source = "a: foo bar\nb: |\n  one\n  two x\nc: 'q r'\n";
        let doc: std::collections::BTreeMap<String, Spanned<String>> = parse("f.yml", source).unwrap();
        assert_eq!(inside_scalar(source, doc["a"].referenced, 1, 5), (1, 8));
        assert_eq!(inside_scalar(source, doc["b"].referenced, 2, 5), (4, 7));
        assert_eq!(inside_scalar(source, doc["c"].referenced, 1, 3), (5, 7));
    }
}
