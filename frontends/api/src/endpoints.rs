//! The table of all HTTP endpoints, one entry each: path, methods, handler. [`super::dispatch`]
//! finds the entry of a request; the index page (`/api`) lists them.

use super::confinement::ConfinedAccess;
use super::dispatch::ApiRequest;
use super::query::{self, expressions};
use super::response::ApiResult;
use super::{
    admin, alert_history, capabilities, consoles, federate, index_page, lifecycle, limits, metric_families,
    notifications, pages, remote_read, remote_write, rule_test, rules, saved_queries, search, series,
    silences, status, subscribe, targets, view_check, views,
};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;

/// One endpoint.
pub struct Endpoint {
    /// The path, as axum writes it.
    pub path: &'static str,
    /// The HTTP methods that it takes; API endpoints also take OPTIONS.
    pub methods: &'static [Method],
    /// What it reads besides the URL.
    pub takes: RequestBody,
    /// The state of the server from which on it answers.
    pub since: Availability,
    /// Whether the answer is an endless stream: only pages of this server's own origin may start
    /// one.
    pub streams: bool,
    /// What a user who is confined to labels gets.
    pub confined: ConfinedAccess,
    /// The handler.
    pub handler: fn(ApiRequest) -> BoxFuture<'static, Response>,
    /// One line that describes the endpoint on the index page.
    pub doc: &'static str,
}

impl Endpoint {
    /// Whether a request of this method changes something. A POST to an endpoint that also takes
    /// GET is a read whose parameters are too long for a URL.
    pub fn changes(&self, method: &Method) -> bool {
        let reads = *method == Method::POST && self.methods.contains(&Method::GET);
        !method.is_safe() && !reads
    }
}

/// How far a starting server has come, in this order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// The process runs.
    Start,
    /// The store is open: targets are scraped, samples are appended and history can be read, while
    /// the write-ahead log is still replayed.
    Open,
    /// The server is ready.
    Ready,
}

/// What an endpoint reads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// URL values, and those of a form body.
    Form,
    /// A body of at most this many bytes.
    Body(usize),
}

const GET: &[Method] = &[Method::GET];
const GET_POST: &[Method] = &[Method::GET, Method::POST];
const GET_HEAD: &[Method] = &[Method::GET, Method::HEAD];
const GET_PUT_DELETE: &[Method] = &[Method::GET, Method::PUT, Method::DELETE];
const DELETE: &[Method] = &[Method::DELETE];
const POST: &[Method] = &[Method::POST];
const POST_DELETE: &[Method] = &[Method::POST, Method::DELETE];
const POST_PUT: &[Method] = &[Method::POST, Method::PUT];

type Handler = fn(ApiRequest) -> BoxFuture<'static, Response>;

const fn endpoint(
    path: &'static str,
    methods: &'static [Method],
    handler: Handler,
    doc: &'static str,
) -> Endpoint {
    Endpoint {
        path,
        methods,
        takes: RequestBody::Form,
        since: Availability::Ready,
        streams: false,
        // Whoever adds an endpoint says that it is safe, not that it is not.
        confined: ConfinedAccess::Refused,
        handler,
        doc,
    }
}

/// The endpoint, which also answers users who are confined to labels, from their own series.
const fn own(endpoint: Endpoint) -> Endpoint {
    Endpoint { confined: ConfinedAccess::Own, ..endpoint }
}

/// The endpoint, which has nothing of any series and answers everybody the same.
const fn same(endpoint: Endpoint) -> Endpoint {
    Endpoint { confined: ConfinedAccess::Same, ..endpoint }
}

/// Like [`endpoint`], but it answers while the server still starts.
const fn early(
    path: &'static str,
    methods: &'static [Method],
    handler: Handler,
    doc: &'static str,
) -> Endpoint {
    Endpoint { since: Availability::Start, ..endpoint(path, methods, handler, doc) }
}

