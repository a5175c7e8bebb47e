//! A configuration file as a tree of [`Node`]s for printing. It is read according to the schema, so
//! that numbers, durations and labels keep their spelling, and secrets are not stored.

use super::schema::{BlockSchema, ValueKind};
use super::url::hide_password;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A value without its secrets.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// No value.
    Null,
    /// A boolean or a number, as printed.
    Literal(String),
    /// Text.
    Text(String),
    /// A hidden value.
    Secret,
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of `key` in a mapping; `None` if it is `null`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Node::Map(entries) = self else { return None };
        entries.iter().find(|(name, value)| name == key && *value != Node::Null).map(|(_, value)| value)
    }

    /// A mapping.
    pub fn from_entries(entries: Vec<(&str, Node)>) -> Node {
        Node::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Whether the value is what YAML's `omitempty` omits: nothing, `false`, zero, or no elements.
    pub fn is_empty(&self) -> bool {
        match self {
            Node::Null => true,
            Node::Literal(text) => matches!(text.as_str(), "false" | "0"),
            Node::Text(text) => text.is_empty(),
            Node::Secret => false,
            Node::List(items) => items.is_empty(),
            Node::Map(entries) => entries.is_empty(),
        }
    }

    /// The text of a scalar that is not hidden.
    pub fn text(&self) -> Option<&str> {
        match self {
            Node::Text(text) | Node::Literal(text) => Some(text),
            _ => None,
        }
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Node {
        Node::Literal(value.to_string())
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Node {
        Node::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Node {
        Node::Text(text)
    }
}

/// Reads a value of a given kind.
#[derive(Copy, Clone)]
pub struct NodeSeed(pub ValueKind);

impl<'de> DeserializeSeed<'de> for NodeSeed {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Node, D::Error> {
        d.deserialize_option(MaybeVisitor(self.0))
    }
}

/// Reads a value or `null`.
struct MaybeVisitor(ValueKind);

impl<'de> Visitor<'de> for MaybeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Node, D::Error> {
        match self.0 {
            // As it is written: `1e3` and `0x10` stay, because the page shows the file and not our
            // reading of it.
            ValueKind::Flag | ValueKind::Number => d.deserialize_any(AnyVisitor { nested: false }),
            ValueKind::Any => d.deserialize_any(AnyVisitor { nested: true }),
            ValueKind::Text | ValueKind::Url | ValueKind::Secret => d.deserialize_str(TextVisitor(self.0)),
            ValueKind::List(inner) => d.deserialize_seq(ListVisitor(*inner)),
            ValueKind::Map(inner) => d.deserialize_map(MapVisitor(*inner)),
            ValueKind::Block(schema) => d.deserialize_map(BlockVisitor(schema())),
        }
    }
}

struct TextVisitor(ValueKind);

impl Visitor<'_> for TextVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(match self.0 {
            // An empty secret is no secret, and shown as empty it tells the user why a login fails.
            ValueKind::Secret if !text.is_empty() => Node::Secret,
            ValueKind::Url => Node::Text(hide_password(text)),
            _ => Node::Text(text.to_owned()),
        })
    }
}

/// Reads scalars other than text, and with `nested` also lists and mappings of any values.
struct AnyVisitor {
    nested: bool,
}

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.nested { "a value" } else { "a number or a boolean" })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Literal(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Literal(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Literal(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Node, A::Error> {
        // A list in the place of a number has its place in the error only here.
        if !self.nested {
            return Err(A::Error::custom("found a list, expected a number or a boolean"));
        }
        ListVisitor(ValueKind::Any).visit_seq(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Node, A::Error> {
        if !self.nested {
            return Err(A::Error::custom("found a mapping, expected a number or a boolean"));
        }
        MapVisitor(ValueKind::Any).visit_map(map)
    }
}

/// An element of a list or mapping: `null` among texts is the empty text, as Go reads it.
fn element(node: Node, kind: ValueKind) -> Node {
    match (node, kind) {
        (Node::Null, ValueKind::Text) => Node::Text(String::new()),
        (node, _) => node,
    }
}

struct ListVisitor(ValueKind);

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(NodeSeed(self.0))? {
            nodes.push(element(node, self.0));
        }
        Ok(Node::List(nodes))
    }
}

struct MapVisitor(ValueKind);

impl<'de> Visitor<'de> for MapVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let node = map.next_value_seed(NodeSeed(self.0))?;
            entries.push((key, element(node, self.0)));
        }
        Ok(Node::Map(entries))
    }
}

struct BlockVisitor(BlockSchema);

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping for {}", self.0.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let node = match self.0.kind(&key) {
                Some(kind) => map.next_value_seed(NodeSeed(kind))?,
                // An unknown key is possible only in blocks that this build does not use. It is
                // hidden, because it may be a secret of a later version of Prometheus.
                None => {
                    map.next_value::<IgnoredAny>()?;
                    Node::Secret
                }
            };
            entries.push((key, node));
        }
        Ok(Node::Map(entries))
    }
}
