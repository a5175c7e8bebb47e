//! The receiving side of Prometheus' remote write, versions 1.0 and 2.0: each request is a snappy
//! block.
//!
//! A request that is damaged anywhere stores nothing. Samples that cannot be stored (too old,
//! duplicate, …) do not prevent the others from being stored; the answer is then a 400, which tells
//! the sender not to try again. In version 1.0, samples of invalid series are left out without an
//! error, as in Prometheus. Only if the store cannot write is the answer a 5xx, after which the
//! sender tries again.

use super::refused_samples::RefusedLines;
use super::request::{Batch, ReportedRefusals, Request, RequestContent};
use super::{v1, v2};
use crate::decompress::{DecompressError, snappy_length, unsnappy};
use crate::limits;
use crate::native_histogram::HistogramRejected;
use crate::protobuf::ProtobufError;
use std::sync::Arc;
use storage::model::{SeriesRef, TimeMs};
use storage::store::{AppendResult, ErrorClass, Store, StoreError};

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum RemoteWriteError {
    /// The request is not valid remote write.
    #[error("{0}")]
    BadRequest(String),
    /// The request exceeds a limit.
    #[error("{0}")]
    TooLarge(String),
    /// The encoding of the request is not supported.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// Metrics of an OTLP request have no translation; nothing of the request is stored.
    #[error("{0}")]
    Untranslatable(String),
    /// What is kept of former requests takes too much memory for this one.
    #[error("{0}")]
    Busy(String),
    /// The store did not store it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RemoteWriteError {
    /// The HTTP status for this error. A sender repeats a request after a 5xx, and drops it
    /// otherwise.
    pub fn status(&self) -> u16 {
        match self {
            RemoteWriteError::BadRequest(_) => 400,
            RemoteWriteError::TooLarge(_) => 413,
            RemoteWriteError::UnsupportedMediaType(_) => 415,
            // As in Prometheus. OTLP's senders do not repeat after a 500.
            RemoteWriteError::Untranslatable(_) => 500,
            RemoteWriteError::Busy(_) => 503,
            RemoteWriteError::Store(error) => match error.class() {
                // A sender drops what was answered with 4xx and repeats what was answered with 5xx.
                // So the kind of the error decides whether samples are lost.
                ErrorClass::Invalid => 400,
                ErrorClass::LimitReached | ErrorClass::Unavailable | ErrorClass::Closed => 503,
                ErrorClass::Conflict | ErrorClass::Damaged | ErrorClass::Io => 500,
            },
        }
    }

    /// Whether it passes by itself: the same request may be stored later.
    pub fn is_retryable(&self) -> bool {
        match self {
            RemoteWriteError::Store(error) => error.class().is_retryable(),
            RemoteWriteError::Busy(_) => true,
            _ => false,
        }
    }
}

impl From<ProtobufError> for RemoteWriteError {
    fn from(error: ProtobufError) -> Self {
        RemoteWriteError::BadRequest(error.to_string())
    }
}

impl From<DecompressError> for RemoteWriteError {
    fn from(error: DecompressError) -> Self {
        match error {
            // Not a 400: the same samples in smaller requests would be stored, and the text says
            // so.
            DecompressError::TooLarge(_) => {
                RemoteWriteError::TooLarge(format!("{error}: send fewer samples in a request"))
            }
            DecompressError::Damaged { .. } => RemoteWriteError::BadRequest(error.to_string()),
        }
    }
}

/// The version of a request's message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MessageVersion {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`. The answer has headers that say how much was written.
    V2,
}

impl MessageVersion {
    /// All of them.
    pub const ALL: [MessageVersion; 2] = [MessageVersion::V1, MessageVersion::V2];

    /// The name of the message.
    pub fn name(self) -> &'static str {
        match self {
            MessageVersion::V1 => "prometheus.WriteRequest",
            MessageVersion::V2 => "io.prometheus.write.v2.Request",
        }
    }

    /// An error unless a server that takes these messages takes this one.
    pub fn check_accepted(self, accepted: &[MessageVersion]) -> Result<(), RemoteWriteError> {
        if accepted.contains(&self) {
            return Ok(());
        }
        let names: Vec<&str> = accepted.iter().map(|version| version.name()).collect();
        Err(RemoteWriteError::UnsupportedMediaType(format!(
            "{} protobuf message is not accepted by this server; only accepts {}",
            self.name(),
            names.join(", ")
        )))
    }
}

/// The result of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The LSN to wait for before answering (see [`storage::store::StoreWal::on_committed`]); 0:
    /// nothing was stored.
    pub lsn: u64,
    /// Number of floats stored.
    pub samples: usize,
    /// Number of native histograms stored.
    pub histograms: usize,
    /// Number of exemplars accepted, including known ones.
    pub exemplars: usize,
    /// Number of exemplars that are too much older than the newest of their series.
    pub late_exemplars: usize,
    /// The same for remote write 1.0, which leaves them out without an error.
    pub left_out_exemplars: usize,
    /// Number of samples that are older than the window of late samples, or than the bounds of the
    /// head.
    pub too_old: usize,
    /// Number of samples whose series has another value at the same time.
    pub duplicate: usize,
    /// Number of samples too far in the future.
    pub future: usize,
    /// Number of samples of invalid series: without a name, with a repeated label, not UTF-8.
    pub invalid: usize,
    /// The same for remote write 1.0, which leaves them out without an error.
    pub left_out: usize,
    /// Number of series of remote write 2.0 without samples.
    pub empty: usize,
    /// Number of malformed native histograms, and what is wrong with the first.
    pub bad_histograms: Option<(usize, String)>,
    /// Descriptions of the first refused samples.
    pub refused: RefusedLines,
}

