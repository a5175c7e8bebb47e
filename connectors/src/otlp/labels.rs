//! Makes the labels of a series from the attributes of a data point, its resource and its scope.
//! [`super::names`] translates the names.

use super::config::OtlpConfig;
use super::names::{LabelNames, NameError};
use super::values;
use crate::limits::SERIES_LABELS;
use crate::otlp_common::{KeyValue, Scope};
use std::borrow::Cow;
use std::collections::BTreeMap;
use storage::model::LabelsBuilder;
use storage::model::labels::METRIC_NAME;

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";

/// Whether `job` and `instance` are made of this resource attribute.
fn is_identifying(name: &str) -> bool {
    matches!(name, SERVICE_NAME | SERVICE_NAMESPACE | SERVICE_INSTANCE)
}

/// A label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelPair {
    pub name: String,
    pub value: String,
}

impl LabelNames {
    /// The rules of a configuration.
    pub(super) fn new(config: &OtlpConfig) -> LabelNames {
        LabelNames {
            escapes: config.strategy().escapes(),
            sanitizes_underscore: config.label_name_underscore_sanitization,
            keeps_underscores: config.label_name_preserve_multiple_underscores,
        }
    }
}

/// Labels of attributes.
#[derive(Clone, Debug, Default)]
pub(super) struct AttributeLabels {
    pub labels: LabelsBuilder,
    /// Whether several attributes became one label. Its value is theirs with `;` between.
    pub has_collision: bool,
}

impl AttributeLabels {
    /// The labels of the attributes whose names are to be kept.
    pub(super) fn new(
        attributes: &[KeyValue],
        names: LabelNames,
        keep: impl Fn(&str) -> bool,
    ) -> Result<AttributeLabels, NameError> {
        check_number(attributes)?;
        let mut made = AttributeLabels::default();
        let mut sorted: Vec<&KeyValue> = attributes.iter().filter(|pair| keep(&pair.key)).collect();
        // Values of attributes that become one label are joined in this order.
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        for pair in sorted {
            // Without escaping, Prometheus does not look at the names of attributes. No name at all
            // is refused nevertheless: nothing could ask for that label.
            let is_checked = names.escapes || pair.key.is_empty();
            let name = if is_checked { names.label(&pair.key)? } else { Cow::Borrowed(&*pair.key) };
            let mut value = values::text(pair.value.as_ref());
            if names.escapes && made.labels.has(&name) {
                made.has_collision = true;
                value = format!("{};{value}", made.labels.get(&name));
            }
            made.labels.set(name, value);
        }
        Ok(made)
    }
}

/// Values of attributes with one name are joined: a megabyte of them would take very long.
fn check_number(attributes: &[KeyValue]) -> Result<(), NameError> {
    if attributes.len() > SERIES_LABELS { Err(NameError::TooManyAttributes) } else { Ok(()) }
}

/// The labels that all series of a resource have.
#[derive(Clone, Debug, Default)]
pub(super) struct ResourceLabels {
    /// Promoted attributes, which do not replace those of data points. Of several that become one
    /// label the last one is here.
    pub promoted: BTreeMap<String, String>,
    /// `job`, if the resource has a service name; never empty.
    pub job: Option<String>,
    /// `instance`, if the resource has a service instance; never empty.
    pub instance: Option<String>,
}

impl ResourceLabels {
    /// The labels of the attributes of a resource.
    pub(super) fn new(attributes: &[KeyValue], config: &OtlpConfig) -> Result<ResourceLabels, NameError> {
        check_number(attributes)?;
        let is_promoted = |name: &str| {
            if config.promote_all_resource_attributes {
                !config.ignore_resource_attributes.iter().any(|ignored| ignored == name)
            } else {
                config.promote_resource_attributes.iter().any(|promoted| promoted == name)
            }
        };
        let names = LabelNames::new(config);
        let mut promoted = BTreeMap::new();
        for pair in attributes.iter().filter(|pair| is_promoted(&pair.key)) {
            let name = names.label(&pair.key)?.into_owned();
            promoted.insert(name, values::text(pair.value.as_ref()));
        }
        let text = |name: &str| {
            let pair = attributes.iter().find(|pair| pair.key == name)?;
            Some(values::text(pair.value.as_ref()))
        };
        let job = text(SERVICE_NAME).map(|service| match text(SERVICE_NAMESPACE) {
            Some(namespace) => format!("{namespace}/{service}"),
            None => service,
        });
        // Of an empty name there is no label, and that of a data point stays.
        let job = job.filter(|job| !job.is_empty());
        let instance = text(SERVICE_INSTANCE).filter(|instance| !instance.is_empty());
        Ok(ResourceLabels { promoted, job, instance })
    }

    /// Adds the labels to those of a data point.
    fn add_to(&self, labels: &mut LabelsBuilder) {
        for (name, value) in &self.promoted {
            if labels.get(name).is_empty() {
                labels.set(name, value);
            }
        }
        self.identify(labels);
    }

    /// Sets `job` and `instance`, also over those of a data point.
    fn identify(&self, labels: &mut LabelsBuilder) {
        if let Some(job) = &self.job {
            labels.set("job", job);
        }
        if let Some(instance) = &self.instance {
            labels.set("instance", instance);
        }
    }

    /// The labels of `target_info`, without its name; `None`: it would say nothing.
    pub(super) fn target_info(
        &self,
        attributes: &[KeyValue],
        config: &OtlpConfig,
    ) -> Result<Option<AttributeLabels>, NameError> {
        if attributes.iter().all(|pair| is_identifying(&pair.key)) {
            return Ok(None);
        }
        let keeps = config.keep_identifying_resource_attributes;
        let names = LabelNames::new(config);
        let mut made = AttributeLabels::new(attributes, names, |name| keeps || !is_identifying(name))?;
        self.identify(&mut made.labels);
        // Attributes may be named `job` and `instance` as well.
        let identifies = ["job", "instance"].iter().any(|name| !made.labels.get(name).is_empty());
        Ok(identifies.then_some(made))
    }
}

/// The labels of a scope; none if they are not promoted.
pub(super) fn scope_labels(
    scope: &Scope,
    schema_url: &str,
    config: &OtlpConfig,
) -> Result<Vec<LabelPair>, NameError> {
    if !config.promote_scope_metadata || scope.name.is_empty() {
        return Ok(Vec::new());
    }
    check_number(&scope.attributes)?;
    let names = LabelNames::new(config);
    let mut labels = Vec::new();
    for pair in &scope.attributes {
        let name = format!("otel_scope_{}", pair.key);
        let name = names.label(&name)?.into_owned();
        labels.push(LabelPair { name, value: values::text(pair.value.as_ref()) });
    }
    // After the attributes, so that these three win.
    for (part, value) in
        [("name", scope.name.as_str()), ("version", &scope.version), ("schema_url", schema_url)]
    {
        labels.push(LabelPair { name: format!("otel_scope_{part}"), value: value.to_owned() });
    }
    Ok(labels)
}

/// The labels of a data point's series, without a metric name.
pub(super) fn point_labels(
    attributes: &[KeyValue],
    resource: &ResourceLabels,
    scope: &[LabelPair],
    names: LabelNames,
) -> Result<AttributeLabels, NameError> {
    let mut made = AttributeLabels::new(attributes, names, |name| name != METRIC_NAME)?;
    resource.add_to(&mut made.labels);
    for LabelPair { name, value } in scope {
        made.labels.set(name, value);
    }
    Ok(made)
}
