//! Makes the rows of the catalog tables (`pg_class`, `pg_attribute`, `pg_type`, …) from the
//! relations that the SQL engine lists. [`super::tables`] declares the columns.

use super::keys::{BTREE, PrimaryKey};
use super::row_template::RowTemplate;
use super::tables::{self, CatalogTable, INFORMATION_SCHEMA, PG_CATALOG};
use super::types;
use super::value::Value;
use super::{RelationList, SessionInfo};
use crate::limits;
use postgres_types::{Kind, Type};
use sql::SqlError;
use sql::catalog::{ListedColumn, ListedRelation, ListedTable, RelationKind};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Schemas of the server, with the object identifiers that they have here.
pub(crate) const SCHEMAS: &[(&str, i64)] = &[
    (PG_CATALOG, 11),
    (INFORMATION_SCHEMA, 13_000),
    ("public", 2_200),
    ("metrics", 16_001),
    ("samples", 16_002),
    ("meta", 16_003),
];
/// The schemas that are searched for a name without one.
pub(crate) const SEARCH_PATH: &[&str] = &["public", "metrics", "meta"];
/// The name of the one database.
pub(crate) const DATABASE: &str = "perennial";
/// Its object identifier.
const DATABASE_OID: i64 = 16_000;
/// The owner of everything.
pub(crate) const OWNER: &str = "perennial";
/// Its object identifier.
pub(crate) const OWNER_OID: i64 = 10;
/// `pg_am.oid` of `heap`.
const HEAP: i64 = 2;
/// The first object identifier of a relation.
const FIRST_OID: u32 = 20_000;
/// The first object identifier of a function.
const FIRST_FUNCTION: i64 = 17_000;

/// A relation with its object identifier.
#[derive(Debug)]
pub(crate) struct NumberedRelation {
    pub(crate) oid: i64,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) kind: RelationKind,
    /// It is the index of a primary key.
    pub(crate) is_index: bool,
}

impl NumberedRelation {
    /// Whether it is a table, a view or a list.
    fn has_rows(&self) -> bool {
        !self.is_index
    }
}

/// A column of a relation with its type.
struct TypedColumn {
    name: String,
    kind: Type,
    is_nullable: bool,
}

/// All relations, found by name and by object identifier.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    pub(crate) all: Vec<NumberedRelation>,
    pub(super) keys: Vec<PrimaryKey>,
    by_oid: HashMap<i64, usize>,
}

impl Relations {
    /// Numbers relations: by their names, so that a relation keeps its identifier as long as the
    /// server and longer. Names with the same number get the next one.
    fn number(listed: Vec<ListedRelation>, tables: Vec<ListedTable>) -> Relations {
        let mut relations = Relations::default();
        for table in tables::TABLES.iter() {
            let kind = if table.schema == PG_CATALOG { RelationKind::Table } else { RelationKind::View };
            let name = table.name.to_owned();
            let schema = table.schema.to_owned();
            relations.push(NumberedRelation { oid: table.oid, schema, name, kind, is_index: false });
        }
        for ListedRelation { schema, name, kind } in listed {
            let oid = relations.free_oid(&schema, &name);
            relations.push(NumberedRelation { oid, schema, name, kind, is_index: false });
        }
        for table in tables {
            relations.add_key(table);
        }
        relations
    }

    /// Adds the primary key of a table, if it has one.
    fn add_key(&mut self, listed: ListedTable) {
        let Some(table) = self.named(Some("public"), &listed.name).map(|relation| relation.oid) else {
            return;
        };
        if listed.key.is_empty() {
            return;
        }
        let name = PrimaryKey::index_name(&listed.name);
        let index = self.free_oid("public", &name);
        let constraint = self.free_oid("constraint", &name);
        let schema = "public".to_owned();
        let kind = RelationKind::Table;
        self.push(NumberedRelation { oid: index, schema, name, kind, is_index: true });
        self.keys.push(PrimaryKey::new(listed, table, index, constraint));
    }

    /// The object identifier for something of this name.
    fn free_oid(&self, schema: &str, name: &str) -> i64 {
        let mut oid = i64::from(hash(schema, name) % (i32::MAX as u32 - FIRST_OID) + FIRST_OID);
        while self.by_oid.contains_key(&oid) {
            oid += 1;
        }
        oid
    }

