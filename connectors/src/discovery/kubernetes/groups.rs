//! Makes the targets of a Kubernetes object (a "target group"), by role, with Prometheus' labels.
//!
//! It also says which other objects a change concerns: the labels of a node are on the targets of
//! its pods. [`super::cluster`] has the objects.

use super::RolesConfig;
use super::cluster::{ChangedObjects, Cluster, namespace_of};
use super::objects::{
    Container, ContainerPort, EndpointAddress, EndpointSlice, Endpoints, Ingress, IngressRule, Node, Pod,
    Resource, Service, ServicePort, SliceEndpoint, SlicePort, TargetRef,
};
use crate::discovery::ADDRESS;
use crate::discovery::names::{host_port, label_name};
use crate::discovery::shared_target::{LabelNames, LabelSet, LabelSetBuilder, SharedTarget};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which objects have targets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

impl Role {
    /// The role of a name.
    pub(super) fn parse(name: &str) -> Option<Role> {
        match name {
            "node" => Some(Role::Node),
            "pod" => Some(Role::Pod),
            "service" => Some(Role::Service),
            "endpoints" => Some(Role::Endpoints),
            "endpointslice" => Some(Role::EndpointSlice),
            "ingress" => Some(Role::Ingress),
            _ => None,
        }
    }

    /// The objects that have the targets.
    pub(super) fn resource(self) -> Resource {
        match self {
            Role::Node => Resource::Nodes,
            Role::Pod => Resource::Pods,
            Role::Service => Resource::Services,
            Role::Endpoints => Resource::Endpoints,
            Role::EndpointSlice => Resource::EndpointSlices,
            Role::Ingress => Resource::Ingresses,
        }
    }
}

impl Cluster {
    /// The sorted keys of the objects that have targets of `role`, with whether `changed` concerns
    /// them.
    pub(super) fn concerned(&self, role: Role, changed: &ChangedObjects) -> Vec<(Box<str>, bool)> {
        let all = |keys: &mut dyn Iterator<Item = (&str, bool)>| -> Vec<(Box<str>, bool)> {
            let concerned = |(key, more): (&str, bool)| {
                let own = changed.has(role.resource(), key);
                let of_namespace = changed.has(Resource::Namespaces, namespace_of(key));
                (Box::from(key), own || of_namespace || more)
            };
            let mut all: Vec<(Box<str>, bool)> = keys.map(concerned).collect();
            // The stores are hash maps: the order decides that of the targets, and callers search
            // by key.
            all.sort_unstable();
            all
        };
        // Labels of the owners and the node are copied into targets of a pod, so a change of theirs
        // is one of the pod. Only of its own: a change of any node must not renew 10,000 pods.
        let by_pod = |pod: &Pod, namespace: &str| {
            let by_owner = pod.controller.as_ref().is_some_and(|owner| {
                let key = format!("{namespace}/{}", owner.name);
                changed.has(Resource::ReplicaSets, &key) || changed.has(Resource::Jobs, &key)
            });
            by_owner || changed.has(Resource::Nodes, &pod.node)
        };
        let by_reference = |namespace: &str, reference: Option<&TargetRef>, node: Option<&str>| {
            node.is_some_and(|node| changed.has(Resource::Nodes, node))
                || reference.is_some_and(|reference| match reference.kind.as_str() {
                    "Pod" => changed.has(Resource::Pods, &pod_key(reference, namespace)),
                    "Node" => changed.has(Resource::Nodes, &reference.name),
                    _ => false,
                })
        };
        match role {
            Role::Node => all(&mut self.nodes.iter().map(|(key, _)| (key, false))),
            Role::Service => all(&mut self.services.iter().map(|(key, _)| (key, false))),
            Role::Ingress => all(&mut self.ingresses.iter().map(|(key, _)| (key, false))),
            Role::Pod => all(&mut self.pods.iter().map(|(key, pod)| (key, by_pod(pod, namespace_of(key))))),
            Role::Endpoints => all(&mut self.endpoints.iter().map(|(key, endpoints)| {
                let namespace = namespace_of(key);
                let mut addresses = endpoints
                    .subsets
                    .iter()
                    .flat_map(|subset| subset.addresses.iter().chain(&subset.not_ready_addresses).flatten());
                let by_address = |address: &EndpointAddress| {
                    by_reference(namespace, address.target_ref.as_ref(), address.node_name.as_deref())
                };
                (key, changed.has(Resource::Services, key) || addresses.any(by_address))
            })),
            Role::EndpointSlice => all(&mut self.slices.iter().map(|(key, slice)| {
                let namespace = namespace_of(key);
                let service = slice.service.as_ref().is_some_and(|service| {
                    changed.has(Resource::Services, &format!("{namespace}/{service}"))
                });
                let by_endpoint = |endpoint: &SliceEndpoint| {
                    by_reference(namespace, endpoint.target_ref.as_ref(), endpoint.node_name.as_deref())
                };
                (key, service || slice.endpoints.iter().any(by_endpoint))
            })),
        }
    }

