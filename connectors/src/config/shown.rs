//! [`Shown`]: a block of the configuration as it is shown (`/api/v1/status/config`), without the
//! secrets in it.

use super::document::{Node, NodeSeed};
use super::schema::{ConfigValue, ValueKind};
use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use std::marker::PhantomData;

/// A value that is only shown. `T` is its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<T> {
    /// The value, without its secrets.
    pub node: Node,
    kind: PhantomData<fn() -> T>,
}

/// A document without values is a mapping without entries.
impl<T> Default for Shown<T> {
    fn default() -> Self {
        Shown { node: Node::Map(Vec::new()), kind: PhantomData }
    }
}

impl<'de, T: ConfigValue> Deserialize<'de> for Shown<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Shown { node: NodeSeed(T::KIND).deserialize(d)?, kind: PhantomData })
    }
}

impl<T: ConfigValue> ConfigValue for Shown<T> {
    const KIND: ValueKind = T::KIND;

    fn node(&self) -> Node {
        self.node.clone()
    }
}
