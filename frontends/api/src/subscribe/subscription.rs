//! One open subscription: its view (the query that is kept current), its tap (the attachment to
//! that view), its queue of events, and the messages made from them. [`super::websocket`] and
//! [`super::streaming`] drive it.

use super::super::dispatch::ApiRequest;
use super::super::progress::Progress;
use super::super::response::{ApiError, ErrorType};
use super::super::self_metrics::GaugeGuard;
use super::super::{AppState, limits, query, saved_queries, views};
use super::attachment::{QueueSettings, ViewAttachment};
use super::budget::Charge;
use super::client_message::{Backpressure, SubscribeRequest};
use super::delta_encoder::DeltaEncoder;
use super::outgoing::{Outgoing, OutgoingMessages};
use super::server_message::{self, EndReason, RowFormat, StandingMode};
use super::shared_views::ViewLease;
use super::state_budget;
use super::subscriber_queue::SubscriberEvent;
use super::subscribers::{SubscriptionFacts, SubscriptionTally};
use super::too_many;
use engine::live::{ViewId, ViewKind, ViewSpec, check};
use engine::plan::physical::StoreQueries;
use engine::plan::{Dialect, Plan, PlanOp};
use language::annotations::render_most;
use std::sync::Arc;
use storage::model::{Matcher, TimeMs};
use tokio::sync::Notify;

/// One open subscription.
pub struct Subscription {
    /// The client's id of the subscription.
    id: String,
    /// The text of the query, for the positions of annotations.
    query: String,
    /// Where events come from.
    attachment: ViewAttachment,
    /// Writes the messages of changes.
    encoder: DeltaEncoder,
    /// The memory of the rows that the encoder remembers.
    remembered: Charge,
    /// The messages that are ready to be sent.
    messages: OutgoingMessages,
    /// The first tick that a lagging client missed; reported with the new snapshot.
    lost_since: Option<TimeMs>,
    /// What the client was sent, for the list of all subscriptions.
    tally: Arc<SubscriptionTally>,
    _counted: GaugeGuard,
}

impl Subscription {
    /// Opens the subscription that `request` describes. `wakeup` is notified when there is
    /// something to send over `connection`. The first message is ready on return.
    pub async fn open(
        state: &AppState,
        request: SubscribeRequest,
        wakeup: Arc<Notify>,
        connection: Option<Arc<Progress>>,
    ) -> Result<Subscription, ApiError> {
        admit(state)?;
        let account = state.subscriptions.buffers.open(wakeup.clone(), connection);
        // Counted before the awaits below, so that many requests at once cannot all pass `admit`.
        let counted = GaugeGuard::new(&state.telemetry.subscriptions);
        let SubscriptionTarget { text, plan, view, format } = question(state, &request).await?;
        let kind = ViewKind::NOW;
        // Only to tell the client what it will get: a plan that cannot be maintained is evaluated
        // on a schedule instead, not refused.
        let standing = check(
            &ViewSpec { name: String::new(), plan: plan.clone(), kind },
            Dialect::default(),
            StoreQueries::Refused,
        )
        .is_ok();
        let lease = Arc::new(lease(state, view, &plan, &text, standing).await?);
        let standing = match lease.refusal() {
            Some(refusal) => StandingMode::Refused(refusal.to_string()),
            None if standing => StandingMode::Live,
            None => StandingMode::Impossible,
        };
        // The first message is made before the tap exists: afterwards events may come at any time,
        // and this one must be first.
        let first = match &format {
            Some(format) => server_message::subscribed_rows(&request.id, &text, format.as_ref(), &standing),
            None => {
                let explained = state.sources.queries.language.explain(&plan);
                server_message::subscribed(&request.id, &text, &plan, &explained, &standing)
            }
        };
        let mut messages = OutgoingMessages::new(account.clone());
        messages.push(first);
        let facts = SubscriptionFacts {
            id: request.id.clone(),
            query: text.clone(),
            view: Some(lease.id()),
            standing: standing == StandingMode::Live,
            envelope: Some(request.envelope),
            backpressure: Some(request.backpressure),
        };
        let tally = SubscriptionTally::new(facts, Arc::downgrade(&account));
        let series = series_of(&plan).filter(|_| format.is_none());
        let remembered = account.charge(0);
        let settings =
            QueueSettings { policy: request.backpressure, buffer: request.buffer, wakeup, account };
        let attached = ViewAttachment::open(state, settings, lease, series).await;
        let attachment = attached.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
        Ok(Subscription {
            encoder: DeltaEncoder::new(&request.id, request.envelope, format),
            id: request.id,
            query: text,
            attachment,
            remembered,
            messages,
            lost_since: None,
            tally,
            _counted: counted,
        })
    }

