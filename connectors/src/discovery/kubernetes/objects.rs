//! The objects of the Kubernetes API (nodes, pods, services, …) with those fields that become
//! labels or addresses. Other fields are not stored. [`super::groups`] makes targets of them.

use crate::discovery::names::label_name;
use crate::discovery::shared_target::{LabelNames, LabelSet, LabelSetBuilder};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kinds of objects that are watched.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Pods,
    Services,
    Endpoints,
    EndpointSlices,
    Ingresses,
    Nodes,
    Namespaces,
    ReplicaSets,
    Jobs,
}

impl Resource {
    /// How many there are.
    pub(super) const COUNT: usize = Resource::Jobs as usize + 1;

    /// The path of its API group, and its name there.
    pub(super) fn path(self) -> (&'static str, &'static str) {
        match self {
            Resource::Pods => ("/api/v1", "pods"),
            Resource::Services => ("/api/v1", "services"),
            Resource::Endpoints => ("/api/v1", "endpoints"),
            Resource::Nodes => ("/api/v1", "nodes"),
            Resource::Namespaces => ("/api/v1", "namespaces"),
            Resource::EndpointSlices => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            Resource::Ingresses => ("/apis/networking.k8s.io/v1", "ingresses"),
            Resource::ReplicaSets => ("/apis/apps/v1", "replicasets"),
            Resource::Jobs => ("/apis/batch/v1", "jobs"),
        }
    }
}

/// The part of an object that all of them have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    uid: String,
    pub(super) resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Debug, Deserialize)]
struct OwnerReference {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    controller: Option<bool>,
}

/// The object that made another one.
#[derive(Debug, PartialEq)]
pub(super) struct Controller {
    pub(super) kind: String,
    pub(super) name: String,
}

impl Metadata {
    /// `namespace/name`, or `name` of an object of the whole cluster.
    pub(super) fn key(&self) -> String {
        // As in Prometheus, and so that the key begins with its namespace.
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        format!("{}{slash}{}", self.namespace, self.name)
    }

    fn controller(&self) -> Option<Controller> {
        let owners = self.owner_references.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        Some(Controller { kind: owner.kind.clone(), name: owner.name.clone() })
    }

    /// Adds name, labels and annotations.
    fn describe(&self, role: &str, to: &mut LabelSetBuilder<'_>) {
        to.set(&format!("__meta_kubernetes_{role}_name"), &self.name);
        self.describe_unnamed(role, to);
    }

    fn describe_unnamed(&self, role: &str, to: &mut LabelSetBuilder<'_>) {
        for (what, pairs) in [("label", &self.labels), ("annotation", &self.annotations)] {
            for (name, value) in pairs.iter().flatten() {
                let name = label_name(name);
                to.set(&format!("__meta_kubernetes_{role}_{what}_{name}"), value);
                // An empty value is as no label; this one lets rules tell them apart.
                to.set(&format!("__meta_kubernetes_{role}_{what}present_{name}"), "true");
            }
        }
    }

    fn described(&self, role: &str, names: &mut LabelNames) -> Arc<LabelSet> {
        let mut labels = names.build();
        self.describe(role, &mut labels);
        labels.finish()
    }
}

/// A condition of a node or pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// An object as the API sends it.
pub(super) trait RawObject {
    /// The form in which it stays in memory.
    type Compact: PartialEq;

    /// Its metadata.
    fn metadata(&self) -> &Metadata;

    /// Only the fields that become labels or addresses.
    fn into_compact(self, names: &mut LabelNames) -> Self::Compact;
}

/// Implements the part of [`RawObject`] that is the same for all.
macro_rules! raw_object {
    ($raw:ident => $compact:ident) => {
        impl RawObject for $raw {
            type Compact = $compact;

            fn metadata(&self) -> &Metadata {
                &self.metadata
            }

            fn into_compact(self, names: &mut LabelNames) -> $compact {
                $raw::into_compact(self, names)
            }
        }
    };
}

