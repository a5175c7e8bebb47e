//! [`SeriesAdmission`]: what happens when a target exposes a series for the first time.
//!
//! Input: the labels as exposed. They are merged with the target's labels (`honor_labels`), go
//! through `metric_relabel_configs`, and are checked against the limits of the job. Output: the
//! labels to store, or that the series is dropped, or why the whole scrape fails.
//! [`super::appender`] calls it and caches the result in [`super::series_cache`].

use crate::exposition::series::{self, SeriesError};
use crate::exposition::{Context, LineError, MetricType};
use crate::names::NameScheme;
use crate::relabel::Relabeler;
use crate::scrape::config::ScrapeLimits;
use crate::scrape::turn::{Interruption, Turn};
use storage::model::labels::{METRIC_NAME, METRIC_TYPE, METRIC_UNIT};
use storage::model::{Labels, LabelsBuilder};

/// Why one series makes the whole scrape fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesRejected {
    /// More samples than `sample_limit`.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// A label limit is exceeded; the text names the limit.
    #[error("{0}")]
    LabelLimit(String),
    /// The bytes do not name a series, so the line is not a sample.
    #[error(transparent)]
    Malformed(LineError),
    /// The labels are not valid for a series.
    #[error(transparent)]
    BadSeries(#[from] InvalidSeries),
    /// The scrape was interrupted meanwhile.
    #[error(transparent)]
    Interrupted(#[from] Interruption),
}

/// Why labels are not those of a series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSeries {
    /// A label occurs twice.
    #[error("label name {0} is not unique")]
    Twice(String),
    /// There is no metric name; the rules may have removed it.
    #[error("missing metric name (__name__ label)")]
    NoName,
    /// Names do not fit the naming scheme of the job; the text has all labels.
    #[error("invalid metric name or label names: {{{0}}}")]
    Names(String),
}

impl From<SeriesError> for SeriesRejected {
    fn from(error: SeriesError) -> Self {
        match error {
            SeriesError::Malformed(reason) => SeriesRejected::Malformed(reason),
            SeriesError::Twice(name) => InvalidSeries::Twice(name).into(),
            SeriesError::Limit(text) => SeriesRejected::LabelLimit(text),
        }
    }
}

/// The rules for admitting series of a target.
#[derive(Copy, Clone)]
pub struct SeriesAdmission<'a> {
    /// The labels of the target.
    pub target: &'a Labels,
    /// Whether exposed labels take precedence over the target's.
    pub honor_labels: bool,
    /// `metric_relabel_configs`.
    pub relabel: &'a Relabeler,
    /// The limits.
    pub limits: ScrapeLimits,
    /// Which names metrics and labels may have.
    pub names: NameScheme,
    /// Whether series get the labels `__type__` and `__unit__`.
    pub type_and_unit: bool,
}

