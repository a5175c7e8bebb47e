//! The simple query protocol: one `Query` message with one or more statements, answered in order.
//! [`super::statement`] says what each is, [`super::run`] runs it.

use crate::connection::{Connection, EndReason, Outcome, row_description};
use crate::failure::{Failure, state};
use crate::limits;
use crate::statement::Statement;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};

impl Connection {
    /// Answers a message of the simple protocol.
    pub(crate) async fn simple(&mut self, query: &str) -> Result<(), EndReason> {
        // It ends what was prepared without a name.
        self.prepared.remove("");
        self.portals.remove("");
        // Split by us and not by a parser: each statement must come to the guard as a text of its
        // own, and its errors count positions in the whole message.
        let statements = sql::statement::split(query);
        if statements.is_empty() {
            self.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
        }
        for (number, statement) in statements.into_iter().enumerate() {
            // The statements before the limit have been answered already, so only the next one
            // fails.
            let answered = if number < limits::WIRE_STATEMENTS {
                self.simple_statement(statement).await
            } else {
                let error = format!("more than {} statements in one message", limits::WIRE_STATEMENTS);
                Err(Failure::new(state::LIMIT, error).into())
            };
            match answered {
                Ok(()) => {}
                // The rest of the message is not looked at.
                Err(EndReason::Failed(failure)) if !failure.is_fatal => {
                    self.fail();
                    self.feed(failure.message(query, statement)).await?;
                    break;
                }
                Err(other) => return Err(other),
            }
        }
        self.ready().await
    }

    async fn simple_statement(&mut self, text: &str) -> Result<(), EndReason> {
        let statement = Statement::read(text)?;
        match self.run(&statement, &[]).await? {
            Outcome::Empty => {
                self.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await
            }
            Outcome::Done(tag) => {
                self.feed(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag))).await
            }
            Outcome::Fetch(fetch) => self.fetch(&fetch, None).await,
            Outcome::CopyIn(copy) => self.copy_in(&copy).await,
            Outcome::CopyOut(answer_rows, format) => self.copy_out(answer_rows, &format).await,
            Outcome::Rows(mut answer_rows) => {
                let columns = answer_rows.columns.clone();
                self.feed(row_description(&columns, &[])).await?;
                self.send_rows(&mut answer_rows, &columns, &[], 0).await?;
                let rows = answer_rows.taken;
                self.complete(&mut answer_rows, rows).await
            }
        }
    }
}
