//! [`HostExposition`]: writes the metrics of this machine in Prometheus' text format 0.0.4.

use std::fmt::Write;

/// Counter or gauge.
#[derive(Copy, Clone, Debug)]
pub(super) enum MetricType {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric family that is being written. Without samples it is left out of the text.
pub(super) struct FamilyWriter {
    name: &'static str,
    head: String,
    lines: String,
}

impl FamilyWriter {
    /// A family without samples.
    pub(super) fn new(name: &'static str, kind: MetricType, help: &str) -> FamilyWriter {
        let kind = match kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
        };
        FamilyWriter {
            name,
            head: format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
            lines: String::new(),
        }
    }

    /// Adds a sample.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        self.lines.push_str(self.name);
        for (i, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Writing to a String cannot fail.
            let _ = write!(self.lines, "{}{name}=\"{value}\"", if i == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.lines, "{close} {value}");
    }
}

/// The text with all families.
#[derive(Default)]
pub(super) struct HostExposition(String);

impl HostExposition {
    /// Adds a family.
    pub(super) fn put(&mut self, family: FamilyWriter) {
        if !family.lines.is_empty() {
            self.0.push_str(&family.head);
            self.0.push_str(&family.lines);
        }
    }

    /// Adds a family with one sample without labels.
    pub(super) fn put_one(&mut self, name: &'static str, kind: MetricType, help: &str, value: f64) {
        let mut family = FamilyWriter::new(name, kind, help);
        family.add(&[], value);
        self.put(family);
    }

    /// The complete text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}
