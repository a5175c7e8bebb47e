//! Go's string literals: decodes their escapes, and quotes text.
//!
//! PromQL's three kinds of string literals are those of Go. Error texts and printed expressions
//! quote like Go's `%q`.

use engine::types::go_text::{from_bytes, printable};
pub(crate) use engine::types::go_text::{quote, quote_char};

/// The value of a string literal (with quotes) that the lexer has accepted. Escapes may denote
/// bytes that are not UTF-8; [`from_bytes`] preserves them.
pub(crate) fn unquote(literal: &str) -> String {
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or("");
    if literal.starts_with('`') || !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            escape(&mut chars, &mut bytes);
        } else {
            push(&mut bytes, c);
        }
    }
    from_bytes(&bytes)
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Decodes one escape after its backslash.
fn escape(chars: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) {
    let Some(c) = chars.next() else { return };
    let mut number = |first: u32, digits: usize, base: u32| {
        (0..digits).fold(first, |n, _| n * base + chars.next().and_then(|d| d.to_digit(base)).unwrap_or(0))
    };
    match c {
        'a' => bytes.push(7),
        'b' => bytes.push(8),
        'f' => bytes.push(12),
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        't' => bytes.push(b'\t'),
        'v' => bytes.push(11),
        'x' => bytes.push(number(0, 2, 16) as u8),
        'u' => push(bytes, char::from_u32(number(0, 4, 16)).unwrap_or(char::REPLACEMENT_CHARACTER)),
        'U' => push(bytes, char::from_u32(number(0, 8, 16)).unwrap_or(char::REPLACEMENT_CHARACTER)),
        '0'..='7' => bytes.push(number(c.to_digit(8).unwrap_or(0), 2, 8) as u8),
        other => push(bytes, other),
    }
}

/// `U+0063 'c'`: Go's `%#U`.
pub(crate) fn code_point(c: char) -> String {
    if printable(c) { format!("U+{:04X} '{c}'", c as u32) } else { format!("U+{:04X}", c as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_gos() {
        assert_eq!(unquote(r#""a\n\x41\101\u00e9\U0001F600\"""#), "a\nAAé😀\"");
        assert_eq!(unquote(r"`a\n`"), r"a\n");
        assert_eq!(unquote(r"'\xc3\xa9'"), "é");
        assert_eq!(quote(&unquote(r"'a\xff'")), r#""a\xff""#);
        assert_eq!(unquote("''"), "");
    }

    #[test]
    fn code_points_as_go_shows_them() {
        assert_eq!((code_point('c'), code_point('\n')), ("U+0063 'c'".to_owned(), "U+000A".to_owned()));
    }
}