raw_object!(RawPod => Pod);
raw_object!(RawNode => Node);
raw_object!(RawService => Service);
raw_object!(RawEndpoints => Endpoints);
raw_object!(RawEndpointSlice => EndpointSlice);
raw_object!(RawIngress => Ingress);
raw_object!(RawNamespace => Namespace);
raw_object!(RawOwner => Owner);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawPod {
    metadata: Metadata,
    spec: RawPodSpec,
    status: RawPodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPodSpec {
    node_name: String,
    containers: Option<Vec<RawContainer>>,
    init_containers: Option<Vec<RawContainer>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawContainer {
    name: String,
    image: String,
    ports: Option<Vec<ContainerPort>>,
}

/// A port of a container.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerPort {
    pub(super) name: String,
    pub(super) container_port: i64,
    pub(super) protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: String,
}

/// A pod.
#[derive(Debug, PartialEq)]
pub(super) struct Pod {
    pub(super) labels: Arc<LabelSet>,
    pub(super) ip: Box<str>,
    pub(super) node: Box<str>,
    pub(super) controller: Option<Controller>,
    /// The containers, then the init containers.
    pub(super) containers: Box<[Container]>,
}

/// A container of a pod.
#[derive(Debug, PartialEq)]
pub(super) struct Container {
    pub(super) name: Box<str>,
    pub(super) image: Box<str>,
    pub(super) id: Box<str>,
    pub(super) is_init: bool,
    pub(super) ports: Box<[ContainerPort]>,
}

impl RawPod {
    fn into_compact(self, names: &mut LabelNames) -> Pod {
        let controller = self.metadata.controller();
        let mut labels = names.build();
        self.metadata.describe("pod", &mut labels);
        let conditions = self.status.conditions.as_deref().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.kind == "Ready");
        // A pod that has not run yet has no condition; Prometheus calls it unknown, too.
        let ready = ready.map_or("unknown".to_owned(), |condition| condition.status.to_lowercase());
        labels
            .set("__meta_kubernetes_pod_ip", &self.status.pod_ip)
            .set("__meta_kubernetes_pod_ready", &ready)
            .set("__meta_kubernetes_pod_phase", &self.status.phase)
            .set("__meta_kubernetes_pod_node_name", &self.spec.node_name)
            .set("__meta_kubernetes_pod_host_ip", &self.status.host_ip)
            .set("__meta_kubernetes_pod_uid", &self.metadata.uid);
        if let Some(controller) = &controller {
            labels
                .set("__meta_kubernetes_pod_controller_kind", &controller.kind)
                .set("__meta_kubernetes_pod_controller_name", &controller.name);
        }
        let labels = labels.finish();
        let of = |containers: Option<Vec<RawContainer>>, statuses: Option<Vec<ContainerStatus>>, is_init| {
            let statuses = statuses.unwrap_or_default();
            let keep = move |container: RawContainer| {
                // Statuses are in no promised order, so they are found by name.
                let status = statuses.iter().find(|status| status.name == container.name);
                Container {
                    id: status.map_or("", |status| &status.container_id).into(),
                    name: container.name.into(),
                    image: container.image.into(),
                    is_init,
                    ports: container.ports.unwrap_or_default().into(),
                }
            };
            containers.unwrap_or_default().into_iter().map(keep)
        };
        let ordinary = of(self.spec.containers, self.status.container_statuses, false);
        let init = of(self.spec.init_containers, self.status.init_container_statuses, true);
        Pod {
            labels,
            ip: self.status.pod_ip.into(),
            node: self.spec.node_name.into(),
            controller,
            containers: ordinary.chain(init).collect(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawNode {
    metadata: Metadata,
    spec: RawNodeSpec,
    status: RawNodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawNodeSpec {
    #[serde(rename = "providerID")]
    provider_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawNodeStatus {
    addresses: Option<Vec<NodeAddress>>,
    conditions: Option<Vec<Condition>>,
    daemon_endpoints: RawDaemonEndpoints,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawDaemonEndpoints {
    kubelet_endpoint: RawDaemonEndpoint,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawDaemonEndpoint {
    #[serde(rename = "Port")]
    port: i64,
}

/// An address of a node.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct NodeAddress {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) address: String,
}

/// A node.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    /// Name, labels and annotations, which pods and endpoints can have, too.
    pub(super) metadata: Arc<LabelSet>,
    /// What only targets of the node itself have.
    pub(super) labels: Arc<LabelSet>,
    pub(super) name: String,
    pub(super) addresses: Vec<NodeAddress>,
    pub(super) kubelet_port: i64,
}

impl RawNode {
    fn into_compact(self, names: &mut LabelNames) -> Node {
        let metadata = self.metadata.described("node", names);
        let mut labels = names.build();
        labels.set("__meta_kubernetes_node_provider_id", &self.spec.provider_id);
        // All of them: clusters add conditions of their own.
        for condition in self.status.conditions.iter().flatten() {
            let kind = label_name(&condition.kind.to_lowercase());
            let name = format!("__meta_kubernetes_node_condition_{kind}");
            labels.set(&name, &condition.status.to_lowercase());
        }
        Node {
            metadata,
            labels: labels.finish(),
            name: self.metadata.name,
            addresses: self.status.addresses.unwrap_or_default(),
            kubelet_port: self.status.daemon_endpoints.kubelet_endpoint.port,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawService {
    metadata: Metadata,
    spec: ServiceSpec,
    status: RawServiceStatus,
}

/// `spec` of a service.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: String,
    pub(super) external_name: String,
    #[serde(rename = "loadBalancerIP")]
    pub(super) load_balancer_ip: String,
    pub(super) ip_families: Option<Vec<String>>,
    pub(super) ip_family_policy: Option<String>,
    pub(super) ports: Option<Vec<ServicePort>>,
}

/// A port of a service.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct ServicePort {
    pub(super) name: String,
    pub(super) port: i64,
    pub(super) protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawServiceStatus {
    load_balancer: RawLoadBalancer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawLoadBalancer {
    ingress: Option<Vec<RawLoadBalancerIngress>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawLoadBalancerIngress {
    ip: String,
}

/// A service. `spec.load_balancer_ip` holds all addresses of its load balancer.
#[derive(Debug, PartialEq)]
pub(super) struct Service {
    pub(super) labels: Arc<LabelSet>,
    pub(super) spec: ServiceSpec,
}

impl RawService {
    fn into_compact(self, names: &mut LabelNames) -> Service {
        let labels = self.metadata.described("service", names);
        let mut spec = self.spec;
        let given = self.status.load_balancer.ingress.iter().flatten();
        // Some clouds give names instead of addresses, which Prometheus leaves out.
        let ips: Vec<&str> = given.map(|one| one.ip.as_str()).filter(|ip| !ip.is_empty()).collect();
        if !ips.is_empty() {
            spec.load_balancer_ip = ips.join(",");
        }
        Service { labels, spec }
    }
}

/// What an endpoint stands for.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct TargetRef {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawEndpoints {
    metadata: Metadata,
    subsets: Option<Vec<Subset>>,
}

/// Addresses that have the same ports.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Subset {
    pub(super) addresses: Option<Vec<EndpointAddress>>,
    pub(super) not_ready_addresses: Option<Vec<EndpointAddress>>,
    pub(super) ports: Option<Vec<ServicePort>>,
}

/// An address of a subset.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EndpointAddress {
    pub(super) ip: String,
    pub(super) hostname: String,
    pub(super) node_name: Option<String>,
    pub(super) target_ref: Option<TargetRef>,
}

/// The endpoints of a service.
#[derive(Debug, PartialEq)]
pub(super) struct Endpoints {
    pub(super) labels: Arc<LabelSet>,
    pub(super) subsets: Vec<Subset>,
}

impl RawEndpoints {
    fn into_compact(self, names: &mut LabelNames) -> Endpoints {
        let labels = self.metadata.described("endpoints", names);
        Endpoints { labels, subsets: self.subsets.unwrap_or_default() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawEndpointSlice {
    metadata: Metadata,
    address_type: String,
    endpoints: Option<Vec<SliceEndpoint>>,
    ports: Option<Vec<SlicePort>>,
}

/// An endpoint of a slice.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SliceEndpoint {
    pub(super) addresses: Option<Vec<String>>,
    pub(super) conditions: SliceConditions,
    pub(super) hostname: Option<String>,
    pub(super) node_name: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) deprecated_topology: Option<BTreeMap<String, String>>,
    pub(super) target_ref: Option<TargetRef>,
}

/// The conditions of an endpoint of a slice.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct SliceConditions {
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
    pub(super) terminating: Option<bool>,
}

/// A port of a slice.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SlicePort {
    pub(super) name: Option<String>,
    pub(super) port: Option<i64>,
    pub(super) protocol: Option<String>,
    pub(super) app_protocol: Option<String>,
}

/// A part of the endpoints of a service.
#[derive(Debug, PartialEq)]
pub(super) struct EndpointSlice {
    pub(super) labels: Arc<LabelSet>,
    pub(super) service: Option<String>,
    pub(super) address_type: String,
    pub(super) endpoints: Vec<SliceEndpoint>,
    pub(super) ports: Vec<SlicePort>,
}

impl RawEndpointSlice {
    fn into_compact(self, names: &mut LabelNames) -> EndpointSlice {
        let mut labels = names.build();
        self.metadata.describe("endpointslice", &mut labels);
        labels.set("__meta_kubernetes_endpointslice_address_type", &self.address_type);
        let labels = labels.finish();
        let given = self.metadata.labels.unwrap_or_default();
        EndpointSlice {
            labels,
            // The name of a slice ends with random characters; only this label says whose it is.
            service: given.get("kubernetes.io/service-name").cloned(),
            address_type: self.address_type,
            endpoints: self.endpoints.unwrap_or_default(),
            ports: self.ports.unwrap_or_default(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawIngress {
    metadata: Metadata,
    spec: RawIngressSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawIngressSpec {
    ingress_class_name: Option<String>,
    tls: Option<Vec<IngressTls>>,
    rules: Option<Vec<IngressRule>>,
}

/// Hosts that have a certificate.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct IngressTls {
    pub(super) hosts: Option<Vec<String>>,
}

/// The paths of a host.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct IngressRule {
    pub(super) host: String,
    pub(super) http: Option<IngressHttp>,
}

/// The paths of a rule.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct IngressHttp {
    pub(super) paths: Option<Vec<IngressPath>>,
}

/// A path of a rule.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct IngressPath {
    pub(super) path: String,
}

/// An ingress.
#[derive(Debug, PartialEq)]
pub(super) struct Ingress {
    pub(super) labels: Arc<LabelSet>,
    pub(super) tls: Vec<IngressTls>,
    pub(super) rules: Vec<IngressRule>,
}

impl RawIngress {
    fn into_compact(self, names: &mut LabelNames) -> Ingress {
        let mut labels = names.build();
        self.metadata.describe("ingress", &mut labels);
        if let Some(class) = &self.spec.ingress_class_name {
            labels.set("__meta_kubernetes_ingress_class_name", class);
        }
        Ingress {
            labels: labels.finish(),
            tls: self.spec.tls.unwrap_or_default(),
            rules: self.spec.rules.unwrap_or_default(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawNamespace {
    metadata: Metadata,
}

/// A namespace: its labels and annotations.
#[derive(Debug, PartialEq)]
pub(super) struct Namespace {
    pub(super) labels: Arc<LabelSet>,
}

impl RawNamespace {
    fn into_compact(self, names: &mut LabelNames) -> Namespace {
        let mut labels = names.build();
        self.metadata.describe_unnamed("namespace", &mut labels);
        Namespace { labels: labels.finish() }
    }
}

/// A replica set or job.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawOwner {
    metadata: Metadata,
}

/// A replica set or job, as the owner of pods: only who made it.
#[derive(Debug, PartialEq)]
pub(super) struct Owner {
    pub(super) controller: Option<Controller>,
}

impl RawOwner {
    fn into_compact(self, _: &mut LabelNames) -> Owner {
        // Nothing else: there can be ten thousand old replica sets.
        Owner { controller: self.metadata.controller() }
    }
}
