//! The settings of the HTTP API ([`ApiSettings`]). The server makes them from the command line;
//! nothing changes them later.

use super::limits;
use engine::plan::Dialect;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use storage::execution::Execution;

/// The settings of this front end, from the command line.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Where browsers find the server, and which pages of others may use it.
    pub web: WebSettings,
    /// What queries may cost, and how they are understood.
    pub queries: QuerySettings,
    /// What the list of features says of the rest of the server.
    pub capabilities: Capabilities,
    /// `--agent`: targets are scraped and samples sent, and nothing is asked of the store.
    pub agent: bool,
    /// `--web.enable-lifecycle`.
    pub lifecycle: bool,
    /// `--web.enable-admin-api`.
    pub admin: bool,
    /// `--enable-feature=search-api`: the most results of a search (`--web.search.max-limit`, 0: no
    /// limit); `None`: search is off.
    pub search: Option<usize>,
    /// `--web.max-subscription-buffers`: bytes that may be queued for all subscribers together.
    pub subscription_buffers: usize,
    /// `--web.max-body-memory`: bytes of all request bodies together.
    pub body_memory: usize,
    /// The directory of the file of active queries; `None`: no file.
    pub data_directory: Option<PathBuf>,
    /// Whether blocking work runs on threads or on the caller.
    pub execution: Execution,
}

impl Default for ApiSettings {
    fn default() -> Self {
        ApiSettings {
            web: WebSettings::default(),
            queries: QuerySettings::default(),
            capabilities: Capabilities::default(),
            agent: false,
            lifecycle: false,
            admin: false,
            search: None,
            subscription_buffers: limits::SUBSCRIPTION_BUFFER_BYTES,
            body_memory: limits::BODY_MEMORY_BYTES,
            data_directory: None,
            execution: Execution::Threads,
        }
    }
}

/// Where browsers find the server, and which pages of others may use it.
#[derive(Clone, Debug)]
pub struct WebSettings {
    /// `--web.route-prefix`: `/`, or a path such as `/prometheus`.
    pub route_prefix: String,
    /// The path of `--web.external-url`, as browsers see it, without a final slash: "" or such as
    /// `/prometheus`.
    pub external_path: String,
    /// Host and port of `--web.external-url`, as browsers name them in `Origin`.
    pub external_authority: String,
    /// `--web.page-title`.
    pub page_title: String,
    /// `--web.cors.origin`: which origins may read; `None` is the default `.*`.
    pub cors_origin: Option<regex::Regex>,
    /// `--web.cors.origin` if it is given: which origins, besides this server's own, may change
    /// something and subscribe.
    pub acting_origin: Option<regex::Regex>,
}

impl Default for WebSettings {
    fn default() -> Self {
        WebSettings {
            route_prefix: "/".into(),
            external_path: String::new(),
            external_authority: String::new(),
            page_title: "Perennial".into(),
            cors_origin: None,
            acting_origin: None,
        }
    }
}

/// What queries may cost, and how they are understood.
#[derive(Clone, Debug)]
pub struct QuerySettings {
    /// `--query.max-concurrency`.
    pub max_concurrency: usize,
    /// `--query.timeout`.
    pub timeout: Duration,
    /// `--query.max-samples`.
    pub max_samples: usize,
    /// `--query.max-bytes`.
    pub max_bytes: usize,
    /// `--query.lookback-delta`, ms.
    pub lookback: i64,
    /// Variants of PromQL, from `--enable-feature`.
    pub dialect: Dialect,
    /// The global evaluation interval, ms: the step of subqueries that name none.
    pub default_step: i64,
    /// `--enable-feature=promql-per-step-stats`: `stats=all` counts samples per step.
    pub step_stats: bool,
}

impl Default for QuerySettings {
    fn default() -> Self {
        QuerySettings {
            max_concurrency: 20,
            timeout: Duration::from_secs(120),
            max_samples: engine::limits::QUERY_SAMPLES,
            max_bytes: engine::limits::QUERY_BYTES,
            lookback: 300_000,
            dialect: Dialect::default(),
            default_step: 60_000,
            step_stats: false,
        }
    }
}

/// What `/api/v1/features` says of parts of the server that this front end does not know itself.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// The discovery mechanisms of Prometheus, with whether this server has them.
    pub discovery: BTreeMap<String, bool>,
    /// The functions that templates of alerts may call.
    pub template_functions: Vec<String>,
    /// `--enable-feature=otlp-deltatocumulative`: the receiver of OTLP stores sums of deltas.
    pub otlp_delta_sums: bool,
    /// `--enable-feature=otlp-native-delta-ingestion`: the receiver of OTLP stores deltas.
    pub otlp_native_deltas: bool,
}

/// Compiles `--web.cors.origin`; `.*` means any origin.
pub fn cors_origin(pattern: &str) -> Result<Option<regex::Regex>, regex::Error> {
    if pattern == ".*" { Ok(None) } else { acting_origin(pattern).map(Some) }
}

/// Compiles `--web.cors.origin` as given.
pub fn acting_origin(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::Regex::new(&format!("^(?:{pattern})$"))
}
