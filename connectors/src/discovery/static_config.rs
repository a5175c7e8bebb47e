//! `static_configs`: targets in the configuration file itself.

use super::{DiscoveredTarget, Discoverer, DiscoveryConfigs, TargetGroup, TargetSender, expand};
use futures::future::BoxFuture;
use storage::metrics::Metrics;

struct StaticDiscoverer(Vec<DiscoveredTarget>);

/// One discoverer with all static targets, if there are any.
pub fn providers(config: &DiscoveryConfigs, _: &Metrics) -> Vec<Box<dyn Discoverer>> {
    let targets: Vec<DiscoveredTarget> =
        config.static_configs.iter().flat_map(|group| expand(group, &[])).collect();
    if targets.is_empty() { Vec::new() } else { vec![Box::new(StaticDiscoverer(targets))] }
}

impl Discoverer for StaticDiscoverer {
    fn run(self: Box<Self>, report: TargetSender) -> BoxFuture<'static, ()> {
        Box::pin(async move { report.send(self.0) })
    }
}

/// Checks addresses and label names.
pub fn validate(group: &TargetGroup) -> Result<(), String> {
    if let Some(bad) = group.targets.iter().find(|t| t.contains('/')) {
        return Err(format!("{bad:?} is not a valid hostname"));
    }
    if group.labels.keys().any(String::is_empty) {
        return Err("\"\" is not a valid label name".into());
    }
    Ok(())
}
