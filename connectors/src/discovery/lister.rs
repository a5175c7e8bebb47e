//! [`Lister`]: the trait of discovery mechanisms that poll an HTTP API for their targets, as most
//! clouds do.
//!
//! An implementation has a configuration and lists targets; interval, HTTP client and metrics are
//! provided. [`super::polling`] runs it. `hetzner.rs` is a short example.

pub(super) use super::StartError;
use super::polling::{Polling, Refresh, RefreshError};
use super::{DiscoveredTarget, DiscoveryContext, Mechanism, StartResult};
pub(super) use crate::api_client::{ApiClient, ApiError, Pages, path_segment, with_query};
pub(super) use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::schema::ConfigValue;
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::config::units::ConfigDuration;
use crate::http_client::HttpConfig;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// What every mechanism of this kind is configured with.
pub trait ListerConfig:
    ConfigValue + DeserializeOwned + Clone + std::fmt::Debug + PartialEq + 'static
{
    /// Time between refreshes; also the timeout of a request.
    fn interval(&self) -> ConfigDuration;

    /// The options of the HTTP client, if the block has them.
    fn http(&self) -> Option<&HttpConfig> {
        None
    }
}

/// Declares the configuration of a mechanism: its own keys, which have a `refresh_interval`, and
/// those of an HTTP client.
macro_rules! lister_config {
    ($(#[$meta:meta])* $vis:vis $config:ident as $shown:literal, $keys:ident { $($body:tt)* }) => {
        $crate::config_keys! {
            /// Its own keys.
            $vis struct $keys { $($body)* }
        }

        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $config {
            /// Its own keys.
            pub keys: $keys,
            /// How the server is reached.
            pub http: $crate::http_client::HttpConfig,
        }

        $crate::compose_block!($config as $shown { keys: $keys, http: $crate::http_client::HttpConfig });

        impl $crate::discovery::lister::ListerConfig for $config {
            fn interval(&self) -> $crate::config::units::ConfigDuration {
                self.keys.refresh_interval
            }

            fn http(&self) -> Option<&$crate::http_client::HttpConfig> {
                Some(&self.http)
            }
        }
    };
}

pub(crate) use lister_config;

/// A mechanism that lists its targets at an interval.
///
/// # Contract
///
/// 1. `check` and `create` make no request; `list` makes all of them, through the client of
///    `context`.
/// 2. `list` returns all targets or an error. A part of the list would end the other targets.
/// 3. An answer with any number of pages ends: [`crate::api_client::Pages`] counts them.
pub trait Lister: Send + Sized + 'static {
    /// Prometheus' name of the mechanism: `hetzner`.
    const NAME: &'static str;

    /// One entry of the list under its key.
    type Config: ListerConfig;

    /// Checks what the types cannot say; the options of the HTTP client are checked after it.
    fn check(config: &Self::Config) -> Result<(), BlockError>;

    /// Prepares the requests of an entry; makes none.
    fn create(config: &Self::Config, context: &DiscoveryContext<'_>) -> Result<Self, StartError>;

    /// The complete list. With an error the targets of the last list stay.
    fn list(&mut self) -> impl Future<Output = Result<Vec<DiscoveredTarget>, ApiError>> + Send;
}

impl<L: Lister> Mechanism for L {
    type Config = L::Config;

    fn validate(config: &L::Config) -> Result<(), BlockError> {
        L::check(config)?;
        if config.interval().0 <= 0 {
            let text = format!("{}_sd_configs: refresh_interval must be greater than 0", L::NAME);
            return Err(BlockError::new(text));
        }
        config.http().map_or(Ok(()), HttpConfig::validate)
    }

    fn http(config: &L::Config) -> Option<&HttpConfig> {
        config.http()
    }

    fn start(config: &L::Config, context: &DiscoveryContext<'_>) -> StartResult {
        let lister = L::create(config, context)?;
        Ok(Polling::start(L::NAME, config.interval().std(), ListRefresh(lister), context))
    }
}

struct ListRefresh<L>(L);

impl<L: Lister> Refresh for ListRefresh<L> {
    fn refresh(&mut self) -> BoxFuture<'_, Result<Vec<DiscoveredTarget>, RefreshError>> {
        Box::pin(async { Ok(self.0.list().await?) })
    }
}

impl ApiClient {
    /// A client with the options of a block; a request may take as long as the interval.
    pub fn new(
        http: &HttpConfig,
        interval: ConfigDuration,
        context: &DiscoveryContext<'_>,
    ) -> Result<ApiClient, StartError> {
        Ok(ApiClient::with_timeout(context.client(http)?, interval.std()))
    }

    /// A client for requests that no block has options for: as in Prometheus, `HTTPS_PROXY` and the
    /// variables with it say whether they go through a proxy.
    pub fn without_options(
        timeout: Duration,
        context: &DiscoveryContext<'_>,
    ) -> Result<ApiClient, StartError> {
        let http = HttpConfig { proxy_from_environment: true, ..HttpConfig::default() };
        Ok(ApiClient::with_timeout(context.client(&http)?, timeout))
    }
}

/// Checks that there is one secret key, in Prometheus' words.
pub(super) fn check_secret_key(key: &Secret, file: &ConfigPath) -> Result<(), BlockError> {
    match (key.expose().is_empty(), file.is_empty()) {
        (true, true) => Err("one of secret_key & secret_key_file must be configured".into()),
        (false, false) => Err("at most one of secret_key & secret_key_file must be configured".into()),
        _ => Ok(()),
    }
}

/// The secret key: of the configuration, or of a file that is read for each request.
pub(super) fn secret_key(key: &Secret, file: &ConfigPath) -> Result<Secret, CredentialError> {
    if file.is_empty() { Ok(key.clone()) } else { read_credential(file).map(Secret::new) }
}
