//! The outside world: [`scrape`] and [`discovery`] bring samples in, [`remote`] and
//! [`otlp`] take them by push, [`host_metrics`] exposes the machine's own, [`alertmanager`] carries alerts out, [`import`] and
//! [`mod@export`] move history, [`objects`] is where old blocks go, [`traces`] sends spans. Knows the store, but no plan
//! and no query. These modules do not see each other, except that [`scrape`] and [`alertmanager`]
//! get their targets from [`discovery`], and [`otlp`] stores as [`remote`] does. What they share is below them: [`relabel`] and [`names`]
//! rewrite labels, [`exposition`] reads the formats of metrics, [`http_client`] sends requests, and
//! their configuration blocks are made of [`config`].

#![warn(unreachable_pub)]

pub mod alertmanager;
pub mod api_client;
pub mod aws_credentials;
pub mod aws_signature;
pub mod blocking;
pub mod cloud_auth;
pub mod config;
pub mod decompress;
pub mod discovery;
mod encrypted_pem;
pub mod export;
pub mod exposition;
pub mod host_metrics;
pub mod http_client;
pub mod import;
mod jwt;
pub mod limits;
pub mod names;
pub mod native_histogram;
pub mod number;
pub mod objects;
pub mod otlp;
mod otlp_common;
pub mod protobuf;
pub mod relabel;
pub mod remote;
pub mod scrape;
pub mod threads;
pub mod traces;
pub mod wall_clock;
mod xml;
