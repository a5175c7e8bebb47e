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

use super::lister::Lister;
use super::{DiscoveryContext, Mechanism, StartResult};
use crate::aws_credentials::AwsSettings;
use crate::config::error::BlockError;
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
        /// The external id, a word that the owner of the role demands.
        external_id: String = String::new(),
        /// Time between refreshes; also the timeout of a request.
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
            uses_fips_sts: false,
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

/// A mechanism that is a role of `aws_sd_configs` under its own name.
trait AwsRole: Lister {
    /// The entry of this mechanism that an entry of `aws_sd_configs` stands for.
    fn entry(shared: AwsSdConfig) -> Self::Config;
}

impl AwsRole for Ec2Sd {
    fn entry(AwsSdConfig { own, aws, http }: AwsSdConfig) -> Ec2SdConfig {
        Ec2SdConfig { aws, own: ec2::Ec2Keys { filters: own.filters }, http }
    }
}

impl AwsRole for EcsSd {
    fn entry(AwsSdConfig { own, aws, http }: AwsSdConfig) -> EcsSdConfig {
        let own = ecs::EcsKeys { clusters: own.clusters, ..ecs::EcsKeys::default() };
        EcsSdConfig { aws, own, http }
    }
}

impl AwsRole for ElastiCacheSd {
    fn entry(AwsSdConfig { own, aws, http }: AwsSdConfig) -> ElastiCacheSdConfig {
        let defaults = elasticache::ElastiCacheKeys::default();
        let own = elasticache::ElastiCacheKeys { clusters: own.clusters, ..defaults };
        ElastiCacheSdConfig { aws, own, http }
    }
}

impl AwsRole for LightsailSd {
    fn entry(AwsSdConfig { aws, http, .. }: AwsSdConfig) -> LightsailSdConfig {
        LightsailSdConfig { aws, http }
    }
}

impl AwsRole for MskSd {
    fn entry(AwsSdConfig { own, aws, http }: AwsSdConfig) -> MskSdConfig {
        let own = msk::MskKeys { clusters: own.clusters, ..msk::MskKeys::default() };
        MskSdConfig { aws, own, http }
    }
}

impl AwsRole for RdsSd {
    fn entry(AwsSdConfig { own, aws, http }: AwsSdConfig) -> RdsSdConfig {
        let AwsRoleKeys { clusters, filters, .. } = own;
        let own = rds::RdsKeys { clusters, filters, ..rds::RdsKeys::default() };
        RdsSdConfig { aws, own, http }
    }
}

/// What [`AwsSd`] needs of a role.
struct RoleFunctions {
    name: &'static str,
    validate: fn(AwsSdConfig) -> Result<(), BlockError>,
    start: fn(AwsSdConfig, &DiscoveryContext<'_>) -> StartResult,
}

const fn role<M: AwsRole>() -> RoleFunctions {
    RoleFunctions {
        name: M::NAME,
        validate: |shared| M::validate(&M::entry(shared)),
        start: |shared, context| M::start(&M::entry(shared), context),
    }
}

/// The roles.
const ROLES: [RoleFunctions; 6] = [
    role::<Ec2Sd>(),
    role::<EcsSd>(),
    role::<ElastiCacheSd>(),
    role::<LightsailSd>(),
    role::<MskSd>(),
    role::<RdsSd>(),
];

impl AwsSdConfig {
    fn role(&self) -> Result<&'static RoleFunctions, BlockError> {
        let name = &self.own.role;
        let found = ROLES.iter().find(|role| role.name == name);
        found.ok_or_else(|| BlockError::new(format!("unknown AWS SD role {name:?}")))
    }

    /// The entry with the defaults that Prometheus uses here: zero is as if it were not there.
    fn with_defaults(&self) -> AwsSdConfig {
        let mut config = self.clone();
        let defaults = AwsKeys::default();
        if config.aws.port == 0 {
            config.aws.port = defaults.port;
        }
        if config.aws.refresh_interval.0 == 0 {
            config.aws.refresh_interval = defaults.refresh_interval;
        }
        config
    }
}

impl Mechanism for AwsSd {
    type Config = AwsSdConfig;

    fn validate(config: &AwsSdConfig) -> Result<(), BlockError> {
        (config.role()?.validate)(config.with_defaults())
    }

    fn http(config: &AwsSdConfig) -> Option<&HttpConfig> {
        Some(&config.http)
    }

    fn start(config: &AwsSdConfig, context: &DiscoveryContext<'_>) -> StartResult {
        (config.role()?.start)(config.with_defaults(), context)
    }
}

#[cfg(test)]
mod tests;