    /// The targets of the object `key`; none if it is gone.
    pub(super) fn targets(&mut self, config: &RolesConfig, key: &str) -> Vec<SharedTarget> {
        // The names are changed while the objects are read.
        let mut names = std::mem::take(&mut self.names);
        let mut maker = TargetMaker {
            cluster: self,
            config,
            names: &mut names,
            namespace: namespace_of(key),
            group: Vec::new(),
            targets: Vec::new(),
        };
        // First, because the labels of the namespace are the group that all targets of the object
        // share.
        maker.begin();
        let cluster = maker.cluster;
        match config.role {
            Role::Node => {
                if let Some(node) = cluster.nodes.get(key) {
                    maker.node(node);
                }
            }
            Role::Pod => {
                if let Some(pod) = cluster.pods.get(key) {
                    maker.pod(pod);
                }
            }
            Role::Service => {
                if let Some(service) = cluster.services.get(key) {
                    maker.service(key, service);
                }
            }
            Role::Ingress => {
                if let Some(ingress) = cluster.ingresses.get(key) {
                    maker.ingress(ingress);
                }
            }
            Role::Endpoints => {
                if let Some(endpoints) = cluster.endpoints.get(key) {
                    maker.endpoints(key, endpoints);
                }
            }
            Role::EndpointSlice => {
                if let Some(slice) = cluster.slices.get(key) {
                    maker.slice(slice);
                }
            }
        }
        let targets = maker.targets;
        self.names = names;
        targets
    }
}

/// The key of the pod that an endpoint stands for.
fn pod_key(reference: &TargetRef, namespace: &str) -> String {
    let namespace = if reference.namespace.is_empty() { namespace } else { &reference.namespace };
    format!("{namespace}/{}", reference.name)
}

/// A pod behind endpoints, and the ports at which they serve.
struct ServingPod<'a> {
    pod: &'a Pod,
    ports: Vec<i64>,
}

/// Makes the targets of one object.
struct TargetMaker<'a> {
    cluster: &'a Cluster,
    config: &'a RolesConfig,
    names: &'a mut LabelNames,
    namespace: &'a str,
    /// The labels of all targets of the object.
    group: Vec<Arc<LabelSet>>,
    targets: Vec<SharedTarget>,
}

impl<'a> TargetMaker<'a> {
    fn begin(&mut self) {
        if self.namespace.is_empty() {
            return;
        }
        let mut labels = self.names.build();
        labels.set("__meta_kubernetes_namespace", self.namespace);
        self.group.push(labels.finish());
        if self.config.attach.namespace
            && let Some(namespace) = self.cluster.namespaces.get(self.namespace)
        {
            self.group.push(namespace.labels.clone());
        }
    }

    /// Adds a target: the labels of the group, those in `more`, and its own.
    fn push(&mut self, more: &[Arc<LabelSet>], own: Arc<LabelSet>) {
        let sets = self.group.iter().chain(more).cloned().chain([own]).collect();
        self.targets.push(SharedTarget::new(sets));
    }

