//! [`Reader`]: reads the tokens of a statement from left to right: expects keywords, names, texts
//! and numbers, and makes errors with the position of the token. The other files of [`super`] use
//! it.

use crate::error::{SqlError, byte_of};
use crate::guard::is_word;
use crate::names::folded;
use crate::values::duration_text;
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::collections::BTreeMap;

/// A cursor over the tokens of a statement.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: Vec<TokenWithSpan>,
    pub(super) at: usize,
}

impl Reader<'_> {
    pub(super) fn token(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.token)
    }

    /// Whether the next token is this word; then it is read.
    pub(super) fn accept(&mut self, word: &str) -> bool {
        let is = self.token().is_some_and(|token| is_word(token, word));
        self.at += usize::from(is);
        is
    }

    pub(super) fn accept_token(&mut self, wanted: &Token) -> bool {
        let is = self.token() == Some(wanted);
        self.at += usize::from(is);
        is
    }

    /// The error "expected …" at the current token.
    pub(super) fn wanted(&self, what: &str) -> SqlError {
        let found = self.token().map_or_else(|| "the end".to_owned(), ToString::to_string);
        let error = SqlError::bad(format!("{what} is expected, not {found}"));
        match self.tokens.get(self.at).or(self.tokens.last()) {
            Some(token) => error.at(self.text, token.span.start),
            None => error,
        }
    }

    pub(super) fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.accept(word) { Ok(()) } else { Err(self.wanted(word)) }
    }

    pub(super) fn expect_token(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.accept_token(token) { Ok(()) } else { Err(self.wanted(&token.to_string())) }
    }

    pub(super) fn end(&self) -> Result<(), SqlError> {
        if self.token().is_none() { Ok(()) } else { Err(self.wanted("the end")) }
    }

    /// A name; `folds`: in lower case unless it is quoted.
    pub(super) fn name(&mut self, folds: bool) -> Result<String, SqlError> {
        let Some(Token::Word(word)) = self.token() else { return Err(self.wanted("a name")) };
        let ident = Ident {
            value: word.value.clone(),
            quote_style: word.quote_style,
            span: self.tokens[self.at].span,
        };
        let name = if folds { folded(&ident) } else { ident.value };
        self.at += 1;
        Ok(name)
    }

    pub(super) fn string(&mut self) -> Result<String, SqlError> {
        let text = match self.token() {
            Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => text.clone(),
            Some(Token::DollarQuotedString(text)) => text.value.clone(),
            _ => return Err(self.wanted("a text in single quotes")),
        };
        self.at += 1;
        Ok(text)
    }

    /// A duration in quotes, ms; `INTERVAL` may stand before it.
    pub(super) fn duration(&mut self) -> Result<i64, SqlError> {
        self.accept("INTERVAL");
        let wanted = self.wanted("a duration such as '5m'");
        let text = self.string().map_err(|_| wanted.clone())?;
        if text == "0" { Ok(0) } else { duration_text(&text).filter(|ms| *ms >= 0).ok_or(wanted) }
    }

    /// `(name = 'text', …)`
    pub(super) fn pairs(&mut self) -> Result<BTreeMap<String, String>, SqlError> {
        let mut pairs = BTreeMap::new();
        self.expect_token(&Token::LParen)?;
        while !self.accept_token(&Token::RParen) {
            if !pairs.is_empty() {
                self.expect_token(&Token::Comma)?;
            }
            let twice = self.wanted("another name");
            let name = self.name(false)?;
            self.expect_token(&Token::Eq)?;
            if pairs.insert(name, self.string()?).is_some() {
                return Err(twice);
            }
        }
        Ok(pairs)
    }

    /// The rest of the text; parentheses around it may be left out.
    pub(super) fn query(&self) -> Result<String, SqlError> {
        let Some(first) = self.tokens.get(self.at) else { return Err(self.wanted("a query")) };
        let rest = self.text.get(self.byte_of(first)..).unwrap_or_default();
        Ok(rest.trim().trim_end_matches(';').trim_end().to_owned())
    }

    fn byte_of(&self, token: &TokenWithSpan) -> usize {
        let place = token.span.start;
        byte_of(self.text, place.line, place.column).unwrap_or(0)
    }

    /// A name in lower case unless it is quoted; the schema `public` may stand before it.
    pub(super) fn public_name(&mut self) -> Result<String, SqlError> {
        let place = self.at;
        let name = self.name(true)?;
        if !self.accept_token(&Token::Period) {
            return Ok(name);
        }
        if name == "public" {
            return self.name(true);
        }
        self.at = place;
        Err(self.wanted("a name in the schema public"))
    }

    /// `(name, …)`
    pub(super) fn names(&mut self) -> Result<Vec<String>, SqlError> {
        let mut names = Vec::new();
        self.expect_token(&Token::LParen)?;
        loop {
            names.push(self.name(true)?);
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(names)
    }

    /// `IF EXISTS`
    pub(super) fn if_exists(&mut self) -> Result<bool, SqlError> {
        let is_there = self.accept("IF");
        if is_there {
            self.expect("EXISTS")?;
        }
        Ok(is_there)
    }

    /// The text of a query in parentheses that begins here, with spaces before it: its places are
    /// those of the whole text.
    pub(super) fn query_in_parentheses(&mut self) -> Result<String, SqlError> {
        self.expect_token(&Token::LParen)?;
        let from = self.at;
        let mut depth = 0_usize;
        loop {
            match self.token() {
                None => return Err(self.wanted(")")),
                Some(Token::LParen) => depth += 1,
                Some(Token::RParen) if depth == 0 => break,
                Some(Token::RParen) => depth -= 1,
                Some(_) => {}
            }
            self.at += 1;
        }
        if self.at == from {
            return Err(self.wanted("a query"));
        }
        let query = self.placed(from, self.at);
        self.at += 1;
        Ok(query)
    }

    /// The rest of the text as a query, with spaces before it as in
    /// [`Reader::query_in_parentheses`].
    pub(super) fn placed_query(&self) -> Result<String, SqlError> {
        if self.token().is_none() {
            return Err(self.wanted("a query"));
        }
        Ok(self.placed(self.at, self.tokens.len()))
    }

    /// The text of the tokens `from..to`, padded to its position.
    fn placed(&self, from: usize, to: usize) -> String {
        let begin = self.tokens.get(from).map_or(0, |token| self.byte_of(token));
        let end = self.tokens.get(to).map_or(self.text.len(), |token| self.byte_of(token));
        let space = |c: char| if c == '\n' { '\n' } else { ' ' };
        let mut placed: String = self.text[..begin].chars().map(space).collect();
        placed.push_str(self.text[begin..end].trim_end().trim_end_matches(';').trim_end());
        placed
    }
}
