//! The exposition formats of `scrape_protocols`, and the `Accept` header that requests them.
//!
//! Which formats a job requests is decided in [`super::job`]; what a target sends is recognised by
//! its `Content-Type` in [`crate::scrape::content_type`].

use crate::config::error::BlockError;
use crate::names::Escaping;
use serde::Deserialize;

/// An exposition format, named as in `scrape_protocols`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum ScrapeProtocol {
    /// Protobuf, the format with native histograms.
    PrometheusProto,
    /// OpenMetrics 0.0.1.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetrics0,
    /// OpenMetrics 1.0.0.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetrics1,
    /// Text 0.0.4.
    #[serde(rename = "PrometheusText0.0.4")]
    Text0,
    /// Text 1.0.0: with quoted UTF-8 names.
    #[serde(rename = "PrometheusText1.0.0")]
    Text1,
}

impl ScrapeProtocol {
    /// The formats that Prometheus requests by default, in order.
    pub const DEFAULT: &'static [ScrapeProtocol] = &[
        ScrapeProtocol::OpenMetrics1,
        ScrapeProtocol::OpenMetrics0,
        ScrapeProtocol::Text1,
        ScrapeProtocol::Text0,
    ];

    /// The formats that Prometheus requests if native histograms are wanted.
    pub const NATIVE: &'static [ScrapeProtocol] = &[
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::OpenMetrics1,
        ScrapeProtocol::OpenMetrics0,
        ScrapeProtocol::Text1,
        ScrapeProtocol::Text0,
    ];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => "PrometheusProto",
            ScrapeProtocol::OpenMetrics0 => "OpenMetricsText0.0.1",
            ScrapeProtocol::OpenMetrics1 => "OpenMetricsText1.0.0",
            ScrapeProtocol::Text0 => "PrometheusText0.0.4",
            ScrapeProtocol::Text1 => "PrometheusText1.0.0",
        }
    }

    /// The entry in an `Accept` header, without weight. Only the newer text formats have an
    /// escaping scheme.
    fn accept(self, escaping: Escaping) -> String {
        let escaping = escaping.as_str();
        match self {
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
                    .to_owned()
            }
            ScrapeProtocol::OpenMetrics0 => "application/openmetrics-text;version=0.0.1".to_owned(),
            ScrapeProtocol::OpenMetrics1 => {
                format!("application/openmetrics-text;version=1.0.0;escaping={escaping}")
            }
            ScrapeProtocol::Text0 => "text/plain;version=0.0.4".to_owned(),
            ScrapeProtocol::Text1 => format!("text/plain;version=1.0.0;escaping={escaping}"),
        }
    }

    /// The `Accept` header for `protocols`: the first has weight 0.6, each further one 0.1 less,
    /// `*/*` comes last.
    pub fn accept_header(protocols: &[ScrapeProtocol], escaping: Escaping) -> String {
        // The weights of Prometheus: exporters that choose by them must choose the same format
        // here.
        let mut weight = ScrapeProtocol::NATIVE.len() + 1;
        let mut header = String::new();
        for protocol in protocols {
            header.push_str(&format!("{};q=0.{weight},", protocol.accept(escaping)));
            weight = weight.saturating_sub(1);
        }
        format!("{header}*/*;q=0.{weight}")
    }
}

/// Checks that no format is listed twice.
pub(super) fn check_once(protocols: &[ScrapeProtocol]) -> Result<(), BlockError> {
    let is_again = |(at, protocol): (usize, &ScrapeProtocol)| protocols[..at].contains(protocol);
    if !protocols.iter().enumerate().any(is_again) {
        return Ok(());
    }
    let names: Vec<&str> = protocols.iter().map(|protocol| protocol.as_str()).collect();
    Err(format!("duplicated protocol in scrape_protocols, got [{}]", names.join(" ")).into())
}
