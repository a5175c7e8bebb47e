//! [`Connection`]: reads the messages of one client in order, and holds its session: settings,
//! prepared statements, portals, cursors.
//!
//! [`super::simple`] and [`super::extended`] handle the messages of the two query protocols. The
//! connection ends with an [`EndReason`].

use crate::catalog::{CatalogDeadline, SessionInfo};
use crate::cells::WireColumn;
use crate::extended::{Portal, PreparedStatement};
use crate::failure::{self, Failure, state};
use crate::limits;
use crate::listener::{CancelRegistration, WireServer};
use crate::run::{self, AnswerRows, CatalogCall, EngineCall};
use crate::session::SessionStatement;
use crate::settings::Settings;
use crate::startup::{AuthenticatedUser, Socket};
use crate::statement::{Statement, StatementKind};
use api::confinement::Confinement;
use api::sql::SqlService;
use engine::query::QueryOptions;
use futures::{SinkExt, StreamExt};
use pgwire::messages::data::{FieldDescription, RowDescription};
use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use postgres_types::Type;
use serde_json::Value as Json;
use sql::statement::{CopyFormat, CopyInStatement, FetchStatement};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use storage::model::TimeMs;

/// Messages that are read ahead while a statement runs, to notice that its client is gone.
const READ_AHEAD: usize = 16;

/// A connection.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) server: Arc<WireServer>,
    user: String,
    /// What the user was confined to when he logged in.
    confinement: Option<Arc<Confinement>>,
    peer: SocketAddr,
    registered: CancelRegistration,
    settings: Settings,
    pub(crate) transaction: TransactionStatus,
    pub(crate) prepared: BTreeMap<String, Arc<PreparedStatement>>,
    pub(crate) portals: BTreeMap<String, Portal>,
    /// Messages that were read ahead.
    pub(crate) ahead: VecDeque<PgWireFrontendMessage>,
    /// Something was changed since the transaction began, which stays although it may be rolled
    /// back.
    has_changed: bool,
    /// After an error of the extended protocol: messages up to the next Sync are passed over.
    pub(crate) skips: bool,
}

/// The answer of a statement.
pub(crate) enum Outcome {
    Rows(AnswerRows),
    /// Only the tag.
    Done(String),
    Empty,
    /// Rows of a cursor.
    Fetch(FetchStatement),
    /// Rows are wanted from the client.
    CopyIn(CopyInStatement),
    /// The rows go to the client as a copy.
    CopyOut(AnswerRows, CopyFormat),
}

/// Why a connection or a statement ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndReason {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The client hears of it.
    #[error("{0}")]
    Failed(#[from] Failure),
}

impl Connection {
    pub(crate) fn new(
        server: Arc<WireServer>,
        guest: AuthenticatedUser,
        registered: CancelRegistration,
    ) -> Connection {
        let tls = server.protection.as_ref().and_then(|all| all.server_tls());
        let confinement = server.protection.as_ref().and_then(|all| all.confinement_of(&guest.user));
        Connection {
            confinement,
            socket: guest.socket,
            settings: Settings::new(&guest.user, &guest.given, tls.is_some()),
            user: guest.user,
            peer: guest.peer,
            server,
            registered,
            transaction: TransactionStatus::Idle,
            prepared: BTreeMap::new(),
            portals: BTreeMap::new(),
            ahead: VecDeque::new(),
            has_changed: false,
            skips: false,
        }
    }

    /// Answers messages until the client or the server ends.
    pub(crate) async fn serve(mut self) -> Result<(), EndReason> {
        self.welcome().await?;
        let service = self.server.service.clone();
        let mut stopped = Box::pin(service.stopped());
        loop {
            // What was read ahead while a statement ran comes first: messages are answered in their
            // order.
            let message = match self.ahead.pop_front() {
                Some(message) => message,
                None => tokio::select! {
                    () = &mut stopped => return self.end(&shutdown()).await,
                    next = self.socket.next() => match next {
                        None => return Ok(()),
                        Some(Ok(message)) => message,
                        Some(Err(e)) => {
                            let failure = Failure::fatal(state::PROTOCOL_VIOLATION, e.to_string());
                            return self.end(&failure).await;
                        }
                    },
                },
            };
            if matches!(message, PgWireFrontendMessage::Terminate(_)) {
                return Ok(());
            }
            let handled = tokio::select! {
                () = &mut stopped => return self.end(&shutdown()).await,
                handled = self.handle(message) => handled,
            };
            match handled {
                Ok(()) => {}
                // Other failures were answered where they happened; what is left here ends the
                // connection.
                Err(EndReason::Failed(failure)) if failure.is_fatal => return self.end(&failure).await,
                Err(other) => return Err(other),
            }
        }
    }