    fn push(&mut self, relation: NumberedRelation) {
        self.by_oid.insert(relation.oid, self.all.len());
        self.all.push(relation);
    }

    pub(crate) fn by_oid(&self, oid: i64) -> Option<&NumberedRelation> {
        self.by_oid.get(&oid).map(|at| &self.all[*at])
    }

    /// The relation with this name; without a schema along the search path.
    pub(crate) fn named(&self, schema: Option<&str>, name: &str) -> Option<&NumberedRelation> {
        let find = |schema: &str| self.all.iter().find(|r| r.schema == schema && r.name == name);
        match schema {
            Some(schema) => find(schema),
            None => SEARCH_PATH.iter().find_map(|schema| find(schema)).or_else(|| find(PG_CATALOG)),
        }
    }
}

/// FNV-1a: the same in every version of the server.
fn hash(schema: &str, name: &str) -> u32 {
    let bytes = schema.bytes().chain([b'.']).chain(name.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Whether a relation is found without its schema.
pub(crate) fn is_visible(schema: &str) -> bool {
    schema == PG_CATALOG || SEARCH_PATH.contains(&schema)
}

/// The object identifier of a schema.
pub(crate) fn schema_oid(schema: &str) -> i64 {
    SCHEMAS.iter().find(|(name, _)| *name == schema).map_or(0, |(_, oid)| *oid)
}

/// What decides early, by the columns of the relation alone, whether the columns of a relation are
/// listed at all.
pub(crate) type RowFilter<'a> = dyn Fn(&[Value]) -> Result<bool, SqlError> + 'a;

/// Makes the rows of one query.
pub(crate) struct RowMaker<'a> {
    pub(crate) list: &'a dyn RelationList,
    pub(crate) facts: &'a SessionInfo,
    relations: OnceCell<Rc<Relations>>,
}

impl<'a> RowMaker<'a> {
    pub(crate) fn new(list: &'a dyn RelationList, facts: &'a SessionInfo) -> RowMaker<'a> {
        RowMaker { list, facts, relations: OnceCell::new() }
    }

    /// All relations; listed once per query.
    pub(crate) fn relations(&self) -> Result<Rc<Relations>, SqlError> {
        if let Some(known) = self.relations.get() {
            return Ok(known.clone());
        }
        let numbered = Rc::new(Relations::number(self.list.relations()?, self.list.tables()));
        Ok(self.relations.get_or_init(|| numbered).clone())
    }

    /// The rows of `table` that `wanted` lets through. It is only asked where rows are many.
    pub(crate) fn rows(
        &self,
        table: &CatalogTable,
        wanted: &RowFilter<'_>,
    ) -> Result<Vec<Vec<Value>>, SqlError> {
        let template = RowTemplate::new(table);
        let made = match (table.schema, table.name) {
            (PG_CATALOG, "pg_class") => self.classes(&template)?,
            (PG_CATALOG, "pg_attribute") => return self.attributes(&template, wanted),
            (PG_CATALOG, "pg_namespace") => namespaces(&template),
            (PG_CATALOG, "pg_type") => types::LISTED.iter().map(|kind| type_row(&template, kind)).collect(),
            (PG_CATALOG, "pg_proc") => self.functions(&template),
            (PG_CATALOG, "pg_roles" | "pg_authid") => self.roles(&template),
            (PG_CATALOG, "pg_user") => self.users(&template),
            (PG_CATALOG, "pg_settings") => self.settings(&template),
            (PG_CATALOG, "pg_tables") => self.tables(&template)?,
            (PG_CATALOG, "pg_views") => {
                self.views(&template, RelationKind::View, ["viewname", "viewowner"])?
            }
            (PG_CATALOG, "pg_matviews") => {
                self.views(&template, RelationKind::MaterializedView, ["matviewname", "matviewowner"])?
            }
            (PG_CATALOG, "pg_stat_user_tables") => self.table_statistics(&template)?,
            (PG_CATALOG, "pg_index") => self.key_rows(|key| vec![key.index_row(&template)])?,
            (PG_CATALOG, "pg_constraint") => self.key_rows(|key| vec![key.constraint_row(&template)])?,
            (PG_CATALOG, "pg_indexes") => self.key_rows(|key| vec![key.indexes_row(&template)])?,
            (PG_CATALOG, "pg_am") => access_methods(&template),
            (PG_CATALOG, _) => single_rows(table.name, &template),
            (_, "schemata") => SCHEMAS.iter().map(|(name, _)| schemata_row(&template, name)).collect(),
            (_, "tables") => self.information_tables(&template)?,
            (_, "columns") => return self.information_columns(&template, wanted),
            (_, "views") => self.information_views(&template)?,
            (_, "table_constraints") => self.key_rows(|key| vec![key.table_constraint_row(&template)])?,
            (_, "key_column_usage" | "constraint_column_usage") => {
                self.key_rows(|key| key.column_rows(&template))?
            }
            _ => Vec::new(),
        };
        Ok(made)
    }

    /// The rows that primary keys have in a table.
    fn key_rows(&self, rows: impl Fn(&PrimaryKey) -> Vec<Vec<Value>>) -> Result<Vec<Vec<Value>>, SqlError> {
        Ok(self.relations()?.keys.iter().flat_map(rows).collect())
    }

    /// The rows of `pg_stat_user_tables`. The rows of a metric are not counted: clients ask for all
    /// tables at once.
    fn table_statistics(&self, template: &RowTemplate) -> Result<Vec<Vec<Value>>, SqlError> {
        let relations = self.relations()?;
        let row = |table: ListedTable| {
            let relation = relations.named(Some("public"), &table.name)?;
            Some(template.row(&[
                ("relid", Value::Int(relation.oid)),
                ("schemaname", Value::text(&relation.schema)),
                ("relname", Value::text(&table.name)),
                ("n_live_tup", Value::Int(table.rows as i64)),
            ]))
        };
        Ok(self.list.tables().into_iter().filter_map(row).collect())
    }

    /// The rows of `pg_class`.
    fn classes(&self, template: &RowTemplate) -> Result<Vec<Vec<Value>>, SqlError> {
        let relations = self.relations()?;
        let with_index: HashSet<i64> = relations.keys.iter().map(|key| key.table).collect();
        let row = |relation: &NumberedRelation| {
            let kind = if relation.is_index { "i" } else { kind_letter(relation.kind) };
            template.row(&[
                ("oid", Value::Int(relation.oid)),
                ("relname", Value::text(&relation.name)),
                ("relnamespace", Value::Int(schema_oid(&relation.schema))),
                ("relowner", Value::Int(OWNER_OID)),
                ("relam", Value::Int(if relation.is_index { BTREE } else { HEAP })),
                ("reltuples", Value::Float(-1.0)),
                ("relhasindex", Value::Bool(with_index.contains(&relation.oid))),
                ("relpersistence", Value::text("p")),
                ("relkind", Value::text(kind)),
                ("relispopulated", Value::Bool(true)),
                ("relreplident", Value::text("n")),
            ])
        };
        Ok(relations.all.iter().map(row).collect())
    }

    /// The columns of a relation, with their types. Those of an index are in its table.
    fn columns_of(&self, relation: &NumberedRelation) -> Result<Vec<TypedColumn>, SqlError> {
        if relation.is_index {
            return Ok(Vec::new());
        }
        if let Some(table) = tables::table(Some(&relation.schema), &relation.name) {
            let column = |c: &tables::CatalogColumn| TypedColumn {
                name: c.name.to_owned(),
                kind: c.kind.clone(),
                is_nullable: true,
            };
            return Ok(table.columns.iter().map(column).collect());
        }
        let listed = self.list.columns(&relation.schema, &relation.name)?;
        let column = |c: ListedColumn| TypedColumn {
            name: c.name,
            kind: types::named(c.kind),
            is_nullable: c.is_nullable,
        };
        Ok(listed.into_iter().map(column).collect())
    }

    /// The rows of `pg_attribute`.
    fn attributes(
        &self,
        template: &RowTemplate,
        wanted: &RowFilter<'_>,
    ) -> Result<Vec<Vec<Value>>, SqlError> {
        let mut rows = Vec::new();
        for relation in &self.relations()?.all {
            if !wanted(&template.row(&[("attrelid", Value::Int(relation.oid))]))? {
                continue;
            }
            for (at, column) in self.columns_of(relation)?.into_iter().enumerate() {
                let TypedColumn { name, kind, is_nullable } = column;
                let is_text = types::category(&kind) == "S";
                rows.push(template.row(&[
                    ("attrelid", Value::Int(relation.oid)),
                    ("attname", Value::text(&name)),
                    ("atttypid", Value::Int(i64::from(kind.oid()))),
                    ("attstattarget", Value::Int(-1)),
                    ("attlen", Value::Int(i64::from(types::length(&kind)))),
                    ("attnum", Value::Int(at as i64 + 1)),
                    ("attcacheoff", Value::Int(-1)),
                    ("atttypmod", Value::Int(-1)),
                    ("attalign", Value::text("i")),
                    ("attstorage", Value::text("p")),
                    ("attnotnull", Value::Bool(!is_nullable)),
                    ("attislocal", Value::Bool(true)),
                    ("attcollation", Value::Int(if is_text { 100 } else { 0 })),
                ]));
            }
            limit(rows.len())?;
        }
        Ok(rows)
    }

    /// The rows of `information_schema.columns`.
    fn information_columns(
        &self,
        template: &RowTemplate,
        wanted: &RowFilter<'_>,
    ) -> Result<Vec<Vec<Value>>, SqlError> {
        let mut rows = Vec::new();
        for relation in &self.relations()?.all {
            let of_relation = [
                ("table_catalog", Value::text(DATABASE)),
                ("table_schema", Value::text(&relation.schema)),
                ("table_name", Value::text(&relation.name)),
            ];
            let begin = template.row(&of_relation);
            if !wanted(&begin)? {
                continue;
            }
            for (at, column) in self.columns_of(relation)?.into_iter().enumerate() {
                let TypedColumn { name, kind, is_nullable } = column;
                let is_list = matches!(kind.kind(), Kind::Array(_));
                let data_type = if is_list { "ARRAY".to_owned() } else { types::printed(&kind) };
                let mut row = begin.clone();
                for (column, value) in [
                    ("column_name", Value::text(&name)),
                    ("ordinal_position", Value::Int(at as i64 + 1)),
                    ("is_nullable", Value::text(if is_nullable { "YES" } else { "NO" })),
                    ("data_type", Value::text(&data_type)),
                    ("udt_catalog", Value::text(DATABASE)),
                    ("udt_schema", Value::text(PG_CATALOG)),
                    ("udt_name", Value::text(kind.name())),
                    ("is_self_referencing", Value::text("NO")),
                    ("is_identity", Value::text("NO")),
                    ("is_generated", Value::text("NEVER")),
                    ("is_updatable", Value::text("NO")),
                ] {
                    template.set(&mut row, column, value);
                }
                rows.push(row);
            }
            limit(rows.len())?;
        }
        Ok(rows)
    }

    /// The rows of `pg_proc`.
    fn functions(&self, template: &RowTemplate) -> Vec<Vec<Value>> {
        let row = |(at, name): (usize, String)| {
            template.row(&[
                ("oid", Value::Int(FIRST_FUNCTION + at as i64)),
                ("proname", Value::text(&name)),
                ("pronamespace", Value::Int(schema_oid("metrics"))),
                ("proowner", Value::Int(OWNER_OID)),
                ("prolang", Value::Int(12)),
                ("prokind", Value::text("f")),
                ("provolatile", Value::text("s")),
                ("proparallel", Value::text("s")),
                ("prorettype", Value::Int(i64::from(Type::FLOAT8.oid()))),
                // Drivers split it into words. Arguments are not declared.
                ("proargtypes", Value::text("")),
                ("prosrc", Value::text(&name)),
            ])
        };
        self.list.functions().into_iter().enumerate().map(row).collect()
    }

    /// The rows of `pg_roles` and `pg_authid`.
    fn roles(&self, template: &RowTemplate) -> Vec<Vec<Value>> {
        let row = |(at, name): (usize, &str)| {
            template.row(&[
                ("rolname", Value::text(name)),
                ("rolsuper", Value::Bool(at == 0)),
                ("rolinherit", Value::Bool(true)),
                ("rolcanlogin", Value::Bool(at > 0)),
                ("rolconnlimit", Value::Int(-1)),
                ("rolpassword", Value::text("********")),
                ("oid", Value::Int(OWNER_OID + at as i64)),
            ])
        };
        self.facts.roles().enumerate().map(row).collect()
    }

    /// The rows of `pg_user`.
    fn users(&self, template: &RowTemplate) -> Vec<Vec<Value>> {
        let row = |(at, name): (usize, &str)| {
            let id = Value::Int(OWNER_OID + at as i64);
            template.row(&[
                ("usename", Value::text(name)),
                ("usesysid", id),
                ("passwd", Value::text("********")),
            ])
        };
        self.facts.roles().enumerate().map(row).collect()
    }

    /// The rows of `pg_settings`.
    fn settings(&self, template: &RowTemplate) -> Vec<Vec<Value>> {
        let row = |(name, value): &(String, String)| {
            template.row(&[
                ("name", Value::text(name)),
                ("setting", Value::text(value)),
                ("context", Value::text("user")),
                ("vartype", Value::text("string")),
                ("source", Value::text("session")),
                ("reset_val", Value::text(value)),
            ])
        };
        self.facts.settings.iter().map(row).collect()
    }

    fn tables(&self, template: &RowTemplate) -> Result<Vec<Vec<Value>>, SqlError> {
        let row = |relation: &NumberedRelation| {
            template.row(&[
                ("schemaname", Value::text(&relation.schema)),
                ("tablename", Value::text(&relation.name)),
                ("tableowner", Value::text(OWNER)),
            ])
        };
        let relations = self.relations()?;
        Ok(relations.all.iter().filter(|r| r.has_rows() && r.kind == RelationKind::Table).map(row).collect())
    }

    fn views(
        &self,
        template: &RowTemplate,
        kind: RelationKind,
        columns: [&str; 2],
    ) -> Result<Vec<Vec<Value>>, SqlError> {
        let [name, owner] = columns;
        let row = |relation: &NumberedRelation| {
            template.row(&[
                ("schemaname", Value::text(&relation.schema)),
                (name, Value::text(&relation.name)),
                (owner, Value::text(OWNER)),
                ("ispopulated", Value::Bool(true)),
            ])
        };
        Ok(self.relations()?.all.iter().filter(|r| r.kind == kind).map(row).collect())
    }

    fn information_tables(&self, template: &RowTemplate) -> Result<Vec<Vec<Value>>, SqlError> {
        let row = |relation: &NumberedRelation| {
            let kind = if relation.kind == RelationKind::Table { "BASE TABLE" } else { "VIEW" };
            template.row(&[
                ("table_catalog", Value::text(DATABASE)),
                ("table_schema", Value::text(&relation.schema)),
                ("table_name", Value::text(&relation.name)),
                ("table_type", Value::text(kind)),
                ("is_insertable_into", Value::text("NO")),
                ("is_typed", Value::text("NO")),
            ])
        };
        Ok(self.relations()?.all.iter().filter(|r| r.has_rows()).map(row).collect())
    }

    fn information_views(&self, template: &RowTemplate) -> Result<Vec<Vec<Value>>, SqlError> {
        let row = |relation: &NumberedRelation| {
            template.row(&[
                ("table_catalog", Value::text(DATABASE)),
                ("table_schema", Value::text(&relation.schema)),
                ("table_name", Value::text(&relation.name)),
                ("check_option", Value::text("NONE")),
                ("is_updatable", Value::text("NO")),
            ])
        };
        Ok(self.relations()?.all.iter().filter(|r| r.kind == RelationKind::View).map(row).collect())
    }
}

