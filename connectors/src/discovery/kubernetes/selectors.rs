//! Checks the selectors of `kubernetes_sd_configs`, with the errors of Kubernetes' own library. The
//! API server applies them; a mistake would only show as a list that never comes.

use super::groups::Role;
use super::{KubernetesSdKeys, unknown_role};
use crate::config::error::BlockError;

/// Longest name and value of a label, bytes.
const LABEL_BYTES: usize = 63;
/// Longest prefix of the name of a label, bytes.
const PREFIX_BYTES: usize = 253;
/// What names and values of labels are made of, in Kubernetes' words.
const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                         an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                         validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                          '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
                          'my_value',  or '12345', regex used for validation is \
                          '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                           '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
                           used for validation is \
                           '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Checks the selectors of an entry: their roles and their forms.
pub(super) fn validate_selectors(keys: &KubernetesSdKeys) -> Result<(), BlockError> {
    // As Prometheus: a selector of objects that the role does not follow does nothing.
    let allowed: &[&str] = match keys.role.as_str() {
        "pod" => &["pod", "node"],
        "service" => &["service"],
        "endpointslice" => &["pod", "service", "endpointslice"],
        "endpoints" => &["pod", "service", "endpoints"],
        "node" => &["node"],
        _ => &["ingress"],
    };
    for (at, selector) in keys.selectors.iter().enumerate() {
        let role = &selector.role;
        if !role.is_empty() && Role::parse(role).is_none() {
            return Err(unknown_role(role));
        }
        if keys.selectors[..at].iter().any(|other| other.role == *role) {
            return Err(BlockError::new(format!("duplicated selector role: {role}")));
        }
        if !allowed.contains(&role.as_str()) {
            let allowed = allowed.join(", ");
            let text = format!("{} role supports only {allowed} selectors", keys.role);
            return Err(BlockError::new(text));
        }
        check_field_selector(&selector.field)?;
        check_label_selector(&selector.label).map_err(BlockError::new)?;
    }
    Ok(())
}

/// Checks the form of a selector of fields: `name=value`, `==` or `!=`, with commas between them.
fn check_field_selector(selector: &str) -> Result<(), BlockError> {
    for term in selector.split(',').filter(|term| !term.is_empty()) {
        if !term.contains('=') {
            return Err(format!("invalid selector: '{selector}'; can't understand '{term}'").into());
        }
    }
    Ok(())
}

/// Why a selector of labels cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum SelectorError {
    /// Something else should stand there.
    #[error("found '{found}', expected: {expected}")]
    Unexpected { found: String, expected: &'static str },
    /// A requirement is none.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
}

impl From<SelectorError> for String {
    fn from(error: SelectorError) -> String {
        error.to_string()
    }
}

fn unexpected(found: &Token<'_>, expected: &'static str) -> SelectorError {
    SelectorError::Unexpected { found: found.text().to_owned(), expected }
}

/// The same in a requirement.
fn in_requirement(found: &Token<'_>, expected: &'static str) -> SelectorError {
    SelectorError::Requirement(unexpected(found, expected).to_string())
}

/// A part of a selector of labels.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name, a value, `in` or `notin`.
    Word(&'a str),
    /// An operator, a bracket, a comma.
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(&self) -> &'a str {
        match self {
            Token::Word(text) | Token::Symbol(text) => text,
            Token::End => "",
        }
    }
}

/// Reads the parts one after the other.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Token<'a> {
        self.0 = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
        if self.0.is_empty() {
            return Token::End;
        }
        let symbols = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
        if let Some(symbol) = symbols.into_iter().find(|symbol| self.0.starts_with(symbol)) {
            self.0 = &self.0[symbol.len()..];
            return Token::Symbol(symbol);
        }
        let ends = |c: char| " \t\r\n=!(),><".contains(c);
        let (word, rest) = self.0.split_at(self.0.find(ends).unwrap_or(self.0.len()));
        self.0 = rest;
        Token::Word(word)
    }

    /// The next one, which stays.
    fn peek(&self) -> Token<'a> {
        Tokens(self.0).next()
    }
}

