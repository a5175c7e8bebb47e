//! Random series selectors with `offset` and `@`, whose matchers mostly select something.
//! [`crate::generator`] uses them.

use crate::expr::{At, Selector, Shift};
use crate::random::Random;
use crate::series::{METRICS, Metric, SPAN, START, Shape};

/// Generates selectors.
pub struct Selection<'a>(pub &'a mut Random);

impl Selection<'_> {
    /// A selector of a metric with this shape; without a shape, of a metric with floats.
    pub fn selector(&mut self, shape: Option<Shape>) -> Selector {
        let wanted = |m: &&Metric| shape.map_or(m.shape != Shape::Native, |s| s == m.shape);
        let fits: Vec<&Metric> = METRICS.iter().filter(wanted).collect();
        let metric = self.0.pick(&fits);
        let matchers = self.matchers(metric);
        // Mixed groups of floats and native histograms are excluded: see the document.
        if shape != Some(Shape::Native) && self.0.chance(3) {
            let several = ("__name__".to_string(), "=~", format!("{}|load|queue", metric.name));
            return Selector {
                name: None,
                matchers: [vec![several], matchers].concat(),
                shift: shift(self.0),
            };
        }
        Selector { name: Some(metric.name.to_string()), matchers, shift: shift(self.0) }
    }

    /// A selector of all series of a metric.
    pub fn named(&mut self, name: &str) -> Selector {
        Selector { name: Some(name.to_string()), matchers: Vec::new(), shift: Shift::default() }
    }

    fn matchers(&mut self, metric: &Metric) -> Vec<(String, &'static str, String)> {
        let count = self.0.weighted([50, 35, 12, 3]);
        (0..count).map(|_| self.matcher(metric)).collect()
    }

    fn matcher(&mut self, metric: &Metric) -> (String, &'static str, String) {
        if self.0.chance(5) {
            let op = self.0.pick(&["=", "!=", "=~", "!~"]);
            return ("nope".into(), op, self.0.pick(&["", "x", ".*", ".+"]).into());
        }
        let (label, values) = self.0.pick(metric.labels);
        let value = self.0.pick(values).to_string();
        match self.0.below(5) {
            0 => (label.into(), "!=", value),
            1 => {
                let other = self.0.pick(values);
                (label.into(), "=~", format!("{}|{}", escaped(&value), escaped(other)))
            }
            2 => {
                (label.into(), "=~", self.0.pick(&[".*", ".+", "a.*", "[a-c].+", "..?.?", "5.*|2.*"]).into())
            }
            3 => (label.into(), "!~", self.0.pick(&["4.*", "a.+", "", "x|y", ".*t", "2.*a"]).into()),
            _ => (label.into(), "=", value),
        }
    }
}

/// A label value as a regular expression.
fn escaped(value: &str) -> String {
    value.replace('.', "\\.").replace('+', "\\+")
}

/// Random time modifiers, mostly none.
pub fn shift(random: &mut Random) -> Shift {
    let at = match random.below(40) {
        0 => Some(At::Start),
        1 => Some(At::End),
        2 => Some(At::Time(START + random.between(0, SPAN / 500) * 500)),
        _ => None,
    };
    let offset = match random.below(12) {
        0 => random.pick(&[30_000, 60_000, 300_000, 600_000]),
        1 => random.pick(&[-30_000, -60_000, -300_000, 7_000]),
        _ => 0,
    };
    Shift { offset, at }
}
