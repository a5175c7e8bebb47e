//! Sends the server's own spans (`storage::spans`) to a tracing system by OTLP: [`config`] is the
//! `tracing` block, [`exporter`] has the queue and the task that sends, [`message`] is what is
//! sent.

pub mod config;
pub mod exporter;
mod message;

pub use config::TracingConfig;
pub use exporter::TraceExporter;
