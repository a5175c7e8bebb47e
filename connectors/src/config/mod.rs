//! What configuration blocks are made of. A block declares each of its keys once, with
//! [`config_block!`](block::config_block) or [`config_keys!`](block::config_keys): name, type,
//! default. Everything else follows from the types ([`schema::ConfigValue`]): which keys are known,
//! what `/api/v1/status/config` shows of a value, which values are files beside the configuration,
//! which keys this build refuses or ignores.
//!
//! Blocks that Prometheus knows and this build does not have are tables of the same shape
//! ([`unsupported`]), so that their secrets are hidden, too.

pub mod block;
pub mod document;
pub mod path;
pub mod schema;
pub mod secret;
pub mod units;
pub mod unsupported;
pub mod url;
