//! Everything that connects the store to the outside, except queries.
//!
//! [`scrape`] and [`discovery`] fetch samples; [`remote`] and [`otlp`] receive them;
//! [`host_metrics`] exposes metrics of this machine. [`alertmanager`] sends alerts, [`traces`]
//! sends spans. [`import`] and [`mod@export`] move history in and out; [`objects`] is the object
//! store for old blocks.
//!
//! These modules do not use each other, with two exceptions: [`scrape`] and [`alertmanager`] get
//! their targets from [`discovery`], and [`otlp`] stores as [`remote`] does. Below them is what
//! they share: [`relabel`] and [`names`] for labels, [`exposition`] for the formats of metrics,
//! [`http_client`] for requests, [`config`] for configuration blocks. This crate knows the store,
//! but no plan and no query.
//!
//! Read [`scrape`] next.

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
mod rsa_generation;
pub mod scrape;
pub mod threads;
pub mod traces;
pub mod wall_clock;
mod xml;