/// Checks the form of a selector of labels: `a=b`, `a!=b`, `a in (b, c)`, `a`, `!a`, with commas
/// between them.
fn check_label_selector(selector: &str) -> Result<(), SelectorError> {
    let mut tokens = Tokens(selector);
    loop {
        match tokens.peek() {
            Token::Word(_) | Token::Symbol("!") => requirement(&mut tokens)?,
            Token::End => return Ok(()),
            other => return Err(unexpected(&other, "!, identifier, or 'end of string'")),
        }
        match tokens.next() {
            Token::End => return Ok(()),
            Token::Symbol(",") => {
                let after = tokens.peek();
                if !matches!(after, Token::Word(_) | Token::Symbol("!")) {
                    return Err(unexpected(&after, "identifier after ','"));
                }
            }
            other => return Err(unexpected(&other, "',' or 'end of string'")),
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<(), SelectorError> {
    let mut first = tokens.next();
    let is_absent = first == Token::Symbol("!");
    if is_absent {
        first = tokens.next();
    }
    let Token::Word(name) = first else { return Err(in_requirement(&first, "identifier")) };
    check_name(name)?;
    if is_absent || matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
        return Ok(());
    }
    let operator = tokens.next();
    match operator {
        Token::Word("in" | "notin") => values(tokens, name),
        Token::Symbol("=" | "==" | "!=" | ">" | "<") => exact_value(tokens, name, operator.text()),
        other => Err(in_requirement(&other, "in, notin, =, ==, !=, gt, lt")),
    }
}

/// The values of `in` and `notin`.
fn values(tokens: &mut Tokens<'_>, name: &str) -> Result<(), SelectorError> {
    let open = tokens.next();
    if open != Token::Symbol("(") {
        // Without the comma, as Kubernetes writes it.
        return Err(SelectorError::Requirement(format!("found '{}' expected: '('", open.text())));
    }
    let mut all = Vec::new();
    loop {
        match tokens.next() {
            Token::Symbol(")") => break,
            Token::Symbol(",") => {}
            Token::Word(value) => {
                all.push(value);
                let after = tokens.peek();
                if !matches!(after, Token::Symbol("," | ")")) {
                    return Err(in_requirement(&after, "',' or ')'"));
                }
            }
            other if all.is_empty() => return Err(in_requirement(&other, "',', ')' or identifier")),
            other => return Err(in_requirement(&other, "',', or identifier")),
        }
    }
    // They are a set there, whose first bad one is named.
    all.sort_unstable();
    all.into_iter().enumerate().try_for_each(|(at, value)| check_value(name, at, value))
}

fn exact_value(tokens: &mut Tokens<'_>, name: &str, operator: &str) -> Result<(), SelectorError> {
    let value = match tokens.peek() {
        Token::End | Token::Symbol(",") => "",
        Token::Word(value) => {
            tokens.next();
            value
        }
        other => return Err(in_requirement(&other, "identifier")),
    };
    if matches!(operator, ">" | "<") && value.parse::<i64>().is_err() {
        let text = "for 'Gt', 'Lt' operators, the value must be an integer";
        return Err(SelectorError::Requirement(format!("values[0]: Invalid value: {value:?}: {text}")));
    }
    check_value(name, 0, value)
}

/// Whether a text begins and ends with a letter or digit and has only these, `-`, `_` and `.`.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    is_plain(bytes.first()) && is_plain(bytes.last()) && bytes.iter().all(is_inner)
}

/// Whether a text is a name of DNS in lower case.
fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| is_name(part) && !part.contains('_');
    text.split('.').all(is_part) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Checks the name of a label, which may have a prefix: `example.com/name`.
fn check_name(text: &str) -> Result<(), SelectorError> {
    let mut problems = Vec::new();
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if name.contains('/') {
        let example = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
        problems.push(format!("a valid label key {NAME_RULE} {example}"));
        return invalid(text, problems);
    }
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            if prefix.len() > PREFIX_BYTES {
                problems.push(format!("prefix part must be no more than {PREFIX_BYTES} bytes"));
            }
            if !is_subdomain(prefix) {
                problems.push(format!("prefix part {PREFIX_RULE}"));
            }
        }
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES {
        problems.push(format!("name part must be no more than {LABEL_BYTES} bytes"));
    }
    if !is_name(name) {
        problems.push(format!("name part {NAME_RULE}"));
    }
    invalid(text, problems)
}

fn invalid(name: &str, problems: Vec<String>) -> Result<(), SelectorError> {
    if problems.is_empty() {
        return Ok(());
    }
    let problems = problems.join("; ");
    Err(SelectorError::Requirement(format!("<nil>: Invalid value: {name:?}: {problems}")))
}

/// Checks the value of a label; `at` is its place among the values of the requirement.
fn check_value(name: &str, at: usize, value: &str) -> Result<(), SelectorError> {
    let mut problems = Vec::new();
    if value.len() > LABEL_BYTES {
        problems.push(format!("must be no more than {LABEL_BYTES} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        problems.push(VALUE_RULE.to_owned());
    }
    if problems.is_empty() {
        return Ok(());
    }
    let problems = problems.join("; ");
    Err(SelectorError::Requirement(format!("values[{at}][{name}]: Invalid value: {value:?}: {problems}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of Prometheus 3.14 for the same selectors.
    #[test]
    fn selectors_of_labels_are_those_of_kubernetes() {
        for good in [
            "",
            " ",
            "a",
            "!a",
            "a=b",
            "a==b",
            "a!=b",
            "a=",
            "a,b",
            "a in (b)",
            "a in (b, c),!d",
            "a notin (in,notin)",
            "a in ()",
            "a in (,b)",
            "a in (b,)",
            "example.com/a=b",
            "a>1",
            "a<1",
            "in=notin",
            "x in (foo,,baz),y,z notin ()",
        ] {
            assert_eq!(check_label_selector(good), Ok(()), "{good}");
        }
        for (bad, error) in [
            ("a in", "unable to parse requirement: found '' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("=b", "found '=', expected: !, identifier, or 'end of string'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(check_label_selector(bad).unwrap_err().to_string(), error, "{bad}");
        }
        for (bad, start) in [
            (
                "-a=b",
                "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric",
            ),
            (
                "/a",
                "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be non-empty",
            ),
            (
                "X/a",
                "unable to parse requirement: <nil>: Invalid value: \"X/a\": prefix part a lowercase RFC 1123",
            ),
            (
                "a/",
                "unable to parse requirement: <nil>: Invalid value: \"a/\": name part must be non-empty; name part",
            ),
            (
                "a/b/c",
                "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist",
            ),
            (
                "a in (b,-c)",
                "unable to parse requirement: values[0][a]: Invalid value: \"-c\": a valid label must be",
            ),
        ] {
            let error = check_label_selector(bad).unwrap_err().to_string();
            assert!(error.starts_with(start), "{bad}: {error}");
        }
    }
}
