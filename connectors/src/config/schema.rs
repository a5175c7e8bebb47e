//! The schema of configuration files: the keys of each block and the kind of each value.
//!
//! [`ConfigValue`] is the trait of all types of values. The macros of [`super::block`] derive the
//! schema from the declaration of a block; the printer, the check for unknown keys and the
//! resolution of paths use it.

use super::document::Node;
use super::error::BlockError;
use super::secret::Secret;
use super::units::{ConfigDuration, ConfigSize};
use super::url::ConfigUrl;
use serde::Deserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Error, IntoDeserializer, SeqAccess, Visitor,
};
pub use serde_saphyr::Location;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// The kind of a value: determines how it is read for printing, and what is shown of it.
#[derive(Copy, Clone, Debug)]
pub enum ValueKind {
    /// `true` or `false`.
    Flag,
    /// A number.
    Number,
    /// Text in the spelling of the file.
    Text,
    /// A URL, shown without its password.
    Url,
    /// A secret, shown as `<secret>`.
    Secret,
    /// Any value, shown unchanged.
    Any,
    /// A list of values of one kind.
    List(&'static ValueKind),
    /// A mapping from names that the user chooses to values of one kind.
    Map(&'static ValueKind),
    /// A mapping with the keys of a Rust type.
    Block(fn() -> BlockSchema),
}

/// A key of a block.
#[derive(Copy, Clone, Debug)]
pub struct KeySpec {
    /// The name in the file.
    pub name: &'static str,
    /// The kind of the value.
    pub kind: ValueKind,
    /// What the key means, as comment lines.
    pub help: &'static str,
    /// What this build does with the key.
    pub support: KeySupport,
    /// Returns the default.
    pub default: Option<fn() -> Node>,
    /// Returns what the key is if it has no value ([`ConfigValue::null`]).
    pub null: Option<fn() -> Node>,
    /// Whether the key is printed even if its value is empty.
    pub is_printed: bool,
}

/// What this build does with a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum KeySupport {
    /// The key has its effect.
    Works,
    /// The key is accepted without an effect, with a warning.
    Ignored,
    /// A file with the key does not load.
    Refused,
}

impl KeySpec {
    /// A key that is declared with its help and default.
    pub fn declared(self, help: &'static str, support: KeySupport, default: fn() -> Node) -> KeySpec {
        KeySpec { help, support, default: Some(default), ..self }
    }

    /// A key that is printed in this way.
    pub fn printed(self, null: fn() -> Node, options: &[&str]) -> KeySpec {
        KeySpec { null: Some(null), is_printed: options.contains(&"printed"), ..self }
    }

    /// The default as it is printed in a block without the key, if it is. Blocks and lists without
    /// any key of their own are left out, as in Prometheus.
    pub fn printed_default(&self) -> Option<Node> {
        let default = self.default?();
        let is_shown = default.text().is_some() && (self.is_printed || !default.is_empty());
        is_shown.then_some(default)
    }
}

/// The keys of a block, in the order in which Prometheus prints them.
#[derive(Clone, Debug)]
pub struct BlockSchema {
    /// Prometheus' type name for errors: `config.ScrapeConfig`.
    pub name: &'static str,
    /// The keys.
    pub keys: Vec<KeySpec>,
}

impl BlockSchema {
    /// The kind of the value of `key`.
    pub fn kind(&self, key: &str) -> Option<ValueKind> {
        self.keys.iter().find(|spec| spec.name == key).map(|spec| spec.kind)
    }

    /// The keys of the block with the type `name`: this block or one inside it.
    pub fn keys_of(&self, name: &str) -> Option<Vec<&'static str>> {
        if self.name == name {
            return Some(self.keys.iter().map(|spec| spec.name).collect());
        }
        self.keys.iter().find_map(|spec| spec.kind.block()?.keys_of(name))
    }
}

impl ValueKind {
    /// The block of a value of this kind, also inside lists and maps.
    pub fn block(self) -> Option<BlockSchema> {
        match self {
            ValueKind::Block(schema) => Some(schema()),
            ValueKind::List(inner) | ValueKind::Map(inner) => inner.block(),
            _ => None,
        }
    }
}

