//! The server's log on standard error: a line for each event, as logfmt (like Prometheus) or JSON.

use crate::flags::value::{FlagValue, LogFormat, LogLevel};
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, time::FormatTime};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging at `level` in `format`.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    // Libraries log only warnings, unless the level is debug.
    let libraries = if level == LogLevel::Debug { "info" } else { "warn" };
    let level = level.show();
    let ours = [
        "perennial",
        "storage",
        "engine",
        "language",
        "promql",
        "views",
        "rules",
        "api",
        "connectors",
        "cluster",
        // Targets of spans and of the lines that say what was decided.
        "alertmanager",
        "discovery",
        "live",
        "query",
        "remote",
        "scrape",
        "wal",
        "web",
        "maintenance",
    ];
    let directives: Vec<String> = ours.iter().map(|name| format!("{name}={level}")).collect();
    let filter = EnvFilter::new(format!("{libraries},{}", directives.join(",")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Logfmt => builder.event_format(Logfmt).init(),
    }
}

/// Formats `time=… level=… component=… msg="…" key=value`.
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        out.write_str("time=")?;
        tracing_subscriber::fmt::time::SystemTime.format_time(&mut out)?;
        let component = event.metadata().target().split("::").next().unwrap_or_default();
        write!(out, " level={} component={component}", event.metadata().level().as_str().to_lowercase())?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        write!(out, " msg={:?}{}", fields.message, fields.rest)?;
        if let Some(span) = ctx.lookup_current() {
            write!(out, " span={}", span.name())?;
            if let Some(of_span) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
                write!(out, " {of_span}")?;
            }
        }
        writeln!(out)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn note(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '=');
        // Writing to a string cannot fail.
        let _ = if plain {
            write!(self.rest, " {}={value}", field.name())
        } else {
            write!(self.rest, " {}={value:?}", field.name())
        };
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, &format!("{value:?}"));
    }
}
