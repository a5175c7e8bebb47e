//! One open subscription: its view, its tap, its outbox, and the messages that come out of them.

use super::super::aside::blocking;
use super::super::dispatch::Call;
use super::super::progress::Progress;
use super::super::reply::{ApiError, ErrorType};
use super::super::telemetry::Counted;
use super::super::{AppState, limits, query, standing, views};
use super::budget::{Account, Charge};
use super::outbox::{Outbox, Taken};
use super::protocol::{self, Encoder, Ended, Message};
use super::request::{Backpressure, Request};
use super::too_many;
use super::views::Lease;
use crate::promql::annotations::render_most;
use crate::views::Views;
use engine::live::{TapId, ViewId, ViewKind, ViewSpec, check};
use engine::plan::physical::StoreQueries;
use engine::plan::{Dialect, Op, Plan};
use std::collections::VecDeque;
use std::sync::Arc;
use storage::hands::Hands;
use storage::model::{Matcher, TimeMs};
use tokio::sync::Notify;

/// One open subscription.
pub struct Subscription {
    id: String,
    /// What was asked, for the places of annotations.
    query: String,
    policy: Backpressure,
    buffer: Option<usize>,
    bell: Arc<Notify>,
    hands: Hands,
    views: Arc<dyn Views>,
    /// What picks the series of a subscription that is a selector and nothing else: it hears of corrections.
    series: Option<Vec<Matcher>>,
    lease: Arc<Lease>,
    tap: TapId,
    outbox: Arc<Outbox>,
    encoder: Encoder,
    account: Arc<Account>,
    /// The rows that the encoder remembers.
    remembered: Charge,
    /// Messages that are ready to be sent.
    ready: VecDeque<Outgoing>,
    /// The first tick that a lagging client did not see; told when the fresh snapshot comes.
    lost_since: Option<TimeMs>,
    ended: bool,
    _counted: Counted,
}

/// A message, and its bytes on the subscription's account until it is sent.
pub struct Outgoing {
    /// The message.
    pub message: Message,
    /// Its bytes.
    pub charge: Charge,
}

impl Subscription {
    /// Opens what `request` asks for; `bell` rings when there is something to send by `connection`. The first message is ready.
    pub async fn open(
        state: &AppState,
        request: Request,
        bell: Arc<Notify>,
        connection: Option<Arc<Progress>>,
    ) -> Result<Subscription, ApiError> {
        admit(state)?;
        let account = state.buffers.open(bell.clone(), connection);
        let counted = Counted::new(&state.telemetry.subscriptions);
        let Question { text, plan, view } = question(state, &request).await?;
        let explained = state.sources.language.explain(&plan);
        let kind = ViewKind::NOW;
        let standing = check(
            &ViewSpec { name: String::new(), plan: plan.clone(), kind },
            Dialect::default(),
            StoreQueries::Refused,
        )
        .is_ok();
        let first = protocol::subscribed(&request.id, &text, &plan, &explained, standing);
        let charge = account.charge(first.json.len());
        let outbox = Outbox::new(request.backpressure, request.buffer, bell.clone(), &account);
        let series = series_of(&plan);
        if let Some(matchers) = &series {
            state.sources.views.listen(matchers.clone(), outbox.listener());
        }
        let (views, sink, name) = (state.views.clone(), outbox.sink(), text.clone());
        let opened = state.blocking(move || {
            let lease = match view {
                Some(id) => views.borrow(id),
                None => views.acquire(&plan, &name)?,
            };
            let tap = lease.tap(sink);
            Ok::<_, String>((lease, tap))
        });
        let (lease, tap) = match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(e)) => return Err(ApiError::new(ErrorType::Execution, e)),
            Err(e) => return Err(ApiError::new(ErrorType::Internal, e.to_string())),
        };
        Ok(Subscription {
            encoder: Encoder::new(&request.id, request.envelope),
            id: request.id,
            query: text,
            policy: request.backpressure,
            buffer: request.buffer,
            bell,
            hands: state.settings.hands,
            views: state.sources.views.clone(),
            series,
            lease: Arc::new(lease),
            tap,
            outbox,
            remembered: account.charge(0),
            account,
            ready: VecDeque::from([Outgoing { message: first, charge }]),
            lost_since: None,
            ended: false,
            _counted: counted,
        })
    }

    /// Opens the subscription of a plain GET.
    pub async fn of_call(call: &Call) -> Result<Subscription, ApiError> {
        let connection = call.parts.extensions.get::<Arc<Progress>>().cloned();
        Subscription::open(&call.state, Request::from_form(&call.form)?, Arc::default(), connection).await
    }

    /// Rings when there may be something to send.
    pub fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    /// Whether the last message has been given out.
    pub fn has_ended(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    /// The next message, if there is one now.
    pub async fn next(&mut self) -> Option<Outgoing> {
        if self.account.has_ended() && !self.ended {
            self.ready.clear();
            let why = "the buffers of all subscriptions are full, and this one held most of them: read faster, or subscribe to less";
            self.end(&ApiError::new(ErrorType::Unavailable, why), None, Ended::BuffersFull);
        }
        if self.ready.is_empty() && !self.ended {
            match self.outbox.take() {
                Some(Taken::Lagging { from, to }) => self.lagging(from, to).await,
                Some(taken) => self.prepare(taken),
                None => {}
            }
        }
        self.ready.pop_front()
    }

    fn push(&mut self, message: Message) {
        let charge = self.account.charge(message.json.len());
        self.ready.push_back(Outgoing { message, charge });
    }

    /// Says why, and that it is over.
    fn end(&mut self, error: &ApiError, t: Option<TimeMs>, why: Ended) {
        self.push(protocol::error(Some(&self.id), error, t));
        self.push(protocol::unsubscribed(&self.id, Some(why)));
        self.ended = true;
    }

    fn prepare(&mut self, taken: Taken) {
        match taken {
            Taken::Snapshot(t, rows) => {
                if let Some(from) = self.lost_since.take() {
                    self.push(protocol::lost(&self.id, from, t));
                }
                let message = self.encoder.snapshot(t, &rows);
                self.remembered.set(self.encoder.remembered_bytes());
                self.push(message);
            }
            Taken::Delta { since, t, upsert, remove } => {
                let message = self.encoder.delta(since, t, &upsert, &remove);
                self.remembered.set(self.encoder.remembered_bytes());
                self.push(message);
            }
            Taken::Notes(t, notes) => {
                let (warnings, infos) = render_most(&self.query, &notes, limits::ANNOTATIONS);
                self.push(protocol::notes(&self.id, t, &warnings, &infos));
            }
            Taken::Progress(t) => self.push(protocol::progress(&self.id, t)),
            Taken::Failed(t, text) => {
                let error = ApiError::new(ErrorType::Execution, text);
                self.push(protocol::error(Some(&self.id), &error, Some(t)));
            }
            Taken::Corrected(rows) => {
                let message = protocol::correction(&self.id, rows.t, &rows.upsert, &rows.remove);
                self.push(message);
            }
            Taken::Over => {
                self.push(protocol::unsubscribed(&self.id, Some(Ended::ViewRemoved)));
                self.ended = true;
            }
            Taken::Lagging { .. } => {}
        }
    }

    /// The client reads again after it fell behind: a fresh tap, or the end.
    async fn lagging(&mut self, from: TimeMs, to: TimeMs) {
        if self.policy == Backpressure::Close {
            let text = format!("the client is too slow: events since {} are lost", from as f64 / 1000.0);
            return self.end(&ApiError::new(ErrorType::Canceled, text), Some(to), Ended::Slow);
        }
        self.lost_since.get_or_insert(from);
        self.outbox = Outbox::new(self.policy, self.buffer, self.bell.clone(), &self.account);
        if let Some(matchers) = &self.series {
            self.views.listen(matchers.clone(), self.outbox.listener());
        }
        let (lease, old, sink) = (self.lease.clone(), self.tap, self.outbox.sink());
        let again = blocking(self.hands, move || {
            lease.untap(old);
            lease.tap(sink)
        });
        match again.await {
            Ok(tap) => self.tap = tap,
            Err(e) => {
                self.end(&ApiError::new(ErrorType::Internal, e.to_string()), None, Ended::Failed);
            }
        }
    }
}

