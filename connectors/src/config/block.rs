//! Declarations of configuration blocks: structs whose fields are YAML keys.
//!
//! Prometheus inlines its HTTP options and its discovery mechanisms into every block that needs
//! them. Serde's `flatten` would do the same but re-types scalars on the way (`regex: true` would
//! no longer be a string) and loses strictness, so a block asks its parts one by one which of them
//! [takes](ConfigKeys::take) a key.

use super::schema::{IgnoredKey, KeySpec};
/// For the code that the macros make.
pub use serde;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_saphyr::Location;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// A group of keys inside a YAML mapping.
pub trait ConfigKeys {
    /// Its keys, in the order in which Prometheus prints them.
    fn keys() -> Vec<KeySpec>;

    /// Reads the value if `key` is one of these; says whether it was.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;

    /// Makes relative paths count from `directory`.
    fn resolve_paths(&mut self, directory: &Path);

    /// The first key that is given although this build refuses it.
    fn refused(&self) -> Option<String>;

    /// Adds the keys that are given and ignored; `path` and `place` are the block's.
    fn ignored(&self, path: &str, place: Location, found: &mut Vec<IgnoredKey>);
}

/// Reads a key, and refuses one that is not among `keys`: an error that is raised here knows the
/// key's place.
pub struct KeySeed<'a> {
    /// Prometheus' type of the block.
    pub block: &'static str,
    /// What is possible.
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
        if self.keys.iter().any(|spec| spec.name == key) {
            return Ok(key.to_owned());
        }
        Err(E::custom(format_args!("field {key} not found in type {}", self.block)))
    }
}

/// The YAML key of a field: its own name, unless the declaration gives one.
#[macro_export]
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Defines a struct whose public fields are YAML keys with defaults: [`ConfigKeys`] with `Default`.
/// An absent key and a `null` keep the default. A key that is no Rust name follows its field:
/// `kind as "type": String = …`. Fields after a semicolon are not of the file.
#[macro_export]
macro_rules! config_keys {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$fmeta:meta])* $field:ident $(as $key:literal)? : $ty:ty = $default:expr),* $(,)?
        $(; $($(#[$own_meta:meta])* $own:ident : $own_ty:ty = $own_default:expr),* $(,)?)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $($(#[$fmeta])* pub $field: $ty,)*
            $($($(#[$own_meta])* pub $own: $own_ty,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* $($($own: $own_default,)*)? }
            }
        }

        impl $crate::config::block::ConfigKeys for $name {
            fn keys() -> Vec<$crate::config::schema::KeySpec> {
                use $crate::config::schema::{ConfigValue, key};
                vec![$(key($crate::key_name!($field $($key)?), <$ty as ConfigValue>::KIND)),*]
            }

            fn take<'de, A: $crate::config::block::serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                $(if key == $crate::key_name!($field $($key)?) {
                    if let Some(value) = map.next_value::<Option<$ty>>()? {
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

/// Makes a struct a block out of parts, fields that implement [`ConfigKeys`].
#[macro_export]
macro_rules! compose_block {
    ($name:ident as $shown:literal { $($part:ident : $ty:ty),* $(,)? }) => {
        impl $crate::config::block::ConfigKeys for $name {
            fn keys() -> Vec<$crate::config::schema::KeySpec> {
                let mut keys = Vec::new();
                $(keys.extend(<$ty as $crate::config::block::ConfigKeys>::keys());)*
                keys
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

/// Reads structs that implement [`ConfigKeys`] from one YAML mapping; keys of others are errors in
/// Prometheus' words.
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

/// Defines a block whose keys are all its own: [`config_keys!`](crate::config_keys) and
/// [`whole_block!`](crate::whole_block) in one.
#[macro_export]
macro_rules! config_block {
    ($(#[$meta:meta])* $vis:vis struct $name:ident as $shown:literal { $($body:tt)* }) => {
        $crate::config_keys! { $(#[$meta])* $vis struct $name { $($body)* } }
        $crate::whole_block!($name as $shown);
    };
}

/// Reads a block from a mapping; `name` is Prometheus' type.
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
        let keys = T::keys();
        while let Some(key) = map.next_key_seed(KeySeed { block: self.name, keys: &keys })? {
            // The seed lets only keys through that the block takes.
            block.take(&key, &mut map)?;
        }
        Ok(block)
    }
}
