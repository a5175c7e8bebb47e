//! The extended query protocol: `Parse`, `Bind`, `Describe`, `Execute`, `Close`.
//!
//! A [`PreparedStatement`] is a parsed text; a [`Portal`] is one with values for its parameters.
//! [`super::run`] executes it.

use crate::cells::{self, WireColumn};
use crate::connection::{Connection, EndReason, Outcome, row_description};
use crate::failure::{Failure, state};
use crate::limits;
use crate::params;
use crate::run::{self, AnswerRows};
use crate::statement::{Statement, StatementKind};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};
use postgres_types::Type;
use serde_json::Value as Json;
use sql::SqlRequest;
use sql::tables::ColumnType;
use std::sync::Arc;

/// A prepared statement.
pub(crate) struct PreparedStatement {
    statement: Statement,
    /// `None`: it answers no rows.
    columns: Option<Arc<[WireColumn]>>,
    params: Vec<Type>,
}

/// What is known of a statement before it runs.
pub(crate) struct StatementShape {
    /// `None`: it answers no rows.
    pub(crate) columns: Option<Arc<[WireColumn]>>,
    /// The types of its parameters; `None`: any.
    pub(crate) params: Vec<Option<Type>>,
}

/// A prepared statement with values, or a cursor.
pub(crate) struct Portal {
    prepared: Arc<PreparedStatement>,
    params: Vec<Json>,
    /// Bytes of the values.
    bytes: usize,
    pub(crate) formats: Vec<i16>,
    /// The rest of an answer that was fetched in part.
    pub(crate) answer_rows: Option<AnswerRows>,
    is_done: bool,
    /// `DECLARE` made it.
    is_cursor: bool,
}

impl Portal {
    /// A cursor whose rows come by `answer_rows`.
    pub(crate) fn cursor(statement: Statement, answer_rows: AnswerRows, is_binary: bool) -> Portal {
        let columns = Some(answer_rows.columns.clone());
        Portal {
            prepared: Arc::new(PreparedStatement { statement, columns, params: Vec::new() }),
            params: Vec::new(),
            bytes: 0,
            formats: vec![i16::from(is_binary)],
            answer_rows: Some(answer_rows),
            is_done: false,
            is_cursor: true,
        }
    }

    pub(crate) fn is_cursor(&self) -> bool {
        self.is_cursor
    }

    /// The columns of its rows.
    pub(crate) fn columns(&self) -> Arc<[WireColumn]> {
        self.prepared.columns.clone().unwrap_or_else(|| Arc::new([]))
    }
}

impl Connection {
    pub(crate) async fn parse(&mut self, message: Parse) -> Result<(), EndReason> {
        let name = message.name.unwrap_or_default();
        // The statement without a name is replaced by the next one.
        if !name.is_empty() && self.prepared.contains_key(&name) {
            let error = format!("prepared statement \"{name}\" already exists");
            return Err(Failure::new(state::DUPLICATE_STATEMENT, error).into());
        }
        self.check_room(message.query.len())?;
        let statement = Statement::read(&message.query)?;
        let prepared = self.prepare(statement, &message.type_oids).await?;
        self.prepared.insert(name, Arc::new(prepared));
        self.feed(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await
    }

    /// Whether another statement or portal of so many bytes may be kept.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<(), Failure> {
        let texts: usize = self.prepared.values().map(|prepared| prepared.statement.text.len()).sum();
        let values: usize = self.portals.values().map(|portal| portal.bytes).sum();
        if self.prepared.len() + self.portals.len() >= limits::WIRE_PREPARED {
            let error = format!("more than {} prepared statements and portals", limits::WIRE_PREPARED);
            return Err(Failure::new(state::LIMIT, error).hint("close or deallocate some"));
        }
        if texts + values + bytes > limits::WIRE_PREPARED_BYTES {
            let error =
                format!("prepared statements and values of more than {} bytes", limits::WIRE_PREPARED_BYTES);
            return Err(Failure::new(state::LIMIT, error).hint("close or deallocate some"));
        }
        Ok(())
    }

    /// Finds the columns and the parameters of a statement.
    async fn prepare(&mut self, statement: Statement, given: &[u32]) -> Result<PreparedStatement, EndReason> {
        let StatementShape { columns, params: mut inferred } = self.shape(&statement).await?;
        inferred.resize(inferred.len().max(statement.parameters()), None);
        let kind = |at: usize| {
            let declared =
                // What the client declares counts before what is inferred: its driver writes values
                // of this type. What neither knows is a text, as in PostgreSQL.
                given.get(at).and_then(|oid| Type::from_oid(*oid)).filter(|kind| *kind != Type::UNKNOWN);
            declared.or_else(|| inferred.get(at).cloned().flatten()).unwrap_or(Type::TEXT)
        };
        let count = inferred.len().max(given.len());
        Ok(PreparedStatement { params: (0..count).map(kind).collect(), statement, columns })
    }