    async fn end(mut self, failure: &Failure) -> Result<(), EndReason> {
        self.send(failure.message("", "")).await?;
        self.socket.close().await?;
        Ok(())
    }

    /// Tells a client that it is known, the settings, and how it cancels.
    async fn welcome(&mut self) -> Result<(), EndReason> {
        self.feed(PgWireBackendMessage::Authentication(Authentication::Ok)).await?;
        for (name, value) in self.settings.reported() {
            self.feed(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value))).await?;
        }
        let key = self.registered.key;
        let data = BackendKeyData::new(key.process, SecretKey::I32(key.secret));
        self.feed(PgWireBackendMessage::BackendKeyData(data)).await?;
        self.ready().await
    }

    async fn handle(&mut self, message: PgWireFrontendMessage) -> Result<(), EndReason> {
        use PgWireFrontendMessage as M;
        // The client has sent on without waiting for answers: what it sent assumes that the failed
        // message worked.
        if self.skips && !matches!(message, M::Sync(_)) {
            return Ok(());
        }
        let handled = match message {
            M::Query(query) => return self.simple(&query.query).await,
            M::Sync(_) => {
                self.skips = false;
                // Without a transaction a portal lives until here.
                if self.transaction == TransactionStatus::Idle {
                    self.portals.clear();
                }
                return self.ready().await;
            }
            M::Flush(_) => return self.flush().await,
            M::Parse(parse) => self.parse(parse).await,
            M::Bind(bind) => self.bind(bind).await,
            M::Describe(describe) => self.describe(describe).await,
            M::Execute(execute) => self.execute(execute).await,
            M::Close(close) => self.close(close).await,
            // What comes late of a COPY that has failed.
            M::CopyData(_) | M::CopyDone(_) | M::CopyFail(_) => Ok(()),
            _ => Err(Failure::fatal(state::PROTOCOL_VIOLATION, "a message that is not expected here").into()),
        };
        match handled {
            Err(EndReason::Failed(failure)) if !failure.is_fatal => {
                self.skips = true;
                self.fail();
                self.feed(failure.message("", "")).await?;
                self.flush().await
            }
            other => other,
        }
    }

    /// A statement has failed: so has its transaction.
    pub(crate) fn fail(&mut self) {
        if self.transaction == TransactionStatus::Transaction {
            self.transaction = TransactionStatus::Error;
        }
    }

    /// The client may send the next statement.
    pub(crate) async fn ready(&mut self) -> Result<(), EndReason> {
        self.feed(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(self.transaction))).await?;
        self.flush().await
    }

    pub(crate) async fn feed(&mut self, message: PgWireBackendMessage) -> Result<(), EndReason> {
        patiently(self.socket.feed(message)).await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), EndReason> {
        patiently(self.socket.flush()).await
    }

    async fn send(&mut self, message: PgWireBackendMessage) -> Result<(), EndReason> {
        patiently(self.socket.send(message)).await
    }

    /// What the user of this connection is confined to now. A confinement that the file no longer
    /// has stays until the connection ends: whoever is taken out of the file must not see more by
    /// it.
    fn confinement(&self) -> Option<Arc<Confinement>> {
        // Asked at each statement: the file may have changed since the login.
        let now = self.server.protection.as_ref().and_then(|all| all.confinement_of(&self.user));
        now.or_else(|| self.confinement.clone())
    }

    /// The statements of the user of this connection.
    pub(crate) fn service(&self) -> SqlService {
        match self.confinement() {
            Some(confinement) => self.server.service.confined_to(&confinement),
            None => self.server.service.clone(),
        }
    }

    /// The options of the next statement, which this connection's key cancels.
    pub(crate) fn options(&self) -> Result<QueryOptions, Failure> {
        let options = self.server.service.options(self.settings.timeout())?;
        // A cancel that comes from now on means this statement, and not one that has ended.
        self.registered.slot.begin(&options.cancel);
        Ok(options)
    }

    /// The time of `now()`.
    pub(crate) fn now(&self) -> TimeMs {
        self.settings.time().unwrap_or_else(|| self.server.service.now())
    }

    /// What a query of the catalogs asks with.
    pub(crate) fn catalog_call(
        &self,
        query: &sqlparser::ast::Query,
        params: Vec<Json>,
    ) -> Result<CatalogCall, Failure> {
        let options = self.options()?;
        // Whoever is confined to labels does not learn who else there is.
        let listed = self.server.protection.as_ref().filter(|_| self.confinement().is_none());
        let users = listed.map(|protection| protection.user_names());
        let facts = SessionInfo {
            user: self.user.clone(),
            users: users.unwrap_or_default(),
            settings: self.settings.all(),
            process: self.registered.key.process,
        };
        let patience = CatalogDeadline { deadline: Instant::now() + options.timeout, cancel: options.cancel };
        Ok(CatalogCall { query: Box::new(query.clone()), params, facts, patience })
    }

    /// Runs a statement until its first row.
    pub(crate) async fn run(&mut self, statement: &Statement, params: &[Json]) -> Result<Outcome, EndReason> {
        let is_failed = self.transaction == TransactionStatus::Error;
        let may_go_on =
            matches!(&statement.kind, StatementKind::Session(about) if about.ends_failed_transaction());
        if is_failed && !may_go_on {
            let error = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Failure::new(state::IN_FAILED_TRANSACTION, error).into());
        }
        let service = self.service();
        match &statement.kind {
            StatementKind::Empty => Ok(Outcome::Empty),
            StatementKind::Session(about) => self.about_session(about).await,
            StatementKind::Catalog(query) => {
                let call = self.catalog_call(query, params.to_vec())?;
                Ok(Outcome::Rows(self.watched(run::catalog(&service, call)).await?))
            }
            StatementKind::Query => {
                let call = EngineCall { options: self.options()?, time: self.now(), peer: self.peer };
                let query = run::query(&service, &statement.text, params.to_vec(), call);
                Ok(Outcome::Rows(self.watched(query).await?))
            }
            StatementKind::Define(define) => {
                // A statement that only lists has rows, and changes nothing that a rollback would
                // have to undo.
                let lists = !api::sql::shown_names(define).is_empty();
                let answer = service.define(define.clone(), params.to_vec()).await.map_err(Failure::from)?;
                if lists {
                    let columns = text_columns(&answer.names);
                    return Ok(Outcome::Rows(AnswerRows::texts(columns, answer.rows, "SHOW")));
                }
                self.note_change();
                Ok(Outcome::Done(answer.tag))
            }
            StatementKind::Subscribe(query) => {
                let cancel = self.options()?.cancel;
                let columns = run::change_columns(&service, query);
                let columns = self.watched(columns).await?;
                let opening =
                    async { service.subscribe(query.clone(), cancel.clone()).await.map_err(Failure::from) };
                let changes = self.watched(opening).await?;
                Ok(Outcome::Rows(AnswerRows::changes(columns, changes, cancel)))
            }
            StatementKind::CopyIn(copy) => Ok(Outcome::CopyIn(copy.clone())),
            // The inner statement runs as any other; only the way its rows are written differs.
            StatementKind::CopyOut(inner, format) => match Box::pin(self.run(inner, params)).await? {
                Outcome::Rows(answer_rows) => Ok(Outcome::CopyOut(answer_rows, format.clone())),
                _ => Err(Failure::new(state::SYNTAX, "COPY needs a query").into()),
            },
            StatementKind::Declare(declared) => {
                self.declare(declared, params).await?;
                Ok(Outcome::Done("DECLARE CURSOR".to_owned()))
            }
            StatementKind::Fetch(fetch) => Ok(Outcome::Fetch(fetch.clone())),
            StatementKind::Close(name) => Ok(Outcome::Done(self.close_cursor(name.as_deref())?.to_owned())),
        }
    }

    /// Something was changed, for good.
    pub(crate) fn note_change(&mut self) {
        self.has_changed |= self.transaction == TransactionStatus::Transaction;
    }

    /// A cancel of the client ends this answer from now on.
    pub(crate) fn cancels(&self, answer_rows: &AnswerRows) {
        if let Some(cancel) = answer_rows.cancel() {
            self.registered.slot.begin(cancel);
        }
    }

    /// Waits for `work`, and looks meanwhile whether the client is still there.
    pub(crate) async fn watched<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, EndReason> {
        let mut work = Box::pin(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done?),
                // Reading is the only way to see that the client is gone. Beyond the bound nothing
                // is read, so that a client cannot fill the memory; it then ends with its
                // statement.
                next = self.socket.next(), if self.ahead.len() < READ_AHEAD => match next {
                    Some(Ok(message)) => self.ahead.push_back(message),
                    Some(Err(e)) => return Err(io::Error::from(e).into()),
                    None => return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
                },
            }
        }
    }

    async fn about_session(&mut self, about: &SessionStatement) -> Result<Outcome, EndReason> {
        match about {
            SessionStatement::Begin => {
                if self.transaction == TransactionStatus::Idle {
                    self.transaction = TransactionStatus::Transaction;
                } else {
                    self.feed(failure::warning("there is already a transaction in progress".to_owned()))
                        .await?;
                }
            }
            SessionStatement::Commit | SessionStatement::Rollback => {
                let was_failed = self.transaction == TransactionStatus::Error;
                self.transaction = TransactionStatus::Idle;
                self.portals.clear();
                // A client that rolls back believes that nothing has happened, so it is told. After
                // a commit there is nothing to say.
                let is_undone = was_failed || *about == SessionStatement::Rollback;
                if std::mem::take(&mut self.has_changed) && is_undone {
                    let text = "there are no transactions: what the statements have changed stays so";
                    self.feed(failure::warning(text.to_owned())).await?;
                }
                // PostgreSQL answers a COMMIT of a failed transaction like this; drivers look at
                // the tag.
                if was_failed {
                    return Ok(Outcome::Done("ROLLBACK".to_owned()));
                }
            }
            // Savepoints are not kept apart: a failed transaction goes on, which is why drivers
            // send this.
            SessionStatement::RollbackTo => self.transaction = TransactionStatus::Transaction,
            SessionStatement::Set { name, value } => {
                self.settings.set(name, value)?;
                self.report(name).await?;
            }
            SessionStatement::Reset(name) => {
                self.settings.reset(name.as_deref());
                if let Some(name) = name {
                    self.report(name).await?;
                }
                // `SET … TO DEFAULT` and `RESET name` are one statement here; drivers compare the
                // first.
                let tag = if name.is_some() { "SET" } else { about.tag() };
                return Ok(Outcome::Done(tag.to_owned()));
            }
            SessionStatement::Show(name) => {
                let value = self.settings.get(name).map(str::to_owned).ok_or_else(|| {
                    let error = format!("unrecognized configuration parameter \"{name}\"");
                    Failure::new(state::NO_OBJECT, error).hint("SHOW ALL lists the settings")
                })?;
                // PostgreSQL names the column after the setting, with an underscore for each space.
                let columns = Arc::new([WireColumn { name: name.replace(' ', "_"), kind: Type::TEXT }]);
                return Ok(Outcome::Rows(AnswerRows::texts(columns, vec![vec![value]], "SHOW")));
            }
            SessionStatement::ShowAll => {
                let row = |(name, value): (String, String)| vec![name, value, String::new()];
                let rows = self.settings.all().into_iter().map(row).collect();
                let columns = text_columns(&["name", "setting", "description"]);
                return Ok(Outcome::Rows(AnswerRows::texts(columns, rows, "SHOW")));
            }
            SessionStatement::Discard => {
                self.settings.reset(None);
                self.prepared.clear();
                self.portals.clear();
            }
            SessionStatement::Deallocate(None) => self.prepared.clear(),
            SessionStatement::Deallocate(Some(name)) => {
                let error = || {
                    Failure::new(state::NO_STATEMENT, format!("prepared statement \"{name}\" does not exist"))
                };
                self.prepared.remove(name).ok_or_else(error)?;
            }
            SessionStatement::Nothing(_) => {}
        }
        Ok(Outcome::Done(about.tag().to_owned()))
    }

    /// Tells the client a setting that it follows.
    async fn report(&mut self, name: &str) -> Result<(), EndReason> {
        let Some(reported) = Settings::reported_name(name) else { return Ok(()) };
        let value = self.settings.get(name).unwrap_or_default().to_owned();
        self.feed(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(reported.to_owned(), value)))
            .await
    }

    /// Sends rows, at most `most` (0: all), and true if there are more.
    pub(crate) async fn send_rows(
        &mut self,
        answer_rows: &mut AnswerRows,
        columns: &[WireColumn],
        formats: &[i16],
        most: usize,
    ) -> Result<bool, EndReason> {
        let mut sent = 0;
        // Whether there is another row is not asked: it may be one that has not happened yet.
        while most == 0 || sent < most {
            if !self.next_row(answer_rows).await? {
                return Ok(false);
            }
            let row = answer_rows.row(columns, formats);
            self.feed(PgWireBackendMessage::DataRow(row)).await?;
            sent += 1;
        }
        Ok(true)
    }

    /// Waits for the next row; false: there is none.
    pub(crate) async fn next_row(&mut self, answer_rows: &mut AnswerRows) -> Result<bool, EndReason> {
        loop {
            // A client of changes reads each of them when it has happened.
            if answer_rows.is_waiting() {
                self.flush().await?;
            }
            let has_row = self.watched(answer_rows.wait()).await?;
            let notices = answer_rows.take_notices();
            if notices.is_empty() {
                return Ok(has_row);
            }
            self.warn(notices).await?;
        }
    }

    /// Sends warnings.
    pub(crate) async fn warn(&mut self, warnings: Vec<String>) -> Result<(), EndReason> {
        for text in warnings {
            self.feed(failure::warning(text)).await?;
        }
        Ok(())
    }

    /// The end of an answer: its warnings, and how many rows it had.
    pub(crate) async fn complete(
        &mut self,
        answer_rows: &mut AnswerRows,
        rows: usize,
    ) -> Result<(), EndReason> {
        self.warn(std::mem::take(&mut answer_rows.warnings)).await?;
        let tag = match answer_rows.tag {
            // Only these carry a number: a SHOW has none.
            "SELECT" | "COPY" => format!("{} {rows}", answer_rows.tag),
            other => other.to_owned(),
        };
        self.feed(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag))).await
    }
}

fn shutdown() -> Failure {
    Failure::fatal(state::SHUTDOWN, "terminating connection due to administrator command")
}

/// A client that reads nothing for too long is gone.
async fn patiently(sending: impl Future<Output = io::Result<()>>) -> Result<(), EndReason> {
    match tokio::time::timeout(limits::WIRE_STALL, sending).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Columns of texts.
pub(crate) fn text_columns(names: &[&str]) -> Arc<[WireColumn]> {
    names.iter().map(|name| WireColumn { name: (*name).to_owned(), kind: Type::TEXT }).collect()
}

/// The description of the columns of an answer.
pub(crate) fn row_description(columns: &[WireColumn], formats: &[i16]) -> PgWireBackendMessage {
    let field = |(at, column): (usize, &WireColumn)| {
        let length = crate::catalog::types::length(&column.kind);
        let code = run::format_code(formats, at);
        FieldDescription::new(column.name.clone(), 0, 0, column.kind.oid(), length, -1, code)
    };
    PgWireBackendMessage::RowDescription(RowDescription::new(columns.iter().enumerate().map(field).collect()))
}
