//! The configuration block `tracing` (OTLP endpoint, sampling, TLS), as in Prometheus.

use crate::config::error::BlockError;
use crate::config::secret::Secret;
use crate::config::units::ConfigDuration;
use crate::config_block;
use crate::http_client::{TlsConfig, check_header_names};
use std::collections::BTreeMap;

config_block! {
    /// `tracing`.
    pub struct TracingConfig as "config.TracingConfig" {
        /// The protocol: grpc or http.
        client_type: String = "grpc".to_owned(),
        /// Where spans are sent, `host:port`.
        endpoint: String = String::new(),
        /// The share of traces that is sent, from 0 to 1.
        sampling_fraction: f64 = 0.0,
        /// Whether the connection is not encrypted; tls_config is ignored then.
        insecure: bool = false,
        /// Certificates.
        tls_config: Option<TlsConfig> = None,
        /// Headers of the requests.
        headers: BTreeMap<String, Secret> = BTreeMap::new(),
        /// gzip, or none.
        compression: String = String::new(),
        /// Longest time of a request.
        timeout: ConfigDuration = ConfigDuration(10_000),
    }
}

impl TracingConfig {
    /// Checks the block. The error is the first problem.
    pub fn validate(&self) -> Result<(), BlockError> {
        let authorization = "custom authorization header configuration is not yet supported";
        check_header_names(self.headers.keys(), authorization)?;
        if !matches!(self.client_type.as_str(), "grpc" | "http") {
            return Err(BlockError::new(format!(
                "expected tracing client type to be to be http or grpc, but got {}",
                self.client_type
            )));
        }
        if self.endpoint.is_empty() {
            return Err("tracing endpoint must be set".into());
        }
        if !matches!(self.compression.as_str(), "" | "gzip") {
            return Err(BlockError::new(format!(
                "invalid compression type {} provided, valid options: gzip",
                self.compression
            )));
        }
        if let Some(tls) = &self.tls_config {
            tls.validate()?;
        }
        Ok(())
    }

    /// Whether spans are sent as gRPC.
    pub fn is_grpc(&self) -> bool {
        self.client_type == "grpc"
    }

    /// Whether requests are compressed.
    pub fn is_gzip(&self) -> bool {
        self.compression == "gzip"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_block_is_refused_with_the_texts_of_prometheus() {
        let cases = [
            ("endpoint: h:4317", ""),
            ("{endpoint: h:4318, client_type: http, compression: gzip, headers: {x: y}}", ""),
            ("{}", "tracing endpoint must be set"),
            (
                "{endpoint: h:1, client_type: udp}",
                "expected tracing client type to be to be http or grpc, but got udp",
            ),
            (
                "{endpoint: h:1, headers: {Authorization: x}}",
                "custom authorization header configuration is not yet supported",
            ),
            (
                "{endpoint: h:1, headers: {Content-Type: x}}",
                "Content-Type is a reserved header. It must not be changed",
            ),
            (
                "{endpoint: h:1, compression: snappy}",
                "invalid compression type snappy provided, valid options: gzip",
            ),
        ];
        for (text, want) in cases {
            let config: TracingConfig = serde_saphyr::from_str(text).unwrap();
            let got = config.validate().err().map_or(String::new(), |error| error.to_string());
            assert_eq!(got, want, "{text}");
        }
    }
}