/// Whether there may be one more subscription.
pub fn admit(state: &AppState) -> Result<(), ApiError> {
    let error = if state.telemetry.subscriptions.get() >= limits::SUBSCRIPTIONS as f64 {
        too_many("subscriptions", limits::SUBSCRIPTIONS)
    } else if !state.buffers.takes_more() {
        let why =
            "the buffers of all subscriptions are full (--web.max-subscription-buffers); try again later";
        ApiError::new(ErrorType::Unavailable, why)
    } else {
        return Ok(());
    };
    state.buffers.count_refusal();
    Err(error)
}

/// The matchers of a plan that shows series as they are, now.
fn series_of(plan: &Plan) -> Option<Vec<Matcher>> {
    match &plan.op {
        Op::Instant(selector) if selector.offset == 0 && selector.at.is_none() => {
            Some(selector.matchers.clone())
        }
        _ => None,
    }
}

/// What a request asks for.
struct Question {
    text: String,
    plan: Plan,
    /// The view that answers it already.
    view: Option<ViewId>,
}

async fn question(state: &AppState, request: &Request) -> Result<Question, ApiError> {
    if !request.view.is_empty() {
        let id = standing::id_named(state, &request.view)?;
        let report = views::one(state, id).await?.ok_or_else(|| views::is_gone(&request.view))?;
        let text = state.sources.standing.definition(id).map_or(report.spec.name, |(_, d)| d.query);
        return Ok(Question { text, plan: report.spec.plan, view: Some(id) });
    }
    let plan = state.sources.language.compile(&request.query, None);
    let plan = plan.map_err(|e| ApiError::parameter("query", e))?;
    match query::not_a_series(&plan) {
        None => Ok(Question { text: request.query.clone(), plan, view: None }),
        Some(kind) => {
            let reason = format!(
                "invalid expression type {kind:?} for subscription, must be Scalar or instant Vector"
            );
            Err(ApiError::parameter("query", reason))
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (lease, tap) = (self.lease.clone(), self.tap);
        // Detaching may wait for the live runtime; without a runtime the outbox is gone, which ends the tap too.
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(blocking(self.hands, move || lease.untap(tap)));
        }
    }
}