/// A given key that this build ignores.
#[derive(Clone, Debug, PartialEq)]
pub struct IgnoredKey {
    /// The name after those of the surrounding blocks: `storage.tsdb.chunk_encoding`.
    pub path: String,
    /// The location in the file, as far as it is known.
    pub place: Location,
}

/// A type of values in a configuration file.
pub trait ConfigValue: DeserializeOwned {
    /// The kind of the value.
    const KIND: ValueKind;

    /// What this build does with a key of this type.
    const SUPPORT: KeySupport = KeySupport::Works;

    /// Reads the value with the conversions of Go's YAML library: `null` is the empty text, `1e3`
    /// an integer.
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::deserialize(d)
    }

    /// Whether the empty text is as if the key were not there, as in Prometheus for some
    /// enumerations.
    const EMPTY_IS_ABSENT: bool = false;

    /// Reads the value of a key. `null` is the error for a list of blocks with an element that is
    /// null.
    fn read_key<'de, D: Deserializer<'de>>(d: D, _null: &str) -> Result<Self, D::Error> {
        Self::read(d)
    }

    /// What `null` means for a key, in Go's YAML library: nothing, which is zero, `false` or the
    /// empty text, whatever the default of the key. `None`: the default, for blocks.
    fn null() -> Option<Self> {
        None
    }

    /// Checks a value that this build only checks ([`IgnoredValue`]).
    fn check(_given: &Node) -> Result<(), BlockError> {
        Ok(())
    }

    /// The value as it is printed.
    fn node(&self) -> Node {
        Node::Null
    }

    /// Makes relative paths relative to `directory`.
    fn resolve_paths(&mut self, _directory: &Path) {}

    /// The first key in the value that this build refuses; `Some("")` for the value itself.
    fn refused(&self) -> Option<String> {
        None
    }

    /// Adds the keys in the value that this build ignores; `path` and `place` are those of the
    /// value.
    fn ignored(&self, _path: &str, _place: Location, _found: &mut Vec<IgnoredKey>) {}
}

/// Implements [`ConfigValue`] for types without keys or paths inside. The function makes the
/// [`Node`] of a value; what follows `=` is the value that a key with `null` has.
macro_rules! plain_values {
    ($($kind:ident $node:expr => $($ty:ty $(as $read:path)? $(= $null:expr)?),+;)*) => { $($(
        impl $crate::config::schema::ConfigValue for $ty {
            const KIND: $crate::config::schema::ValueKind = $crate::config::schema::ValueKind::$kind;

            $(fn read<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                $read(d)
            })?

            $(fn null() -> Option<$ty> {
                Some($null)
            })?

            fn node(&self) -> $crate::config::document::Node {
                let node: fn(&$ty) -> $crate::config::document::Node = $node;
                node(self)
            }
        }
    )+)* };
}

plain_values! {
    Flag |value| Node::from(*value) => bool = false;
    Number |value| Node::Literal(value.to_string()) =>
        i64 as yaml::values::integer = 0, u64 as yaml::values::integer = 0, f64 = 0.0;
    Text |text| Node::Text(text.clone()) => String as yaml::values::text = String::new();
    Text quantity => ConfigDuration = ConfigDuration(0), ConfigSize = ConfigSize(0);
    Secret |secret| if secret.expose().is_empty() { Node::Null } else { Node::Secret } =>
        Secret = Secret::default();
    Url |url| Node::Text(url.to_string()) => ConfigUrl = ConfigUrl::default();
}

/// A duration or size; zero is as if it were not there.
fn quantity<T: Default + PartialEq + ToString>(value: &T) -> Node {
    if *value == T::default() { Node::Null } else { Node::Text(value.to_string()) }
}

/// Whether a key is printed: its value is not empty, or the declaration says so.
pub fn is_printed(node: &Node, options: &[&str]) -> bool {
    // What Go's `omitempty` would leave out, so that the page looks like that of Prometheus.
    *node != Node::Null && (!node.is_empty() || options.contains(&"printed"))
}

/// A value that is read with [`ConfigValue::read`], for places where serde reads values itself.
pub struct ReadValue<T>(pub T);

impl<'de, T: ConfigValue> Deserialize<'de> for ReadValue<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        T::read(d).map(ReadValue)
    }
}

