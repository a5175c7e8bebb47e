//! Texts that may have any bytes, as the strings of a query may, and their quoting as in Go.
//!
//! In PromQL an escape such as `\xff` is a byte that is not UTF-8. A plan stores texts as `String`,
//! so such a byte is encoded as two code points, one for each half, out of 32 that Unicode reserves
//! for internal use and never assigns to characters. No stored label has them, so such a text
//! equals no label, which is correct.

use storage::model::Labels;

/// The code point of an upper half of 0.
const UPPER: u32 = 0xFDD0;
/// The code point of a lower half of 0.
const LOWER: u32 = 0xFDE0;

/// Encodes `bytes` as a text of a plan.
pub fn from_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let half = |base: u32, half: u8| char::from_u32(base + u32::from(half));
            out.extend(half(UPPER, byte >> 4).into_iter().chain(half(LOWER, byte & 15)));
        }
    }
    out
}

/// Whether the text is valid UTF-8, so that it can be a label.
pub fn is_utf8(text: &str) -> bool {
    !text.chars().any(|c| (UPPER..LOWER + 16).contains(&(c as u32)))
}

/// The byte that two code points encode, if they do.
fn byte_of(first: char, second: Option<char>) -> Option<u8> {
    let half = |c: char, base: u32| (c as u32).checked_sub(base).filter(|half| *half < 16);
    let byte = half(first, UPPER)? * 16 + half(second?, LOWER)?;
    u8::try_from(byte).ok()
}

/// The text with U+FFFD for every byte that is not UTF-8, for display.
pub fn lossy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    each(text, |part| out.push(part.unwrap_or(char::REPLACEMENT_CHARACTER)));
    out
}

/// Labels as Go prints them in errors: always with braces, the name as a label.
pub fn braces(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// The text in double quotes, as with Go's `%q`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    each(text, |part| match part {
        Ok(c) => push_quoted(&mut out, c, '"', printable),
        Err(byte) => out.push_str(&format!("\\x{byte:02x}")),
    });
    out.push('"');
    out
}

/// `c` in single quotes, as with Go's `%q` for a rune.
pub fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    push_quoted(&mut out, c, '\'', printable);
    out.push('\'');
    out
}

/// Calls `take` with each character, and with each byte that is not one.
pub fn each(text: &str, mut take: impl FnMut(Result<char, u8>)) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match byte_of(c, chars.peek().copied()) {
            Some(byte) => {
                chars.next();
                take(Err(byte));
            }
            None => take(Ok(c)),
        }
    }
}

/// Adds `c` as Go writes it between two `delimiter`s; a character that is not `shown` is escaped by
/// its number.
pub fn push_quoted(out: &mut String, c: char, delimiter: char, shown: impl Fn(char) -> bool) {
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
        c if shown(c) => out.push(c),
        c if (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
        c => out.push_str(&format!("\\U{:08x}", c as u32)),
    }
}

/// Whether Go prints `c` as it is. Tested after a letter, so that combining marks count as
/// printable.
pub fn printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    format!("a{c}").escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_stay_what_they_are() {
        let text = from_bytes(b"a\xc5z\xff\xc3\xa9");
        assert_eq!(quote(&text), "\"a\\xc5z\\xffé\"");
        assert_eq!(lossy(&text), "a\u{fffd}z\u{fffd}é");
        assert!(!is_utf8(&text));
        assert_ne!(from_bytes(b"\xff"), from_bytes(b"\xfe"));
        for text in ["", "aé", "\u{fffd}"] {
            assert_eq!(from_bytes(text.as_bytes()), text);
            assert!(is_utf8(text));
        }
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote("a\"\\\n\u{1}é\u{200b}"), "\"a\\\"\\\\\\n\\x01é\\u200b\"");
        assert_eq!((quote_char('~'), quote("\u{fffd}")), ("'~'".to_owned(), "\"\u{fffd}\"".to_owned()));
        assert_eq!(quote_char('\''), "'\\''");
    }
}