    fn node(&mut self, node: &Node) {
        // The order of Prometheus: an address inside the cluster first, a name last.
        const ORDER: [&str; 6] =
            ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];
        let of_kind = |kind: &&str| node.addresses.iter().find(|address| address.kind == *kind);
        let Some(address) = ORDER.iter().find_map(of_kind) else {
            tracing::warn!(
                target: "discovery", node = node.name,
                "a node has no address, so it is no target; check the node"
            );
            return;
        };
        self.group.extend([node.metadata.clone(), node.labels.clone()]);
        let mut own = self.names.build();
        // The first address of a kind counts, and the last one that is set.
        for address in node.addresses.iter().rev() {
            let kind = label_name(&address.kind);
            own.set(&format!("__meta_kubernetes_node_address_{kind}"), &address.address);
        }
        // As Prometheus does: the address of a node says little to a reader, its name does.
        own.set("instance", &node.name).set(ADDRESS, &host_port(&address.address, node.kubelet_port));
        let own = own.finish();
        self.push(&[], own);
    }

    /// The labels for the owner of the pod's owner: a pod of a deployment belongs to a replica set,
    /// which belongs to the deployment.
    fn owners(&mut self, pod: &Pod) -> Option<Arc<LabelSet>> {
        let controller = pod.controller.as_ref()?;
        let attach = &self.config.attach;
        let key = format!("{}/{}", self.namespace, controller.name);
        let mut labels = self.names.build();
        match controller.kind.as_str() {
            // A deployment makes replica sets and these make pods, so it is the owner of the owner.
            "ReplicaSet" if attach.deployment => {
                let owner = self.cluster.replica_sets.get(&key)?.controller.as_ref()?;
                if owner.kind == "Deployment" {
                    labels.set("__meta_kubernetes_pod_deployment_name", &owner.name);
                }
            }
            "Job" => {
                if attach.job {
                    labels.set("__meta_kubernetes_pod_job_name", &controller.name);
                }
                let owner = self.cluster.jobs.get(&key).and_then(|job| job.controller.as_ref());
                if let Some(owner) = owner.filter(|owner| attach.cronjob && owner.kind == "CronJob") {
                    labels.set("__meta_kubernetes_pod_cronjob_name", &owner.name);
                }
            }
            _ => return None,
        }
        Some(labels.finish())
    }

    fn pod(&mut self, pod: &Pod) {
        // Not scheduled yet, or gone: Prometheus makes no target of it, either.
        if pod.ip.is_empty() {
            return;
        }
        self.group.push(pod.labels.clone());
        let owners = self.owners(pod);
        self.group.extend(owners);
        if self.config.attach.node {
            // A target without the labels that the rules ask for would end up in the wrong job; the
            // pod waits until its node is known.
            let Some(node) = self.cluster.nodes.get(&pod.node) else { return };
            self.group.push(node.metadata.clone());
        }
        for container in &pod.containers {
            let ports = container.ports.iter().map(Some);
            // A container without declared ports is a target without port, which rules can give
            // one.
            let without = container.ports.is_empty().then_some(None);
            for port in ports.chain(without) {
                let mut own = self.names.build();
                own.set("__meta_kubernetes_pod_container_id", &container.id);
                describe_container(&mut own, container, port);
                let address = port.map(|port| host_port(&pod.ip, port.container_port));
                own.set(ADDRESS, address.as_deref().unwrap_or(&pod.ip));
                let own = own.finish();
                self.push(&[], own);
            }
        }
    }

    fn service(&mut self, key: &str, service: &Service) {
        self.group.push(service.labels.clone());
        let spec = &service.spec;
        let name = &key[self.namespace.len() + 1..];
        for port in spec.ports.iter().flatten() {
            let mut own = self.names.build();
            own.set("__meta_kubernetes_service_port_name", &port.name)
                .set("__meta_kubernetes_service_port_number", &port.port.to_string())
                .set("__meta_kubernetes_service_port_protocol", &port.protocol)
                .set("__meta_kubernetes_service_type", &spec.kind);
            // It has no address in the cluster, only a name elsewhere.
            if spec.kind == "ExternalName" {
                own.set("__meta_kubernetes_service_external_name", &spec.external_name);
            } else {
                own.set("__meta_kubernetes_service_cluster_ip", &spec.cluster_ip);
            }
            if spec.kind == "LoadBalancer" {
                own.set("__meta_kubernetes_service_loadbalancer_ip", &spec.load_balancer_ip);
            }
            // The name in the DNS of the cluster, not the address: that of a service without one is
            // "None".
            own.set(ADDRESS, &host_port(&format!("{name}.{}.svc", self.namespace), port.port));
            let own = own.finish();
            self.push(&[], own);
        }
    }

    fn ingress(&mut self, ingress: &Ingress) {
        self.group.push(ingress.labels.clone());
        for rule in &ingress.rules {
            let hosts = ingress.tls.iter().flat_map(|tls| tls.hosts.iter().flatten());
            // The scheme is known only by whether a certificate covers the host.
            let is_secure = hosts.into_iter().any(|pattern| matches_host(pattern, &rule.host));
            for path in paths(rule) {
                let mut own = self.names.build();
                own.set("__meta_kubernetes_ingress_scheme", if is_secure { "https" } else { "http" })
                    .set("__meta_kubernetes_ingress_host", &rule.host)
                    .set("__meta_kubernetes_ingress_path", path)
                    .set(ADDRESS, &rule.host);
                let own = own.finish();
                self.push(&[], own);
            }
        }
    }

    fn endpoints(&mut self, key: &str, endpoints: &'a Endpoints) {
        // Endpoints have the name of their service.
        if let Some(service) = self.cluster.services.get(key) {
            self.group.push(service.labels.clone());
        }
        self.group.push(endpoints.labels.clone());
        let mut serving = BTreeMap::new();
        for subset in &endpoints.subsets {
            for port in subset.ports.iter().flatten() {
                for address in subset.addresses.iter().flatten() {
                    self.endpoint(address, port, "true", &mut serving);
                }
                for address in subset.not_ready_addresses.iter().flatten() {
                    self.endpoint(address, port, "false", &mut serving);
                }
            }
        }
        self.other_ports(serving);
    }

    fn endpoint(
        &mut self,
        address: &EndpointAddress,
        port: &ServicePort,
        ready: &str,
        serving: &mut BTreeMap<String, ServingPod<'a>>,
    ) {
        let reference = address.target_ref.as_ref();
        let mut own = self.names.build();
        own.set("__meta_kubernetes_endpoint_port_name", &port.name)
            .set("__meta_kubernetes_endpoint_port_protocol", &port.protocol)
            .set("__meta_kubernetes_endpoint_ready", ready)
            .set("__meta_kubernetes_endpoint_hostname", &address.hostname)
            .set("__meta_kubernetes_endpoint_node_name", address.node_name.as_deref().unwrap_or(""));
        if let Some(reference) = reference {
            own.set("__meta_kubernetes_endpoint_address_target_kind", &reference.kind)
                .set("__meta_kubernetes_endpoint_address_target_name", &reference.name);
        }
        own.set(ADDRESS, &host_port(&address.ip, port.port));
        let pod = self.cluster.referenced_pod(reference, self.namespace);
        // The port may belong to no container: it is the one of the endpoint all the same.
        if let Some((_, pod)) = &pod
            && let Some((container, its)) = container_at(pod, port.port)
        {
            describe_container(&mut own, container, Some(its));
            // That of the endpoint wins over that of the container, as in Prometheus.
            own.set("__meta_kubernetes_pod_container_port_protocol", &port.protocol);
        }
        let own = own.finish();
        // The name that the endpoint has itself counts first here; for slices it is the other way
        // round. Prometheus does so, and rules depend on it.
        let node = address.node_name.as_deref().or_else(|| referenced_node(reference));
        self.push_endpoint(own, node, pod, Some(port.port), serving);
    }

    /// Adds the target of an endpoint, with the labels of its node and pod.
    fn push_endpoint(
        &mut self,
        own: Arc<LabelSet>,
        node: Option<&str>,
        pod: Option<(String, &'a Pod)>,
        port: Option<i64>,
        serving: &mut BTreeMap<String, ServingPod<'a>>,
    ) {
        let mut more = Vec::new();
        if self.config.attach.node
            && let Some(node) = node.and_then(|node| self.cluster.nodes.get(node))
        {
            more.push(node.metadata.clone());
        }
        if let Some((key, pod)) = pod {
            more.push(pod.labels.clone());
            more.extend(self.owners(pod));
            // Remembered, so that its other ports become targets, too.
            serving.entry(key).or_insert(ServingPod { pod, ports: Vec::new() }).ports.extend(port);
        }
        self.push(&more, own);
    }

    /// Adds targets for the ports of the pods at which the endpoints do not serve.
    fn other_ports(&mut self, serving: BTreeMap<String, ServingPod<'a>>) {
        for ServingPod { pod, ports } in serving.into_values() {
            // It served at an address of its endpoint, but has none of its own.
            if pod.ip.is_empty() {
                continue;
            }
            let more: Vec<Arc<LabelSet>> = [pod.labels.clone()].into_iter().chain(self.owners(pod)).collect();
            for container in &pod.containers {
                for port in container.ports.iter().filter(|port| !ports.contains(&port.container_port)) {
                    let mut own = self.names.build();
                    describe_container(&mut own, container, Some(port));
                    own.set(ADDRESS, &host_port(&pod.ip, port.container_port));
                    let own = own.finish();
                    self.push(&more, own);
                }
            }
        }
    }

    fn slice(&mut self, slice: &'a EndpointSlice) {
        let service = slice
            .service
            .as_ref()
            .and_then(|service| self.cluster.services.get(&format!("{}/{service}", self.namespace)));
        if let Some(service) = service {
            // Each pod would be scraped twice, with the same labels but for the address.
            if is_second_family(service, slice) {
                return;
            }
            self.group.push(service.labels.clone());
        }
        self.group.push(slice.labels.clone());
        let mut serving = BTreeMap::new();
        for endpoint in &slice.endpoints {
            for port in &slice.ports {
                for address in endpoint.addresses.iter().flatten() {
                    self.slice_endpoint(address, endpoint, port, &mut serving);
                }
            }
        }
        self.other_ports(serving);
    }

    fn slice_endpoint(
        &mut self,
        address: &str,
        endpoint: &SliceEndpoint,
        port: &SlicePort,
        serving: &mut BTreeMap<String, ServingPod<'a>>,
    ) {
        let reference = endpoint.target_ref.as_ref();
        let mut own = self.names.build();
        describe_slice_endpoint(&mut own, endpoint, port);
        let with_port = port.port.map(|port| host_port(address, port));
        own.set(ADDRESS, with_port.as_deref().unwrap_or(address));
        let pod = self.cluster.referenced_pod(reference, self.namespace);
        if let Some((_, pod)) = &pod
            && let Some(number) = port.port
            && let Some((container, its)) = container_at(pod, number)
        {
            describe_container(&mut own, container, Some(its));
        }
        let own = own.finish();
        // See `endpoint`: the order differs there.
        let node = referenced_node(reference).or(endpoint.node_name.as_deref());
        self.push_endpoint(own, node, pod, port.port, serving);
    }
}