/// Reads the value of a key with [`ConfigValue::read_key`]; `None` if it is null.
pub struct KeyValueSeed<'a, T> {
    null: &'a str,
    kind: PhantomData<fn() -> T>,
}

impl<'a, T> KeyValueSeed<'a, T> {
    /// `null` is the error for a list of blocks with an element that is null.
    pub fn new(null: &'a str) -> KeyValueSeed<'a, T> {
        KeyValueSeed { null, kind: PhantomData }
    }
}

impl<'de, T: ConfigValue> DeserializeSeed<'de> for KeyValueSeed<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Option<T>, D::Error> {
        d.deserialize_option(self)
    }
}

impl<'de, T: ConfigValue> Visitor<'de> for KeyValueSeed<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Option<T>, D::Error> {
        if !T::EMPTY_IS_ABSENT {
            return T::read_key(d, self.null).map(Some);
        }
        let text = yaml::values::text(d)?;
        if text.is_empty() {
            return Ok(None);
        }
        T::read_key(text.into_deserializer(), self.null).map(Some)
    }
}

/// Reads a list of blocks, none of which may be null.
struct BlocksVisitor<'a, T> {
    null: &'a str,
    kind: PhantomData<fn() -> T>,
}

impl<'de, T: ConfigValue> Visitor<'de> for BlocksVisitor<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut blocks = Vec::new();
        while let Some(block) = list.next_element_seed(KeyValueSeed::<T>::new(self.null))? {
            blocks.push(block.ok_or_else(|| A::Error::custom(self.null))?);
        }
        Ok(blocks)
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const KIND: ValueKind = T::KIND;
    const SUPPORT: KeySupport = T::SUPPORT;

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Option::<ReadValue<T>>::deserialize(d)?.map(|value| value.0))
    }

    fn read_key<'de, D: Deserializer<'de>>(d: D, null: &str) -> Result<Self, D::Error> {
        KeyValueSeed::<T>::new(null).deserialize(d)
    }

    fn null() -> Option<Option<T>> {
        Some(None)
    }

    fn node(&self) -> Node {
        self.as_ref().map_or(Node::Null, T::node)
    }

    fn resolve_paths(&mut self, directory: &Path) {
        if let Some(value) = self {
            value.resolve_paths(directory);
        }
    }

    fn refused(&self) -> Option<String> {
        self.as_ref()?.refused()
    }

    fn ignored(&self, path: &str, place: Location, found: &mut Vec<IgnoredKey>) {
        if let Some(value) = self {
            value.ignored(path, place, found);
        }
    }
}

impl<T: ConfigValue> ConfigValue for Spanned<T> {
    const KIND: ValueKind = T::KIND;
    const SUPPORT: KeySupport = T::SUPPORT;

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, defined } = Spanned::<ReadValue<T>>::deserialize(d)?;
        Ok(Spanned { value: value.0, referenced, defined })
    }

    fn node(&self) -> Node {
        self.value.node()
    }

    fn resolve_paths(&mut self, directory: &Path) {
        self.value.resolve_paths(directory);
    }

    fn refused(&self) -> Option<String> {
        self.value.refused()
    }

    fn ignored(&self, path: &str, _: Location, found: &mut Vec<IgnoredKey>) {
        self.value.ignored(path, self.referenced, found);
    }
}

impl<T: ConfigValue + 'static> ConfigValue for Vec<T> {
    const KIND: ValueKind = ValueKind::List(&T::KIND);

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let values = Vec::<ReadValue<T>>::deserialize(d)?;
        Ok(values.into_iter().map(|value| value.0).collect())
    }

    fn read_key<'de, D: Deserializer<'de>>(d: D, null: &str) -> Result<Self, D::Error> {
        // Texts may be null: they are empty then.
        if !matches!(T::KIND, ValueKind::Block(_)) {
            return Self::read(d);
        }
        d.deserialize_seq(BlocksVisitor { null, kind: PhantomData })
    }

    fn null() -> Option<Vec<T>> {
        Some(Vec::new())
    }

    fn node(&self) -> Node {
        Node::List(self.iter().map(T::node).collect())
    }

    fn resolve_paths(&mut self, directory: &Path) {
        for value in self {
            value.resolve_paths(directory);
        }
    }

    fn refused(&self) -> Option<String> {
        self.iter().find_map(T::refused)
    }

    fn ignored(&self, path: &str, place: Location, found: &mut Vec<IgnoredKey>) {
        for value in self {
            value.ignored(path, place, found);
        }
    }
}