    async fn shape(&mut self, statement: &Statement) -> Result<StatementShape, EndReason> {
        let service = self.service();
        let of_columns = |columns| StatementShape { columns, params: Vec::new() };
        Ok(match &statement.kind {
            StatementKind::Catalog(query) => {
                // The columns of a catalog query follow from its text; the values are only not to
                // be missing.
                let unknown = vec![Json::Null; statement.parameters()];
                let call = self.catalog_call(query, unknown)?;
                self.watched(run::catalog_shape(&service, call)).await?
            }
            StatementKind::Query => {
                let options = self.options()?;
                let engine = service.engine();
                let text = statement.text.clone();
                let request = SqlRequest { text, time: self.now(), ..SqlRequest::default() };
                let described = service.blocking(move || engine.describe(&request, &options));
                let described = async { Ok(described.await) };
                let stopped = || Failure::new(state::INTERNAL, "the statement stopped unexpectedly");
                let described = self.watched(described).await?.ok_or_else(stopped)?.map_err(Failure::from)?;
                StatementShape {
                    params: described.params.iter().map(|kind| kind.as_ref().map(cells::kind_of)).collect(),
                    columns: Some(run::columns_of(&described.columns)),
                }
            }
            StatementKind::Subscribe(query) => {
                of_columns(Some(self.watched(run::change_columns(&service, query)).await?))
            }
            StatementKind::Session(about) => of_columns(about_columns(about)),
            StatementKind::Define(define) => {
                let named = |kind: ColumnType| crate::catalog::types::named(kind.name());
                let types = service.parameter_types(define);
                StatementShape {
                    columns: shown_columns(define),
                    params: types.into_iter().map(|kind| kind.map(named)).collect(),
                }
            }
            // The rows of these are described by other messages; the parameters are those inside.
            StatementKind::CopyOut(inner, _) => {
                StatementShape { columns: None, ..Box::pin(self.shape(inner)).await? }
            }
            StatementKind::Declare(declared) => {
                StatementShape { columns: None, ..Box::pin(self.shape(&declared.query)).await? }
            }
            StatementKind::Fetch(fetch) if !fetch.is_move => {
                let portal = self.portals.get(&fetch.name).ok_or_else(|| no_cursor(&fetch.name))?;
                of_columns(Some(portal.columns()))
            }
            StatementKind::Fetch(_)
            | StatementKind::CopyIn(_)
            | StatementKind::Close(_)
            | StatementKind::Empty => of_columns(None),
        })
    }

