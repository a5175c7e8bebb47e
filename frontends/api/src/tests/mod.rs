//! Tests of the API through its router, with fakes of the services: [`api`] sends single requests,
//! [`requests`] tests how requests are parsed, [`live`] uses sockets, [`connections`] has clients
//! that are slow, idle or many, [`errors`] tests every kind of store error, and [`views`] tests the
//! pages of views; [`topics`] those of lists.

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
mod topics;
mod views;
