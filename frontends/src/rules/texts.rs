//! What an alert says: its annotations, filled.
//!
//! Most texts depend on nothing but the alert's row and value: they are filled whenever somebody wants them. Those that
//! look further (`query`, `now`) are filled while the condition holds, when the alert is told, and are what is said of
//! it once it is over, as in Prometheus: what they ask about is often gone by then.

use super::alert::Alert;
use super::template::{Expander, Template};
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// Annotations of one alert, by name.
pub type Texts = Vec<(String, String)>;

/// The annotations of a rule.
pub struct Annotations {
    templates: Vec<(String, Template)>,
    /// Whether some text depends on more than the row.
    looks: bool,
}

impl Annotations {
    /// Those of these templates.
    pub(super) fn new(templates: Vec<(String, Template)>) -> Annotations {
        let looks = templates.iter().any(|(_, template)| template.looks());
        Annotations { templates, looks }
    }

    /// Fills them for one row.
    fn fill(&self, expander: &Expander, (row, value): (&Labels, f64), t: TimeMs) -> Texts {
        let scope = expander.scope(row, value, t);
        self.templates.iter().map(|(n, template)| (n.clone(), expander.expand(template, &scope))).collect()
    }

    /// What is told of `alert` at `t`.
    pub(super) fn told(&self, expander: &Expander, alert: &Alert, t: TimeMs) -> Arc<Texts> {
        match &alert.texts {
            Some(texts) if !alert.holds() => texts.clone(),
            _ => Arc::new(self.fill(expander, (&alert.row, alert.value), t)),
        }
    }

    /// Whether what was told of an alert has to be kept for when it is over.
    pub(super) fn must_be_kept(&self, alert: &Alert) -> bool {
        self.looks && alert.holds()
    }
}

/// The annotations of one alert, filled by whoever wants to read them: that may take a while.
#[derive(Clone)]
pub struct Blank {
    pub(super) annotations: Arc<Annotations>,
    pub(super) expander: Arc<Expander>,
    pub(super) row: Labels,
    pub(super) value: f64,
    pub(super) t: TimeMs,
    /// What was told last, if that must do.
    pub(super) texts: Option<Arc<Texts>>,
}

impl Blank {
    /// The texts, by name.
    pub fn fill(&self) -> Texts {
        match &self.texts {
            Some(texts) => Texts::clone(texts),
            None => self.annotations.fill(&self.expander, (&self.row, self.value), self.t),
        }
    }
}
