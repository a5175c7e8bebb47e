//! Tests of the API through its router, with fakes behind the traits: [`api`] by single requests, [`live`] over sockets.

mod api;
mod fakes;
mod live;
