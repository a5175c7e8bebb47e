//! Tests our binary with the programs around it: Debian's Prometheus, Alertmanager, Pushgateway and
//! node exporter, Python's prometheus_client, and OpenTelemetry. Each test starts its own processes
//! on free ports and kills them.
//!
//! `.ci/install` installs the programs; if one is missing, its test fails with the name of the
//! package. To check the tests themselves, run `PERENNIAL_UNDER_TEST=/usr/bin/prometheus cargo test
//! --test peers`: only tests of features that Debian's Prometheus lacks may fail: subscriptions,
//! the list of views, columns in configuration errors, Kubernetes, limits of clients, auto-reload
//! by a flag, and the refusal of passwords that our server does not support.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod agent;
mod alert_kills;
mod alert_tls;
mod alerting;
mod backfill;
mod bad_input;
mod bad_targets;
mod bodies;
mod bounds;
mod clients;
mod cloud_auth;
mod cluster;
mod compliance;
mod confined;
mod consoles;
mod discovery;
mod durability;
mod founding;
mod full_disk;
mod hostile;
mod http_clients;
mod import;
mod ingest;
mod isolation;
mod keys;
mod native;
mod objects;
mod otlp;
mod pushgateway;
mod queries;
mod remote_read;
mod remote_write;
mod replay;
mod rule_metrics;
mod search;
mod secrets;
mod seeds;
mod self_metrics;
mod socks;
mod standing;
mod subscribe;
mod systemd;
mod views;
mod web_tls;