    /// Opens the subscription of a plain GET.
    pub async fn from_call(call: &ApiRequest, request: SubscribeRequest) -> Result<Subscription, ApiError> {
        let connection = call.parts.extensions.get::<Arc<Progress>>().cloned();
        Subscription::open(&call.state, request, Arc::default(), connection).await
    }

    /// What the client was sent and lost.
    pub fn tally(&self) -> &Arc<SubscriptionTally> {
        &self.tally
    }

    /// Is notified when there may be something to send.
    pub fn wakeup(&self) -> Arc<Notify> {
        self.attachment.settings.wakeup.clone()
    }

    /// Whether the last message has been taken.
    pub fn has_ended(&self) -> bool {
        self.messages.has_ended() && self.messages.is_empty()
    }

    /// The next message, if one is ready.
    pub async fn next(&mut self) -> Option<Outgoing> {
        if self.attachment.settings.account.has_ended() && !self.messages.has_ended() {
            // The messages that wait are what must be freed; the reason comes instead of them.
            self.messages.clear();
            let why = "the buffers of all subscriptions are full, and this one held most of them: read faster, or subscribe to less";
            let error = ApiError::new(ErrorType::Unavailable, why);
            self.messages.end(&self.id, &error, None, EndReason::BuffersFull);
        }
        // One event at a time: what is turned into messages leaves the queue, where it could still
        // be merged.
        if self.messages.is_empty() && !self.messages.has_ended() {
            match self.attachment.take() {
                Some(SubscriberEvent::Lagging { from, to }) => self.lagging(from, to).await,
                Some(taken) => self.enqueue_messages(taken),
                None => {}
            }
        }
        let next = self.messages.pop()?;
        self.tally.count_sent(next.message.json.len());
        Some(next)
    }

    fn enqueue_messages(&mut self, taken: SubscriberEvent) {
        match taken {
            SubscriberEvent::Snapshot(t, rows) => {
                // Only with the snapshot is it known where the gap ends.
                if let Some(from) = self.lost_since.take() {
                    self.messages.push(server_message::lost(&self.id, from, t));
                }
                let message = self.encoder.snapshot(t, &rows);
                self.remembered.set(self.encoder.remembered_bytes());
                self.messages.push(message);
            }
            SubscriberEvent::Delta { since, t, upsert, remove } => {
                let message = self.encoder.delta(since, t, &upsert, &remove);
                self.remembered.set(self.encoder.remembered_bytes());
                if let Some(message) = message {
                    self.messages.push(message);
                }
            }
            SubscriberEvent::Annotations(t, annotations) => {
                let (warnings, infos) = render_most(&self.query, &annotations, limits::ANNOTATIONS);
                self.messages.push(server_message::notes(&self.id, t, &warnings, &infos));
            }
            SubscriberEvent::Progress(t) => self.messages.push(server_message::progress(&self.id, t)),
            SubscriberEvent::Failed(t, text) => {
                let error = ApiError::new(ErrorType::Execution, text);
                self.messages.push(server_message::error(Some(&self.id), &error, Some(t)));
            }
            SubscriberEvent::Corrected(rows) => {
                let message = server_message::correction(&self.id, rows.t, &rows.upsert, &rows.remove);
                self.messages.push(message);
            }
            SubscriberEvent::ViewRemoved => {
                let removed = EndReason::ViewRemoved;
                self.messages.push_last(server_message::unsubscribed(&self.id, Some(removed)));
            }
            // [`Subscription::next`] has handled it, because a new tap needs an await.
            SubscriberEvent::Lagging { .. } => {}
        }
    }

    /// Handles a client that reads again after it fell behind: makes a new tap, or ends the
    /// subscription.
    async fn lagging(&mut self, from: TimeMs, to: TimeMs) {
        if self.attachment.settings.policy == Backpressure::Close {
            let text = format!("the client is too slow: events since {} are lost", from as f64 / 1000.0);
            let error = ApiError::new(ErrorType::Canceled, text);
            return self.messages.end(&self.id, &error, Some(to), EndReason::Slow);
        }
        // A client may fall behind again before its snapshot comes; the gap begins at the first
        // time.
        self.lost_since.get_or_insert(from);
        self.tally.count_lost();
        if let Err(e) = self.attachment.attach_again().await {
            let error = ApiError::new(ErrorType::Internal, e.to_string());
            self.messages.end(&self.id, &error, None, EndReason::Failed);
        }
    }
}

