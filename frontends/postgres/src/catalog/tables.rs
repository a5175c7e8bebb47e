//! Declares the tables of the catalogs with their columns, as in PostgreSQL 15 ([`COLUMNS`]).
//!
//! Most tables are empty: this server has no triggers, comments or defaults, but clients join with
//! these tables. [`super::rows`] has the rows of the others.

use postgres_types::Type;
use std::sync::LazyLock;

/// A column of a table of the catalogs.
#[derive(Clone, Debug)]
pub(crate) struct CatalogColumn {
    pub(crate) name: &'static str,
    pub(crate) kind: Type,
}

/// A table of the catalogs.
#[derive(Debug)]
pub(crate) struct CatalogTable {
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<CatalogColumn>,
    /// Its object identifier: below those of relations of users.
    pub(crate) oid: i64,
}

/// The schema of PostgreSQL's own tables.
pub(crate) const PG_CATALOG: &str = "pg_catalog";
/// The schema of the standard's tables.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// Schema, name, and the columns: `name:type`, by the letter of [`kind_of`].
const COLUMNS: &[(&str, &str, &str)] = &[
    (
        PG_CATALOG,
        "pg_class",
        "oid:o relname:n relnamespace:o reltype:o reloftype:o relowner:o relam:o relfilenode:o reltablespace:o relpages:i \
         reltuples:f relallvisible:i reltoastrelid:o relhasindex:b relisshared:b relpersistence:c relkind:c relnatts:s \
         relchecks:s relhasrules:b relhastriggers:b relhassubclass:b relrowsecurity:b relforcerowsecurity:b \
         relispopulated:b relreplident:c relispartition:b relrewrite:o relfrozenxid:i relminmxid:i relacl:T reloptions:T \
         relpartbound:t",
    ),
    (PG_CATALOG, "pg_namespace", "oid:o nspname:n nspowner:o nspacl:T"),
    (
        PG_CATALOG,
        "pg_attribute",
        "attrelid:o attname:n atttypid:o attstattarget:i attlen:s attnum:s attndims:i attcacheoff:i atttypmod:i attbyval:b \
         attalign:c attstorage:c attcompression:c attnotnull:b atthasdef:b atthasmissing:b attidentity:c attgenerated:c \
         attisdropped:b attislocal:b attinhcount:i attcollation:o attacl:T attoptions:T attfdwoptions:T attmissingval:T",
    ),
    (
        PG_CATALOG,
        "pg_type",
        "oid:o typname:n typnamespace:o typowner:o typlen:s typbyval:b typtype:c typcategory:c typispreferred:b \
         typisdefined:b typdelim:c typrelid:o typsubscript:o typelem:o typarray:o typinput:t typoutput:t typreceive:t \
         typsend:t typmodin:t typmodout:t typanalyze:t typalign:c typstorage:c typnotnull:b typbasetype:o typtypmod:i \
         typndims:i typcollation:o typdefaultbin:t typdefault:t typacl:T",
    ),
    (PG_CATALOG, "pg_am", "oid:o amname:n amhandler:t amtype:c"),
    (
        PG_CATALOG,
        "pg_database",
        "oid:o datname:n datdba:o encoding:i datlocprovider:c datistemplate:b datallowconn:b datconnlimit:i datfrozenxid:i \
         datminmxid:i dattablespace:o datcollate:t datctype:t daticulocale:t datcollversion:t datacl:T",
    ),
    (
        PG_CATALOG,
        "pg_roles",
        "rolname:n rolsuper:b rolinherit:b rolcreaterole:b rolcreatedb:b rolcanlogin:b rolreplication:b rolconnlimit:i \
         rolpassword:t rolvaliduntil:z rolbypassrls:b rolconfig:T oid:o",
    ),
    (
        PG_CATALOG,
        "pg_user",
        "usename:n usesysid:o usecreatedb:b usesuper:b userepl:b usebypassrls:b passwd:t valuntil:z useconfig:T",
    ),
    (
        PG_CATALOG,
        "pg_proc",
        "oid:o proname:n pronamespace:o proowner:o prolang:o procost:f prorows:f provariadic:o prosupport:t prokind:c \
         prosecdef:b proleakproof:b proisstrict:b proretset:b provolatile:c proparallel:c pronargs:s pronargdefaults:s \
         prorettype:o proargtypes:O proallargtypes:O proargmodes:T proargnames:T proargdefaults:t protrftypes:O prosrc:t \
         probin:t prosqlbody:t proconfig:T proacl:T",
    ),
    (
        PG_CATALOG,
        "pg_settings",
        "name:t setting:t unit:t category:t short_desc:t extra_desc:t context:t vartype:t source:t min_val:t max_val:t \
         enumvals:T boot_val:t reset_val:t sourcefile:t sourceline:i pending_restart:b",
    ),
    (
        PG_CATALOG,
        "pg_tables",
        "schemaname:n tablename:n tableowner:n tablespace:n hasindexes:b hasrules:b hastriggers:b rowsecurity:b",
    ),
    (PG_CATALOG, "pg_views", "schemaname:n viewname:n viewowner:n definition:t"),
    (
        PG_CATALOG,
        "pg_matviews",
        "schemaname:n matviewname:n matviewowner:n tablespace:n hasindexes:b ispopulated:b definition:t",
    ),
    (PG_CATALOG, "pg_tablespace", "oid:o spcname:n spcowner:o spcacl:T spcoptions:T"),
    (
        PG_CATALOG,
        "pg_collation",
        "oid:o collname:n collnamespace:o collowner:o collprovider:c collisdeterministic:b collencoding:i collcollate:t collctype:t colliculocale:t collversion:t",
    ),
    (
        PG_CATALOG,
        "pg_language",
        "oid:o lanname:n lanowner:o lanispl:b lanpltrusted:b lanplcallfoid:o laninline:o lanvalidator:o lanacl:T",
    ),
    (PG_CATALOG, "pg_default_acl", "oid:o defaclrole:o defaclnamespace:o defaclobjtype:c defaclacl:T"),
    (PG_CATALOG, "pg_attrdef", "oid:o adrelid:o adnum:s adbin:t"),
    (
        PG_CATALOG,
        "pg_constraint",
        "oid:o conname:n connamespace:o contype:c condeferrable:b condeferred:b convalidated:b conrelid:o contypid:o conindid:o conparentid:o confrelid:o confupdtype:c confdeltype:c confmatchtype:c conislocal:b coninhcount:i connoinherit:b conkey:S confkey:S conpfeqop:O conppeqop:O conffeqop:O confdelsetcols:S conexclop:O conbin:t",
    ),
    (
        PG_CATALOG,
        "pg_index",
        "indexrelid:o indrelid:o indnatts:s indnkeyatts:s indisunique:b indnullsnotdistinct:b indisprimary:b indisexclusion:b indimmediate:b indisclustered:b indisvalid:b indcheckxmin:b indisready:b indislive:b indisreplident:b indkey:V indcollation:W indclass:W indoption:V indexprs:t indpred:t",
    ),
    (PG_CATALOG, "pg_indexes", "schemaname:n tablename:n indexname:n tablespace:n indexdef:t"),
    (PG_CATALOG, "pg_inherits", "inhrelid:o inhparent:o inhseqno:i inhdetachpending:b"),
    (
        PG_CATALOG,
        "pg_partitioned_table",
        "partrelid:o partstrat:c partnatts:s partdefid:o partattrs:S partclass:O partcollation:O partexprs:t",
    ),
    (
        PG_CATALOG,
        "pg_policy",
        "oid:o polname:n polrelid:o polcmd:c polpermissive:b polroles:O polqual:t polwithcheck:t",
    ),
    (
        PG_CATALOG,
        "pg_publication",
        "oid:o pubname:n pubowner:o puballtables:b pubinsert:b pubupdate:b pubdelete:b pubtruncate:b pubviaroot:b",
    ),
    (PG_CATALOG, "pg_publication_rel", "oid:o prpubid:o prrelid:o prqual:t prattrs:S"),
    (PG_CATALOG, "pg_publication_namespace", "oid:o pnpubid:o pnnspid:o"),
    (
        PG_CATALOG,
        "pg_statistic_ext",
        "oid:o stxrelid:o stxname:n stxnamespace:o stxowner:o stxstattarget:i stxkeys:S stxkind:T stxexprs:t",
    ),
    (
        PG_CATALOG,
        "pg_trigger",
        "oid:o tgrelid:o tgparentid:o tgname:n tgfoid:o tgtype:s tgenabled:c tgisinternal:b tgconstrrelid:o tgconstrindid:o tgconstraint:o tgdeferrable:b tginitdeferred:b tgnargs:s tgattr:S tgargs:t tgqual:t tgoldtable:n tgnewtable:n",
    ),
    (
        PG_CATALOG,
        "pg_rewrite",
        "oid:o rulename:n ev_class:o ev_type:c ev_enabled:c is_instead:b ev_qual:t ev_action:t",
    ),
    (PG_CATALOG, "pg_depend", "classid:o objid:o objsubid:i refclassid:o refobjid:o refobjsubid:i deptype:c"),
    (PG_CATALOG, "pg_shdepend", "dbid:o classid:o objid:o objsubid:i refclassid:o refobjid:o deptype:c"),
    (PG_CATALOG, "pg_description", "objoid:o classoid:o objsubid:i description:t"),
    (PG_CATALOG, "pg_shdescription", "objoid:o classoid:o description:t"),
    (PG_CATALOG, "pg_auth_members", "roleid:o member:o grantor:o admin_option:b"),
    (
        PG_CATALOG,
        "pg_authid",
        "oid:o rolname:n rolsuper:b rolinherit:b rolcreaterole:b rolcreatedb:b rolcanlogin:b rolreplication:b rolbypassrls:b rolconnlimit:i rolpassword:t rolvaliduntil:z",
    ),
    (PG_CATALOG, "pg_group", "groname:n grosysid:o grolist:O"),
    (PG_CATALOG, "pg_db_role_setting", "setdatabase:o setrole:o setconfig:T"),
    (
        PG_CATALOG,
        "pg_extension",
        "oid:o extname:n extowner:o extnamespace:o extrelocatable:b extversion:t extconfig:O extcondition:T",
    ),
    (PG_CATALOG, "pg_available_extensions", "name:n default_version:t installed_version:t comment:t"),
    (
        PG_CATALOG,
        "pg_foreign_data_wrapper",
        "oid:o fdwname:n fdwowner:o fdwhandler:o fdwvalidator:o fdwacl:T fdwoptions:T",
    ),
    (
        PG_CATALOG,
        "pg_foreign_server",
        "oid:o srvname:n srvowner:o srvfdw:o srvtype:t srvversion:t srvacl:T srvoptions:T",
    ),
    (PG_CATALOG, "pg_foreign_table", "ftrelid:o ftserver:o ftoptions:T"),
    (PG_CATALOG, "pg_user_mappings", "umid:o srvid:o srvname:n umuser:o usename:n umoptions:T"),
    (
        PG_CATALOG,
        "pg_sequence",
        "seqrelid:o seqtypid:o seqstart:l seqincrement:l seqmax:l seqmin:l seqcache:l seqcycle:b",
    ),
    (
        PG_CATALOG,
        "pg_sequences",
        "schemaname:n sequencename:n sequenceowner:n data_type:t start_value:l min_value:l max_value:l increment_by:l cycle:b cache_size:l last_value:l",
    ),
    (PG_CATALOG, "pg_enum", "oid:o enumtypid:o enumsortorder:f enumlabel:n"),
    (
        PG_CATALOG,
        "pg_range",
        "rngtypid:o rngsubtype:o rngmultitypid:o rngcollation:o rngsubopc:o rngcanonical:t rngsubdiff:t",
    ),
    (PG_CATALOG, "pg_cast", "oid:o castsource:o casttarget:o castfunc:o castcontext:c castmethod:c"),
    (
        PG_CATALOG,
        "pg_operator",
        "oid:o oprname:n oprnamespace:o oprowner:o oprkind:c oprcanmerge:b oprcanhash:b oprleft:o oprright:o oprresult:o oprcom:o oprnegate:o oprcode:t oprrest:t oprjoin:t",
    ),
    (
        PG_CATALOG,
        "pg_opclass",
        "oid:o opcmethod:o opcname:n opcnamespace:o opcowner:o opcfamily:o opcintype:o opcdefault:b opckeytype:o",
    ),
    (PG_CATALOG, "pg_aggregate", "aggfnoid:o aggkind:c aggnumdirectargs:s aggtransfn:t aggfinalfn:t"),
    (
        PG_CATALOG,
        "pg_conversion",
        "oid:o conname:n connamespace:o conowner:o conforencoding:i contoencoding:i conproc:t condefault:b",
    ),
    (
        PG_CATALOG,
        "pg_event_trigger",
        "oid:o evtname:n evtevent:n evtowner:o evtfoid:o evtenabled:c evttags:T",
    ),
    (
        PG_CATALOG,
        "pg_stat_activity",
        "datid:o datname:n pid:i usesysid:o usename:n application_name:t client_addr:t client_port:i backend_start:z xact_start:z query_start:z state_change:z state:t query:t backend_type:t",
    ),
    (
        PG_CATALOG,
        "pg_stat_user_tables",
        "relid:o schemaname:n relname:n seq_scan:l n_live_tup:l n_dead_tup:l",
    ),
    (PG_CATALOG, "pg_statio_user_tables", "relid:o schemaname:n relname:n heap_blks_read:l heap_blks_hit:l"),
    (PG_CATALOG, "pg_locks", "locktype:t database:o relation:o pid:i mode:t granted:b"),
    (PG_CATALOG, "pg_timezone_names", "name:t abbrev:t utc_offset:t is_dst:b"),
    (
        INFORMATION_SCHEMA,
        "schemata",
        "catalog_name:n schema_name:n schema_owner:n default_character_set_catalog:n default_character_set_schema:n default_character_set_name:n sql_path:t",
    ),
    (
        INFORMATION_SCHEMA,
        "tables",
        "table_catalog:n table_schema:n table_name:n table_type:t self_referencing_column_name:n reference_generation:t user_defined_type_catalog:n user_defined_type_schema:n user_defined_type_name:n is_insertable_into:t is_typed:t commit_action:t",
    ),
    (
        INFORMATION_SCHEMA,
        "columns",
        "table_catalog:n table_schema:n table_name:n column_name:n ordinal_position:i column_default:t is_nullable:t \
         data_type:t character_maximum_length:i character_octet_length:i numeric_precision:i numeric_precision_radix:i \
         numeric_scale:i datetime_precision:i interval_type:t interval_precision:i character_set_catalog:n \
         character_set_schema:n character_set_name:n collation_catalog:n collation_schema:n collation_name:n \
         domain_catalog:n domain_schema:n domain_name:n udt_catalog:n udt_schema:n udt_name:n scope_catalog:n scope_schema:n \
         scope_name:n maximum_cardinality:i dtd_identifier:n is_self_referencing:t is_identity:t identity_generation:t \
         identity_start:t identity_increment:t identity_maximum:t identity_minimum:t identity_cycle:t is_generated:t \
         generation_expression:t is_updatable:t",
    ),
    (
        INFORMATION_SCHEMA,
        "views",
        "table_catalog:n table_schema:n table_name:n view_definition:t check_option:t is_updatable:t is_insertable_into:t is_trigger_updatable:t is_trigger_deletable:t is_trigger_insertable_into:t",
    ),
    (
        INFORMATION_SCHEMA,
        "table_constraints",
        "constraint_catalog:n constraint_schema:n constraint_name:n table_catalog:n table_schema:n table_name:n constraint_type:t is_deferrable:t initially_deferred:t enforced:t",
    ),
    (
        INFORMATION_SCHEMA,
        "key_column_usage",
        "constraint_catalog:n constraint_schema:n constraint_name:n table_catalog:n table_schema:n table_name:n column_name:n ordinal_position:i position_in_unique_constraint:i",
    ),
    (
        INFORMATION_SCHEMA,
        "constraint_column_usage",
        "table_catalog:n table_schema:n table_name:n column_name:n constraint_catalog:n constraint_schema:n constraint_name:n",
    ),
    (
        INFORMATION_SCHEMA,
        "referential_constraints",
        "constraint_catalog:n constraint_schema:n constraint_name:n unique_constraint_catalog:n unique_constraint_schema:n unique_constraint_name:n match_option:t update_rule:t delete_rule:t",
    ),
    (
        INFORMATION_SCHEMA,
        "routines",
        "specific_catalog:n specific_schema:n specific_name:n routine_catalog:n routine_schema:n routine_name:n routine_type:t data_type:t routine_definition:t",
    ),
    (
        INFORMATION_SCHEMA,
        "routine_privileges",
        "grantor:n grantee:n specific_catalog:n specific_schema:n specific_name:n routine_catalog:n routine_schema:n routine_name:n privilege_type:t is_grantable:t",
    ),
    (
        INFORMATION_SCHEMA,
        "table_privileges",
        "grantor:n grantee:n table_catalog:n table_schema:n table_name:n privilege_type:t is_grantable:t with_hierarchy:t",
    ),
    (
        INFORMATION_SCHEMA,
        "role_table_grants",
        "grantor:n grantee:n table_catalog:n table_schema:n table_name:n privilege_type:t is_grantable:t with_hierarchy:t",
    ),
    (
        INFORMATION_SCHEMA,
        "sequences",
        "sequence_catalog:n sequence_schema:n sequence_name:n data_type:t start_value:t minimum_value:t maximum_value:t increment:t cycle_option:t",
    ),
    (
        INFORMATION_SCHEMA,
        "triggers",
        "trigger_catalog:n trigger_schema:n trigger_name:n event_manipulation:t event_object_schema:n event_object_table:n action_statement:t action_timing:t",
    ),
    (
        INFORMATION_SCHEMA,
        "parameters",
        "specific_catalog:n specific_schema:n specific_name:n ordinal_position:i parameter_mode:t parameter_name:n data_type:t",
    ),
];

