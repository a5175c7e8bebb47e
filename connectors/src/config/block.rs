//! Macros that declare configuration blocks: structs whose fields are YAML keys.
//!
//! Prometheus inlines its HTTP options and its discovery mechanisms into every block that needs
//! them. Serde's `flatten` would do the same, but it changes the types of scalars (`regex: true`
//! would no longer be a string) and accepts unknown keys. Instead, a block asks its parts one after
//! the other which of them [takes](ConfigKeys::take) a key.

use super::document::Node;
use super::schema::{IgnoredKey, KeySpec};
/// For the code that the macros generate.
pub use serde;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_saphyr::Location;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// A group of keys in a YAML mapping.
pub trait ConfigKeys {
    /// The keys, in the order in which Prometheus prints them.
    fn keys() -> Vec<KeySpec>;

    /// The keys with values to print: those that are not empty, and those that are always printed.
    fn entries(&self) -> Vec<(&'static str, Node)>;

    /// Reads the value if `key` is one of these keys; returns whether it is.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;

    /// Makes relative paths relative to `directory`.
    fn resolve_paths(&mut self, directory: &Path);

    /// The first given key that this build refuses.
    fn refused(&self) -> Option<String>;

    /// Adds the given keys that this build ignores; `path` and `place` are those of the block.
    fn ignored(&self, path: &str, place: Location, found: &mut Vec<IgnoredKey>);
}

/// Reads a key, and refuses a key that is not among `keys`. An error raised at this point has the
/// location of the key.
pub struct KeySeed<'a> {
    /// Prometheus' type name of the block.
    pub block: &'static str,
    /// The valid keys.
    pub keys: &'a [KeySpec],
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<String, D::Error> {
        d.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of {}", self.block)
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        // Checked when the key is read and not when its value is: only now does the parser know the
        // line of the key, which the error must name.
        if self.keys.iter().any(|spec| spec.name == key) {
            return Ok(key.to_owned());
        }
        Err(E::custom(format_args!("field {key} not found in type {}", self.block)))
    }
}

/// The YAML key of a field: the name of the field, unless the declaration has another one.
#[macro_export]
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// The error for a list of blocks with an element that is null.
#[macro_export]
macro_rules! null_text {
    ($key:expr, $text:literal) => {
        $text
    };
    ($key:expr,) => {
        &format!("empty or null section in {}", $key)
    };
}

/// Defines a struct whose public fields are YAML keys with defaults: implements [`ConfigKeys`] and
/// `Default`.
///
/// A missing key means the default; what `null` means says the type
/// ([`super::schema::ConfigValue::null`]). If a key is not a valid Rust name, it follows the name
/// of the field: `kind as "type": String = …`. A value that is empty (`false`, zero, no text) is
/// not printed, unless `=> printed` follows the default. `=> null "text"` gives the error for a
/// list of blocks with an element that is null; without it Prometheus' usual one is said. The
/// comment of a field is the help of the key in `docs/configuration.md`. Fields after a semicolon
/// are not keys of the file.
#[macro_export]
macro_rules! config_keys {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[doc = $help:literal])* $field:ident $(as $key:literal)? : $ty:ty
            = $default:expr $(=> $printed:ident $($null:literal)?)?),* $(,)?
        $(; $($(#[$own_meta:meta])* $own:ident : $own_ty:ty = $own_default:expr),* $(,)?)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $($(#[doc = $help])* pub $field: $ty,)*
            $($($(#[$own_meta])* pub $own: $own_ty,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* $($($own: $own_default,)*)? }
            }
        }

        impl $crate::config::block::ConfigKeys for $name {
            fn keys() -> Vec<$crate::config::schema::KeySpec> {
                use $crate::config::document::Node;
                use $crate::config::schema::{ConfigValue, key};
                vec![$(key($crate::key_name!($field $($key)?), <$ty as ConfigValue>::KIND).declared(
                    concat!($($help),*),
                    <$ty as ConfigValue>::SUPPORT,
                    || {
                        let default: $ty = $default;
                        ConfigValue::node(&default)
                    },
                ).printed(
                    || <$ty as ConfigValue>::null().map_or(Node::Null, |value| ConfigValue::node(&value)),
                    &[$(stringify!($printed))?],
                )),*]
            }

            fn entries(&self) -> Vec<(&'static str, $crate::config::document::Node)> {
                use $crate::config::schema::{ConfigValue, is_printed};
                let mut entries = Vec::new();
                $(
                    let node = ConfigValue::node(&self.$field);
                    if is_printed(&node, &[$(stringify!($printed))?]) {
                        entries.push(($crate::key_name!($field $($key)?), node));
                    }
                )*
                entries
            }

            fn take<'de, A: $crate::config::block::serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                $(if key == $crate::key_name!($field $($key)?) {
                    use $crate::config::schema::KeyValueSeed;
                    let null = $crate::null_text!($crate::key_name!($field $($key)?), $($($null)?)?);
                    let given = map.next_value_seed(KeyValueSeed::<$ty>::new(null))?;
                    // A key without a value: nothing, or the default of a block (`tls_config:`).
                    if let Some(value) = given.or_else(<$ty as $crate::config::schema::ConfigValue>::null) {
                        self.$field = value;
                    }
                    return Ok(true);
                })*
                Ok(false)
            }

            fn resolve_paths(&mut self, directory: &std::path::Path) {
                $($crate::config::schema::ConfigValue::resolve_paths(&mut self.$field, directory);)*
            }

            fn refused(&self) -> Option<String> {
                use $crate::config::schema::{ConfigValue, join_names};
                $(if let Some(inner) = ConfigValue::refused(&self.$field) {
                    return Some(join_names($crate::key_name!($field $($key)?), &inner));
                })*
                None
            }

            fn ignored(
                &self,
                path: &str,
                place: $crate::config::schema::Location,
                found: &mut Vec<$crate::config::schema::IgnoredKey>,
            ) {
                use $crate::config::schema::{ConfigValue, join_names};
                $(ConfigValue::ignored(
                    &self.$field,
                    &join_names(path, $crate::key_name!($field $($key)?)),
                    place,
                    found,
                );)*
            }
        }
    };
}

