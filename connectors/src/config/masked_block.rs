//! [`MaskedBlock`]: a configuration block as `/api/v1/status/config` shows it, without secrets.

use super::document::{Node, NodeSeed};
use super::schema::{ConfigValue, ValueKind};
use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use std::marker::PhantomData;

/// A value that is only shown. `T` is its type.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedBlock<T> {
    /// The value, without its secrets.
    pub node: Node,
    kind: PhantomData<fn() -> T>,
}

/// A document without values is a mapping without entries.
impl<T> Default for MaskedBlock<T> {
    fn default() -> Self {
        MaskedBlock { node: Node::Map(Vec::new()), kind: PhantomData }
    }
}

impl<'de, T: ConfigValue> Deserialize<'de> for MaskedBlock<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(MaskedBlock { node: NodeSeed(T::KIND).deserialize(d)?, kind: PhantomData })
    }
}

impl<T: ConfigValue> ConfigValue for MaskedBlock<T> {
    const KIND: ValueKind = T::KIND;

    fn node(&self) -> Node {
        self.node.clone()
    }
}