impl<'a> SeriesAdmission<'a> {
    /// Rules under which the target's labels take precedence, all names are valid, and no label is
    /// added.
    pub fn new(target: &'a Labels, relabel: &'a Relabeler, limits: ScrapeLimits) -> SeriesAdmission<'a> {
        let names = NameScheme::Utf8;
        let type_and_unit = false;
        SeriesAdmission { target, honor_labels: false, relabel, limits, names, type_and_unit }
    }

    /// Returns the labels of the series that `bytes` name; `None` if the rules drop it.
    pub fn admit(
        &self,
        bytes: &[u8],
        context: Context<'_>,
        turn: &Turn,
    ) -> Result<Option<Labels>, SeriesRejected> {
        let mut labels = series::parse(bytes, context)?;
        if self.type_and_unit {
            if context.kind != MetricType::Unknown {
                labels.set(METRIC_TYPE, context.kind.as_str());
            }
            if !context.unit.is_empty() {
                labels.set(METRIC_UNIT, context.unit);
            }
        }
        // Before the rules, which may look at them and change them.
        self.add_target_labels(&mut labels);
        // A few rules can make a short series very large, step by step; so it can be interrupted
        // between rules.
        let kept = self.relabel.apply_while(&mut labels, || turn.check().is_ok());
        match kept {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                // Interrupted, or too large? If the turn is over it was the turn.
                turn.check()?;
                return Err(SeriesRejected::LabelLimit(error.to_string()));
            }
        }
        let labels = labels.build();
        // All labels were removed: Prometheus drops the series, too.
        if labels.is_empty() {
            return Ok(None);
        }
        if labels.name().is_empty() {
            return Err(InvalidSeries::NoName.into());
        }
        let names = self.names;
        // After relabelling: rules may make valid names of invalid ones, and the other way round.
        let fits =
            labels.iter().all(|(name, _)| names.allows_label(name)) && names.allows_metric(labels.name());
        if !fits {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            return Err(InvalidSeries::Names(labels.join(", ")).into());
        }
        self.check(&labels)?;
        Ok(Some(labels))
    }

    fn add_target_labels(&self, labels: &mut LabelsBuilder) {
        if self.honor_labels {
            for (name, value) in self.target.iter() {
                // An exposed label with an empty value counts: it says that the series does not
                // have the label.
                if !labels.has(name) {
                    labels.set(name, value);
                }
            }
            return;
        }
        let mut conflicts = Vec::new();
        for (name, value) in self.target.iter() {
            let exposed = labels.get(name);
            // The target's label wins, and the exposed one is kept under another name: a
            // pushgateway's `job` must not pose as that of another target.
            if !exposed.is_empty() {
                conflicts.push((name.to_owned(), exposed.to_owned()));
            }
            labels.set(name, value);
        }
        // As in Prometheus, so that `exported_a` and `exported_exported_a` do not take each other's
        // place.
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, value) in conflicts {
            let mut renamed = format!("exported_{name}");
            // The new name may be exposed as well.
            while !labels.get(&renamed).is_empty() {
                renamed.insert_str(0, "exported_");
            }
            labels.set(renamed, value);
        }
    }

    fn check(&self, labels: &Labels) -> Result<(), SeriesRejected> {
        // An error text ends up on a page and in a log; a name of a megabyte does not.
        let metric: String = labels.name().chars().take(50).collect();
        let limits = self.limits;
        if labels.len() > limits.labels {
            let count = labels.len();
            let limit = limits.labels;
            let text =
                format!("label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})");
            return Err(SeriesRejected::LabelLimit(text));
        }
        for (name, value) in labels.iter() {
            // `__name__` is no name that anybody chose.
            if name.len() > limits.name_bytes && name != METRIC_NAME {
                return Err(series::too_long_name(&metric, name, limits.name_bytes).into());
            }
            if value.len() > limits.value_bytes {
                return Err(series::too_long_value(&metric, name, value, limits.value_bytes).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ScrapeLimits =
        ScrapeLimits { body: 1, samples: 1, labels: 5, name_bytes: 12, value_bytes: 10 };

    fn admission<'a>(target: &'a Labels, relabel: &'a Relabeler) -> SeriesAdmission<'a> {
        SeriesAdmission::new(target, relabel, LIMITS)
    }

    fn admit(series: &str, honor_labels: bool) -> Result<Option<String>, SeriesRejected> {
        let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
        let relabel =
            serde_saphyr::from_str::<Vec<_>>("[{source_labels: [__name__], regex: 'drop_.*', action: drop}]");
        let relabel = Relabeler::new(&relabel.unwrap()).unwrap();
        let admission = SeriesAdmission { honor_labels, ..admission(&target, &relabel) };
        admission
            .admit(series.as_bytes(), Context::text(MetricType::Unknown), &Turn::endless())
            .map(|labels| labels.map(|l| l.to_string()))
    }

    #[test]
    fn conflicts() {
        let text = |t: &str| Ok(Some(t.to_owned()));
        assert_eq!(admit("m{a=\"b\"}", false), text(r#"m{a="b", instance="i", job="j"}"#));
        assert_eq!(admit("m{job=\"x\"}", false), text(r#"m{exported_job="x", instance="i", job="j"}"#));
        assert_eq!(admit("m{job=\"x\"}", true), text(r#"m{instance="i", job="x"}"#));
        assert_eq!(admit("m{job=\"\"}", true), text(r#"m{instance="i"}"#));
        assert_eq!(admit("drop_me", false), Ok(None));
    }

    #[test]
    fn an_exported_name_that_is_taken_gets_a_second_prefix() {
        let target = Labels::from_pairs([("a", "t")]);
        let relabel = Relabeler::default();
        let limits = ScrapeLimits { name_bytes: 99, ..LIMITS };
        let admission = SeriesAdmission { limits, ..admission(&target, &relabel) };
        let labels = admission
            .admit(b"m{a=\"1\",exported_a=\"2\"}", Context::text(MetricType::Unknown), &Turn::endless())
            .unwrap()
            .unwrap();
        assert_eq!(labels.to_string(), r#"m{a="t", exported_a="2", exported_exported_a="1"}"#);
    }

    #[test]
    fn names_types_and_units() {
        let target = Labels::from_pairs([("job", "j")]);
        let relabel = serde_saphyr::from_str::<Vec<_>>("[{action: labelkeep, regex: '.*[^g].*'}]").unwrap();
        let all = Relabeler::default();
        let no_single = Relabeler::new(&relabel).unwrap();
        let admit = |admission: SeriesAdmission<'_>, series: &str, context| {
            let labels = admission.admit(series.as_bytes(), context, &Turn::endless());
            labels.map(|labels| labels.map(|labels| labels.to_string())).map_err(|e| e.to_string())
        };
        let legacy = SeriesAdmission { names: NameScheme::Legacy, ..admission(&target, &all) };
        let bad =
            Err("invalid metric name or label names: {__name__=\"a.b\", c=\"d\", job=\"j\"}".to_owned());
        assert_eq!(admit(legacy, "{\"a.b\",c=\"d\"}", Context::text(MetricType::Gauge)), bad);
        assert!(admit(legacy, "a{\"c.d\"=\"e\"}", Context::text(MetricType::Gauge)).is_err());
        assert_eq!(
            admit(legacy, "a:b", Context::text(MetricType::Gauge)),
            Ok(Some("a:b{job=\"j\"}".to_owned()))
        );
        let labelled = SeriesAdmission { type_and_unit: true, ..admission(&target, &all) };
        let seconds = Context { unit: "seconds", ..Context::text(MetricType::Gauge) };
        let text = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(
            admit(labelled, "a{__type__=\"x\"}", seconds),
            text("a{__type__=\"gauge\", __unit__=\"seconds\", job=\"j\"}")
        );
        assert_eq!(
            admit(labelled, "a{__type__=\"x\"}", Context::text(MetricType::Unknown)),
            text("a{__type__=\"x\", job=\"j\"}")
        );
        // A series without any label after relabelling is dropped.
        let none = Labels::default();
        let bare =
            Relabeler::new(&serde_saphyr::from_str::<Vec<_>>("[{action: labeldrop, regex: '.*'}]").unwrap());
        assert_eq!(
            admit(admission(&none, &bare.unwrap()), "a{b=\"c\"}", Context::text(MetricType::Gauge)),
            Ok(None)
        );
        assert!(admit(admission(&target, &no_single), "a", Context::text(MetricType::Gauge)).is_ok());
    }

    #[test]
    fn limits() {
        for (series, text) in [
            ("m{a=\"1\",b=\"2\",c=\"3\"}", "label_limit exceeded (metric: m, number of labels: 6, limit: 5)"),
            (
                "m{abcdefghijklm=\"1\"}",
                "label_name_length_limit exceeded (metric: m, label name: abcdefghijklm, length: 13",
            ),
            (
                "m{a=\"12345678901\"}",
                "label_value_length_limit exceeded (metric: m, label name: a, value: \"12345678901\"",
            ),
            ("{a=\"1\"}", "metric name not set"),
            ("m{a=\"1\",a=\"2\"}", "label name \"a\" is not unique"),
            ("m{\"\"=\"1\"}", "invalid metric name or label names: {=\"1\", __name__=\"m\", "),
        ] {
            let error = admit(series, false).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
