//! What becomes of a new series: label conflicts, metric relabelling, limits.

use crate::scrape::config::ScrapeLimits;
use crate::scrape::exposition::Kind;
use crate::scrape::exposition::series::{self, SeriesError};
use crate::scrape::relabel::Relabeler;
use crate::scrape::turn::{Interrupted, Turn};
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, LabelsBuilder};

/// Why a whole scrape is refused for the sake of one series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More samples than `sample_limit`.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// One of the label limits; the text says which.
    #[error("{0}")]
    LabelLimit(String),
    /// The series cannot be named so.
    #[error("{0}")]
    BadSeries(String),
    /// The scrape ended meanwhile.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl From<SeriesError> for Refusal {
    fn from(error: SeriesError) -> Self {
        match error {
            SeriesError::Malformed(reason) => Refusal::BadSeries(reason),
            SeriesError::Limit(text) => Refusal::LabelLimit(text),
        }
    }
}

/// The rules by which a target's series are admitted.
#[derive(Copy, Clone)]
pub struct Admission<'a> {
    /// The target's labels.
    pub target: &'a Labels,
    /// Whether exposed labels win over the target's.
    pub honor_labels: bool,
    /// `metric_relabel_configs`.
    pub relabel: &'a Relabeler,
    /// Limits.
    pub limits: ScrapeLimits,
}

impl Admission<'_> {
    /// The labels of the series that `bytes` name; `None` if the rules drop it.
    pub fn admit(&self, bytes: &[u8], kind: Kind, turn: &Turn) -> Result<Option<Labels>, Refusal> {
        let mut labels = series::parse(bytes, kind)?;
        self.add_target_labels(&mut labels);
        let kept = self.relabel.apply_while(&mut labels, || turn.check().is_ok());
        match kept {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                turn.check()?;
                return Err(Refusal::LabelLimit(error.to_string()));
            }
        }
        let labels = labels.build();
        if labels.name().is_empty() {
            return Err(Refusal::BadSeries("missing metric name (__name__ label)".into()));
        }
        self.check(&labels)?;
        Ok(Some(labels))
    }

    fn add_target_labels(&self, labels: &mut LabelsBuilder) {
        if self.honor_labels {
            for (name, value) in self.target.iter() {
                // An exposed empty label counts: it says that the series has none.
                if !labels.has(name) {
                    labels.set(name, value);
                }
            }
            return;
        }
        let mut conflicts = Vec::new();
        for (name, value) in self.target.iter() {
            let exposed = labels.get(name);
            if !exposed.is_empty() {
                conflicts.push((name.to_owned(), exposed.to_owned()));
            }
            labels.set(name, value);
        }
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, value) in conflicts {
            let mut renamed = format!("exported_{name}");
            while !labels.get(&renamed).is_empty() {
                renamed.insert_str(0, "exported_");
            }
            labels.set(renamed, value);
        }
    }

    fn check(&self, labels: &Labels) -> Result<(), Refusal> {
        let metric: String = labels.name().chars().take(50).collect();
        let limits = self.limits;
        if labels.len() > limits.labels {
            let (count, limit) = (labels.len(), limits.labels);
            let text =
                format!("label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})");
            return Err(Refusal::LabelLimit(text));
        }
        for (name, value) in labels.iter() {
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

    fn admit(series: &str, honor_labels: bool) -> Result<Option<String>, Refusal> {
        let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
        let relabel =
            serde_saphyr::from_str::<Vec<_>>("[{source_labels: [__name__], regex: 'drop_.*', action: drop}]");
        let relabel = Relabeler::new(&relabel.unwrap()).unwrap();
        let admission = Admission { target: &target, honor_labels, relabel: &relabel, limits: LIMITS };
        admission
            .admit(series.as_bytes(), Kind::Unknown, &Turn::endless())
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
        let admission = Admission {
            target: &target,
            honor_labels: false,
            relabel: &relabel,
            limits: ScrapeLimits { name_bytes: 99, ..LIMITS },
        };
        let labels = admission
            .admit(b"m{a=\"1\",exported_a=\"2\"}", Kind::Unknown, &Turn::endless())
            .unwrap()
            .unwrap();
        assert_eq!(labels.to_string(), r#"m{a="t", exported_a="2", exported_exported_a="1"}"#);
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
            ("{a=\"1\"}", "missing metric name"),
        ] {
            let error = admit(series, false).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
