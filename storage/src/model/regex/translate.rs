//! Translates Go's regex syntax to that of the `regex` crate, in one pass that prints as it parses.
//!
//! The differences: ASCII `\d \w \s \b`, classes ([`super::class`]), `\Q…\E`, octal escapes, braces
//! that are not repetitions, stacked repetitions and large counts (both refused), group names. The
//! pass remembers where the last atom was printed, because in Go a repetition applies to the atom
//! before it even across `(?i)` and an empty `\Q\E`.

use super::RegexError;
use super::class::{bracketed, shorthand};
use super::escape::{escape, literal};
use crate::limits::{REGEX_NESTING, REGEX_REPEAT};
use std::collections::HashMap;
use std::ops::Range;

/// Translates a pattern. Errors have Go's texts.
pub fn translate(pattern: &str) -> Result<String, RegexError> {
    let mut t = Translator { whole: pattern, ..Translator::default() };
    let mut rest = pattern;
    while !rest.is_empty() {
        rest = t.step(rest)?;
    }
    if !t.open.is_empty() {
        return Err(RegexError::at("missing closing )", pattern));
    }
    Ok(t.out)
}

/// The last printed element that can be repeated: where it is, and how it was repeated already.
#[derive(Clone)]
struct Atom {
    at: Range<usize>,
    repeated: bool,
    /// The largest product of nested repeat counts in it.
    weight: u64,
}

#[derive(Default)]
struct Translator<'a> {
    whole: &'a str,
    out: String,
    atom: Option<Atom>,
    /// The largest weight of an atom in the current group.
    weight: u64,
    /// For each enclosing group: where it starts in `out`, and the largest weight before it.
    open: Vec<(usize, u64)>,
    /// If the last element was a repetition: the length of the pattern from it to the end.
    last_repeat: Option<usize>,
    /// How often each group name was used.
    names: HashMap<String, usize>,
}

