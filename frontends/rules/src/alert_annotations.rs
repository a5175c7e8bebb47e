//! What an alert says: its annotations, filled.
//!
//! Most texts depend on nothing but the alert's row and value: they are filled whenever somebody
//! wants them. Those that look further (`query`, `now`) are filled while the condition holds, when
//! the alert is told, and are what is said of it once it is over, as in Prometheus: what they ask
//! about is often gone by then.

use super::alert::Alert;
use super::template::{AlertTemplate, TemplateExpander};
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// Annotations of one alert, by name.
pub type ExpandedAnnotations = Vec<(String, String)>;

/// The annotations of a rule.
pub struct AlertAnnotations {
    templates: Vec<(String, AlertTemplate)>,
    /// Whether some text depends on more than the row.
    is_time_dependent: bool,
}

impl AlertAnnotations {
    /// Those of these templates.
    pub(super) fn new(templates: Vec<(String, AlertTemplate)>) -> AlertAnnotations {
        let looks = templates.iter().any(|(_, template)| template.is_time_dependent());
        AlertAnnotations { templates, is_time_dependent: looks }
    }

    /// Fills them for one row.
    fn expand(
        &self,
        expander: &TemplateExpander,
        (row, value): (&Labels, f64),
        t: TimeMs,
    ) -> ExpandedAnnotations {
        let scope = expander.scope(row, value, t);
        self.templates.iter().map(|(n, template)| (n.clone(), expander.expand(template, &scope))).collect()
    }

    /// What is told of `alert` at `t`.
    pub(super) fn for_notification(
        &self,
        expander: &TemplateExpander,
        alert: &Alert,
        t: TimeMs,
    ) -> Arc<ExpandedAnnotations> {
        match &alert.kept_annotations {
            Some(texts) if !alert.holds() => texts.clone(),
            _ => Arc::new(self.expand(expander, (&alert.row, alert.value), t)),
        }
    }

    /// Whether what was told of an alert has to be kept for when it is over.
    pub(super) fn must_keep(&self, alert: &Alert) -> bool {
        self.is_time_dependent && alert.holds()
    }
}

/// The annotations of one alert, filled by whoever wants to read them: that may take a while.
#[derive(Clone)]
pub struct LazyAnnotations {
    pub(super) annotations: Arc<AlertAnnotations>,
    pub(super) expander: Arc<TemplateExpander>,
    pub(super) row: Labels,
    pub(super) value: f64,
    pub(super) t: TimeMs,
    /// What was told last, if that must do.
    pub(super) texts: Option<Arc<ExpandedAnnotations>>,
}

impl LazyAnnotations {
    /// The texts, by name.
    pub fn fill(&self) -> ExpandedAnnotations {
        match &self.texts {
            Some(texts) => ExpandedAnnotations::clone(texts),
            None => self.annotations.expand(&self.expander, (&self.row, self.value), self.t),
        }
    }
}
