//! Which names of metrics and labels are valid (`metric_name_validation_scheme`: UTF-8 or legacy),
//! and how targets should escape others (`metric_name_escaping_scheme`).

use serde::Deserialize;

/// `metric_name_validation_scheme`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameScheme {
    /// Any text that is not empty.
    #[default]
    Utf8,
    /// Letters, digits and `_`, in metric names also `:`; no digit first.
    Legacy,
}

impl NameScheme {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            NameScheme::Utf8 => "utf8",
            NameScheme::Legacy => "legacy",
        }
    }

    /// Whether a label may have this name.
    pub fn allows_label(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_plain(name, false),
        }
    }

    /// Whether a metric may have this name.
    pub fn allows_metric(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_plain(name, true),
        }
    }

    /// Whether a relabelling rule may have this template, which may contain `$1` and `${name}`, as
    /// the name of its target label.
    pub fn allows_template(self, template: &str) -> bool {
        match self {
            NameScheme::Utf8 => !template.is_empty(),
            NameScheme::Legacy => is_plain_template(template),
        }
    }
}

fn is_plain(name: &str, colon: bool) -> bool {
    let fits = |b: u8| b == b'_' || b.is_ascii_alphanumeric() || (colon && b == b':');
    !name.bytes().next().is_none_or(|first| first.is_ascii_digit()) && name.bytes().all(fits)
}

/// Whether the template consists of letters, `_`, `$name` and `${name}`, each followed by letters,
/// digits and `_`.
fn is_plain_template(template: &str) -> bool {
    let mut rest = template.as_bytes();
    let word = |bytes: &[u8]| bytes.iter().take_while(|b| **b == b'_' || b.is_ascii_alphanumeric()).count();
    let mut is_first = true;
    while let [head, tail @ ..] = rest {
        rest = match head {
            b'$' if tail.first() == Some(&b'{') => {
                let name = word(&tail[1..]);
                match tail.get(1 + name) {
                    Some(b'}') if name > 0 => &tail[name + 2..],
                    // Everything else than letters, `_` and references; a digit only after the
                    // first character.
                    _ => return false,
                }
            }
            b'$' => match word(tail) {
                0 => return false,
                name => &tail[name..],
            },
            b'_' => tail,
            b if b.is_ascii_alphabetic() || (!is_first && b.is_ascii_digit()) => tail,
            _ => return false,
        };
        is_first = false;
    }
    !is_first
}

/// `metric_name_escaping_scheme`: how targets should escape names that the legacy text format
/// cannot express.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escaping {
    /// No escaping.
    #[serde(rename = "allow-utf-8")]
    AllowUtf8,
    /// `_` for each such character.
    Underscores,
    /// `_dot_` for a dot, `__` for an underscore, `__` for other characters.
    Dots,
    /// `U__`, and the code point of each such character between underscores.
    Values,
}

impl Escaping {
    /// The name in the configuration and in the `Accept` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }

    /// The default of a job that sets no escaping scheme.
    pub fn default_of(scheme: NameScheme) -> Escaping {
        match scheme {
            NameScheme::Utf8 => Escaping::AllowUtf8,
            NameScheme::Legacy => Escaping::Underscores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_names_are_of_the_old_alphabet() {
        let utf8 = NameScheme::Utf8;
        let legacy = NameScheme::Legacy;
        for (name, label, metric) in [
            ("a", true, true),
            ("_1", true, true),
            ("a:b", false, true),
            ("1a", false, false),
            ("a.b", false, false),
            ("é", false, false),
        ] {
            assert_eq!((legacy.allows_label(name), legacy.allows_metric(name)), (label, metric), "{name}");
            assert!(utf8.allows_label(name) && utf8.allows_metric(name), "{name}");
        }
        assert!(
            !utf8.allows_label("")
                && !legacy.allows_label("")
                && !utf8.allows_metric("")
                && !legacy.allows_metric("")
        );
        for (template, fits) in [
            ("a_$1", true),
            ("${a}_b", true),
            ("$1", true),
            ("a$", false),
            ("${", false),
            ("a.$1", false),
            ("1$1", false),
            ("", false),
        ] {
            assert_eq!(legacy.allows_template(template), fits, "{template}");
        }
        assert!(utf8.allows_template("a.$1") && utf8.allows_template("$"));
    }
}