/// The view of a subscription: an existing one, or that of a plan. `standing`: whether the plan can
/// be kept current.
async fn lease(
    state: &AppState,
    view: Option<ViewId>,
    plan: &Plan,
    text: &str,
    standing: bool,
) -> Result<ViewLease, ApiError> {
    let views = state.subscriptions.views.clone();
    let asking = state.clone();
    let plan = plan.clone();
    let name = text.to_owned();
    // Installing a view waits for the live runtime, which may be in a tick.
    let acquired = state.blocking(move || match view {
        Some(id) => Ok(views.borrow(id)),
        // What is evaluated again and again holds nothing in between.
        None if !standing => views.acquire(&plan, &name, || Ok(0)),
        None => views.acquire(&plan, &name, || state_budget::estimate(&asking, &plan)),
    });
    match acquired.await {
        Ok(acquired) => Ok(acquired?),
        Err(e) => Err(ApiError::new(ErrorType::Internal, e.to_string())),
    }
}

/// Whether the server has room for one more subscription.
pub fn admit(state: &AppState) -> Result<(), ApiError> {
    // The gauge is the count: a second counter could disagree with what the metric shows.
    let error = if state.telemetry.subscriptions.get() >= limits::SUBSCRIPTIONS as f64 {
        too_many("subscriptions", limits::SUBSCRIPTIONS)
    } else if !state.subscriptions.buffers.takes_more() {
        let why =
            "the buffers of all subscriptions are full (--web.max-subscription-buffers); try again later";
        ApiError::new(ErrorType::Unavailable, why)
    } else {
        return Ok(());
    };
    state.subscriptions.buffers.count_refusal();
    Err(error)
}

/// The matchers of a plan that is an instant selector without offset and `@`.
fn series_of(plan: &Plan) -> Option<Vec<Matcher>> {
    match &plan.op {
        // With an offset or `@`, the corrected time is not the time that the client was told.
        PlanOp::Instant(selector) if selector.offset == 0 && selector.at.is_none() => {
            Some(selector.matchers.clone())
        }
        _ => None,
    }
}

/// What a request subscribes to.
struct SubscriptionTarget {
    text: String,
    plan: Plan,
    /// The existing view that answers it.
    view: Option<ViewId>,
    /// The form of its rows; `None`: samples.
    format: Option<Arc<dyn RowFormat>>,
}

async fn question(state: &AppState, request: &SubscribeRequest) -> Result<SubscriptionTarget, ApiError> {
    if !request.view.is_empty() {
        state.for_everybody("views")?;
        let id = saved_queries::id_named(state, &request.view)?;
        let report = views::one(state, id).await?.ok_or_else(|| views::not_found(&request.view))?;
        let definition = state.sources.saved_queries.definition(id).map(|(_, definition)| definition);
        let format = match &definition {
            Some(saved) if saved.has_cells() => Some(standing_statement(state, &saved.query).await?.1),
            _ => None,
        };
        let text = definition.map_or(report.spec.name, |definition| definition.query);
        return Ok(SubscriptionTarget { text, plan: report.spec.plan, view: Some(id), format });
    }
    if let Some(statement) = request.statement() {
        let (plan, format) = standing_statement(state, statement).await?;
        let plan = state.own_plan(plan)?;
        return Ok(SubscriptionTarget { text: statement.to_owned(), plan, view: None, format: Some(format) });
    }
    let plan = state.sources.queries.language.compile(&request.query, None);
    let plan = state.own_plan(plan.map_err(|e| ApiError::parameter("query", e))?)?;
    match query::unsupported_range_type(&plan) {
        None => Ok(SubscriptionTarget { text: request.query.clone(), plan, view: None, format: None }),
        Some(kind) => {
            let reason = format!(
                "invalid expression type {kind:?} for subscription, must be Scalar or instant Vector"
            );
            Err(ApiError::parameter("query", reason))
        }
    }
}

/// The plan of a standing statement, and the form of its rows.
#[cfg(feature = "sql")]
async fn standing_statement(state: &AppState, text: &str) -> Result<(Plan, Arc<dyn RowFormat>), ApiError> {
    super::super::sql::standing::rows(state, text).await
}

#[cfg(not(feature = "sql"))]
async fn standing_statement(_: &AppState, _: &str) -> Result<(Plan, Arc<dyn RowFormat>), ApiError> {
    Err(ApiError::parameter("sql", "this build has no SQL"))
}
