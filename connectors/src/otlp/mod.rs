//! OTLP: receives OpenTelemetry's metrics by push. [`receiver`] handles requests; [`message`] walks
//! through a body, [`points`] makes samples of its data points.
//!
//! A body in JSON is first written anew as protobuf ([`json`]), so everything after it knows one
//! form. A request is never in memory as a whole in its decoded form: only the data point that is
//! read. Samples go into the store as those of remote write do ([`crate::remote`]).

pub mod config;
mod delta;
mod histograms;
mod json;
mod labels;
mod message;
mod names;
mod points;
pub mod receiver;
mod values;

pub use config::OtlpConfig;
pub use receiver::{DeltaSums, OtlpFeatures, OtlpReceiver};
