//! Escapes of a single code point: `\n`, `\x41`, `\x{1F600}`, `\101`, `\.`.
//!
//! Code points are `u32`, because Go's patterns can name surrogates, which no text contains.

use super::RegexError;
use super::class::never;

/// The code point of the escape at the start of `s` (a backslash), and the rest of `s`.
pub(super) fn escape(s: &str) -> Result<(u32, &str), RegexError> {
    let mut rest = s[1..].chars();
    let Some(c) = rest.next() else {
        return Err(RegexError::at("trailing backslash at end of expression", ""));
    };
    let after = rest.as_str();
    match c {
        '0'..='7' => octal(s, c, after),
        'x' => hex(s, after),
        'a' => Ok((7, after)),
        'f' => Ok((0x0c, after)),
        'n' => Ok((0x0a, after)),
        'r' => Ok((0x0d, after)),
        't' => Ok((9, after)),
        'v' => Ok((0x0b, after)),
        _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok((c as u32, after)),
        _ => Err(invalid(s, after)),
    }
}

fn invalid(s: &str, after: &str) -> RegexError {
    RegexError::at("invalid escape sequence", &s[..s.len() - after.len()])
}

/// Up to three octal digits. A single non-zero digit would be a back reference, which RE2 does not
/// have.
fn octal<'a>(s: &str, first: char, after: &'a str) -> Result<(u32, &'a str), RegexError> {
    let more = after.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
    if first != '0' && more == 0 {
        return Err(invalid(s, after));
    }
    let value = after[..more].bytes().fold(first as u32 - 48, |v, b| v * 8 + u32::from(b - b'0'));
    Ok((value, &after[more..]))
}

/// `\x41` or `\x{41}`. Go's error quotes the pattern up to the character at which it stopped.
fn hex<'a>(s: &str, after: &'a str) -> Result<(u32, &'a str), RegexError> {
    let mut rest = after.chars();
    match rest.next() {
        None => Err(invalid(s, after)),
        Some('{') => braced_hex(s, rest.as_str()),
        Some(high) => {
            let low = rest.next().and_then(|c| c.to_digit(16));
            match (high.to_digit(16), low) {
                (Some(high), Some(low)) => Ok((high * 16 + low, rest.as_str())),
                _ => Err(invalid(s, rest.as_str())),
            }
        }
    }
}

fn braced_hex<'a>(s: &str, digits: &'a str) -> Result<(u32, &'a str), RegexError> {
    let mut rest = digits.chars();
    let mut value = 0u32;
    let mut count = 0;
    while let Some(c) = rest.next() {
        if c == '}' && count > 0 {
            return Ok((value, rest.as_str()));
        }
        match c.to_digit(16) {
            Some(digit) if value * 16 + digit <= 0x10_ffff => {
                (value, count) = (value * 16 + digit, count + 1)
            }
            _ => break,
        }
    }
    Err(invalid(s, rest.as_str()))
}

/// Prints a code point so that it matches itself inside and outside of a class.
pub(super) fn literal(out: &mut String, code: u32) {
    match char::from_u32(code) {
        Some(c) if c.is_ascii_alphanumeric() || c == '_' || (!c.is_ascii() && !c.is_whitespace()) => {
            out.push(c)
        }
        Some(_) => out.push_str(&format!("\\x{{{code:x}}}")),
        None => out.push_str(never()),
    }
}