impl<T: ConfigValue + 'static> ConfigValue for BTreeMap<String, T> {
    const KIND: ValueKind = ValueKind::Map(&T::KIND);

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<String, ReadValue<T>>::deserialize(d)?;
        Ok(entries.into_iter().map(|(name, value)| (name, value.0)).collect())
    }

    fn null() -> Option<BTreeMap<String, T>> {
        Some(BTreeMap::new())
    }

    fn node(&self) -> Node {
        Node::Map(self.iter().map(|(name, value)| (name.clone(), value.node())).collect())
    }

    fn resolve_paths(&mut self, directory: &Path) {
        for value in self.values_mut() {
            value.resolve_paths(directory);
        }
    }

    fn refused(&self) -> Option<String> {
        self.values().find_map(T::refused)
    }

    fn ignored(&self, path: &str, place: Location, found: &mut Vec<IgnoredKey>) {
        for value in self.values() {
            value.ignored(path, place, found);
        }
    }
}

/// Joins a path of names and a name with a dot; either may be empty.
pub fn join_names(path: &str, name: &str) -> String {
    let dot = if path.is_empty() || name.is_empty() { "" } else { "." };
    format!("{path}{dot}{name}")
}

/// Reads a value of kind `T` only to check its form; returns whether it is neither `null` nor
/// empty.
fn says_anything<'de, T: ConfigValue, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    let node = super::document::NodeSeed(T::KIND).deserialize(d)?;
    T::check(&node).map_err(D::Error::custom)?;
    if let (ValueKind::Number, Node::Text(text)) = (T::KIND, &node) {
        return Err(D::Error::custom(format!("cannot unmarshal !!str `{text}` into int")));
    }
    Ok(!matches!(node, Node::Null) && node != Node::Text(String::new()))
}

/// A key of Prometheus that this build refuses, because ignoring it would be harmful. `T` is the
/// type of its value.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedValue<T> {
    given: bool,
    kind: PhantomData<fn() -> T>,
}

/// A key of Prometheus that this build accepts without an effect, with a warning. `T` is the type
/// of its value.
#[derive(Clone, Debug, PartialEq)]
pub struct IgnoredValue<T> {
    given: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T> Default for RefusedValue<T> {
    fn default() -> Self {
        RefusedValue { given: false, kind: PhantomData }
    }
}

impl<T> Default for IgnoredValue<T> {
    fn default() -> Self {
        IgnoredValue { given: false, kind: PhantomData }
    }
}

impl<'de, T: ConfigValue> Deserialize<'de> for RefusedValue<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(RefusedValue { given: says_anything::<T, D>(d)?, kind: PhantomData })
    }
}

impl<'de, T: ConfigValue> Deserialize<'de> for IgnoredValue<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(IgnoredValue { given: says_anything::<T, D>(d)?, kind: PhantomData })
    }
}

impl<T: ConfigValue> ConfigValue for RefusedValue<T> {
    const KIND: ValueKind = T::KIND;
    const SUPPORT: KeySupport = KeySupport::Refused;

    fn refused(&self) -> Option<String> {
        // The empty name is completed on the way out, block by block.
        self.given.then(String::new)
    }
}

impl<T: ConfigValue> ConfigValue for IgnoredValue<T> {
    const KIND: ValueKind = T::KIND;
    const SUPPORT: KeySupport = KeySupport::Ignored;

    fn ignored(&self, path: &str, place: Location, found: &mut Vec<IgnoredKey>) {
        if self.given {
            // Only if it was given: a default is no wish of the user.
            found.push(IgnoredKey { path: path.to_owned(), place });
        }
    }
}

/// A key of a block, without what its declaration says of it ([`KeySpec::declared`]).
pub const fn key(name: &'static str, kind: ValueKind) -> KeySpec {
    KeySpec { name, kind, help: "", support: KeySupport::Works, default: None, null: None, is_printed: false }
}