impl<'a> Translator<'a> {
    /// Translates one element at the start of `s`. Returns the rest.
    fn step(&mut self, s: &'a str) -> Result<&'a str, RegexError> {
        let last_repeat = self.last_repeat.take();
        let Some(c) = s.chars().next() else { return Ok(s) };
        let after = &s[c.len_utf8()..];
        match c {
            // Everything with `(?` is either a known group or an error: a plain group cannot begin
            // with a repetition.
            '(' if after.starts_with('?') => return self.perl_group(s),
            '(' => self.open("(")?,
            ')' => self.close()?,
            '|' => {
                self.out.push('|');
                self.atom = None;
            }
            '*' | '+' | '?' => return self.repeat(s, after, c.to_string(), 1, last_repeat),
            '{' => return self.braces(s, last_repeat),
            '[' => return self.atom(|out| bracketed(s, out)),
            '\\' => return self.backslash(s),
            '.' | '^' | '$' => self.text(c.encode_utf8(&mut [0; 4])),
            _ => self.literal(c as u32),
        }
        Ok(after)
    }

    /// Prints an atom.
    fn atom<T>(&mut self, print: impl FnOnce(&mut String) -> Result<T, RegexError>) -> Result<T, RegexError> {
        let start = self.out.len();
        let result = print(&mut self.out)?;
        self.printed(start);
        Ok(result)
    }

    /// Makes what was printed from `start` on the current atom.
    fn printed(&mut self, start: usize) {
        self.atom = Some(Atom { at: start..self.out.len(), repeated: false, weight: 1 });
    }

    fn text(&mut self, text: &str) {
        let start = self.out.len();
        self.out.push_str(text);
        self.printed(start);
    }

    fn literal(&mut self, code: u32) {
        let start = self.out.len();
        literal(&mut self.out, code);
        self.printed(start);
    }

    fn backslash(&mut self, s: &'a str) -> Result<&'a str, RegexError> {
        match s.as_bytes().get(1) {
            Some(b'A') => self.text(r"\A"),
            Some(b'z') => self.text(r"\z"),
            // Word boundaries are those of ASCII in Go; here they would be those of Unicode.
            Some(b'b') => self.text(r"(?-u:\b)"),
            Some(b'B') => self.text(r"(?-u:\B)"),
            // Matches a byte in Go, which could be half a character; it is refused there, too.
            Some(b'C') => return Err(RegexError::at("invalid escape sequence", r"\C")),
            Some(b'Q') => {
                let (quoted, rest) = s[2..].split_once(r"\E").unwrap_or((&s[2..], ""));
                // Each character is an atom: a repetition after `\E` applies to the last one only.
                for c in quoted.chars() {
                    self.literal(c as u32);
                }
                return Ok(rest);
            }
            _ => return self.escape_or_class(s),
        }
        Ok(&s[2..])
    }

    fn escape_or_class(&mut self, s: &'a str) -> Result<&'a str, RegexError> {
        let start = self.out.len();
        // A class such as `\d` is tried first: as an escape it would be an unknown letter.
        if let Some(rest) = shorthand(s, &mut self.out)? {
            self.printed(start);
            return Ok(rest);
        }
        let (code, rest) = escape(s)?;
        self.literal(code);
        Ok(rest)
    }

    fn open(&mut self, text: &str) -> Result<(), RegexError> {
        if self.open.len() >= REGEX_NESTING {
            return Err(RegexError::at("expression nests too deeply", self.whole));
        }
        self.open.push((self.out.len(), std::mem::take(&mut self.weight)));
        self.out.push_str(text);
        self.atom = None;
        Ok(())
    }

    fn close(&mut self) -> Result<(), RegexError> {
        let Some((start, outside)) = self.open.pop() else {
            return Err(RegexError::at("unexpected )", self.whole));
        };
        self.out.push(')');
        // A group is as heavy as the heaviest atom in it: `(a{100}b{50}){5}` counts as 500.
        let weight = self.weight.max(1);
        self.weight = outside.max(weight);
        self.atom = Some(Atom { at: start..self.out.len(), repeated: false, weight });
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}`; any other brace is a literal.
    fn braces(&mut self, s: &'a str, last_repeat: Option<usize>) -> Result<&'a str, RegexError> {
        let Some((min, max, after)) = counts(s) else {
            // In Go a brace that is no repetition stands for itself; here it would be an error.
            self.literal('{' as u32);
            return Ok(&s[1..]);
        };
        let text = &s[..s.len() - after.len()];
        if min > REGEX_REPEAT || max.is_some_and(|max| max > REGEX_REPEAT || max < min) {
            return Err(RegexError::at("invalid repeat count", text));
        }
        self.repeat(s, after, text.to_owned(), max.unwrap_or(min.max(1)), last_repeat)
    }

    /// Translates a repetition at the start of `s`, printed as `op`; `times` is its weight.
    fn repeat(
        &mut self,
        s: &'a str,
        after: &'a str,
        mut op: String,
        times: u64,
        last_repeat: Option<usize>,
    ) -> Result<&'a str, RegexError> {
        let lazy = after.starts_with('?');
        let after = &after[usize::from(lazy)..];
        // Go refuses `a**`; here it would be accepted.
        if let Some(from) = last_repeat {
            let stacked = &self.whole[self.whole.len() - from..self.whole.len() - after.len()];
            return Err(RegexError::at("invalid nested repetition operator", stacked));
        }
        let text = &s[..s.len() - after.len()];
        let Some(mut atom) = self.atom.take() else {
            return Err(RegexError::at("missing argument to repetition operator", text));
        };
        if times * atom.weight > REGEX_REPEAT {
            return Err(RegexError::at("invalid repeat count", text));
        }
        if lazy {
            op.push('?');
        }
        let inner = &self.out[atom.at.clone()];
        // `a*` followed by `?` must not become the lazy `a*?`.
        let printed = if atom.repeated { format!("(?:{inner}){op}") } else { format!("{inner}{op}") };
        self.out.replace_range(atom.at.clone(), &printed);
        atom.at.end = atom.at.start + printed.len();
        atom.repeated = true;
        atom.weight *= times;
        self.weight = self.weight.max(atom.weight);
        self.atom = Some(atom);
        self.last_repeat = Some(s.len());
        Ok(after)
    }

    /// `(?P<name>`, `(?<name>`, `(?flags)`, `(?flags:`.
    fn perl_group(&mut self, s: &'a str) -> Result<&'a str, RegexError> {
        let name_at = match s.as_bytes() {
            [_, _, b'P', b'<', _, ..] => 4,
            [_, _, b'<', _, ..] => 3,
            _ => return self.flags(s),
        };
        let Some(end) = s.find('>') else { return Err(RegexError::at("invalid named capture", s)) };
        let name = &s[name_at..end];
        if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
            return Err(RegexError::at("invalid named capture", &s[..=end]));
        }
        let used = self.names.entry(name.to_owned()).or_default();
        *used += 1;
        let group = format!("(?P<{}>", super::expand::group_name(name, *used));
        self.open(&group)?;
        Ok(&s[end + 1..])
    }

    fn flags(&mut self, s: &'a str) -> Result<&'a str, RegexError> {
        let mut on = String::new();
        let mut off = String::new();
        let mut negative = false;
        let mut saw = false;
        let mut rest = s[2..].chars();
        while let Some(c) = rest.next() {
            match c {
                'i' | 'm' | 's' | 'U' => {
                    saw = true;
                    // The last mention of a flag counts; here a flag that is mentioned twice is an
                    // error.
                    on.retain(|o| o != c);
                    off.retain(|o| o != c);
                    if negative { off.push(c) } else { on.push(c) }
                }
                // After the minus at least one flag has to follow.
                '-' if !negative => (negative, saw) = (true, false),
                ':' | ')' if saw || !negative => {
                    self.print_flags(&on, &off, c == ':')?;
                    return Ok(rest.as_str());
                }
                _ => break,
            }
        }
        let seen = &s[..s.len() - rest.as_str().len()];
        Err(RegexError::at("invalid or unsupported Perl syntax", seen))
    }

    fn print_flags(&mut self, on: &str, off: &str, group: bool) -> Result<(), RegexError> {
        let minus = if off.is_empty() { "" } else { "-" };
        if group {
            return self.open(&format!("(?{on}{minus}{off}:"));
        }
        if !on.is_empty() || !off.is_empty() {
            self.out.push_str(&format!("(?{on}{minus}{off})"));
        }
        Ok(())
    }
}

/// The counts of a repetition in braces (`None`: no upper bound), and the rest of `s`.
fn counts(s: &str) -> Option<(u64, Option<u64>, &str)> {
    let (min, rest) = number(s.strip_prefix('{')?)?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some((min, Some(min), after));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some((min, None, after));
    }
    let (max, rest) = number(rest)?;
    Some((min, Some(max), rest.strip_prefix('}')?))
}

/// A number without leading zeros. One too large for `u64` becomes `u64::MAX`, which is refused.
fn number(s: &str) -> Option<(u64, &str)> {
    let digits = s.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || (digits > 1 && s.starts_with('0')) {
        return None;
    }
    Some((s[..digits].parse().unwrap_or(u64::MAX), &s[digits..]))
}
