//! The parts of configuration blocks.
//!
//! A block declares each of its keys once, with [`config_block!`](crate::config_block) or
//! [`config_keys!`](crate::config_keys): name, type, default. Everything else follows from the
//! types ([`schema::ConfigValue`]): which keys are known, what `/api/v1/status/config` shows of a
//! value, which values are paths relative to the configuration file, and which keys this build
//! refuses or ignores.

pub mod block;
pub mod changes;
pub mod document;
pub mod error;
pub mod masked_block;
pub mod path;
pub mod schema;
pub mod secret;
pub mod units;
pub mod url;
