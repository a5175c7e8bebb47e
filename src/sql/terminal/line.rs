//! [`LineBuffer`]: the line that the user edits at the terminal, with its cursor and the keys of
//! common shells (Ctrl-K, Ctrl-Y, …). [`super::keys`] reads the keys.

/// A key, or what a terminal sends for a combination of keys.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    /// Ctrl-K
    KillToEnd,
    /// Ctrl-U
    KillToBegin,
    /// Ctrl-W
    KillWord,
    /// Ctrl-Y
    Yank,
    /// Ctrl-R
    Search,
    /// Ctrl-L
    Clear,
    /// Ctrl-C
    Interrupt,
    /// Ctrl-D
    EndOfInput,
    /// A key without a meaning here.
    Unknown,
}

/// The text of a line and the position of the cursor.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    text: Vec<char>,
    cursor: usize,
    killed: Vec<char>,
}

impl LineBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// The text before the cursor.
    pub(super) fn before(&self) -> String {
        self.text[..self.cursor].iter().collect()
    }

    /// The text after the cursor.
    pub(super) fn after(&self) -> String {
        self.text[self.cursor..].iter().collect()
    }

    /// Replaces the text; the cursor is then at its end.
    pub(super) fn set(&mut self, text: &str) {
        self.text = text.chars().collect();
        self.cursor = self.text.len();
    }

    /// Replaces the `count` characters before the cursor by `text`.
    pub(super) fn complete(&mut self, count: usize, text: &str) {
        let from = self.cursor.saturating_sub(count);
        self.text.splice(from..self.cursor, text.chars());
        self.cursor = from + text.chars().count();
    }

    /// Applies a key that changes the line; others change nothing.
    pub(super) fn apply(&mut self, key: Key) {
        let end = self.text.len();
        match key {
            Key::Char(c) => {
                self.text.insert(self.cursor, c);
                self.cursor += 1;
            }
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::Delete | Key::EndOfInput if self.cursor < end => {
                self.text.remove(self.cursor);
            }
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(end),
            Key::WordLeft => self.cursor = self.word_begin(),
            Key::WordRight => self.cursor = self.word_end(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = end,
            Key::KillToEnd => self.kill(self.cursor, end),
            Key::KillToBegin => self.kill(0, self.cursor),
            Key::KillWord => self.kill(self.word_begin(), self.cursor),
            Key::Yank => {
                let killed = self.killed.clone();
                self.text.splice(self.cursor..self.cursor, killed.iter().copied());
                self.cursor += killed.len();
            }
            _ => {}
        }
    }

    /// Removes a range of the text; [`Key::Yank`] inserts it again.
    fn kill(&mut self, from: usize, to: usize) {
        if from < to {
            self.killed = self.text.drain(from..to).collect();
        }
        self.cursor = from;
    }

    fn word_begin(&self) -> usize {
        let mut at = self.cursor;
        while at > 0 && self.text[at - 1].is_whitespace() {
            at -= 1;
        }
        while at > 0 && !self.text[at - 1].is_whitespace() {
            at -= 1;
        }
        at
    }

    fn word_end(&self) -> usize {
        let mut at = self.cursor;
        while at < self.text.len() && self.text[at].is_whitespace() {
            at += 1;
        }
        while at < self.text.len() && !self.text[at].is_whitespace() {
            at += 1;
        }
        at
    }

    /// The part of the line that fits into `width` characters, with the position of the cursor in
    /// it. The part of a long line moves with the cursor. Line feeds, which statements of the
    /// history may have, are shown as spaces.
    pub(super) fn visible(&self, width: usize) -> VisibleLine {
        let width = width.max(1);
        let from = (self.cursor + 1).saturating_sub(width);
        let to = self.text.len().min(from + width);
        let shown = |c: &char| if c.is_control() { ' ' } else { *c };
        VisibleLine { text: self.text[from..to].iter().map(shown).collect(), cursor: self.cursor - from }
    }
}

/// The part of a line that fits into the terminal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VisibleLine {
    pub(super) text: String,
    pub(super) cursor: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str, keys: &[Key]) -> LineBuffer {
        let mut line = LineBuffer::default();
        line.set(text);
        for key in keys {
            line.apply(*key);
        }
        line
    }

    #[test]
    fn keys_change_the_line() {
        let both = |line: &LineBuffer| (line.before(), line.after());
        let pair = |before: &str, after: &str| (before.to_owned(), after.to_owned());
        for (keys, want) in [
            (&[Key::Left, Key::Char('x')][..], pair("ab cx", "d")),
            (&[Key::Backspace, Key::Backspace], pair("ab ", "")),
            (&[Key::Home, Key::Delete], pair("", "b cd")),
            (&[Key::Home, Key::Backspace, Key::Left], pair("", "ab cd")),
            (&[Key::Right, Key::Delete], pair("ab cd", "")),
            (&[Key::WordLeft, Key::WordLeft, Key::WordRight], pair("ab", " cd")),
            (&[Key::KillWord, Key::Home, Key::Yank], pair("cd", "ab ")),
            (&[Key::WordLeft, Key::KillToBegin], pair("", "cd")),
            (&[Key::Home, Key::KillToEnd, Key::Yank, Key::Yank], pair("ab cdab cd", "")),
            (&[Key::Home, Key::EndOfInput, Key::End, Key::Unknown], pair("b cd", "")),
        ] {
            assert_eq!(both(&typed("ab cd", keys)), want, "{keys:?}");
        }
    }

    #[test]
    fn a_word_is_completed() {
        let mut line = typed("FROM no WHERE", &[Key::WordLeft, Key::Left]);
        line.complete(2, "node_load1");
        assert_eq!(line.text(), "FROM node_load1 WHERE");
        assert_eq!(line.after(), " WHERE");
    }

    #[test]
    fn a_long_line_moves_with_the_cursor() {
        let shown = |line: &LineBuffer| {
            let VisibleLine { text, cursor } = line.visible(4);
            (text, cursor)
        };
        let mut line = typed("abcdef", &[]);
        assert_eq!(shown(&line), ("def".to_owned(), 3));
        line.apply(Key::Home);
        assert_eq!(shown(&line), ("abcd".to_owned(), 0));
        assert_eq!(typed("a\nb", &[]).visible(10).text, "a b");
    }
}
