//! Quoted text over several lines. YAML 1.2 wants its lines indented more than the key before it;
//! Go's library takes them at any indentation, and such rule files are in use.
//!
//! White space at the start of such a line is no part of the value, so [`indent_continuations`]
//! adds some and leaves all values as they are. It knows just enough of YAML to tell quoted text
//! from comments, from block text and from quotation marks inside plain text.

/// `text` with the lines that go on with quoted text indented; `None` if it has none.
pub(crate) fn indent_continuations(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut scanner = Scanner::default();
    let mut changed = false;
    for line in text.split_inclusive('\n') {
        if let Some(open) = scanner.open_quote.filter(|_| !line.trim().is_empty()) {
            // The column of the quotation mark is deeper than every key before it.
            out.extend(std::iter::repeat_n(' ', open.column));
            changed = true;
        }
        out.push_str(line);
        scanner.line(line.trim_end_matches(['\n', '\r']));
    }
    changed.then_some(out)
}

#[derive(Copy, Clone)]
struct OpenQuote {
    mark: char,
    /// Characters before the mark, plus one.
    column: usize,
}

/// What is open at the end of a line.
#[derive(Default)]
struct Scanner {
    open_quote: Option<OpenQuote>,
    /// The indentation of the node that has block text (`|`, `>`); deeper lines are its text.
    block: Option<usize>,
}

impl Scanner {
    fn line(&mut self, line: &str) {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if self.open_quote.is_none() {
            match self.block {
                Some(parent) if indent > parent || line.trim().is_empty() => return,
                _ => self.block = None,
            }
        }
        let end = self.quotes(line);
        if self.open_quote.is_none() && opens_block(&line[..end]) {
            self.block = Some(parent_indent(&line[..end], indent));
        }
    }

    /// Follows the quotation marks of a line. Returns where its comment begins, or its length.
    fn quotes(&mut self, line: &str) -> usize {
        let mut chars = line.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match self.open_quote {
                Some(OpenQuote { mark: '"', .. }) if c == '\\' => {
                    chars.next();
                }
                Some(OpenQuote { mark: '\'', .. }) if c == '\'' && line[at + 1..].starts_with('\'') => {
                    chars.next();
                }
                Some(open) if c == open.mark => self.open_quote = None,
                Some(_) => {}
                None if c == '#' && (at == 0 || line[..at].ends_with([' ', '\t'])) => return at,
                None if matches!(c, '"' | '\'') && begins_value(&line[..at]) => {
                    let column = line[..at].chars().count() + 1;
                    self.open_quote = Some(OpenQuote { mark: c, column });
                }
                None => {}
            }
        }
        line.len()
    }
}

/// Whether a value begins after `before`, and not in the middle of plain text (`it's`).
fn begins_value(before: &str) -> bool {
    let trimmed = before.trim_end();
    let spaced = trimmed.len() < before.len();
    let word = trimmed.rsplit([' ', '\t']).next().unwrap_or_default();
    trimmed.is_empty()
        || trimmed.ends_with(['[', '{', ','])
        || (spaced && (trimmed.ends_with(':') || matches!(word, "-" | "?")))
        || (spaced && word.starts_with(['!', '&']))
}

/// Whether a line without its comment ends with the head of block text: `|`, `>-`, `|2+`.
fn opens_block(line: &str) -> bool {
    let Some(word) = line.split_whitespace().next_back() else { return false };
    let Some(rest) = word.strip_prefix(['|', '>']) else { return false };
    let before = line.trim_end();
    let before = &before[..before.len() - word.len()];
    rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-')) && begins_value(before)
}

/// The indentation of the node that the value of a line belongs to: after `- ` that of the key.
fn parent_indent(line: &str, indent: usize) -> usize {
    let mut at = indent;
    while let Some(rest) = line[at..].strip_prefix("- ") {
        let next = line.len() - rest.trim_start_matches(' ').len();
        if line[next..].starts_with(['|', '>']) {
            break;
        }
        at = next;
    }
    at
}
