//! The lexer: splits a query into tokens, one at a time.
//!
//! It has three modes: statements, inside braces (where no word is a keyword), and inside brackets
//! (where durations and their arithmetic occur). After an error there are no further tokens: the
//! error is kept in [`Lexer::fault`], and [`super::parser`] reports it when it reaches that token.

use super::ast::BinaryOperator;
use super::errors::{LexError, LexMode, SpannedError};
use super::token::{Keyword, Token, TokenKind, keyword};
use engine::plan::Span;

/// Produces the tokens of a text.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    start: usize,
    at: usize,
    in_braces: bool,
    in_brackets: bool,
    seen_colon: bool,
    seen_duration: bool,
    open_parens: i32,
    fault: Option<SpannedError>,
}

/// A token, or `None` if only space or a comment was skipped.
type Scan = Result<Option<TokenKind>, LexError>;

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Lexer<'a> {
        Lexer {
            text,
            start: 0,
            at: 0,
            in_braces: false,
            in_brackets: false,
            seen_colon: false,
            seen_duration: false,
            open_parens: 0,
            fault: None,
        }
    }

    /// Why the last token is [`TokenKind::Error`].
    pub(crate) fn fault(&self) -> Option<&SpannedError> {
        self.fault.as_ref()
    }

    /// The next token; after the end or an error, the same token again.
    pub(crate) fn next(&mut self) -> Token {
        // The parser may look at a token several times; after an error it must see that error each
        // time.
        if let Some(fault) = &self.fault {
            return Token { kind: TokenKind::Error, span: fault.span };
        }
        loop {
            self.start = self.at;
            let scan = match (self.in_braces, self.in_brackets) {
                // Never both: only the mode for statements opens braces and brackets.
                (true, _) => self.in_braces(),
                (_, true) => self.in_brackets(),
                _ => self.statement(),
            };
            match scan {
                Ok(Some(kind)) => return Token { kind, span: self.span(self.at) },
                Ok(None) => {}
                Err(error) => {
                    // Prometheus marks everything from the bad token to the end of the query.
                    let span = self.span(self.text.len());
                    self.fault = Some(SpannedError::new(span, error.to_string()));
                    return Token { kind: TokenKind::Error, span };
                }
            }
        }
    }

    fn span(&self, end: usize) -> Span {
        Span { start: self.start as u32, end: end as u32 }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        let hit = self.peek().is_some_and(wanted);
        if hit {
            self.bump();
        }
        hit
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.accept(&wanted) {}
    }

    fn statement(&mut self) -> Scan {
        let Some(c) = self.bump() else {
            // Found here and not by the parser, because the lexer of Prometheus reports it first.
            return if self.open_parens != 0 {
                Err(LexError::UnclosedParenthesis)
            } else {
                Ok(Some(TokenKind::Eof))
            };
        };
        let token = match c {
            '#' => return self.comment(),
            c if is_space(c) => return self.space(),
            '(' | ')' => return self.paren(c),
            ',' => TokenKind::Comma,
            // No check of what follows: `@` takes a number, `start()` or `end()`, which is the
            // grammar's business.
            '@' => TokenKind::At,
            '=' | '!' | '<' | '>' => return self.comparison(c),
            '"' | '\'' => return self.quoted(c),
            '`' => return self.raw(),
            '{' => {
                self.in_braces = true;
                TokenKind::LeftBrace
            }
            '[' => {
                // As in Prometheus, a duration in earlier brackets counts as seen:
                // `rate(m[5m])[step():1m]` is accepted.
                self.in_brackets = true;
                self.seen_colon = false;
                TokenKind::LeftBracket
            }
            // Brackets that are open are read by another mode, so this one closes nothing.
            ']' => return Err(LexError::RightBracket),
            c if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|d| d.is_ascii_digit())) => {
                return self.number();
            }
            // Names may begin with a colon: recording rules of old are called so.
            c if is_alpha(c) || c == ':' => return self.word(),
            c => match arithmetic(c) {
                Some(op) => TokenKind::Op(op),
                None => return Err(LexError::Character(c)),
            },
        };
        Ok(Some(token))
    }

    fn in_braces(&mut self) -> Scan {
        let Some(c) = self.bump() else {
            return Err(LexError::End(LexMode::Braces));
        };
        Ok(Some(match c {
            '#' => return self.comment(),
            c if is_space(c) => return self.space(),
            // No word is a keyword in here: `{by="x"}` names a label.
            c if is_alpha(c) => {
                self.skip_while(is_alphanumeric);
                TokenKind::Identifier
            }
            ',' => TokenKind::Comma,
            '"' | '\'' => return self.quoted(c),
            '`' => return self.raw(),
            '=' if self.accept(|c| c == '~') => TokenKind::RegexEqual,
            '=' => TokenKind::Equal,
            '!' => match self.bump() {
                Some('~') => TokenKind::RegexNotEqual,
                Some('=') => TokenKind::Op(BinaryOperator::Ne),
                other => return Err(LexError::AfterNotInBraces(other)),
            },
            // Nested braces are a frequent slip in copied JSON, so Prometheus has a text of their
            // own.
            '{' => return Err(LexError::LeftBrace),
            '}' => {
                self.in_braces = false;
                TokenKind::RightBrace
            }
            c => return Err(LexError::CharacterIn { mode: LexMode::Braces, character: c }),
        }))
    }

    fn in_brackets(&mut self) -> Scan {
        let Some(c) = self.bump() else {
            return Err(LexError::End(LexMode::Brackets));
        };
        let token = match c {
            c if is_space(c) => return self.space(),
            '(' | ')' => return self.paren(c),
            ']' => {
                self.in_brackets = false;
                TokenKind::RightBracket
            }
            ':' => return self.colon(),
            ',' => TokenKind::Comma,
            c if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|d| d.is_ascii_digit())) => {
                self.seen_duration = true;
                return self.number();
            }
            // The first letters of `step`, `range`, `min_of` and `max_of`, the only words here.
            's' | 'S' | 'm' | 'M' | 'r' | 'R' => return self.duration_word(c),
            c => match arithmetic(c) {
                Some(op) => TokenKind::Op(op),
                None => return Err(LexError::CharacterIn { mode: LexMode::Brackets, character: c }),
            },
        };
        Ok(Some(token))
    }

    fn colon(&mut self) -> Scan {
        let problem = match (self.seen_duration, self.seen_colon) {
            (false, _) => LexError::EarlyColon,
            (_, true) => LexError::RepeatedColon,
            _ => {
                self.seen_colon = true;
                return Ok(Some(TokenKind::Colon));
            }
        };
        self.start = self.at;
        Err(problem)
    }

    fn paren(&mut self, c: char) -> Scan {
        if c == '(' {
            self.open_parens += 1;
            return Ok(Some(TokenKind::LeftParen));
        }
        self.open_parens -= 1;
        if self.open_parens < 0 {
            self.start = self.at;
            return Err(LexError::RightParenthesis);
        }
        Ok(Some(TokenKind::RightParen))
    }

    fn comparison(&mut self, c: char) -> Scan {
        let then = self.peek();
        // Two characters decide, and `long` says whether the second one belongs to the token.
        let (token, long) = match (c, then) {
            ('=', Some('=')) => (TokenKind::Op(BinaryOperator::Eq), true),
            ('=', Some('~')) => return Err(LexError::RegexOperator),
            ('=', _) => (TokenKind::Equal, false),
            ('!', Some('=')) => (TokenKind::Op(BinaryOperator::Ne), true),
            ('!', other) => return Err(LexError::AfterNot(other)),
            ('<', Some('=')) => (TokenKind::Op(BinaryOperator::Le), true),
            // `</` and `>/` trim the buckets of native histograms.
            ('<', Some('/')) => (TokenKind::Op(BinaryOperator::TrimUpper), true),
            ('<', _) => (TokenKind::Op(BinaryOperator::Lt), false),
            (_, Some('=')) => (TokenKind::Op(BinaryOperator::Ge), true),
            (_, Some('/')) => (TokenKind::Op(BinaryOperator::TrimLower), true),
            _ => (TokenKind::Op(BinaryOperator::Gt), false),
        };
        self.at += usize::from(long);
        Ok(Some(token))
    }

    fn space(&mut self) -> Scan {
        self.skip_while(is_space);
        Ok(None)
    }

    fn comment(&mut self) -> Scan {
        // The line break stays: it ends the comment and is space by itself.
        self.skip_while(|c| c != '\n' && c != '\r');
        Ok(None)
    }

    fn word(&mut self) -> Scan {
        self.skip_while(|c| is_alphanumeric(c) || c == ':');
        let word = &self.text[self.start..self.at];
        Ok(Some(match keyword(word) {
            // `fill` is a keyword only before a parenthesis.
            Some(TokenKind::Word(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.paren_follows() =>
            {
                TokenKind::Identifier
            }
            Some(token) => token,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        }))
    }

    fn paren_follows(&self) -> bool {
        self.text[self.at..].trim_start_matches(is_space).starts_with('(')
    }

    fn duration_word(&mut self, first: char) -> Scan {
        self.skip_while(is_alpha);
        match keyword(&self.text[self.start..self.at]) {
            Some(
                token @ TokenKind::Word(Keyword::Step | Keyword::Range | Keyword::MinOf | Keyword::MaxOf),
            ) => Ok(Some(token)),
            _ => Err(LexError::NoColon(first)),
        }
    }

    fn number(&mut self) -> Scan {
        // The first digit was taken to get here; both scans below begin with it.
        self.at = self.start;
        if self.scan_number() {
            return Ok(Some(TokenKind::Number));
        }
        // After a number that failed: `5m` is a number up to the `m`, and the duration goes on from
        // there.
        if self.scan_duration() {
            return Ok(Some(TokenKind::Duration));
        }
        Err(LexError::Number(self.text[self.start..self.at].to_owned()))
    }

    /// Skips a number; on failure the skipped part appears in the error.
    fn scan_number(&mut self) -> bool {
        let hex = self.text[self.at..].starts_with("0x") || self.text[self.at..].starts_with("0X");
        if hex {
            self.at += 2;
            // Go's scanner takes an underscore after the prefix, and `strconv` too.
            self.accept(|c| c == '_');
        }
        let never_after = |c: char| matches!(c, '.' | '_' | 'e' | 'E');
        let mut dot = false;
        let mut exponent = false;
        while let Some(c) = self.peek() {
            match c {
                '.' => {
                    self.bump();
                    // A second point, a point in a hexadecimal number, or `1._5`: no number of Go.
                    if std::mem::replace(&mut dot, true) || hex || self.accept(|c| c == '_' || c == '.') {
                        return false;
                    }
                }
                'e' | 'E' if !hex => {
                    self.bump();
                    if std::mem::replace(&mut exponent, true) {
                        return false;
                    }
                    self.accept(|c| c == '+' || c == '-');
                    if self.accept(never_after) || self.peek().is_none() {
                        return false;
                    }
                }
                '_' => {
                    self.bump();
                    // In a hexadecimal number `e` is a digit and may follow an underscore.
                    if self.accept(|c| never_after(c) && !(hex && c.is_ascii_hexdigit()))
                        || self.peek().is_none()
                    {
                        return false;
                    }
                }
                c if c.is_ascii_digit() || (hex && c.is_ascii_hexdigit()) => {
                    self.bump();
                }
                _ => break,
            }
        }
        // `1m` and `1x` are no numbers with something after them: the caller tries a duration, or
        // reports the whole.
        !self.peek().is_some_and(is_alphanumeric)
    }

    /// Skips the rest of a duration after its first number.
    fn scan_duration(&mut self) -> bool {
        // Years only first: Prometheus' lexer takes no `y` after another unit.
        if !self.accept(|c| "smhdwy".contains(c)) {
            return false;
        }
        // The `s` of `ms`. Invalid units such as `hs` are found when the duration is parsed.
        self.accept(|c| c == 's');
        while self.accept(|c| c.is_ascii_digit()) {
            self.skip_while(|c| c.is_ascii_digit());
            if !self.accept(|c| "smhdw".contains(c)) {
                return false;
            }
            self.accept(|c| c == 's');
        }
        !self.accept(is_alphanumeric)
    }

    fn quoted(&mut self, delimiter: char) -> Scan {
        loop {
            match self.bump() {
                Some('\\') => self.escape(delimiter)?,
                Some(char::REPLACEMENT_CHARACTER) => return Err(LexError::InvalidUtf8),
                // A line break ends a quoted string in Go; only a raw one may span lines.
                None | Some('\n') => return Err(LexError::UnterminatedString),
                Some(c) if c == delimiter => return Ok(Some(TokenKind::Text)),
                Some(_) => {}
            }
        }
    }

    fn raw(&mut self) -> Scan {
        loop {
            match self.bump() {
                Some(char::REPLACEMENT_CHARACTER) => return Err(LexError::InvalidUtf8),
                None => return Err(LexError::UnterminatedRawString),
                Some('`') => return Ok(Some(TokenKind::Text)),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, delimiter: char) -> Result<(), LexError> {
        let c = self.bump().ok_or(LexError::UnterminatedEscape)?;
        let (digits, base, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            // Only the own quote may be escaped: `"\'"` is an error in Go.
            c if c == delimiter => return Ok(()),
            '0'..='7' => (3, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            c => return Err(LexError::UnknownEscape(c)),
        };
        // The first octal digit is part of the number; of the others it is a letter that says what
        // follows.
        if base == 8 {
            self.at -= 1;
        }
        let mut value = 0u64;
        for _ in 0..digits {
            let d = self.bump().ok_or(LexError::UnterminatedEscape)?;
            let Some(digit) = d.to_digit(base) else {
                return Err(LexError::EscapeDigit(d));
            };
            value = value * u64::from(base) + u64::from(digit);
        }
        // Surrogates are no characters, in Go as in Rust.
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err(LexError::EscapeCodePoint);
        }
        Ok(())
    }
}

fn arithmetic(c: char) -> Option<BinaryOperator> {
    Some(match c {
        '+' => BinaryOperator::Add,
        '-' => BinaryOperator::Sub,
        '*' => BinaryOperator::Mul,
        '/' => BinaryOperator::Div,
        '%' => BinaryOperator::Mod,
        '^' => BinaryOperator::Pow,
        _ => return None,
    })
}

pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

pub(crate) fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

pub(crate) fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}
