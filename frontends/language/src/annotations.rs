//! Formats annotations for clients: Prometheus' prefix, the text, the number of occurrences, and
//! the position in the query.

use super::position;
use engine::annotations::texts::two_digits;
use engine::annotations::{Annotation, Occurrences, Severity};
use storage::model::number::general;

/// The annotation as a line of `warnings` or `infos` in the answer to `query`.
pub fn render(query: &str, annotation: &Annotation) -> String {
    let prefix = match annotation.level {
        Severity::Warning => "PromQL warning: ",
        Severity::Info => "PromQL info: ",
        // It is about the data and not about the query, so it has no position in it.
        Severity::Storage => return annotation.text.to_string(),
    };
    // The end of the span is not shown: Prometheus gives the position of the first character only.
    let start = position(query, annotation.span.start as usize);
    format!("{prefix}{}{} ({start})", annotation.text, extent(annotation.extent))
}

/// The warnings and the infos of `annotations`, in order.
pub fn render_all(query: &str, annotations: &[Annotation]) -> (Vec<String>, Vec<String>) {
    render_most(query, annotations, usize::MAX)
}

/// Like [`render_all`], but at most `most` lines of each level: there may be an annotation per
/// series.
pub fn render_most(query: &str, annotations: &[Annotation], most: usize) -> (Vec<String>, Vec<String>) {
    let of = |is_warning: bool| {
        let annotations = annotations.iter().filter(|annotation| annotation.level.is_warning() == is_warning);
        annotations.take(most).map(|annotation| render(query, annotation)).collect()
    };
    (of(true), of(false))
}

fn extent(extent: Occurrences) -> String {
    match extent {
        // The text already contains a parameter.
        Occurrences::Once | Occurrences::Times(1) | Occurrences::Parameter { .. } => String::new(),
        Occurrences::Times(times) => format!(" ({times} occurrences)"),
        Occurrences::Buckets { low, high, difference, samples, from, to } => {
            let low = general(low);
            let high = general(high);
            let difference = two_digits(difference);
            // Whole seconds, as Prometheus prints them; milliseconds are cut off and not rounded.
            let time = |t: i64| {
                let time = chrono::DateTime::from_timestamp(t.div_euclid(1000), 0).unwrap_or_default();
                time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            };
            format!(
                ", from buckets {low} to {high}, with a max diff of {difference}, over {samples} samples from {} to {}",
                time(from),
                time(to)
            )
        }
    }
}
