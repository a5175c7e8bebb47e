//! Character classes of regular expressions: translates those of Go's syntax (RE2), which matchers
//! have, to those of Rust's crate `regex`: `[a-z]`, `\d`, `\pL`, `[[:alpha:]]`. [`super`]
//! translates the rest.
//!
//! In Go, `&&`, `--`, `~~` and an inner `[` are ordinary characters, and the Perl classes are
//! ASCII. Single characters are therefore printed as code points, so that Rust's crate cannot read
//! them as set operations.

use super::RegexError;
use super::escape::escape;

/// A class that matches nothing.
pub(super) fn never() -> &'static str {
    r"[^\x{0}-\x{10ffff}]"
}

/// The content of Go's ASCII class `\d`, `\s` or `\w`, by its letter.
fn perl(letter: u8) -> Option<&'static str> {
    match letter.to_ascii_lowercase() {
        b'd' => Some("0-9"),
        b's' => Some(r"\t\n\x0c\r\x20"),
        b'w' => Some("0-9A-Za-z_"),
        _ => None,
    }
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// Translates a Perl or Unicode class at the start of `s` to `out`. Returns the rest of `s`; `None`
/// if `s` starts with neither.
pub(super) fn shorthand<'a>(s: &'a str, out: &mut String) -> Result<Option<&'a str>, RegexError> {
    let Some(&[b'\\', letter]) = s.as_bytes().get(..2) else { return Ok(None) };
    if let Some(inside) = perl(letter) {
        let not = if letter.is_ascii_uppercase() { "^" } else { "" };
        out.push_str(&format!("[{not}{inside}]"));
        return Ok(Some(&s[2..]));
    }
    if letter.eq_ignore_ascii_case(&b'p') { unicode(s, out).map(Some) } else { Ok(None) }
}

/// Translates `\pL`, `\p{Greek}`, `\P{^Greek}`: only general categories and scripts.
fn unicode<'a>(s: &'a str, out: &mut String) -> Result<&'a str, RegexError> {
    let (sequence, name) = match s[2..].chars().next() {
        None => (s, ""),
        Some('{') => match s.find('}') {
            Some(end) => (&s[..=end], &s[3..end]),
            None => return Err(RegexError::at("invalid character class range", s)),
        },
        Some(c) => (&s[..2 + c.len_utf8()], &s[2..2 + c.len_utf8()]),
    };
    // `\P{^Greek}` is negated twice.
    let mut negated = s.as_bytes()[1] == b'P';
    let name = name.strip_prefix('^').inspect(|_| negated = !negated).unwrap_or(name);
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_- ".contains(&b));
    let letter = if negated { 'P' } else { 'p' };
    let candidates = match name.to_ascii_lowercase().as_str() {
        // These have no kind; all others are tried as a category first, then as a script, as Go
        // does.
        "any" | "ascii" | "assigned" => vec![format!("\\{letter}{{{name}}}")],
        _ => ["gc", "sc"].iter().map(|kind| format!("\\{letter}{{{kind}={name}}}")).collect(),
    };
    match candidates.into_iter().find(|c| plain && regex_syntax::parse(c).is_ok()) {
        Some(class) => out.push_str(&class),
        None => return Err(RegexError::at("invalid character class range", sequence)),
    }
    Ok(&s[sequence.len()..])
}

/// Translates the bracketed class at the start of `s` to `out`. Returns the rest of `s`.
pub(super) fn bracketed<'a>(s: &'a str, out: &mut String) -> Result<&'a str, RegexError> {
    let mut rest = &s[1..];
    let mut negated = rest.starts_with('^');
    rest = &rest[usize::from(negated)..];
    let mut inside = String::new();
    let mut first = true;
    // A bracket that closes the class right at its beginning stands for itself.
    while first || !rest.starts_with(']') {
        first = false;
        if let Some(after) = posix(rest, &mut inside)? {
            rest = after;
        } else if let Some(after) = shorthand(rest, &mut inside)? {
            rest = after;
        } else {
            rest = range(rest, s, &mut inside)?;
        }
    }
    if inside.is_empty() {
        // Only surrogates were named: the class matches nothing, or everything if it is negated.
        inside = r"\x{0}-\x{10ffff}".to_owned();
        negated = !negated;
    }
    out.push_str(if negated { "[^" } else { "[" });
    out.push_str(&inside);
    out.push(']');
    Ok(&rest[1..])
}

fn posix<'a>(s: &'a str, inside: &mut String) -> Result<Option<&'a str>, RegexError> {
    let Some(end) = s.strip_prefix("[:").and_then(|t| t.find(":]")) else { return Ok(None) };
    let (whole, after) = s.split_at(end + 4);
    let name = &s[2..2 + end];
    if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
        return Err(RegexError::at("invalid character class range", whole));
    }
    inside.push_str(whole);
    Ok(Some(after))
}

/// One character or `lo-hi`.
fn range<'a>(s: &'a str, class: &str, inside: &mut String) -> Result<&'a str, RegexError> {
    let (low, mut rest) = member(s, class)?;
    let mut high = low;
    if rest.starts_with('-') && rest.len() >= 2 && !rest.starts_with("-]") {
        (high, rest) = member(&rest[1..], class)?;
        if high < low {
            return Err(RegexError::at("invalid character class range", &s[..s.len() - rest.len()]));
        }
    }
    // Go lets a range run over the surrogates, which are no characters here: the range is divided
    // around them.
    for (low, high) in [(low, high.min(0xd7ff)), (low.max(0xe000), high)] {
        if low <= high {
            inside.push_str(&format!("\\x{{{low:x}}}-\\x{{{high:x}}}"));
        }
    }
    Ok(rest)
}

fn member<'a>(s: &'a str, class: &str) -> Result<(u32, &'a str), RegexError> {
    let mut chars = s.chars();
    match chars.next() {
        None => Err(RegexError::at("missing closing ]", class)),
        Some('\\') => escape(s),
        Some(c) => Ok((c as u32, chars.as_str())),
    }
}
