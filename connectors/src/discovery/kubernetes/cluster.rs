//! The objects of a Kubernetes cluster, by key, and which of them changed. [`super::watch`] reports
//! changes of objects; [`super::groups`] makes targets of the changed ones.

use super::objects::{
    EndpointSlice, Endpoints, Ingress, Metadata, Namespace, Node, Owner, Pod, RawEndpointSlice, RawEndpoints,
    RawIngress, RawNamespace, RawNode, RawObject, RawOwner, RawPod, RawService, Resource, Service,
};
use crate::discovery::shared_target::LabelNames;
use std::collections::{HashMap, HashSet};

/// An object that was kept, and the list or event that had it last.
struct Entry<T> {
    generation: u64,
    object: T,
}

/// The objects of one kind, by key.
pub(super) struct ObjectStore<T>(HashMap<Box<str>, Entry<T>>);

impl<T> Default for ObjectStore<T> {
    fn default() -> Self {
        ObjectStore(HashMap::new())
    }
}

/// What happened to an object.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Updated,
    Deleted,
}

impl<T: PartialEq> ObjectStore<T> {
    /// Puts an object; `None` if it is as before.
    fn put(&mut self, key: &str, object: T, generation: u64) -> Option<Change> {
        let Some(known) = self.0.get_mut(key) else {
            self.0.insert(key.into(), Entry { generation, object });
            return Some(Change::Added);
        };
        // Also if it is as before: the list that comes to its end must not take it for gone.
        known.generation = generation;
        // Most events change a field that no label shows, such as the heartbeat of a node: they
        // must not make targets anew.
        if known.object == object {
            return None;
        }
        known.object = object;
        Some(Change::Updated)
    }

    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.0.get(key).map(|entry| &entry.object)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(key, entry)| (&**key, &entry.object))
    }

    /// Removes the objects of a namespace, or of all, that are older than `generation`; their keys.
    fn sweep(&mut self, namespace: Option<&str>, generation: u64) -> Vec<Box<str>> {
        let is_gone = |key: &str, entry: &Entry<T>| {
            // Each namespace has a list of its own, which says nothing of the objects of others.
            let is_its = namespace.is_none_or(|namespace| namespace_of(key) == namespace);
            is_its && entry.generation < generation
        };
        let gone: Vec<Box<str>> =
            self.0.iter().filter(|(key, entry)| is_gone(key, entry)).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.0.remove(key);
        }
        gone
    }
}

/// The namespace of a key; of the whole cluster's objects: empty.
pub(super) fn namespace_of(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}

/// Declares the stores and the object types that arrive for them.
macro_rules! stores {
    ($($resource:ident $field:ident $raw:ident $compact:ident),* $(,)?) => {
        /// An object as the API sent it.
        #[derive(Debug)]
        pub(super) enum RawResource {
            $($resource($raw),)*
        }

        impl RawResource {
            /// Reads an object.
            pub(super) fn parse(resource: Resource, json: &[u8]) -> serde_json::Result<RawResource> {
                Ok(match resource {
                    $(Resource::$resource => RawResource::$resource(serde_json::from_slice(json)?),)*
                })
            }

            /// Reads the object of a watch event.
            pub(super) fn parse_event(resource: Resource, json: &[u8]) -> serde_json::Result<RawResource> {
                #[derive(serde::Deserialize)]
                struct Event<T> {
                    object: T,
                }
                Ok(match resource {
                    $(Resource::$resource => {
                        RawResource::$resource(serde_json::from_slice::<Event<$raw>>(json)?.object)
                    })*
                })
            }

            /// The object's metadata.
            pub(super) fn metadata(&self) -> &Metadata {
                match self {
                    $(RawResource::$resource(raw) => raw.metadata(),)*
                }
            }
        }

        /// The objects of a cluster.
        #[derive(Default)]
        pub(super) struct Cluster {
            $(pub(super) $field: ObjectStore<$compact>,)*
            /// The names of all labels.
            pub(super) names: LabelNames,
        }

        impl Cluster {
            /// Puts an object; `None` if it is as before.
            pub(super) fn put(&mut self, raw: RawResource, generation: u64) -> Option<Change> {
                match raw {
                    $(RawResource::$resource(raw) => {
                        // Before the object is reduced: what is kept has no name.
                        let key = raw.metadata().key();
                        let compact = raw.into_compact(&mut self.names);
                        self.$field.put(&key, compact, generation)
                    })*
                }
            }

            /// Removes an object; whether it was there.
            pub(super) fn remove(&mut self, resource: Resource, key: &str) -> bool {
                match resource {
                    $(Resource::$resource => self.$field.0.remove(key).is_some(),)*
                }
            }

            /// Removes what is older than a whole list; the keys.
            pub(super) fn sweep(
                &mut self,
                resource: Resource,
                namespace: Option<&str>,
                generation: u64,
            ) -> Vec<Box<str>> {
                match resource {
                    $(Resource::$resource => self.$field.sweep(namespace, generation),)*
                }
            }
        }
    };
}

stores! {
    Pods pods RawPod Pod,
    Services services RawService Service,
    Endpoints endpoints RawEndpoints Endpoints,
    EndpointSlices slices RawEndpointSlice EndpointSlice,
    Ingresses ingresses RawIngress Ingress,
    Nodes nodes RawNode Node,
    Namespaces namespaces RawNamespace Namespace,
    ReplicaSets replica_sets RawOwner Owner,
    Jobs jobs RawOwner Owner,
}

/// The keys of objects that changed since targets were last made.
#[derive(Default)]
pub(super) struct ChangedObjects {
    /// All of them may have changed.
    pub(super) all: bool,
    /// By resource.
    keys: [HashSet<Box<str>>; Resource::COUNT],
}

impl ChangedObjects {
    /// Adds an object.
    pub(super) fn add(&mut self, resource: Resource, key: &str) {
        // Once all are concerned, their keys would only take memory.
        if !self.all {
            self.keys[resource as usize].insert(key.into());
        }
    }

    /// Whether an object is among them.
    pub(super) fn has(&self, resource: Resource, key: &str) -> bool {
        self.all || self.keys[resource as usize].contains(key)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.keys.iter().all(HashSet::is_empty)
    }
}