/// Makes a struct a block that consists of parts: fields that implement [`ConfigKeys`].
#[macro_export]
macro_rules! compose_block {
    ($name:ident as $shown:literal { $($part:ident : $ty:ty),* $(,)? }) => {
        impl $crate::config::block::ConfigKeys for $name {
            fn keys() -> Vec<$crate::config::schema::KeySpec> {
                let mut keys = Vec::new();
                $(keys.extend(<$ty as $crate::config::block::ConfigKeys>::keys());)*
                keys
            }

            fn entries(&self) -> Vec<(&'static str, $crate::config::document::Node)> {
                let mut entries = Vec::new();
                $(entries.extend($crate::config::block::ConfigKeys::entries(&self.$part));)*
                entries
            }

            fn take<'de, A: $crate::config::block::serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                $(if $crate::config::block::ConfigKeys::take(&mut self.$part, key, map)? {
                    return Ok(true);
                })*
                Ok(false)
            }

            fn resolve_paths(&mut self, directory: &std::path::Path) {
                $($crate::config::block::ConfigKeys::resolve_paths(&mut self.$part, directory);)*
            }

            fn refused(&self) -> Option<String> {
                $(if let Some(key) = $crate::config::block::ConfigKeys::refused(&self.$part) {
                    return Some(key);
                })*
                None
            }

            fn ignored(
                &self,
                path: &str,
                place: $crate::config::schema::Location,
                found: &mut Vec<$crate::config::schema::IgnoredKey>,
            ) {
                $($crate::config::block::ConfigKeys::ignored(&self.$part, path, place, found);)*
            }
        }

        $crate::whole_block!($name as $shown);
    };
}

/// Makes a struct that implements [`ConfigKeys`] readable from one YAML mapping. Unknown keys are
/// errors in Prometheus' wording.
#[macro_export]
macro_rules! whole_block {
    ($name:ident as $shown:literal) => {
        impl $name {
            /// The keys of this block.
            pub fn schema() -> $crate::config::schema::BlockSchema {
                let keys = <$name as $crate::config::block::ConfigKeys>::keys();
                $crate::config::schema::BlockSchema { name: $shown, keys }
            }
        }

        impl $crate::config::schema::ConfigValue for $name {
            const KIND: $crate::config::schema::ValueKind =
                $crate::config::schema::ValueKind::Block($name::schema);

            fn node(&self) -> $crate::config::document::Node {
                $crate::config::document::Node::from_entries($crate::config::block::ConfigKeys::entries(self))
            }

            fn resolve_paths(&mut self, directory: &std::path::Path) {
                $crate::config::block::ConfigKeys::resolve_paths(self, directory);
            }

            fn refused(&self) -> Option<String> {
                $crate::config::block::ConfigKeys::refused(self)
            }

            fn ignored(
                &self,
                path: &str,
                place: $crate::config::schema::Location,
                found: &mut Vec<$crate::config::schema::IgnoredKey>,
            ) {
                $crate::config::block::ConfigKeys::ignored(self, path, place, found);
            }
        }

        impl<'de> $crate::config::block::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::config::block::serde::Deserializer<'de>>(
                d: D,
            ) -> Result<Self, D::Error> {
                $crate::config::block::read_block(d, $shown)
            }
        }
    };
}

/// Defines a block without parts: [`config_keys!`](crate::config_keys) and
/// [`whole_block!`](crate::whole_block) in one.
#[macro_export]
macro_rules! config_block {
    ($(#[$meta:meta])* $vis:vis struct $name:ident as $shown:literal { $($body:tt)* }) => {
        $crate::config_keys! { $(#[$meta])* $vis struct $name { $($body)* } }
        $crate::whole_block!($name as $shown);
    };
}

/// Reads a block from a mapping; `name` is Prometheus' type name.
pub fn read_block<'de, T: ConfigKeys + Default, D: Deserializer<'de>>(
    d: D,
    name: &'static str,
) -> Result<T, D::Error> {
    d.deserialize_map(BlockVisitor { name, block: PhantomData })
}

struct BlockVisitor<T> {
    name: &'static str,
    block: PhantomData<T>,
}

impl<'de, T: ConfigKeys + Default> Visitor<'de> for BlockVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping for {}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut block = T::default();
        // Once per block and not per key: blocks are made of parts, whose keys are collected each
        // time.
        let keys = T::keys();
        while let Some(key) = map.next_key_seed(KeySeed { block: self.name, keys: &keys })? {
            // Always takes the key: the seed has refused all others.
            block.take(&key, &mut map)?;
        }
        Ok(block)
    }
}
