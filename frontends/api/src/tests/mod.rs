//! Tests of the API through its router, with fakes behind the traits: [`api`] by single requests, [`requests`] how requests are
//! read, [`live`] over sockets,
//! [`connections`] with clients that are slow, silent or many, [`views`] the
//! pages of what stands.

mod api;
mod connections;
mod fakes;
mod live;
mod requests;
mod search;
mod standing;
mod views;