/// Like [`endpoint`], but it answers while the write-ahead log is still replayed.
const fn open(
    path: &'static str,
    methods: &'static [Method],
    handler: Handler,
    doc: &'static str,
) -> Endpoint {
    Endpoint { since: Availability::Open, ..endpoint(path, methods, handler, doc) }
}

// A macro, because a function pointer cannot capture the handler: each use becomes a function of
// its own.
/// Makes a table handler of an async function that returns an [`ApiResult`] or a response.
macro_rules! call {
    ($function:path) => {
        |call| Box::pin(async move { finish($function(call).await) })
    };
}

/// A page of the web interface.
const fn page(path: &'static str) -> Endpoint {
    same(early(path, GET_HEAD, call!(pages::page), "A page of the web interface"))
}

fn finish(reply: impl Into<HandlerResponse>) -> Response {
    reply.into().0
}

// A type of this crate, because both types that handlers return are foreign and conversions between
// them cannot be declared here.
struct HandlerResponse(Response);

impl From<ApiResult> for HandlerResponse {
    fn from(reply: ApiResult) -> HandlerResponse {
        HandlerResponse(reply.unwrap_or_else(IntoResponse::into_response))
    }
}

impl From<Response> for HandlerResponse {
    fn from(response: Response) -> HandlerResponse {
        HandlerResponse(response)
    }
}