impl Cluster {
    /// The pod that an endpoint stands for, and its key.
    fn referenced_pod(&self, reference: Option<&TargetRef>, namespace: &str) -> Option<(String, &Pod)> {
        let reference = reference.filter(|reference| reference.kind == "Pod")?;
        let key = pod_key(reference, namespace);
        let pod = self.pods.get(&key)?;
        Some((key, pod))
    }
}

/// The node that an endpoint stands for.
fn referenced_node(reference: Option<&TargetRef>) -> Option<&str> {
    reference.filter(|reference| reference.kind == "Node").map(|reference| reference.name.as_str())
}

/// The last container with this port.
fn container_at(pod: &Pod, number: i64) -> Option<(&Container, &ContainerPort)> {
    let port = |container: &'_ Container| container.ports.iter().position(|p| p.container_port == number);
    // Prometheus goes through all of them and keeps what it found last.
    let container = pod.containers.iter().rev().find(|container| port(container).is_some())?;
    Some((container, &container.ports[port(container)?]))
}

fn describe_container(to: &mut LabelSetBuilder<'_>, container: &Container, port: Option<&ContainerPort>) {
    to.set("__meta_kubernetes_pod_container_name", &container.name)
        .set("__meta_kubernetes_pod_container_image", &container.image)
        .set("__meta_kubernetes_pod_container_init", if container.is_init { "true" } else { "false" });
    if let Some(port) = port {
        to.set("__meta_kubernetes_pod_container_port_name", &port.name)
            .set("__meta_kubernetes_pod_container_port_number", &port.container_port.to_string())
            .set("__meta_kubernetes_pod_container_port_protocol", &port.protocol);
    }
}

