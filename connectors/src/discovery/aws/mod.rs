//! The mechanisms of AWS: what their configurations share, the calls of its APIs, and
//! `aws_sd_configs`, which is any of them by its role.

mod client;
mod ec2;
mod ecs;
mod elasticache;
mod fields;
mod lightsail;
mod msk;
mod rds;

pub use ec2::{Ec2Sd, Ec2SdConfig};
pub use ecs::{EcsSd, EcsSdConfig};
pub use elasticache::{ElastiCacheSd, ElastiCacheSdConfig};
pub use lightsail::{LightsailSd, LightsailSdConfig};
pub use msk::{MskSd, MskSdConfig};
pub use rds::{RdsSd, RdsSdConfig};

use super::{DiscoveryContext, Mechanism, StartResult};
use crate::aws_credentials::AwsSettings;
use crate::config::secret::Secret;
use crate::config::units::ConfigDuration;
use crate::http_client::HttpConfig;
use crate::{compose_block, config_block, config_keys};

config_keys! {
    /// The keys that all mechanisms of AWS have.
    pub struct AwsKeys {
        /// The region; empty: that of the environment.
        region: String = String::new(),
        /// Another URL of the service.
        endpoint: String = String::new(),
        /// The public part of an access key; empty: keys of the environment.
        access_key: String = String::new(),
        /// The secret part.
        secret_key: Secret = Secret::default(),
        /// A profile of the shared files.
        profile: String = String::new(),
        /// A role to assume.
        role_arn: String = String::new(),
        /// What the role's owner wants to be told.
        external_id: String = String::new(),
        /// Time between refreshes, and the longest request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of targets.
        port: i64 = 80,
    }
}

impl AwsKeys {
    fn settings(&self) -> AwsSettings {
        AwsSettings {
            region: self.region.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            profile: self.profile.clone(),
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
        }
    }
}

config_block! {
    /// A condition that the service applies to its list.
    pub struct AwsFilter as "aws.Filter" {
        /// Its name: `instance-state-name`.
        name: String = String::new(),
        /// The values, one of which must fit.
        values: Vec<String> = Vec::new(),
    }
}

/// Declares the configuration of one mechanism of AWS: the shared keys, its own, and those of an
/// HTTP client.
macro_rules! aws_config {
    ($(#[$meta:meta])* $vis:vis $config:ident as $shown:literal, $keys:ident { $($body:tt)* }) => {
        $crate::config_keys! {
            /// Its own keys.
            $vis struct $keys { $($body)* }
        }

        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $config {
            /// The keys that all mechanisms of AWS have.
            pub aws: $crate::discovery::aws::AwsKeys,
            /// Its own keys.
            pub own: $keys,
            /// How the services are reached.
            pub http: $crate::http_client::HttpConfig,
        }

        $crate::compose_block!($config as $shown {
            aws: $crate::discovery::aws::AwsKeys,
            own: $keys,
            http: $crate::http_client::HttpConfig,
        });

        impl $crate::discovery::lister::ListerConfig for $config {
            fn interval(&self) -> $crate::config::units::ConfigDuration {
                self.aws.refresh_interval
            }

            fn http(&self) -> Option<&$crate::http_client::HttpConfig> {
                Some(&self.http)
            }
        }
    };
}

use aws_config;

config_keys! {
    /// The keys of an entry of `aws_sd_configs` that not all roles have.
    pub struct AwsRoleKeys {
        /// Which mechanism it is.
        role: String = String::new(),
        /// Conditions of `ec2` and `rds`.
        filters: Vec<AwsFilter> = Vec::new(),
        /// Clusters of `ecs`, `elasticache`, `msk` and `rds`.
        clusters: Vec<String> = Vec::new(),
    }
}

/// One entry of `aws_sd_configs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AwsSdConfig {
    /// The role, and keys of some roles.
    pub own: AwsRoleKeys,
    /// The keys of all roles.
    pub aws: AwsKeys,
    /// How the services are reached.
    pub http: HttpConfig,
}

compose_block!(AwsSdConfig as "aws.SDConfig" { own: AwsRoleKeys, aws: AwsKeys, http: HttpConfig });

/// The mechanism of `aws_sd_configs`.
pub struct AwsSd;

/// An entry of `aws_sd_configs` as the entry of the mechanism that its role names.
enum AwsRole {
    Ec2(Ec2SdConfig),
    Ecs(EcsSdConfig),
    ElastiCache(ElastiCacheSdConfig),
    Lightsail(LightsailSdConfig),
    Msk(MskSdConfig),
    Rds(RdsSdConfig),
}

impl AwsRole {
    fn of(config: &AwsSdConfig) -> Result<AwsRole, String> {
        let mut aws = config.aws.clone();
        // As in Prometheus: zero is as if it were not there.
        let defaults = AwsKeys::default();
        if aws.port == 0 {
            aws.port = defaults.port;
        }
        if aws.refresh_interval.0 == 0 {
            aws.refresh_interval = defaults.refresh_interval;
        }
        let http = config.http.clone();
        let AwsRoleKeys { role, filters, clusters } = config.own.clone();
        Ok(match role.as_str() {
            "ec2" => AwsRole::Ec2(Ec2SdConfig { aws, own: ec2::Ec2Keys { filters }, http }),
            "ecs" => AwsRole::Ecs(EcsSdConfig {
                aws,
                own: ecs::EcsKeys { clusters, ..ecs::EcsKeys::default() },
                http,
            }),
            "elasticache" => {
                let own =
                    elasticache::ElastiCacheKeys { clusters, ..elasticache::ElastiCacheKeys::default() };
                AwsRole::ElastiCache(ElastiCacheSdConfig { aws, own, http })
            }
            "lightsail" => AwsRole::Lightsail(LightsailSdConfig { aws, http }),
            "msk" => AwsRole::Msk(MskSdConfig {
                aws,
                own: msk::MskKeys { clusters, ..msk::MskKeys::default() },
                http,
            }),
            "rds" => {
                let own = rds::RdsKeys { clusters, filters, ..rds::RdsKeys::default() };
                AwsRole::Rds(RdsSdConfig { aws, own, http })
            }
            other => return Err(format!("unknown AWS SD role {other:?}")),
        })
    }
}

impl Mechanism for AwsSd {
    type Config = AwsSdConfig;

    fn validate(config: &AwsSdConfig) -> Result<(), String> {
        match AwsRole::of(config)? {
            AwsRole::Ec2(config) => Ec2Sd::validate(&config),
            AwsRole::Ecs(config) => EcsSd::validate(&config),
            AwsRole::ElastiCache(config) => ElastiCacheSd::validate(&config),
            AwsRole::Lightsail(config) => LightsailSd::validate(&config),
            AwsRole::Msk(config) => MskSd::validate(&config),
            AwsRole::Rds(config) => RdsSd::validate(&config),
        }
    }

    fn http(config: &AwsSdConfig) -> Option<&HttpConfig> {
        Some(&config.http)
    }

    fn start(config: &AwsSdConfig, context: &DiscoveryContext<'_>) -> StartResult {
        match AwsRole::of(config)? {
            AwsRole::Ec2(config) => Ec2Sd::start(&config, context),
            AwsRole::Ecs(config) => EcsSd::start(&config, context),
            AwsRole::ElastiCache(config) => ElastiCacheSd::start(&config, context),
            AwsRole::Lightsail(config) => LightsailSd::start(&config, context),
            AwsRole::Msk(config) => MskSd::start(&config, context),
            AwsRole::Rds(config) => RdsSd::start(&config, context),
        }
    }
}

#[cfg(test)]
mod tests;
