//! The receiving side of OTLP for metrics: `POST /api/v1/otlp/v1/metrics`.
//!
//! A request that is damaged, or has a metric without a translation, stores nothing. Samples that
//! the store refuses (too old, duplicate, …) do not prevent the others from being stored.

use super::config::OtlpConfig;
use super::delta::DeltaStreams;
use super::json;
use super::points::OtlpContent;
use crate::decompress::{gunzip, gzip_length};
use crate::limits::OTLP_BYTES;
use crate::remote::request::{Batch, ReportedRefusals, Request};
use crate::remote::{RemoteWriteError, WriteOutcome};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::sync::Arc;
use storage::metrics::{Counter, Metrics};
use storage::model::TimeMs;
use storage::store::Store;

/// What is done with deltas.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum DeltaSums {
    /// They are refused.
    #[default]
    Refused,
    /// Their sums are stored (`otlp-deltatocumulative`).
    Cumulative,
    /// They are stored as they are (`otlp-native-delta-ingestion`).
    Native,
}

/// The settings of the command line.
#[derive(Copy, Clone, Debug)]
pub struct OtlpFeatures {
    /// What is done with deltas.
    pub deltas: DeltaSums,
    /// Whether series get `__type__` and `__unit__`.
    pub type_and_unit: bool,
    /// Whether start timestamps are used.
    pub starts: bool,
    /// Whether a 0 is stored at the start timestamp of what begins.
    pub zeros: bool,
    /// How far back queries look, ms: `target_info` is there that often.
    pub lookback_ms: i64,
}

/// The form of a body.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OtlpEncoding {
    /// JSON; otherwise protobuf.
    pub is_json: bool,
    /// Whether it is compressed.
    pub is_gzip: bool,
}

/// Warnings of requests, by category.
pub(super) struct TranslationWarnings {
    pub label_name_collision: Arc<Counter>,
    pub zero_count_non_zero_sum: Arc<Counter>,
}

impl TranslationWarnings {
    fn new(metrics: &Metrics) -> TranslationWarnings {
        let counter = |category: &'static str| {
            metrics.counter(
                "prometheus_api_otlp_translation_warnings_total",
                "The total number of warnings encountered during OTLP translation, by category.",
                &[("category", category)],
            )
        };
        TranslationWarnings {
            label_name_collision: counter("label_name_collision"),
            zero_count_non_zero_sum: counter("histogram_zero_count_non_zero_sum"),
        }
    }
}

/// Stores requests of OTLP.
pub struct OtlpReceiver {
    pub(super) store: Arc<Store>,
    pub(super) features: OtlpFeatures,
    /// The block of the configuration in force.
    config: ArcSwap<OtlpConfig>,
    pub(super) deltas: Mutex<DeltaStreams>,
    pub(super) warnings: TranslationWarnings,
    late_exemplars: Arc<Counter>,
}

/// The form of a request by its headers ("": not sent). An error if it is none that is accepted.
pub fn check_headers(content_type: &str, content_encoding: &str) -> Result<OtlpEncoding, RemoteWriteError> {
    // As in Prometheus, parameters of the type are not accepted.
    let is_json = match content_type {
        "application/json" => true,
        "application/x-protobuf" => false,
        other => {
            return Err(RemoteWriteError::BadRequest(format!(
                "unsupported content type: {other}, supported: [application/json, application/x-protobuf]"
            )));
        }
    };
    match content_encoding {
        "" => Ok(OtlpEncoding { is_json, is_gzip: false }),
        "gzip" => Ok(OtlpEncoding { is_json, is_gzip: true }),
        other => Err(RemoteWriteError::BadRequest(format!(
            "unsupported compression: {other}. Only \"gzip\" or no compression supported"
        ))),
    }
}

/// The most bytes of protobuf that a byte of JSON becomes: a number of one digit in a list.
const JSON_EXPANSION: usize = 5;

/// The memory for a body while it is stored, bytes, for callers that reserve it. An error if it is
/// too large or damaged.
pub fn decoded_bytes(body: &[u8], encoding: OtlpEncoding) -> Result<usize, RemoteWriteError> {
    let plain = if encoding.is_gzip { gzip_length(body, OTLP_BYTES)? } else { body.len() };
    let unpacked = if encoding.is_gzip { plain } else { 0 };
    let protobuf = if encoding.is_json { (JSON_EXPANSION * plain).min(OTLP_BYTES) } else { 0 };
    Ok(unpacked + protobuf)
}

impl OtlpReceiver {
    /// A receiver for `store`.
    pub fn new(store: Arc<Store>, features: OtlpFeatures, metrics: &Metrics) -> OtlpReceiver {
        OtlpReceiver {
            store,
            features,
            config: ArcSwap::default(),
            deltas: Mutex::default(),
            warnings: TranslationWarnings::new(metrics),
            late_exemplars: metrics.counter(
                "prometheus_api_otlp_out_of_order_exemplars_total",
                "The total number of received OTLP exemplars which were rejected because they were out of order.",
                &[],
            ),
        }
    }

    /// Puts a configuration in force for the requests that come from now on.
    pub fn configure(&self, config: OtlpConfig) {
        self.config.store(Arc::new(config));
    }

    /// Decodes a request body and stores its samples; `now` is the wall clock, ms.
    ///
    /// # Errors
    ///
    /// The body is damaged or too large, a metric has no translation, or the store cannot write.
    /// Then nothing is stored. Samples that the store refuses are no error; the outcome counts
    /// them.
    pub fn apply(
        &self,
        body: &[u8],
        encoding: OtlpEncoding,
        now: TimeMs,
    ) -> Result<WriteOutcome, RemoteWriteError> {
        let mut message = Cow::Borrowed(body);
        if encoding.is_gzip {
            message = Cow::Owned(gunzip(&message, OTLP_BYTES)?);
        }
        if encoding.is_json {
            let protobuf = json::to_protobuf(&message, OTLP_BYTES);
            message = Cow::Owned(protobuf.map_err(|error| RemoteWriteError::BadRequest(error.to_string()))?);
        }
        let config = self.config.load_full();
        let content = OtlpContent { receiver: self, config: &config, message: &message, now };
        let written = Batch::apply(Request {
            store: &self.store,
            content: &content,
            reported: ReportedRefusals { invalid_series: true, late_exemplars: false },
            zeros: self.features.zeros,
            now,
        })?;
        let num_dropped = written.left_out_exemplars;
        if num_dropped > 0 {
            self.late_exemplars.add(num_dropped as u64);
            tracing::warn!(target: "otlp", num_dropped, "Error on ingesting out-of-order exemplars");
        }
        Ok(written)
    }
}

/// The status for a request of which a part was refused.
pub fn refusal_status(written: &WriteOutcome) -> u16 {
    // As in Prometheus: what a later request cannot mend is a 400, anything else a 500. After
    // neither a sender repeats.
    let is_of_time = written.too_old + written.duplicate + written.future > 0;
    if is_of_time { 400 } else { 500 }
}

#[cfg(test)]
mod tests;