/// The table of endpoints.
pub static ENDPOINTS: &[Endpoint] = &[
    own(open("/api/v1/query", GET_POST, call!(query::instant), "Answer of a PromQL expression at one time")),
    own(open(
        "/api/v1/query_range",
        GET_POST,
        call!(query::range),
        "Answers at every step of a stretch of time",
    )),
    #[cfg(feature = "sql")]
    own(Endpoint {
        takes: RequestBody::Body(limits::SQL_BODY_BYTES),
        ..open("/api/v1/sql", GET_POST, call!(super::sql::statement), "Answer of a statement in SQL")
    }),
    #[cfg(feature = "sql")]
    endpoint("/api/v1/tables", GET, call!(super::sql::tables::list), "The tables that people have put"),
    #[cfg(feature = "sql")]
    Endpoint {
        takes: RequestBody::Body(limits::TABLE_BODY_BYTES),
        ..endpoint(
            "/api/v1/tables/{name}",
            GET_PUT_DELETE,
            call!(super::sql::tables::table),
            "A table for joins in SQL; PUT: CSV, JSON or NDJSON",
        )
    },
    own(endpoint(
        "/api/v1/query_exemplars",
        GET_POST,
        call!(expressions::exemplars),
        "Exemplars of an expression's series",
    )),
    same(open(
        "/api/v1/format_query",
        GET_POST,
        call!(expressions::format),
        "The expression, printed canonically",
    )),
    same(open(
        "/api/v1/promql/functions",
        GET,
        call!(expressions::functions),
        "Functions, their signatures and what they answer, for editors",
    )),
    same(open("/api/v1/parse_query", GET_POST, call!(expressions::parse), "The expression's syntax tree")),
    own(Endpoint {
        streams: true,
        ..endpoint(
            "/api/v1/subscribe",
            GET,
            call!(subscribe::subscribe),
            "Live answers: websocket, server-sent events or NDJSON",
        )
    }),
    endpoint(
        "/api/v1/subscriptions",
        GET,
        call!(subscribe::subscribers::list),
        "Who subscribes, to what, and how much each was sent",
    ),
    endpoint(
        "/api/v1/subscriptions/{id}",
        DELETE,
        call!(subscribe::subscribers::close),
        "Closes the connection of a subscriber; needs --web.enable-admin-api",
    ),
    endpoint("/api/v1/views", GET, call!(views::views), "What stands: plans, rows, shared work, failures"),
    Endpoint {
        takes: RequestBody::Body(limits::STANDING_BODY_BYTES),
        ..endpoint(
            "/api/v1/views/{id}",
            GET_PUT_DELETE,
            call!(views::view),
            "One of the plans that stand; PUT and DELETE: a standing query, by its name",
        )
    },
    endpoint(
        "/api/v1/views/{id}/result",
        GET,
        call!(saved_queries::result),
        "The answer of a plan that stands",
    ),
    endpoint(
        "/api/v1/views/{id}/check",
        GET,
        call!(view_check::check),
        "Whether the answer of a view is the one that a query over history gives",
    ),
    own(open("/api/v1/series", GET_POST, call!(series::series), "Label sets of the series that match")),
    own(open("/api/v1/labels", GET_POST, call!(series::label_names), "Label names")),
    own(open("/api/v1/label/{name}/values", GET, call!(series::label_values), "Values of one label")),
    own(endpoint(
        "/api/v1/search/metric_names",
        GET_POST,
        call!(search::metric_names),
        "Metric names like what somebody types; needs --enable-feature=search-api",
    )),
    own(endpoint(
        "/api/v1/search/label_names",
        GET_POST,
        call!(search::label_names),
        "Label names, likewise",
    )),
    own(endpoint(
        "/api/v1/search/label_values",
        GET_POST,
        call!(search::label_values),
        "Values of one label, likewise",
    )),
    own(endpoint("/api/v1/rules", GET, call!(rules::rules), "Rule groups and their state")),
    endpoint("/api/v1/rules/source", GET, call!(rules::source), "Where in its file each rule stands"),
    own(endpoint("/api/v1/alerts", GET, call!(rules::alerts), "Pending and firing alerts")),
    endpoint(
        "/api/v1/alerts/history",
        GET,
        call!(alert_history::history),
        "When alerts became pending, fired and ended, and why",
    ),
    endpoint(
        "/api/v1/alerts/silences",
        GET,
        call!(silences::silences),
        "What people have silenced at the Alertmanagers",
    ),
    Endpoint {
        takes: RequestBody::Body(limits::RULE_TEST_BODY_BYTES),
        ..endpoint(
            "/api/v1/rules/test",
            POST,
            call!(rule_test::test),
            "What an alert would have done in the past",
        )
    },
    open("/api/v1/targets", GET, call!(targets::targets), "Scrape targets"),
    open("/api/v1/targets/metadata", GET, call!(targets::target_metadata), "Metric metadata by target"),
    open("/api/v1/scrape_pools", GET, call!(targets::scrape_pools), "Names of the scrape pools"),
    open(
        "/api/v1/targets/relabel_steps",
        GET,
        call!(targets::relabel_steps),
        "What each relabelling rule of a pool makes of labels",
    ),
    open(
        "/api/v1/relabel",
        GET_POST,
        call!(targets::relabel),
        "What relabelling rules would make of labels, to try them",
    ),
    open(
        "/api/v1/scrape_pools/config",
        GET,
        call!(targets::scrape_pool_config),
        "The configuration of one scrape pool",
    ),
    early("/api/v1/notifications", GET, call!(notifications::notifications), "What the operator should know"),
    Endpoint {
        streams: true,
        ..early("/api/v1/notifications/live", GET, call!(notifications::live), "The same, as it changes")
    },
    same(early("/api/v1/features", GET, call!(capabilities::features), "What this server can do")),
    same(early("/api/v1/openapi.yaml", GET, call!(capabilities::openapi), "This table, for programs")),
    early(
        "/api/v1/status/self_metrics",
        GET,
        call!(metric_families::self_metrics),
        "The metrics of this server as JSON",
    ),
    open("/api/v1/status/tsdb/blocks", GET, call!(status::tsdb_blocks), "The blocks on disk"),
    own(open("/api/v1/metadata", GET, call!(targets::metadata), "Metric metadata")),
    open("/api/v1/alertmanagers", GET, call!(status::alertmanagers), "Where alerts go"),
    same(early("/api/v1/status/buildinfo", GET, call!(status::build_info), "Version")),
    open("/api/v1/status/runtimeinfo", GET, call!(status::runtime_info), "State of the process"),
    open("/api/v1/status/flags", GET, call!(status::flags), "Command line flags"),
    open("/api/v1/status/config", GET, call!(status::config), "The configuration in force"),
    open("/api/v1/status/tsdb", GET, call!(status::tsdb), "What the head holds"),
    open(
        "/api/v1/status/queries",
        GET,
        call!(query::running_queries::queries),
        "Queries that run, and what the recent ones cost",
    ),
    open(
        "/api/v1/status/queries/{id}",
        POST_DELETE,
        call!(query::running_queries::stop),
        "Stops a query; needs --web.enable-admin-api",
    ),
    same(early("/api/v1/status/walreplay", GET, call!(status::wal_replay), "Progress of starting up")),
    Endpoint {
        takes: RequestBody::Body(limits::WRITE_BYTES),
        ..open("/api/v1/write", POST, call!(remote_write::write), "Remote write receiver")
    },
    Endpoint {
        takes: RequestBody::Body(limits::WRITE_BYTES),
        ..open("/api/v1/otlp/v1/metrics", POST, call!(remote_write::otlp), "Receiver of OTLP")
    },
    own(Endpoint {
        takes: RequestBody::Body(limits::READ_BYTES),
        ..open("/api/v1/read", POST, call!(remote_read::read), "Samples for other servers (remote read)")
    }),
    endpoint(
        "/api/v1/admin/tsdb/delete_series",
        POST_PUT,
        call!(admin::delete_series),
        "Deletes what the series that match have; needs --web.enable-admin-api",
    ),
    endpoint(
        "/api/v1/admin/tsdb/clean_tombstones",
        POST_PUT,
        call!(admin::clean_tombstones),
        "Frees the disk space of what is deleted",
    ),
    endpoint(
        "/api/v1/admin/tsdb/snapshot",
        POST_PUT,
        call!(admin::snapshot),
        "A copy of the data directory, under snapshots/ in it",
    ),
    own(endpoint(
        "/federate",
        GET,
        call!(federate::federate),
        "Newest samples of the series that match, as text",
    )),
    early("/metrics", GET, call!(status::metrics), "Metrics of this server"),
    same(early("/version", GET, call!(status::version), "Version")),
    same(early("/-/ready", GET_HEAD, call!(lifecycle::ready), "200 when requests are served")),
    same(early(
        "/-/healthy",
        GET_HEAD,
        call!(lifecycle::healthy),
        "200 while the process lives and can store, else 503",
    )),
    early("/-/reload", POST_PUT, call!(lifecycle::reload), "Reads the configuration again"),
    early("/-/quit", POST_PUT, call!(lifecycle::quit), "Stops the server"),
    same(early("/api", GET, call!(index_page::page), "This list")),
    same(early("/graph", GET_HEAD, call!(pages::graph), "Where links of alerts lead: the query page")),
    endpoint("/consoles/{*path}", GET, call!(consoles::console), "Pages of --web.console.templates"),
    endpoint("/user/{*path}", GET, call!(consoles::user_file), "Files of --web.user-assets"),
    same(early("/", GET_HEAD, call!(pages::start), "The web page")),
    same(early("/a/{file}", GET_HEAD, call!(pages::file), "Scripts of the web page")),
    same(early("/classic/static/{*path}", GET_HEAD, call!(pages::classic), "What console templates load")),
    same(early("/favicon.svg", GET_HEAD, call!(pages::icon), "Its icon")),
    page("/agent"),
    page("/query"),
    page("/alerts"),
    page("/alerts/history"),
    page("/targets"),
    page("/cardinality"),
    page("/relabel"),
    page("/rules"),
    page("/sql"),
    page("/queries"),
    page("/lint"),
    page("/views"),
    page("/views/{id}"),
    page("/service-discovery"),
    page("/tsdb-status"),
    page("/status"),
    page("/flags"),
    page("/config"),
    page("/alertmanager-discovery"),
];