/// An error if there are too many rows.
fn limit(rows: usize) -> Result<(), SqlError> {
    if rows <= limits::CATALOG_ROWS {
        return Ok(());
    }
    let error = format!("a list of more than {} rows", limits::CATALOG_ROWS);
    Err(SqlError::new(sql::SqlErrorKind::LimitReached, error).hint("name the table: WHERE table_name = '…'"))
}

/// `pg_class.relkind`.
fn kind_letter(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "r",
        RelationKind::View => "v",
        RelationKind::MaterializedView => "m",
    }
}

fn namespaces(template: &RowTemplate) -> Vec<Vec<Value>> {
    let row = |(name, oid): &(&str, i64)| {
        template.row(&[
            ("oid", Value::Int(*oid)),
            ("nspname", Value::text(name)),
            ("nspowner", Value::Int(OWNER_OID)),
        ])
    };
    SCHEMAS.iter().map(row).collect()
}

fn schemata_row(template: &RowTemplate, name: &str) -> Vec<Value> {
    template.row(&[
        ("catalog_name", Value::text(DATABASE)),
        ("schema_name", Value::text(name)),
        ("schema_owner", Value::text(OWNER)),
    ])
}

fn type_row(template: &RowTemplate, kind: &Type) -> Vec<Value> {
    let has_list = types::LISTED.iter().any(|listed| *listed.kind() == Kind::Array(kind.clone()));
    let list = if has_list { i64::from(types::list_of(kind).oid()) } else { 0 };
    let element = if let Kind::Array(element) = kind.kind() { i64::from(element.oid()) } else { 0 };
    let is_text = types::category(kind) == "S";
    let input = if element == 0 { format!("{}in", kind.name()) } else { "array_in".to_owned() };
    template.row(&[
        ("oid", Value::Int(i64::from(kind.oid()))),
        ("typname", Value::text(kind.name())),
        ("typnamespace", Value::Int(11)),
        ("typowner", Value::Int(OWNER_OID)),
        ("typlen", Value::Int(i64::from(types::length(kind)))),
        ("typtype", Value::text("b")),
        ("typcategory", Value::text(types::category(kind))),
        ("typisdefined", Value::Bool(true)),
        ("typdelim", Value::text(",")),
        ("typelem", Value::Int(element)),
        ("typarray", Value::Int(list)),
        ("typinput", Value::text(&input)),
        ("typalign", Value::text("i")),
        ("typstorage", Value::text("p")),
        ("typtypmod", Value::Int(-1)),
        ("typcollation", Value::Int(if is_text { 100 } else { 0 })),
    ])
}

