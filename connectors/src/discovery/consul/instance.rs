//! Makes the target of an instance of a Consul service: its address, and the labels
//! `__meta_consul_*` as Prometheus has them.

use crate::discovery::names::{host_port, label_name};
use crate::discovery::{ADDRESS, DiscoveredTarget};
use serde::Deserialize;
use std::collections::BTreeMap;

/// An instance of a service, as the health API lists it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Instance {
    node: Node,
    service: Service,
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Node {
    node: String,
    address: String,
    meta: Option<BTreeMap<String, String>>,
    tagged_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    address: String,
    port: i64,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    namespace: String,
    partition: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    id: String,
    status: String,
}

/// The worst of the checks; empty if one says something else.
fn health(checks: &[Check]) -> &'static str {
    let is_maintenance = |id: &str| id == "_node_maintenance" || id.starts_with("_service_maintenance:");
    let mut worst = 0;
    for check in checks {
        let badness = match check.status.as_str() {
            _ if is_maintenance(&check.id) => 3,
            "critical" => 2,
            "warning" => 1,
            "passing" => 0,
            // What a newer Consul says is not guessed; Prometheus leaves the label empty, too.
            _ => return "",
        };
        worst = worst.max(badness);
    }
    ["passing", "warning", "critical", "maintenance"][worst]
}

/// The target of an instance.
pub(super) fn instance_target(
    instance: &Instance,
    watched: &str,
    datacenter: &str,
    separator: &str,
) -> DiscoveredTarget {
    let Instance { node, service, checks } = instance;
    let mut labels = DiscoveredTarget::new();
    let mut set = |name: &str, value: &str| labels.insert(format!("__meta_consul_{name}"), value.to_owned());
    set("service", watched);
    set("dc", datacenter);
    set("address", &node.address);
    set("node", &node.node);
    set("service_address", &service.address);
    set("service_port", &service.port.to_string());
    set("service_id", &service.id);
    set("health", health(checks.as_deref().unwrap_or_default()));
    set("namespace", &service.namespace);
    set("partition", &service.partition);
    let tags = service.tags.as_deref().unwrap_or_default().join(separator);
    // A separator at both ends, so that a rule can look for `,tag,`.
    set("tags", &format!("{separator}{tags}{separator}"));
    for (prefix, pairs) in [
        ("metadata", &node.meta),
        ("service_metadata", &service.meta),
        ("tagged_address", &node.tagged_addresses),
    ] {
        for (name, value) in pairs.iter().flatten() {
            set(&format!("{prefix}_{}", label_name(name)), value);
        }
    }
    // A service may be announced at another address than its node, such as that of a container.
    let host = if service.address.is_empty() { &node.address } else { &service.address };
    labels.insert(ADDRESS.to_owned(), host_port(host, service.port));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_that_of_the_worst_check() {
        let checks = |all: &[(&str, &str)]| -> Vec<Check> {
            all.iter().map(|(id, status)| Check { id: (*id).into(), status: (*status).into() }).collect()
        };
        for (given, expected) in [
            (&[][..], "passing"),
            (&[("a", "passing"), ("b", "warning")], "warning"),
            (&[("a", "critical"), ("b", "warning")], "critical"),
            (&[("a", "critical"), ("_service_maintenance:web", "critical")], "maintenance"),
            (&[("_node_maintenance", "x")], "maintenance"),
            (&[("a", "critical"), ("b", "unknown")], ""),
        ] {
            assert_eq!(health(&checks(given)), expected, "{given:?}");
        }
    }
}
