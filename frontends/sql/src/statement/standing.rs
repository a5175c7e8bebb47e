//! Parses `CREATE ALERT` and `CREATE MATERIALIZED VIEW`: statements whose query is then kept
//! current ([`crate::standing`]).

use super::reader::Reader;
use super::{AlertStatement, SqlStatement, ViewStatement};
use crate::error::SqlError;
use datafusion::sql::sqlparser::tokenizer::Token;
use std::collections::BTreeMap;

impl Reader<'_> {
    pub(super) fn create_alert(&mut self, replace: bool) -> Result<SqlStatement, SqlError> {
        let mut alert = AlertStatement {
            name: self.name(false)?,
            replace,
            hold: 0,
            keep_firing_for: 0,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            query: String::new(),
        };
        if self.accept("FOR") {
            alert.hold = self.duration()?;
        }
        if self.accept("KEEP") {
            self.expect("FIRING")?;
            self.expect("FOR")?;
            alert.keep_firing_for = self.duration()?;
        }
        if self.accept("LABELS") {
            alert.labels = self.pairs()?;
        }
        if self.accept("ANNOTATIONS") {
            alert.annotations = self.pairs()?;
        }
        self.expect("AS")?;
        alert.query = self.query()?;
        Ok(SqlStatement::CreateAlert(alert))
    }

    pub(super) fn create_view(&mut self, replace: bool) -> Result<SqlStatement, SqlError> {
        let mut view = ViewStatement {
            name: self.name(true)?,
            replace,
            record: None,
            interval: None,
            query: String::new(),
        };
        if self.accept("WITH") {
            self.expect_token(&Token::LParen)?;
            loop {
                if self.accept("RECORD") {
                    self.expect_token(&Token::Eq)?;
                    view.record = Some(self.string()?);
                } else if self.accept("INTERVAL") {
                    self.expect_token(&Token::Eq)?;
                    view.interval = Some(self.duration()?);
                } else {
                    return Err(self.wanted("record or interval"));
                }
                if !self.accept_token(&Token::Comma) {
                    break;
                }
            }
            self.expect_token(&Token::RParen)?;
        }
        self.expect("AS")?;
        view.query = self.query()?;
        Ok(SqlStatement::CreateView(view))
    }
}
