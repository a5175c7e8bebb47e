//! The shape of configuration files: the keys of each block, and the kind of each value.

use super::block::ConfigKeys;
use super::document::Node;
use crate::http_client::HttpConfig;
use serde::Deserializer;
use serde::de::{Deserialize, DeserializeSeed};
pub use serde_saphyr::Location;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;

/// What a value is. Decides how it is read for printing, and what is shown of it.
#[derive(Copy, Clone, Debug)]
pub enum ValueKind {
    /// `true` or `false`.
    Flag,
    /// A number.
    Number,
    /// Text, with the spelling of the file.
    Text,
    /// A URL; its password is hidden.
    Url,
    /// Shown as `<secret>`.
    Secret,
    /// Anything, shown as it is.
    Any,
    /// A list of values of one kind.
    List(&'static ValueKind),
    /// Names that the user chooses, with values of one kind.
    Map(&'static ValueKind),
    /// A mapping with the keys of a type.
    Block(fn() -> BlockSchema),
    /// A mapping with the keys of a table.
    Table(&'static BlockTable),
}

/// A key of a block.
#[derive(Copy, Clone, Debug)]
pub struct KeySpec {
    /// As the file writes it.
    pub name: &'static str,
    /// What its value is.
    pub kind: ValueKind,
}

/// The keys of a block, in the order in which Prometheus prints them.
#[derive(Clone, Debug)]
pub struct BlockSchema {
    /// Prometheus' type, which its errors name: `config.ScrapeConfig`.
    pub name: &'static str,
    /// The keys.
    pub keys: Vec<KeySpec>,
}

/// The keys of a block that has no type, because this build does not use it.
#[derive(Debug)]
pub struct BlockTable {
    /// Prometheus' type.
    pub name: &'static str,
    /// Whether it has the keys of an HTTP client, too.
    pub http: bool,
    /// Its own keys.
    pub keys: &'static [KeySpec],
}

impl BlockTable {
    /// All its keys.
    pub fn schema(&self) -> BlockSchema {
        let http = if self.http { HttpConfig::keys() } else { Vec::new() };
        BlockSchema { name: self.name, keys: self.keys.iter().copied().chain(http).collect() }
    }
}

impl BlockSchema {
    /// The kind of the value of `key`.
    pub fn kind(&self, key: &str) -> Option<ValueKind> {
        self.keys.iter().find(|spec| spec.name == key).map(|spec| spec.kind)
    }

    /// The keys of the block of type `name`, here or below.
    pub fn keys_of(&self, name: &str) -> Option<Vec<&'static str>> {
        if self.name == name {
            return Some(self.keys.iter().map(|spec| spec.name).collect());
        }
        self.keys.iter().find_map(|spec| spec.kind.block()?.keys_of(name))
    }
}

impl ValueKind {
    /// The block that stands at this kind, in its lists or in its maps.
    fn block(self) -> Option<BlockSchema> {
        match self {
            ValueKind::Block(schema) => Some(schema()),
            ValueKind::Table(table) => Some(table.schema()),
            ValueKind::List(inner) | ValueKind::Map(inner) => inner.block(),
            _ => None,
        }
    }
}

/// A key that the file has and this build ignores.
#[derive(Clone, Debug, PartialEq)]
pub struct IgnoredKey {
    /// Its name, after those of the blocks around it: `storage.tsdb.chunk_encoding`.
    pub path: String,
    /// Where it stands, as far as it is known.
    pub place: Location,
}

/// The type of a value in a configuration file.
pub trait ConfigValue {
    /// What it is.
    const KIND: ValueKind;

    /// Makes relative paths count from `directory`.
    fn resolve_paths(&mut self, _directory: &Path) {}

    /// The first key in it that this build refuses: `Some("")` for the value itself.
    fn refused(&self) -> Option<String> {
        None
    }

    /// Adds the keys in it that this build ignores; `path` and `place` are its own.
    fn ignored(&self, _path: &str, _place: Location, _found: &mut Vec<IgnoredKey>) {}
}

/// Declares types that hold nothing but a value of a kind.
macro_rules! plain_values {
    ($($kind:ident: $($ty:ty),+;)*) => { $($(
        impl $crate::config::schema::ConfigValue for $ty {
            const KIND: $crate::config::schema::ValueKind = $crate::config::schema::ValueKind::$kind;
        }
    )+)* };
}

pub(crate) use plain_values;

plain_values! {
    Flag: bool;
    Number: i64, u64, f64;
    Text: String, super::units::ConfigDuration, super::units::ConfigSize;
    Secret: super::secret::Secret;
    Url: super::url::ConfigUrl;
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const KIND: ValueKind = T::KIND;

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

/// A name in a path of names; either may be empty.
pub fn join_names(path: &str, name: &str) -> String {
    let dot = if path.is_empty() || name.is_empty() { "" } else { "." };
    format!("{path}{dot}{name}")
}

/// Reads a value of kind `T` for the sake of its shape only; whether it says anything.
fn says_anything<'de, T: ConfigValue, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    let node = super::document::NodeSeed(T::KIND).deserialize(d)?;
    Ok(!matches!(node, Node::Null) && node != Node::Text(String::new()))
}

/// A key that Prometheus knows and this build refuses, because ignoring it would do harm. `T` says
/// what its value is.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused<T> {
    given: bool,
    kind: PhantomData<fn() -> T>,
}

/// A key that Prometheus knows and this build accepts without an effect, with a warning. `T` says
/// what its value is.
#[derive(Clone, Debug, PartialEq)]
pub struct Ignored<T> {
    given: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T> Default for Refused<T> {
    fn default() -> Self {
        Refused { given: false, kind: PhantomData }
    }
}

impl<T> Default for Ignored<T> {
    fn default() -> Self {
        Ignored { given: false, kind: PhantomData }
    }
}

impl<'de, T: ConfigValue> Deserialize<'de> for Refused<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Refused { given: says_anything::<T, D>(d)?, kind: PhantomData })
    }
}

impl<'de, T: ConfigValue> Deserialize<'de> for Ignored<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Ignored { given: says_anything::<T, D>(d)?, kind: PhantomData })
    }
}

impl<T: ConfigValue> ConfigValue for Refused<T> {
    const KIND: ValueKind = T::KIND;

    fn refused(&self) -> Option<String> {
        self.given.then(String::new)
    }
}

impl<T: ConfigValue> ConfigValue for Ignored<T> {
    const KIND: ValueKind = T::KIND;

    fn ignored(&self, path: &str, place: Location, found: &mut Vec<IgnoredKey>) {
        if self.given {
            found.push(IgnoredKey { path: path.to_owned(), place });
        }
    }
}

/// A key of a table of keys ([`super::unsupported`]).
pub const fn key(name: &'static str, kind: ValueKind) -> KeySpec {
    KeySpec { name, kind }
}
