//! Go's string literals: reading their escapes, and writing text as one.
//!
//! PromQL's three kinds of strings are Go's; error texts and printed expressions quote the way Go's `%q` does.

/// What a string literal (with its quotes, already accepted by the lexer) stands for. Escapes may spell bytes
/// that are not UTF-8; no label can hold them, and they become U+FFFD.
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
    String::from_utf8_lossy(&bytes).into_owned()
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// One escape, whose backslash has been read.
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

/// `text` in double quotes, as Go's `%q` writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|c| push_quoted(&mut out, c, '"'));
    out.push('"');
    out
}

/// `c` in single quotes, as Go's `%q` writes a rune.
pub(crate) fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    push_quoted(&mut out, c, '\'');
    out.push('\'');
    out
}

/// `U+0063 'c'`: Go's `%#U`.
pub(crate) fn code_point(c: char) -> String {
    if printable(c) { format!("U+{:04X} '{c}'", c as u32) } else { format!("U+{:04X}", c as u32) }
}

fn push_quoted(out: &mut String, c: char, delimiter: char) {
    match c {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        c if c == delimiter => {
            out.push('\\');
            out.push(c);
        }
        c if printable(c) => out.push(c),
        c if (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
        c => out.push_str(&format!("\\U{:08x}", c as u32)),
    }
}

/// Whether Go prints `c` as it is. Asked behind a letter, so that combining marks count as printable.
fn printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // The lexer refuses it when it stands for itself, so it is printed as an escape.
    if c == char::REPLACEMENT_CHARACTER {
        return false;
    }
    format!("a{c}").escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_gos() {
        assert_eq!(unquote(r#""a\n\x41\101\u00e9\U0001F600\"""#), "a\nAAé😀\"");
        assert_eq!(unquote(r"`a\n`"), r"a\n");
        assert_eq!(unquote(r"'\xc3\xa9'"), "é");
        assert_eq!(unquote(r"'\xff'"), "\u{fffd}");
        assert_eq!(unquote("''"), "");
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote("a\"\\\n\u{1}é\u{200b}"), "\"a\\\"\\\\\\n\\x01é\\u200b\"");
        assert_eq!(quote_char('~'), "'~'");
        assert_eq!(quote_char('\''), "'\\''");
        assert_eq!(code_point('c'), "U+0063 'c'");
    }
}
