//! Limits of SQL, each with unit and reason. [`super::guard`] enforces those of the text;
//! `docs/limits.md` lists all of them for users.

/// Bytes of a statement. People write some kB; generated statements are below this.
pub const TEXT_BYTES: usize = 64 * 1024;
/// Tokens of a statement, without spaces and comments: bounds the time that parsing takes.
pub const TOKENS: usize = 10_000;
/// Operators in a row at one level of parentheses, between commas. Planning takes time with the
/// square of a chain, and a chain of thousands would end the process: dropping it is recursive.
pub const CHAIN: usize = 200;
/// `UNION`, `INTERSECT` and `EXCEPT` in a statement, for the same reason.
pub const SET_OPERATIONS: usize = 32;
/// Joins in a statement: each multiplies what the planner looks at.
pub const JOINS: usize = 16;
/// Joins in a query of PostgreSQL's catalogs, which no planner sees: DBeaver's has 20.
pub const CATALOG_JOINS: usize = 32;
/// Named queries (`WITH`) in a statement.
pub const NAMED_QUERIES: usize = 32;
/// Casts in a statement.
pub const CASTS: usize = 100;
/// Levels of parentheses and of nested queries; the parser's own recursion ends there, too.
pub const NESTING: usize = 50;
/// Levels of an expression after planning.
pub const EXPRESSION_DEPTH: usize = 500;
/// Relations that a statement reads, each time it names them.
pub const RELATIONS: usize = 64;
/// Bytes of the stack on which a statement is parsed, planned and run: above the need of the
/// longest chain that the guard lets through.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that the operators of one statement (sorts, joins, groups) may hold. They never write to
/// the disk.
pub const OPERATOR_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of one text that `string_agg` makes.
pub const AGGREGATED_TEXT_BYTES: usize = 1024 * 1024;
/// Rows of a batch.
pub const BATCH_ROWS: usize = 8_192;
/// Bytes of an answer as JSON, which is built as a whole; other formats are streams.
pub const JSON_BYTES: usize = 64 * 1024 * 1024;
/// Points of a grid: those of a range query in Prometheus.
pub const GRID_POINTS: i64 = 11_000;
/// Parameters of a statement (`$1`, `$2`, …).
pub const PARAMETERS: usize = 100;
/// Elements of a parameter that is a list (`= ANY ($1)`): the text of a statement has fewer.
pub const PARAMETER_ELEMENTS: usize = 10_000;
/// Rows of a standing statement that is not a live plan: it runs again at each tick, and all of its
/// rows are compared with those before.
pub const STANDING_ROWS: usize = 20_000;
/// Statements of views that run again at the same time: each may hold the bytes of its operators.
pub const STANDING_AT_ONCE: usize = 4;
/// Events of a live view that wait for a statement; beyond, the statement reads all rows anew.
pub const LEAF_EVENTS: usize = 1_024;
/// Bytes of a statement that runs again on the stack of its view: what it can say needs little.
pub const SMALL_STATEMENT_BYTES: usize = 2 * 1024;
/// Texts that a statement that runs again keeps with their numbers, if it does not need more of
/// them in each run. Beyond, they are forgotten: most may be labels of series that are gone.
pub const CODED_TEXTS: usize = 65_536;
/// Standing statements that are dataflows. All of them run in one thread.
pub const DATAFLOWS: usize = 200;
/// Rows of all relations that dataflows read: of lists of series all, of others different ones.
pub const DATAFLOW_ROWS: usize = 20_000_000;
/// Bytes of the rows that dataflows keep: of relations, sides of joins, groups. Approximate.
pub const DATAFLOW_BYTES: usize = 4 * 1024 * 1024 * 1024;
/// Rows that went through the operators of a dataflow and were not yet taken up by the next: a join
/// that multiplies ends here.
pub const DATAFLOW_WAITING_ROWS: usize = 10_000_000;
/// What all dataflows may hold together. The defaults are the limits of the same names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DataflowLimits {
    /// [`DATAFLOWS`]
    pub views: usize,
    /// [`DATAFLOW_ROWS`]
    pub rows: usize,
    /// [`DATAFLOW_BYTES`]
    pub bytes: usize,
    /// [`DATAFLOW_WAITING_ROWS`]
    pub waiting_rows: usize,
}

impl Default for DataflowLimits {
    fn default() -> DataflowLimits {
        DataflowLimits {
            views: DATAFLOWS,
            rows: DATAFLOW_ROWS,
            bytes: DATAFLOW_BYTES,
            waiting_rows: DATAFLOW_WAITING_ROWS,
        }
    }
}

/// How often relations are looked at for changes while a view asks, in ms: by dataflows, and by all
/// statements that run again. Views ask once a second.
pub const REFRESH_MS: i64 = 250;
/// The list of series begins at a multiple of this, in ms: between them no series becomes too old.
pub const SERIES_LIST_STEP_MS: i64 = 2 * 3_600 * 1_000;
/// How far back labels of a metric are looked up for its columns, ms: a day.
pub const COLUMNS_WINDOW_MS: i64 = 24 * 3_600 * 1_000;
/// Suggestions in an error.
pub const SUGGESTIONS: usize = 3;
/// Rows of an uploaded table.
pub const TABLE_ROWS: usize = 200_000;
/// Columns of such a table.
pub const TABLE_COLUMNS: usize = 100;
/// Fields of such a table, with and without a value: each takes 24 bytes while it is read.
pub const TABLE_FIELDS: usize = 2_000_000;
/// Bytes of the name of such a table, and of its columns: those of a name in PostgreSQL.
pub const TABLE_NAME_BYTES: usize = 63;
/// Bytes of the rows of one `COPY`: those of a table that is put over HTTP.
pub const COPY_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of the values of one `INSERT … SELECT`.
pub const INSERTED_BYTES: usize = 64 * 1024 * 1024;
/// Removed tables and views whose names standing statements still use.
pub const GONE_NAMES: usize = 1_000;
/// Views: queries with a name.
pub const NAMED_VIEWS: usize = 500;
/// Levels of views that read views.
pub const VIEW_DEPTH: usize = 8;
/// Such tables, and the bytes that all of them hold in memory.
pub const TABLES: usize = 100;
/// See [`TABLES`].
pub const TABLES_BYTES: usize = 256 * 1024 * 1024;
