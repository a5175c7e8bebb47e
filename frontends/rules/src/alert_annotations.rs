//! The annotations of alerts, with their templates expanded.
//!
//! Most templates depend only on the alert's row and value: they are expanded when they are read.
//! Templates with `query` or `now` are expanded when the alert is sent while the condition holds.
//! After the end of the alert those texts are used, as in Prometheus, because what they query is
//! often gone by then.

use super::alert::Alert;
use super::template::{AlertTemplate, TemplateExpander};
use language::ShownLabels;
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// Annotations of one alert, by name.
pub type ExpandedAnnotations = Vec<(String, String)>;

/// The annotations of a rule.
pub struct AlertAnnotations {
    templates: Vec<(String, AlertTemplate)>,
    /// Whether any template depends on more than the row.
    is_time_dependent: bool,
    /// The labels that templates see of a row's.
    shown_labels: ShownLabels,
}

impl AlertAnnotations {
    /// The annotations with these templates.
    pub(super) fn new(
        templates: Vec<(String, AlertTemplate)>,
        shown_labels: ShownLabels,
    ) -> AlertAnnotations {
        let looks = templates.iter().any(|(_, template)| template.is_time_dependent());
        AlertAnnotations { templates, is_time_dependent: looks, shown_labels }
    }

    /// Expands them for one row.
    fn expand(
        &self,
        expander: &TemplateExpander,
        row: &Labels,
        value: f64,
        t: TimeMs,
    ) -> ExpandedAnnotations {
        let scope = expander.scope(&self.shown_labels.shown(row), value, t);
        self.templates.iter().map(|(n, template)| (n.clone(), expander.expand(template, &scope))).collect()
    }

    /// The annotations that are sent with `alert` at `t`.
    pub(super) fn for_notification(
        &self,
        expander: &TemplateExpander,
        alert: &Alert,
        t: TimeMs,
    ) -> Arc<ExpandedAnnotations> {
        // An alert that has ended is sent with the texts of its last notification: `query` would
        // find nothing any more, and a text that says so would hide why the alert fired.
        match &alert.last_annotations {
            Some(texts) if !alert.holds() => texts.clone(),
            _ => Arc::new(self.expand(expander, &alert.row, alert.value, t)),
        }
    }

    /// Whether the annotations of the latest notification must be kept for the end of the alert.
    pub(super) fn must_keep(&self, alert: &Alert) -> bool {
        self.is_time_dependent && alert.holds()
    }
}

/// The annotations of one alert, expanded by the reader, because that may take a while.
#[derive(Clone)]
pub struct LazyAnnotations {
    pub(super) annotations: Arc<AlertAnnotations>,
    pub(super) expander: Arc<TemplateExpander>,
    pub(super) row: Labels,
    pub(super) value: f64,
    pub(super) t: TimeMs,
    /// The annotations of the latest notification, if these must be used.
    pub(super) texts: Option<Arc<ExpandedAnnotations>>,
}

impl LazyAnnotations {
    /// The texts, by name.
    pub fn fill(&self) -> ExpandedAnnotations {
        match &self.texts {
            Some(texts) => ExpandedAnnotations::clone(texts),
            None => self.annotations.expand(&self.expander, &self.row, self.value, self.t),
        }
    }
}