    pub(crate) async fn bind(&mut self, message: Bind) -> Result<(), EndReason> {
        let name = message.statement_name.unwrap_or_default();
        let prepared = self.prepared.get(&name).cloned().ok_or_else(|| no_statement(&name))?;
        let portal = message.portal_name.unwrap_or_default();
        // As with statements, the one without a name is replaced.
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return Err(
                Failure::new(state::DUPLICATE_CURSOR, format!("cursor \"{portal}\" already exists")).into()
            );
        }
        // Before any value is read: with too few the wrong ones would be taken.
        if message.parameters.len() != prepared.params.len() {
            let error = format!(
                "bind message supplies {} parameters, but prepared statement \"{name}\" requires {}",
                message.parameters.len(),
                prepared.params.len()
            );
            return Err(Failure::new(state::PROTOCOL_VIOLATION, error).into());
        }
        let bytes = message.parameters.iter().flatten().map(|value| value.len()).sum();
        self.check_room(bytes)?;
        let mut values = Vec::new();
        for (at, (value, kind)) in message.parameters.iter().zip(&prepared.params).enumerate() {
            let format = cells::format_of(&message.parameter_format_codes, at);
            values.push(params::json(value.as_ref(), kind, format)?);
        }
        let formats = message.result_column_format_codes;
        let made = Portal {
            prepared,
            params: values,
            bytes,
            formats,
            answer_rows: None,
            is_done: false,
            is_cursor: false,
        };
        self.portals.insert(portal, made);
        self.feed(PgWireBackendMessage::BindComplete(BindComplete::new())).await
    }

    pub(crate) async fn describe(&mut self, message: Describe) -> Result<(), EndReason> {
        let name = message.name.unwrap_or_default();
        // A statement has no formats yet, so its columns are described as text; a portal has those
        // of its Bind.
        let (columns, formats) = if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            let prepared = self.prepared.get(&name).cloned().ok_or_else(|| no_statement(&name))?;
            let types = prepared.params.iter().map(Type::oid).collect();
            self.feed(PgWireBackendMessage::ParameterDescription(ParameterDescription::new(types))).await?;
            (prepared.columns.clone(), Vec::new())
        } else {
            let portal = self.portals.get(&name).ok_or_else(|| no_portal(&name))?;
            (portal.prepared.columns.clone(), portal.formats.clone())
        };
        let description = match columns {
            Some(columns) => row_description(&columns, &formats),
            None => PgWireBackendMessage::NoData(NoData::new()),
        };
        self.feed(description).await
    }

    pub(crate) async fn execute(&mut self, message: Execute) -> Result<(), EndReason> {
        let name = message.name.unwrap_or_default();
        // Taken out, so that a portal that fails is gone.
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        let prepared = portal.prepared.clone();
        let mut answer_rows = match portal.answer_rows.take() {
            Some(answer_rows) => answer_rows,
            // All rows were sent: to execute it once more gives none, and does not run the
            // statement again.
            None if portal.is_done => {
                let tag = CommandComplete::new("SELECT 0".to_owned());
                self.portals.insert(name, portal);
                return self.feed(PgWireBackendMessage::CommandComplete(tag)).await;
            }
            None => match self.run(&prepared.statement, &portal.params).await? {
                Outcome::Rows(answer_rows) => answer_rows,
                Outcome::Empty => {
                    self.portals.insert(name, portal);
                    return self
                        .feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))
                        .await;
                }
                Outcome::Done(tag) => {
                    let tag = CommandComplete::new(tag);
                    return self.feed(PgWireBackendMessage::CommandComplete(tag)).await;
                }
                // The portal of these is not put back: it can be executed once.
                Outcome::Fetch(fetch) => return self.fetch(&fetch, Some(&portal.formats)).await,
                Outcome::CopyIn(copy) => return self.copy_in(&copy).await,
                Outcome::CopyOut(answer_rows, format) => return self.copy_out(answer_rows, &format).await,
            },
        };
        self.cancels(&answer_rows);
        // The client knows the columns of the description: a metric may have got another label
        // since.
        let columns = prepared.columns.clone().unwrap_or_else(|| answer_rows.columns.clone());
        if columns.len() != answer_rows.columns.len() {
            return Err(Failure::new(state::NOT_SUPPORTED, "cached plan must not change result type")
                .hint("prepare the statement again")
                .into());
        }
        let most = usize::try_from(message.max_rows).unwrap_or(0);
        let before = answer_rows.taken;
        let has_more = self.send_rows(&mut answer_rows, &columns, &portal.formats, most).await?;
        if has_more {
            portal.answer_rows = Some(answer_rows);
            self.portals.insert(name, portal);
            return self.feed(PgWireBackendMessage::PortalSuspended(PortalSuspended::new())).await;
        }
        // The tag counts the rows of this Execute and not those of earlier ones.
        let rows = answer_rows.taken - before;
        self.complete(&mut answer_rows, rows).await?;
        portal.is_done = true;
        self.portals.insert(name, portal);
        Ok(())
    }

    pub(crate) async fn close(&mut self, message: Close) -> Result<(), EndReason> {
        let name = message.name.unwrap_or_default();
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            // What does not exist is closed without an error, as the protocol says.
            self.prepared.remove(&name);
        } else {
            self.portals.remove(&name);
        }
        self.feed(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await
    }
}

fn about_columns(about: &crate::session::SessionStatement) -> Option<Arc<[WireColumn]>> {
    use crate::session::SessionStatement;
    match about {
        SessionStatement::Show(name) => {
            Some(Arc::new([WireColumn { name: name.replace(' ', "_"), kind: Type::TEXT }]))
        }
        SessionStatement::ShowAll => {
            Some(crate::connection::text_columns(&["name", "setting", "description"]))
        }
        _ => None,
    }
}

/// The columns of a statement that lists what others have defined.
fn shown_columns(define: &sql::statement::SqlStatement) -> Option<Arc<[WireColumn]>> {
    let names = api::sql::shown_names(define);
    (!names.is_empty()).then(|| crate::connection::text_columns(names))
}

fn no_statement(name: &str) -> Failure {
    Failure::new(state::NO_STATEMENT, format!("prepared statement \"{name}\" does not exist"))
}

pub(crate) fn no_cursor(name: &str) -> Failure {
    Failure::new(state::NO_CURSOR, format!("cursor \"{name}\" does not exist"))
}

fn no_portal(name: &str) -> Failure {
    Failure::new(state::NO_CURSOR, format!("portal \"{name}\" does not exist"))
}
