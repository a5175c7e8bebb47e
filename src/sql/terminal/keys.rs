//! Reads keys from a terminal. While the user edits a line, the terminal is in raw mode: each key
//! arrives when it is pressed, without echo. Otherwise the terminal is as before.

use super::line::Key;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// Turns on bracketed paste: the terminal sends pasted text between two marks.
const PASTE_ON: &str = "\x1b[?2004h";
const PASTE_OFF: &str = "\x1b[?2004l";
/// The width of a line if the terminal does not report it.
const DEFAULT_WIDTH: usize = 80;

/// A terminal in raw mode, until this is dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> io::Result<RawTerminal> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        write_now(PASTE_ON)?;
        Ok(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = write_now(PASTE_OFF);
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Writes to the terminal without delay.
pub(super) fn write_now(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The characters of a line of the terminal.
pub(in crate::sql) fn width() -> usize {
    let columns = tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col)).unwrap_or_default();
    if columns > 0 { columns } else { DEFAULT_WIDTH }
}

/// The keys of the terminal.
#[derive(Default)]
pub(super) struct TerminalKeys {
    raw: Option<RawTerminal>,
    /// TerminalKeys that were pasted.
    pasted: VecDeque<Key>,
}

impl TerminalKeys {
    /// Begins raw mode.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.raw = Some(RawTerminal::enter()?);
        Ok(())
    }

    /// Ends raw mode.
    pub(super) fn end(&mut self) {
        self.raw = None;
    }

    /// The next key. Blocks.
    pub(super) fn next(&mut self) -> io::Result<Key> {
        if let Some(key) = self.pasted.pop_front() {
            return Ok(key);
        }
        let mut input = io::stdin().lock();
        match decode(&mut |at_end| byte(&mut input, at_end))? {
            Decoded::Key(key) => Ok(key),
            Decoded::Pasted(text) => {
                self.pasted = pasted_keys(&text).collect();
                Ok(self.pasted.pop_front().unwrap_or(Key::Unknown))
            }
        }
    }
}

/// The next byte; `at_end`: what the end of the input is.
fn byte(input: &mut impl Read, at_end: u8) -> io::Result<u8> {
    let mut byte = [0];
    let is_there = input.read(&mut byte)? > 0;
    Ok(if is_there { byte[0] } else { at_end })
}

/// The meaning of received bytes.
#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Key(Key),
    Pasted(String),
}

/// The byte that Ctrl-D sends; the end of the input is treated like it.
const CTRL_D: u8 = 4;
const ESCAPE: u8 = 0x1b;

/// Reads the bytes of a key.
fn decode(next: &mut dyn FnMut(u8) -> io::Result<u8>) -> io::Result<Decoded> {
    let first = next(CTRL_D)?;
    let key = match first {
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x7f | 0x08 => Key::Backspace,
        0x01 => Key::Home,
        0x02 => Key::Left,
        0x03 => Key::Interrupt,
        CTRL_D => Key::EndOfInput,
        0x05 => Key::End,
        0x06 => Key::Right,
        0x0b => Key::KillToEnd,
        0x0c => Key::Clear,
        0x0e => Key::Down,
        0x10 => Key::Up,
        0x12 => Key::Search,
        0x15 => Key::KillToBegin,
        0x17 => Key::KillWord,
        0x19 => Key::Yank,
        ESCAPE => return decode_escape(next),
        0..0x20 => Key::Unknown,
        _ => character(first, next)?,
    };
    Ok(Decoded::Key(key))
}

/// A character, whose first byte is known.
fn character(first: u8, next: &mut dyn FnMut(u8) -> io::Result<u8>) -> io::Result<Key> {
    let more = match first {
        0xc0..=0xdf => 1,
        0xe0..=0xef => 2,
        0xf0..=0xf7 => 3,
        _ => 0,
    };
    let mut bytes = vec![first];
    for _ in 0..more {
        bytes.push(next(0)?);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.chars().next().map_or(Key::Unknown, Key::Char))
}

/// After the escape byte.
fn decode_escape(next: &mut dyn FnMut(u8) -> io::Result<u8>) -> io::Result<Decoded> {
    let kind = next(0)?;
    let key = match kind {
        b'b' => Key::WordLeft,
        b'f' => Key::WordRight,
        0x7f => Key::KillWord,
        b'[' | b'O' => {
            let mut digits = String::new();
            let last = loop {
                match next(0)? {
                    byte @ (b'0'..=b'9' | b';') if digits.len() < 8 => digits.push(char::from(byte)),
                    byte => break byte,
                }
            };
            let is_by_words = digits.ends_with(";5") || digits.ends_with(";3");
            match (last, digits.as_str()) {
                (b'A', _) => Key::Up,
                (b'B', _) => Key::Down,
                (b'C', _) if is_by_words => Key::WordRight,
                (b'D', _) if is_by_words => Key::WordLeft,
                (b'C', _) => Key::Right,
                (b'D', _) => Key::Left,
                (b'H', _) | (b'~', "1" | "7") => Key::Home,
                (b'F', _) | (b'~', "4" | "8") => Key::End,
                (b'~', "3") => Key::Delete,
                (b'~', "200") => return pasted(next).map(Decoded::Pasted),
                _ => Key::Unknown,
            }
        }
        _ => Key::Unknown,
    };
    Ok(Decoded::Key(key))
}

/// What is pasted, up to its mark.
fn pasted(next: &mut dyn FnMut(u8) -> io::Result<u8>) -> io::Result<String> {
    const END: &[u8] = b"\x1b[201~";
    let mut bytes = Vec::new();
    while !bytes.ends_with(END) {
        match next(0)? {
            0 => break,
            byte => bytes.push(byte),
        }
    }
    let text = bytes.strip_suffix(END).unwrap_or(&bytes);
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The keys that a pasted text stands for. A tab completes nothing.
fn pasted_keys(text: &str) -> impl Iterator<Item = Key> {
    let text = text.replace("\r\n", "\n");
    let key = |c: char| match c {
        '\n' | '\r' => Key::Enter,
        '\t' => Key::Char(' '),
        c => Key::Char(c),
    };
    text.chars().map(key).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_keys() {
        let key = Decoded::Key;
        for (bytes, want) in [
            (&b"a"[..], key(Key::Char('a'))),
            ("ü".as_bytes(), key(Key::Char('ü'))),
            ("😀".as_bytes(), key(Key::Char('😀'))),
            (b"\r", key(Key::Enter)),
            (b"\x1b[A", key(Key::Up)),
            (b"\x1bOB", key(Key::Down)),
            (b"\x1b[3~", key(Key::Delete)),
            (b"\x1b[1;5C", key(Key::WordRight)),
            (b"\x1bb", key(Key::WordLeft)),
            (b"\x1b[H", key(Key::Home)),
            (b"\x1b[4~", key(Key::End)),
            (b"\x1b[15~", key(Key::Unknown)),
            (b"\x12", key(Key::Search)),
            (b"", key(Key::EndOfInput)),
            (b"\x1b[200~a\n\xc3\xbc\x1b[201~", Decoded::Pasted("a\nü".to_owned())),
        ] {
            let mut input = bytes;
            let decoded = decode(&mut |at_end| byte(&mut input, at_end)).expect("bytes");
            assert_eq!(decoded, want, "{bytes:?}");
            assert!(input.is_empty(), "{bytes:?}");
        }
        let keys: Vec<Key> = pasted_keys("a\r\n\tb").collect();
        assert_eq!(keys, [Key::Char('a'), Key::Enter, Key::Char(' '), Key::Char('b')]);
    }
}