fn describe_slice_endpoint(to: &mut LabelSetBuilder<'_>, endpoint: &SliceEndpoint, port: &SlicePort) {
    let number = port.port.map(|port| port.to_string());
    for (name, value) in [
        ("port_name", &port.name),
        ("port_protocol", &port.protocol),
        ("port", &number),
        ("port_app_protocol", &port.app_protocol),
        ("endpoint_hostname", &endpoint.hostname),
        ("endpoint_node_name", &endpoint.node_name),
        ("endpoint_zone", &endpoint.zone),
    ] {
        to.set(&format!("__meta_kubernetes_endpointslice_{name}"), value.as_deref().unwrap_or(""));
    }
    let conditions = &endpoint.conditions;
    for (name, value) in [
        ("ready", conditions.ready),
        ("serving", conditions.serving),
        ("terminating", conditions.terminating),
    ] {
        // A condition that the API leaves out is "unknown": no label, not "false".
        let value = value.map_or("", |is_so| if is_so { "true" } else { "false" });
        to.set(&format!("__meta_kubernetes_endpointslice_endpoint_conditions_{name}"), value);
    }
    if let Some(reference) = &endpoint.target_ref {
        to.set("__meta_kubernetes_endpointslice_address_target_kind", &reference.kind)
            .set("__meta_kubernetes_endpointslice_address_target_name", &reference.name);
    }
    for (name, value) in endpoint.deprecated_topology.iter().flatten() {
        let name = label_name(name);
        to.set(&format!("__meta_kubernetes_endpointslice_endpoint_topology_{name}"), value)
            .set(&format!("__meta_kubernetes_endpointslice_endpoint_topology_present_{name}"), "true");
    }
}

/// Whether the slice has the addresses of the other family of a dual stack service, which lead to
/// the same pods.
fn is_second_family(service: &Service, slice: &EndpointSlice) -> bool {
    let policy = service.spec.ip_family_policy.as_deref();
    let first = service.spec.ip_families.iter().flatten().next();
    matches!(policy, Some("PreferDualStack" | "RequireDualStack"))
        && first.is_some_and(|first| *first != slice.address_type)
}

/// Whether `host` is the host of a certificate, which may begin with `*.`.
fn matches_host(pattern: &str, host: &str) -> bool {
    // `*` stands for exactly one label of a name, as in certificates.
    let Some(suffix) = pattern.strip_prefix("*.") else { return pattern == host };
    host.split_once('.').is_some_and(|(_, rest)| rest == suffix)
}

/// The paths of a rule; `/` if it says none.
fn paths(rule: &IngressRule) -> Vec<&str> {
    let Some(http) = &rule.http else { return vec!["/"] };
    let given = http.paths.iter().flatten();
    given.map(|path| if path.path.is_empty() { "/" } else { path.path.as_str() }).collect()
}
