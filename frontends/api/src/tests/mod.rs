//! Tests of the API through its router, with fakes of the services ([`fakes`]).
//!
//! [`api`] sends single requests, [`requests`] tests how requests are parsed, [`live`] tests
//! subscriptions over sockets, [`connections`] has clients that are slow, idle or many, [`errors`]
//! every kind of store error. [`views`], [`standing`], [`search`] and [`topics`] each test one area
//! of endpoints.

mod api;
mod connections;
mod errors;
mod fakes;
mod live;
mod requests;
mod search;
#[cfg(feature = "sql")]
mod sql;
mod standing;
mod subscribers;
mod topics;
mod views;
