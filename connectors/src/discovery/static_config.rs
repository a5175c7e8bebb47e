//! `static_configs`: targets that are listed in the configuration file.

use super::{
    DiscoveredTarget, Discoverer, DiscoveryContext, Mechanism, StartResult, TargetGroup, TargetSender, expand,
};
use crate::config::error::BlockError;
use futures::future::BoxFuture;

/// Static configs: the targets that the configuration file lists.
pub struct StaticConfigs;

impl Mechanism for StaticConfigs {
    type Config = TargetGroup;

    /// Checks label names. [`super::DiscoveryConfigs::validate_addresses`] checks addresses: rules
    /// may make them valid.
    fn validate(group: &TargetGroup) -> Result<(), BlockError> {
        if group.labels.keys().any(String::is_empty) {
            return Err("\"\" is not a valid label name".into());
        }
        Ok(())
    }

    fn start(group: &TargetGroup, _: &DiscoveryContext<'_>) -> StartResult {
        Ok(Box::new(StaticDiscoverer(expand(group, &[]))))
    }

    /// One for all groups: a list with thousands of groups is one change and not thousands.
    fn start_all(groups: &[TargetGroup], _: &DiscoveryContext<'_>) -> Vec<StartResult> {
        let targets: Vec<DiscoveredTarget> = groups.iter().flat_map(|group| expand(group, &[])).collect();
        if targets.is_empty() { Vec::new() } else { vec![Ok(Box::new(StaticDiscoverer(targets)))] }
    }
}

struct StaticDiscoverer(Vec<DiscoveredTarget>);

impl Discoverer for StaticDiscoverer {
    fn report_known(&mut self, report: &TargetSender) {
        report.send(std::mem::take(&mut self.0));
    }

    fn run(self: Box<Self>, _report: TargetSender) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
