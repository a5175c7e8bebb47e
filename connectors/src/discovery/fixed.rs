//! `static_configs`: targets written in the configuration file itself.

use super::{Discovered, DiscoveryConfig, Provider, Report, TargetGroup, expand};
use futures::future::BoxFuture;
use storage::metrics::Metrics;

struct Fixed(Vec<Discovered>);

/// One provider with all static targets, if there are any.
pub fn providers(config: &DiscoveryConfig, _: &Metrics) -> Vec<Box<dyn Provider>> {
    let targets: Vec<Discovered> =
        config.static_configs.iter().flat_map(|group| expand(group, &[])).collect();
    if targets.is_empty() { Vec::new() } else { vec![Box::new(Fixed(targets))] }
}

impl Provider for Fixed {
    fn run(self: Box<Self>, report: Report) -> BoxFuture<'static, ()> {
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