impl WriteOutcome {
    /// The text of a 400, if something was refused although the rest of the request was stored;
    /// otherwise `None`.
    pub fn refusal(&self) -> Option<String> {
        let (bad, why) = self.bad_histograms.as_ref().map_or((0, ""), |(n, why)| (*n, why));
        let reasons = [
            (self.too_old, "too old sample"),
            (self.duplicate, "duplicate sample for timestamp"),
            (self.future, "out of bounds: timestamp is too far in the future"),
            (self.invalid, "invalid metric name or labels"),
            (self.empty, "series without samples"),
            (self.late_exemplars, "out of order exemplar"),
            (bad, why),
        ];
        // A request of which a part was refused is a 400, as in Prometheus: it tells the sender not
        // to repeat, although everything else was stored.
        let total = reasons.iter().map(|(n, _)| *n).sum();
        let said: Vec<String> = reasons
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, reason)| format!("{reason} ({n} samples)"))
            .collect();
        (total > 0).then(|| self.refused.text(total, &said.join("; ")))
    }

    pub(super) fn refuse_histogram(&mut self, reason: &HistogramRejected, series: SeriesRef, store: &Store) {
        self.refused.name_series(series, reason, store);
        self.bad_histograms.get_or_insert_with(|| (0, reason.to_string())).0 += 1;
    }

    /// Adds the counts of an append. Returns how many of its samples were stored.
    pub(super) fn count(&mut self, appended: &AppendResult, store: &Store) -> usize {
        self.lsn = self.lsn.max(appended.lsn);
        // For a sender both mean the same: the store has moved on, and to send again cannot help.
        self.too_old += appended.too_old + appended.out_of_bounds;
        for refused in &appended.refused {
            self.refused.name_refused(refused, store);
        }
        self.duplicate += appended.duplicate;
        appended.stored
    }
}

/// Stores remote-write requests.
pub struct RemoteWriteReceiver {
    store: Arc<Store>,
    zeros: bool,
}

/// The message version given by the request's headers (`None`: header not sent, which means 1.0).
/// An error if the request is not remote write.
pub fn check_headers(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<MessageVersion, RemoteWriteError> {
    let content_type = content_type.unwrap_or("");
    let mut parts = content_type.split(';').map(str::trim);
    // Senders of version 1.0 before the header existed send none.
    let is_protobuf = content_type.is_empty() || parts.next() == Some("application/x-protobuf");
    let proto = match parts.find_map(|p| p.strip_prefix("proto=")) {
        None => Some(MessageVersion::V1),
        Some(name) => MessageVersion::ALL.into_iter().find(|version| version.name() == name),
    };
    let Some(proto) = proto.filter(|_| is_protobuf) else {
        let text = format!(
            "{content_type:?} content type is not supported: expected application/x-protobuf with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request"
        );
        return Err(RemoteWriteError::UnsupportedMediaType(text));
    };
    match content_encoding {
        None | Some("" | "snappy") => Ok(proto),
        Some(other) => Err(RemoteWriteError::UnsupportedMediaType(format!(
            "{other} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ))),
    }
}

impl RemoteWriteReceiver {
    /// A receiver for `store`.
    pub fn new(store: Arc<Store>) -> RemoteWriteReceiver {
        RemoteWriteReceiver { store, zeros: false }
    }

    /// Whether a 0 is stored at the start timestamp of a new counter.
    #[must_use]
    pub fn with_zeros(self, zeros: bool) -> RemoteWriteReceiver {
        RemoteWriteReceiver { zeros, ..self }
    }

    /// Decodes a request body and stores its samples; `now` is the wall clock, ms. Meanwhile the
    /// decompressed body ([`decoded_bytes`]) is in memory, and little else.
    pub fn apply(
        &self,
        body: &[u8],
        proto: MessageVersion,
        now: TimeMs,
    ) -> Result<WriteOutcome, RemoteWriteError> {
        let message = unsnappy(body, limits::REMOTE_WRITE_BYTES)?;
        let content = RemoteWriteMessage { store: &self.store, message: &message, proto };
        let tells = proto == MessageVersion::V2;
        let reported = ReportedRefusals { invalid_series: tells, late_exemplars: tells };
        let written = Batch::apply(Request {
            store: &self.store,
            content: &content,
            reported,
            zeros: self.zeros,
            now,
        })?;
        let num_dropped = written.late_exemplars + written.left_out_exemplars;
        // Exemplars that are late are no error of version 1.0; without this line nobody would ever
        // learn of them.
        if num_dropped > 0 {
            tracing::warn!(target: "remote", num_dropped, "Error on ingesting out-of-order exemplars");
        }
        if written.left_out > 0 {
            let samples = written.left_out;
            tracing::warn!(
                target: "remote", samples,
                "left samples of invalid series out of a remote write 1.0; check the labels that the sender sends"
            );
        }
        Ok(written)
    }
}

/// The size of a decompressed request body, bytes, for callers that reserve memory. An error if it
/// is too large or damaged.
pub fn decoded_bytes(body: &[u8]) -> Result<usize, RemoteWriteError> {
    Ok(snappy_length(body, limits::REMOTE_WRITE_BYTES)?)
}

/// A decompressed message.
struct RemoteWriteMessage<'a> {
    store: &'a Store,
    message: &'a [u8],
    proto: MessageVersion,
}

impl RequestContent for RemoteWriteMessage<'_> {
    fn read(&self, into: &mut Batch<'_>) -> Result<(), RemoteWriteError> {
        match self.proto {
            MessageVersion::V1 => v1::V1Reader::new(self.store).read(self.message, into),
            MessageVersion::V2 => v2::V2Reader::new(self.store).read(self.message, into),
        }
    }
}

#[cfg(test)]
mod tests;
