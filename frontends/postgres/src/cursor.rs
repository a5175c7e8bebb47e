//! Cursors (`DECLARE`, `FETCH`): queries whose rows a client fetches in parts within a transaction.
//!
//! A cursor is a portal whose query is running. It ends with its last row, with its transaction, or
//! when the time of its statement is over.

use crate::connection::{Connection, EndReason, Outcome, row_description};
use crate::extended::{Portal, no_cursor};
use crate::failure::{Failure, state};
use crate::limits;
use crate::statement::DeclaredCursor;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{CommandComplete, TransactionStatus};
use serde_json::Value as Json;
use sql::statement::{CursorRows, FetchStatement};

impl Connection {
    /// Begins the query of a cursor.
    pub(crate) async fn declare(
        &mut self,
        declared: &DeclaredCursor,
        params: &[Json],
    ) -> Result<(), EndReason> {
        let name = declared.name.as_str();
        // PostgreSQL's rule, kept although there are no transactions: the end of one is when a
        // forgotten cursor ends.
        if self.transaction != TransactionStatus::Transaction {
            let error = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(Failure::new("25P01", error).hint("BEGIN begins one").into());
        }
        if self.portals.contains_key(name) {
            let error = format!("cursor \"{name}\" already exists");
            return Err(Failure::new(state::DUPLICATE_CURSOR, error).into());
        }
        if self.portals.values().filter(|portal| portal.is_cursor()).count() >= limits::WIRE_CURSORS {
            let error = format!("more than {} cursors of a connection", limits::WIRE_CURSORS);
            return Err(Failure::new(state::LIMIT, error).hint("close some").into());
        }
        // Before the query runs: a cursor that cannot be kept need not be computed.
        self.check_room(declared.query.text.len())?;
        // Boxed, because the run of a statement may be that of a DECLARE.
        let Outcome::Rows(answer_rows) = Box::pin(self.run(&declared.query, params)).await? else {
            return Err(Failure::new(state::SYNTAX, "a cursor needs a query").into());
        };
        let query = declared.query.as_ref().clone();
        self.portals.insert(name.to_owned(), Portal::cursor(query, answer_rows, declared.is_binary));
        Ok(())
    }

    /// Sends rows of a cursor. `formats`: those that the client has asked for; `None`: in the
    /// simple protocol, where the columns are described first.
    pub(crate) async fn fetch(
        &mut self,
        fetch: &FetchStatement,
        formats: Option<&[i16]>,
    ) -> Result<(), EndReason> {
        let name = fetch.name.as_str();
        // Taken out, so that a cursor that fails is gone.
        let mut portal = self.portals.remove(name).ok_or_else(|| no_cursor(name))?;
        let columns = portal.columns();
        let is_simple = formats.is_none();
        let formats = formats.map_or_else(|| portal.formats.clone(), <[i16]>::to_vec);
        let most = match fetch.rows {
            CursorRows::All => usize::MAX,
            CursorRows::Some(most) => most,
        };
        // In the extended protocol the client asks for the description itself.
        if is_simple && !fetch.is_move {
            self.feed(row_description(&columns, &formats)).await?;
        }
        let mut count = 0;
        if let Some(mut answer_rows) = portal.answer_rows.take() {
            self.cancels(&answer_rows);
            let mut has_more = true;
            while has_more && count < most {
                has_more = self.next_row(&mut answer_rows).await?;
                if !has_more {
                    break;
                }
                let row = answer_rows.row(&columns, &formats);
                if !fetch.is_move {
                    self.feed(PgWireBackendMessage::DataRow(row)).await?;
                }
                count += 1;
            }
            // Warnings are complete only with the last row; they go out once.
            if has_more {
                portal.answer_rows = Some(answer_rows);
            } else {
                self.warn(std::mem::take(&mut answer_rows.warnings)).await?;
            }
        }
        self.portals.insert(name.to_owned(), portal);
        let tag = if fetch.is_move { format!("MOVE {count}") } else { format!("FETCH {count}") };
        self.feed(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag))).await
    }

    /// Ends a cursor; `None`: all.
    pub(crate) fn close_cursor(&mut self, name: Option<&str>) -> Result<&'static str, Failure> {
        let Some(name) = name else {
            self.portals.retain(|_, portal| !portal.is_cursor());
            return Ok("CLOSE CURSOR ALL");
        };
        self.portals.remove(name).ok_or_else(|| no_cursor(name))?;
        Ok("CLOSE CURSOR")
    }
}
