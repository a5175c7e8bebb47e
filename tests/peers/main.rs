//! Our binary among the programs it will live with: Debian's Prometheus, Alertmanager, Pushgateway and node
//! exporter, and Python's prometheus_client. Each test starts its own processes on free ports and kills them.
//!
//! `.ci/install` installs what is needed; a missing program fails its test with the package's name. To check the
//! tests themselves: `PERENNIAL_UNDER_TEST=/usr/bin/prometheus cargo test --test peers`, where only those may
//! fail that ask for more than Debian's Prometheus has: subscriptions, the list of views, columns in configuration errors, Kubernetes, limits of clients,
//! auto-reload by a flag, the refusal of passwords that we do not have.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod alert_kills;
mod alert_tls;
mod alerting;
mod backfill;
mod bad_input;
mod bad_targets;
mod bodies;
mod bounds;
mod clients;
mod cluster;
mod compliance;
mod durability;
mod founding;
mod full_disk;
mod hostile;
mod import;
mod ingest;
mod isolation;
mod native;
mod objects;
mod pushgateway;
mod queries;
mod replay;
mod rule_metrics;
mod search;
mod secrets;
mod seeds;
mod standing;
mod subscribe;
mod views;
