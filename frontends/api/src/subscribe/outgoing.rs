//! The messages of one subscription that are ready to be sent.

use super::super::response::ApiError;
use super::budget::{Account, Charge};
use super::server_message::{self, EndReason, ServerMessage};
use std::collections::VecDeque;
use std::sync::Arc;
use storage::model::TimeMs;

/// A message whose bytes are on the subscription's account until it is sent.
pub struct Outgoing {
    /// The message.
    pub message: ServerMessage,
    /// The bytes of the message.
    pub charge: Charge,
}

/// The messages that wait, and whether others may follow.
pub(super) struct OutgoingMessages {
    waiting: VecDeque<Outgoing>,
    /// Counts the memory of what waits.
    account: Arc<Account>,
    /// The last message was added.
    ended: bool,
}

impl OutgoingMessages {
    /// Without messages.
    pub(super) fn new(account: Arc<Account>) -> OutgoingMessages {
        OutgoingMessages { waiting: VecDeque::new(), account, ended: false }
    }

    /// Whether no message follows those that wait.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether no message waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a message.
    pub(super) fn push(&mut self, message: ServerMessage) {
        let charge = self.account.charge(message.json.len());
        self.waiting.push_back(Outgoing { message, charge });
    }

    /// Adds the last message.
    pub(super) fn push_last(&mut self, message: ServerMessage) {
        self.push(message);
        self.ended = true;
    }

    /// Adds an error of the subscription `id`, and its end.
    pub(super) fn end(&mut self, id: &str, error: &ApiError, t: Option<TimeMs>, why: EndReason) {
        self.push(server_message::error(Some(id), error, t));
        self.push_last(server_message::unsubscribed(id, Some(why)));
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Removes the first message.
    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        self.waiting.pop_front()
    }
}
