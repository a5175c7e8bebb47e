//! Configuration blocks: structs whose keys can be part of several YAML mappings.
//!
//! Prometheus inlines its HTTP options and its discovery mechanisms into every block that needs
//! them. Serde's `flatten` would do the same, but it changes the types of scalars on the way
//! (`regex: true` would no longer be a string) and accepts unknown keys. So a mapping offers each
//! key to its blocks one by one ([`take`](ConfigBlock::take)).

use serde::de::MapAccess;

/// A group of keys within a YAML mapping.
pub trait ConfigBlock {
    /// Reads the value if `key` belongs to this block. Returns whether it does.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Defines a struct whose public fields are YAML keys with defaults; it implements [`ConfigBlock`]
/// and `Default`. An absent key and a `null` keep the default.
macro_rules! section {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$fmeta:meta])* $field:ident : $ty:ty = $default:expr),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }

        impl $crate::config_block::ConfigBlock for $name {
            fn take<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                $(if key == stringify!($field) {
                    if let Some(value) = map.next_value::<Option<$ty>>()? {
                        self.$field = value;
                    }
                    return Ok(true);
                })*
                Ok(false)
            }
        }
    };
}

/// Implements `Deserialize` for a struct from one YAML mapping whose keys belong to the listed
/// blocks (fields of the struct that implement [`ConfigBlock`]). Any other key is an error with
/// Prometheus' text.
macro_rules! deserialize_sections {
    ($name:ident as $shown:literal { $($field:ident),* }) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a mapping for ", $shown))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut out = $name::default();
                        while let Some(key) = map.next_key::<String>()? {
                            $(if $crate::config_block::ConfigBlock::take(&mut out.$field, &key, &mut map)? {
                                continue;
                            })*
                            return Err(serde::de::Error::custom(format_args!(
                                "field {key} not found in type {}", $shown
                            )));
                        }
                        Ok(out)
                    }
                }
                d.deserialize_map(Visitor)
            }
        }
    };
}

pub(crate) use {deserialize_sections, section};