/// The rows of `pg_am`.
fn access_methods(template: &RowTemplate) -> Vec<Vec<Value>> {
    let row = |(oid, name, kind): (i64, &str, &str)| {
        template.row(&[
            ("oid", Value::Int(oid)),
            ("amname", Value::text(name)),
            ("amtype", Value::text(kind)),
        ])
    };
    [(HEAP, "heap", "t"), (BTREE, "btree", "i")].map(row).to_vec()
}

/// Tables of one row, and empty ones.
fn single_rows(name: &str, template: &RowTemplate) -> Vec<Vec<Value>> {
    let row = match name {
        "pg_database" => template.row(&[
            ("oid", Value::Int(DATABASE_OID)),
            ("datname", Value::text(DATABASE)),
            ("datdba", Value::Int(OWNER_OID)),
            ("encoding", Value::Int(6)),
            ("datlocprovider", Value::text("c")),
            ("datallowconn", Value::Bool(true)),
            ("datconnlimit", Value::Int(-1)),
            ("dattablespace", Value::Int(1_663)),
            ("datcollate", Value::text("C")),
            ("datctype", Value::text("C")),
        ]),
        "pg_tablespace" => template.row(&[
            ("oid", Value::Int(1_663)),
            ("spcname", Value::text("pg_default")),
            ("spcowner", Value::Int(OWNER_OID)),
        ]),
        "pg_collation" => template.row(&[
            ("oid", Value::Int(100)),
            ("collname", Value::text("default")),
            ("collnamespace", Value::Int(11)),
            ("collowner", Value::Int(OWNER_OID)),
            ("collprovider", Value::text("d")),
            ("collisdeterministic", Value::Bool(true)),
            ("collencoding", Value::Int(-1)),
        ]),
        "pg_language" => template.row(&[
            ("oid", Value::Int(12)),
            ("lanname", Value::text("internal")),
            ("lanowner", Value::Int(OWNER_OID)),
        ]),
        _ => return Vec::new(),
    };
    vec![row]
}
