//! `dns_sd_configs`: targets from SRV, A, AAAA, MX and NS records. Targets get `__meta_dns_name`.
//!
//! The rules for servers and search domains are Prometheus' own and not those of the C library:
//! `/etc/resolv.conf` is read again for each refresh, and its `timeout` and `attempts` are ignored.

mod message;
mod resolver;

use super::names::host_port;
use super::polling::{Polling, Refresh, RefreshError};
use super::{ADDRESS, DiscoveredTarget, DiscoveryContext, Mechanism, StartResult};
use crate::config::error::BlockError;
use crate::config::units::ConfigDuration;
use crate::config_block;
use crate::limits::DNS_LOOKUPS;
use futures::StreamExt;
use futures::future::BoxFuture;
use message::Record;
pub use resolver::LookupError;
use resolver::Resolver;
use std::sync::Arc;
use storage::metrics::Counter;

config_block! {
    /// One entry of `dns_sd_configs`.
    pub struct DnsSdConfig as "dns.SDConfig" {
        /// The names to look up.
        names: Vec<String> = Vec::new(),
        /// Time between refreshes.
        refresh_interval: ConfigDuration = ConfigDuration(30_000),
        /// The type of the records: `SRV`, `A`, `AAAA`, `MX` or `NS`, in any case.
        kind as "type": String = "SRV".to_owned(),
        /// The port of the targets; SRV records have their own.
        port: i64 = 0,
    }
}

/// DNS SD: looks names up, and makes targets of their records.
pub struct DnsSd;

impl Mechanism for DnsSd {
    type Config = DnsSdConfig;

    fn validate(config: &DnsSdConfig) -> Result<(), BlockError> {
        if config.names.is_empty() {
            return Err("DNS-SD config must contain at least one SRV record name".into());
        }
        let kind = type_of(config)?;
        // Only SRV records say a port.
        if kind != message::SRV && config.port == 0 {
            return Err("a port is required in DNS-SD configs for all record types except SRV".into());
        }
        if config.refresh_interval.0 <= 0 {
            return Err("dns_sd_configs: refresh_interval must be greater than 0".into());
        }
        Ok(())
    }

    fn start(config: &DnsSdConfig, context: &DiscoveryContext<'_>) -> StartResult {
        polling(config, Resolver::system(), context)
    }
}

/// The refreshes of an entry by a resolver.
fn polling(config: &DnsSdConfig, resolver: Resolver, context: &DiscoveryContext<'_>) -> StartResult {
    let refresh = DnsRefresh::new(config, resolver, context)?;
    Ok(Polling::start("dns", config.refresh_interval.std(), refresh, context))
}

/// The number of a record type.
fn record_type(name: &str) -> Option<u16> {
    match name.to_ascii_uppercase().as_str() {
        "SRV" => Some(message::SRV),
        "A" => Some(message::A),
        "AAAA" => Some(message::AAAA),
        "MX" => Some(message::MX),
        "NS" => Some(message::NS),
        _ => None,
    }
}

/// The record type of an entry.
fn type_of(config: &DnsSdConfig) -> Result<u16, BlockError> {
    let text = || format!("invalid DNS-SD records type {}", config.kind);
    record_type(&config.kind).ok_or_else(|| BlockError::new(text()))
}

/// A configured name and its targets.
struct Name {
    name: String,
    /// Those of the last lookup that succeeded.
    targets: Option<Vec<DiscoveredTarget>>,
}

struct DnsRefresh {
    names: Vec<Name>,
    record_type: u16,
    port: i64,
    resolver: Resolver,
    lookups: Arc<Counter>,
    failures: Arc<Counter>,
}

impl DnsRefresh {
    fn new(
        config: &DnsSdConfig,
        resolver: Resolver,
        context: &DiscoveryContext<'_>,
    ) -> Result<DnsRefresh, BlockError> {
        Ok(DnsRefresh {
            names: config.names.iter().map(|name| Name { name: name.clone(), targets: None }).collect(),
            record_type: type_of(config)?,
            port: config.port,
            resolver,
            lookups: context.metrics.counter(
                "prometheus_sd_dns_lookups_total",
                "The number of DNS-SD lookups.",
                &[],
            ),
            failures: context.metrics.counter(
                "prometheus_sd_dns_lookup_failures_total",
                "The number of DNS-SD lookup failures.",
                &[],
            ),
        })
    }

    /// Looks up all names. A name that fails keeps its targets.
    async fn look_up(&mut self) -> Result<Vec<DiscoveredTarget>, LookupError> {
        let resolver = &self.resolver;
        let port = self.port;
        let record_type = self.record_type;
        let lookups: Vec<_> =
            self.names.iter().map(|name| resolver.look_up(&name.name, record_type)).collect();
        // So many at the same time and not all: an entry may list thousands of names.
        let answers: Vec<_> = futures::stream::iter(lookups).buffered(DNS_LOOKUPS).collect().await;
        let mut failure = None;
        for (name, answer) in self.names.iter_mut().zip(answers) {
            self.lookups.inc();
            match answer {
                Ok(records) => {
                    let target = |record: &Record| target(&name.name, record, port);
                    name.targets = Some(records.iter().map(target).collect());
                }
                Err(error) => {
                    self.failures.inc();
                    tracing::error!(
                        target: "discovery", name = name.name, %error,
                        "cannot look up a name, whose last targets are kept; check it and the DNS servers"
                    );
                    failure = Some(error);
                }
            }
        }
        match failure {
            // Nothing is known yet: not a list without targets, which would end those before a
            // reload.
            Some(error) if self.names.iter().all(|name| name.targets.is_none()) => Err(error),
            _ => Ok(self.names.iter().flat_map(|name| name.targets.iter().flatten()).cloned().collect()),
        }
    }
}

impl Refresh for DnsRefresh {
    fn refresh(&mut self) -> BoxFuture<'_, Result<Vec<DiscoveredTarget>, RefreshError>> {
        Box::pin(async { Ok(self.look_up().await?) })
    }
}

/// The target of a record.
fn target(name: &str, record: &Record, port: i64) -> DiscoveredTarget {
    let mut labels = DiscoveredTarget::new();
    let mut set = |label: &str, value: &str| labels.insert(label.to_owned(), value.to_owned());
    set("__meta_dns_name", name);
    let address = match record {
        Record::Address(ip) => host_port(&ip.to_string(), port),
        Record::Server(server) => {
            // With the dot at its end, as Prometheus shows it; the address goes without, because
            // certificates have none.
            set("__meta_dns_srv_record_target", &server.host);
            set("__meta_dns_srv_record_port", &server.port.to_string());
            host_port(server.host.trim_end_matches('.'), server.port)
        }
        Record::MailServer(host) => {
            set("__meta_dns_mx_record_target", host);
            host_port(host.trim_end_matches('.'), port)
        }
        Record::NameServer(host) => {
            set("__meta_dns_ns_record_target", host);
            host_port(host.trim_end_matches('.'), port)
        }
    };
    set(ADDRESS, &address);
    labels
}

#[cfg(test)]
mod tests;