/// The type of a letter.
fn kind_of(letter: &str) -> Type {
    match letter {
        "o" => Type::OID,
        "n" => Type::NAME,
        "b" => Type::BOOL,
        "c" => Type::CHAR,
        "s" => Type::INT2,
        "i" => Type::INT4,
        "l" => Type::INT8,
        "f" => Type::FLOAT4,
        "z" => Type::TIMESTAMPTZ,
        "T" => Type::TEXT_ARRAY,
        "S" => Type::INT2_ARRAY,
        "O" => Type::OID_ARRAY,
        "V" => Type::INT2_VECTOR,
        "W" => Type::OID_VECTOR,
        _ => Type::TEXT,
    }
}

/// All tables of the catalogs.
pub(crate) static TABLES: LazyLock<Vec<CatalogTable>> = LazyLock::new(|| {
    let column = |text: &'static str| {
        let (name, letter) = text.split_once(':').unwrap_or((text, "t"));
        CatalogColumn { name, kind: kind_of(letter) }
    };
    let table =
        |(at, (schema, name, columns)): (usize, &(&'static str, &'static str, &'static str))| CatalogTable {
            schema,
            name,
            columns: columns.split_whitespace().map(column).collect(),
            oid: well_known(name).unwrap_or(12_000 + at as i64),
        };
    COLUMNS.iter().enumerate().map(table).collect()
});

/// The object identifiers that PostgreSQL has fixed, and that clients write out.
fn well_known(name: &str) -> Option<i64> {
    Some(match name {
        "pg_type" => 1247,
        "pg_attribute" => 1249,
        "pg_proc" => 1255,
        "pg_class" => 1259,
        "pg_authid" => 1260,
        "pg_database" => 1262,
        "pg_namespace" => 2615,
        "pg_constraint" => 2606,
        "pg_attrdef" => 2604,
        "pg_description" => 2609,
        "pg_extension" => 3079,
        _ => return None,
    })
}

/// The table with this name; without a schema those of `pg_catalog` are found.
pub(crate) fn table(schema: Option<&str>, name: &str) -> Option<&'static CatalogTable> {
    let schema = schema.unwrap_or(PG_CATALOG);
    TABLES.iter().find(|table| table.schema == schema && table.name == name)
}
