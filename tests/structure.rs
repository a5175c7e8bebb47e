//! Tests the rules of the source tree that a program can check: dependencies between crates and
//! modules, heads of files, lengths of functions and comments, retired words ([`retired_words`]).
//! ARCHITECTURE.md has the reasons.

#[path = "structure/retired_words.rs"]
mod retired_words;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most lines of a function; a longer one does more than one thing. Tables do not count.
const FUNCTION_LINES_MAX: usize = 100;

/// For each crate: the crates of this workspace that it may depend on.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("perennial-testing", &[]),
    ("perennial-storage", &["perennial-testing"]),
    ("perennial-engine", &["perennial-storage", "perennial-testing"]),
    ("perennial-language", &["perennial-engine", "perennial-storage"]),
    (
        "perennial-promql",
        &["perennial-language", "perennial-engine", "perennial-storage", "perennial-testing"],
    ),
    (
        "perennial-views",
        &["perennial-language", "perennial-engine", "perennial-storage", "perennial-testing"],
    ),
    ("perennial-sql", &["perennial-language", "perennial-engine", "perennial-storage", "perennial-testing"]),
    (
        "perennial-rules",
        &[
            "perennial-yaml",
            "perennial-views",
            "perennial-language",
            "perennial-engine",
            "perennial-storage",
            "perennial-testing",
        ],
    ),
    (
        "perennial-api",
        &[
            "perennial-ui",
            "perennial-sql",
            "perennial-tls",
            "perennial-views",
            "perennial-language",
            "perennial-engine",
            "perennial-storage",
            "perennial-testing",
        ],
    ),
    (
        "perennial-postgres",
        &["perennial-api", "perennial-sql", "perennial-engine", "perennial-storage", "perennial-testing"],
    ),
    ("perennial-ui", &[]),
    ("perennial-tls", &[]),
    ("perennial-yaml", &[]),
    ("perennial-connectors", &["perennial-tls", "perennial-yaml", "perennial-storage", "perennial-testing"]),
    (
        "perennial-remote-storage",
        &["perennial-connectors", "perennial-tls", "perennial-yaml", "perennial-storage"],
    ),
    ("perennial-cluster", &["perennial-views", "perennial-engine", "perennial-storage", "perennial-testing"]),
    (
        "perennial",
        &[
            "perennial-storage",
            "perennial-engine",
            "perennial-language",
            "perennial-promql",
            "perennial-views",
            "perennial-rules",
            "perennial-api",
            "perennial-sql",
            "perennial-postgres",
            "perennial-connectors",
            "perennial-cluster",
            "perennial-remote-storage",
            "perennial-tls",
            "perennial-yaml",
            "perennial-testing",
        ],
    ),
];

/// Additional crates that only the tests of a crate may depend on, because they need query texts or
/// a whole server.
const TESTS_MAY_KNOW: &[(&str, &[&str])] = &[
    ("perennial-views", &["perennial-promql"]),
    ("perennial-sql", &["perennial-promql", "perennial-views"]),
    ("perennial-rules", &["perennial-promql"]),
    ("perennial-api", &["perennial-promql", "perennial-rules"]),
    ("perennial-cluster", &["perennial-promql", "perennial-connectors"]),
];

/// For each crate: external crates that it must not use.
const MUST_NOT_USE: &[(&str, &[&str])] = &[
    (
        "perennial-storage",
        &["axum", "reqwest", "tokio", "serde-saphyr", "timely", "sqlparser", "datafusion", "pgwire"],
    ),
    ("perennial-engine", &["axum", "reqwest", "tokio", "serde-saphyr", "sqlparser", "datafusion", "pgwire"]),
    ("perennial-promql", &["axum", "reqwest", "tokio", "serde-saphyr", "sqlparser", "datafusion"]),
    ("perennial-views", &["axum", "reqwest", "tokio", "serde-saphyr", "sqlparser", "datafusion"]),
    ("perennial-rules", &["axum", "reqwest", "tokio", "sqlparser", "datafusion"]),
    ("perennial-api", &["reqwest", "serde-saphyr", "sqlparser", "datafusion"]),
    ("perennial-connectors", &["timely", "differential-dataflow", "datafusion"]),
    ("perennial-remote-storage", &["timely", "differential-dataflow", "datafusion"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The dependencies of a package.
#[derive(Default)]
struct Dependencies {
    /// The dependencies of the library or program, including build dependencies.
    normal: BTreeSet<String>,
    /// The dependencies of tests, examples and benches only.
    dev: BTreeSet<String>,
}

/// Each package of the workspace with all its direct and indirect dependencies.
fn dependencies() -> BTreeMap<String, Dependencies> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let name = |v: &Value| v["name"].as_str().expect("a name").to_owned();
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let mut found = Dependencies::default();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let is_dev = dependency["kind"].as_str() == Some("dev");
            let names = if is_dev { &mut found.dev } else { &mut found.normal };
            names.insert(name(dependency));
        }
        packages.insert(name(package), found);
    }
    packages
}

#[test]
fn dependencies_run_one_way() {
    let packages = dependencies();
    let ours: BTreeSet<&str> = MAY_KNOW.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    assert_eq!(found, ours, "a new crate needs a line in MAY_KNOW");
    for (name, allowed) in MAY_KNOW {
        let in_tests =
            TESTS_MAY_KNOW.iter().find(|(tested, _)| tested == name).map_or(&[][..], |(_, more)| *more);
        for other in packages[*name].normal.iter().filter(|d| ours.contains(d.as_str())) {
            assert!(allowed.contains(&other.as_str()), "{name} must not know {other}");
        }
        for other in packages[*name].dev.iter().filter(|d| ours.contains(d.as_str())) {
            let known = allowed.contains(&other.as_str()) || in_tests.contains(&other.as_str());
            assert!(known, "the tests of {name} must not know {other}");
        }
    }
}

#[test]
fn crates_do_not_use_what_belongs_elsewhere() {
    let packages = dependencies();
    for (name, forbidden) in MUST_NOT_USE {
        let package = &packages[*name];
        let uses = |f: &str| package.normal.contains(f) || package.dev.contains(f);
        let used: Vec<&&str> = forbidden.iter().filter(|f| uses(f)).collect();
        assert!(used.is_empty(), "{name} must not use {used:?}");
    }
}

#[test]
fn one_version_of_the_formats() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let names: Vec<&str> =
        lock.lines().filter_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    for name in names.iter().filter(|n| n.starts_with("arrow") || **n == "parquet") {
        let versions = names.iter().filter(|n| *n == name).count();
        assert_eq!(versions, 1, "{versions} versions of {name} in Cargo.lock");
    }
    assert!(names.contains(&"arrow"), "this test reads Cargo.lock wrongly");
}

/// All files below `directory` for which `wanted` is true; skips build output and hidden
/// directories.
fn files(directory: &Path, wanted: &dyn Fn(&Path) -> bool, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let skipped = ["target", "node_modules", "__pycache__", ".git"].contains(&name.as_str());
        if path.is_dir() && !path.is_symlink() && !skipped {
            files(&path, wanted, into);
        } else if path.is_file() && wanted(&path) {
            into.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(root(), &|p| p.extension().is_some_and(|e| e == "rs"), &mut found);
    assert!(found.len() > 10, "this test looks in the wrong place");
    found.into_iter().map(|p| (p.clone(), std::fs::read_to_string(&p).expect("UTF-8"))).collect()
}

#[test]
fn every_source_says_what_it_is() {
    let silent: Vec<PathBuf> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(p, _)| p).collect();
    assert!(silent.is_empty(), "no `//!` on the first line: {silent:#?}");
}

/// The most columns of a comment: a longer line is not read in two windows side by side.
const COMMENT_COLUMNS_MAX: usize = 100;

#[test]
fn comments_are_narrow() {
    let mut wide = Vec::new();
    for (path, text) in sources() {
        for (at, line) in text.lines().enumerate() {
            // A command line is copied as a whole.
            let is_prose = line.trim_start().starts_with("//") && !line.contains(" cargo ");
            if is_prose && line.chars().count() > COMMENT_COLUMNS_MAX {
                wide.push(format!("{}:{}", path.display(), at + 1));
            }
        }
    }
    assert!(wide.is_empty(), "comments of more than {COMMENT_COLUMNS_MAX} columns:\n{}", wide.join("\n"));
}

#[test]
fn functions_are_short() {
    let long: Vec<String> = sources()
        .iter()
        .flat_map(|(path, text)| {
            let too_long = functions(text).into_iter().filter(|f| f.2 > FUNCTION_LINES_MAX);
            too_long
                .map(move |(name, line, lines)| format!("{}:{line}: {name}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "over {FUNCTION_LINES_MAX} lines:\n{}", long.join("\n"));
}

/// (name, first line, number of lines) of each function in formatted source: from its `fn` to the
/// closing brace at the same indentation. Macro definitions are skipped, because they are tables of
/// code.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut macro_end = 0;
    for (at, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let close = format!("{indent}}}");
        let end = |from: usize| lines[from..].iter().position(|l| *l == close).map(|n| from + n);
        if line.trim_start().starts_with("macro_rules!") {
            macro_end = end(at).unwrap_or(lines.len());
        }
        let Some(name) = function_name(line).filter(|_| at >= macro_end) else { continue };
        let body = lines[at..].iter().position(|l| l.contains('{') || l.trim_end().ends_with(';'));
        let opening = body.map_or("", |n| lines[at + n].trim_end());
        if opening.ends_with('{') {
            let last = end(at + 1).unwrap_or(lines.len() - 1);
            found.push((name, at + 1, last - at + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let qualifier = |w: &str| {
        w.starts_with("pub")
            || matches!(w, "const" | "async" | "unsafe" | "extern" | "\"C\"" | "crate)" | "super)")
    };
    if !before.split_whitespace().all(qualifier) {
        return None;
    }
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn functions_are_measured_rightly() {
    let text = "fn one() {}\n\npub(crate) async fn two(\n    a: u8,\n) -> u8 {\n    a\n}\n\nimpl X {\n    fn three();\n    \
                pub fn four() {\n        if x {\n        }\n    }\n}\nmacro_rules! m {\n    () => {\n        fn five() {\n        }\n    };\n}\n";
    let found = functions(text);
    assert_eq!(found, [("two".to_string(), 3, 5), ("four".to_string(), 11, 4)]);
}

/// Only one function may look for files outside the repository, and reports it; no path may be
/// specific to a machine.
#[test]
fn nothing_outside_the_repository_is_needed() {
    let mut found = Vec::new();
    files(root(), &|p| !p.ends_with("testing/src/beside.rs") && !p.ends_with(".git"), &mut found);
    let needles = [["..", "/shared"].concat(), ["/work", "/"].concat()];
    let guilty = |p: &PathBuf| {
        let bytes = std::fs::read(p).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let needle = needles.iter().find(|needle| text.contains(needle.as_str()))?;
        Some(format!("{} mentions {needle}", p.display()))
    };
    let guilty: Vec<String> = found.iter().filter_map(guilty).collect();
    assert!(guilty.is_empty(), "{guilty:#?}");
}

/// The name of a dependency in the sources, where it differs from the package name.
const LIBRARY_NAMES: &[(&str, &str)] = &[("md-5", "md5")];

/// The parts of a `Cargo.toml` that matter for unused dependencies.
struct Manifest {
    /// The directory of the manifest, relative to the root of the repository.
    directory: PathBuf,
    /// The names in `[dependencies]`, `[dev-dependencies]` and `[build-dependencies]`.
    dependencies: BTreeSet<String>,
    /// The names in `[workspace.dependencies]`.
    workspace: BTreeSet<String>,
}

/// Parses the form of our manifests: one dependency per line, under a heading in brackets.
fn manifest(path: &Path) -> Manifest {
    let text = std::fs::read_to_string(path).expect("UTF-8");
    let directory = path.parent().expect("a directory");
    let directory = directory.strip_prefix(root()).expect("below the root").to_owned();
    let mut found = Manifest { directory, dependencies: BTreeSet::new(), workspace: BTreeSet::new() };
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(heading) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = heading;
            continue;
        }
        let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
        let name = line[..end].to_owned();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        match section {
            "dependencies" | "dev-dependencies" | "build-dependencies" => found.dependencies.insert(name),
            "workspace.dependencies" => found.workspace.insert(name),
            _ => continue,
        };
    }
    found
}

/// The manifests of all our crates.
fn manifests() -> Vec<Manifest> {
    let mut paths = Vec::new();
    files(root(), &|p| p.ends_with("Cargo.toml"), &mut paths);
    paths.iter().map(|path| manifest(path)).collect()
}

/// Whether `text` uses a crate: at the start of a path, in a `use`, or as a macro.
fn names_crate(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = &text[..at];
        let after = &text[at + name.len()..];
        let starts = !before.ends_with(is_word);
        let imported = before.ends_with("use ") && !after.starts_with(is_word);
        starts && (after.starts_with("::") || after.starts_with('!') || imported)
    })
}

#[test]
fn crates_are_found_in_sources() {
    assert!(names_crate("let x = serde_json::from_str(s);", "serde_json"));
    assert!(names_crate("use libc;", "libc"));
    assert!(names_crate("x(tracing!())", "tracing"));
    assert!(!names_crate("my_serde::x(); serde_json::y(); let serde = 1;", "serde"));
}

/// The sources of a crate: the files below its directory that do not belong to another crate.
fn sources_of<'a>(
    directory: &Path,
    manifests: &[Manifest],
    sources: &'a [(PathBuf, String)],
) -> Vec<&'a str> {
    let owner = |path: &Path| {
        let above = manifests.iter().map(|m| &m.directory).filter(|d| path.starts_with(d));
        above.max_by_key(|d| d.components().count()).expect("the root holds all")
    };
    let own = sources.iter().filter(|(path, _)| {
        let path = path.strip_prefix(root()).expect("below the root");
        owner(path) == directory
    });
    own.map(|(_, text)| text.as_str()).collect()
}

/// Everybody compiles an unused dependency, and nobody notices it.
#[test]
fn every_dependency_is_used() {
    let manifests = manifests();
    assert!(manifests.len() > 5, "this test looks in the wrong place");
    let sources = sources();
    let mut unused = Vec::new();
    for manifest in &manifests {
        let of_crate = manifest.directory.display().to_string();
        let texts = sources_of(&manifest.directory, &manifests, &sources);
        for dependency in &manifest.dependencies {
            let other_name = LIBRARY_NAMES.iter().find(|(package, _)| package == dependency);
            let name = other_name.map_or(dependency.replace('-', "_"), |(_, library)| (*library).to_owned());
            let named = texts.iter().any(|text| names_crate(text, &name));
            if !named {
                unused.push(format!("{of_crate}/Cargo.toml: {dependency}"));
            }
        }
    }
    assert!(unused.is_empty(), "no source of the crate names these:\n{}", unused.join("\n"));
}

#[test]
fn every_dependency_of_the_workspace_is_used() {
    let manifests = manifests();
    let used: BTreeSet<&String> = manifests.iter().flat_map(|m| &m.dependencies).collect();
    let declared: BTreeSet<&String> = manifests.iter().flat_map(|m| &m.workspace).collect();
    assert!(declared.len() > 20, "this test reads Cargo.toml wrongly");
    let unused: Vec<&&String> = declared.difference(&used).collect();
    assert!(unused.is_empty(), "no crate depends on {unused:?}");
}

/// The most modules in which the same public type name may occur.
const PUBLIC_NAME_MODULES_MAX: usize = 3;

#[test]
fn a_public_name_means_one_thing() {
    let mut modules: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for (path, text) in sources() {
        for (name, _) in retired_words::types(&text).into_iter().filter(|(_, public)| *public) {
            modules.entry(name).or_default().insert(path.clone());
        }
    }
    modules.retain(|_, paths| paths.len() > PUBLIC_NAME_MODULES_MAX);
    assert!(modules.is_empty(), "one name, several things: {modules:#?}");
}

/// For a crate's `src`: its modules from the bottom to the top. One may use those before it and no
/// others.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "storage/src",
        &[
            "limits",
            "metrics",
            "shared_metrics",
            "spans",
            "model",
            "clock",
            "disk",
            "execution",
            "vec_growth",
            "error",
            "encoding",
            "codec",
            "checksummed_file",
            "object_store",
            "exemplars",
            "durable_map",
            "wal",
            "block",
            "head",
            "store",
        ],
    ),
    (
        "engine/src",
        &[
            "limits",
            "memory",
            "heap_size",
            "types",
            "annotations",
            "functions",
            "plan",
            "operators",
            "query",
            "live",
        ],
    ),
];

/// Modules of a crate that do not use each other.
struct IndependentModules {
    /// The sources of the crate.
    crate_src: &'static str,
    /// The modules.
    modules: &'static [&'static str],
    /// Exceptions: the first module may use the second.
    allowed: &'static [(&'static str, &'static str)],
}

const INDEPENDENT: &[IndependentModules] = &[IndependentModules {
    crate_src: "connectors/src",
    modules: &[
        "alertmanager",
        "discovery",
        "export",
        "host_metrics",
        "import",
        "objects",
        "otlp",
        "remote",
        "scrape",
        "traces",
    ],
    // Both get their targets from discovery; OTLP stores as remote write does.
    allowed: &[("scrape", "discovery"), ("alertmanager", "discovery"), ("otlp", "remote")],
}];

/// The module paths below the crate's root that a source in `module` names by `crate::` or
/// `super::`, each as its first two words. Comments and unit tests are left out.
fn used_modules(module: &[String], text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        code.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        used.extend(first_names(&code[at + "crate::".len()..]));
    }
    // Only as many `super::` as the module is deep lead to the crate's root.
    let root = "super::".repeat(module.len());
    for (at, _) in code.match_indices(&root) {
        let is_longer = code[..at].ends_with("super::") || code[at + root.len()..].starts_with("super::");
        if !module.is_empty() && !is_longer {
            used.extend(first_names(&code[at + root.len()..]));
        }
    }
    used
}

/// The first names of a path: one, or those of a group in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// Each top-level module of a crate with those that it uses, and a file for each.
fn module_uses(crate_src: &str) -> Vec<(String, String, PathBuf)> {
    let base = root().join(crate_src);
    let mut paths = Vec::new();
    files(&base, &|p| p.extension().is_some_and(|e| e == "rs"), &mut paths);
    let mut found = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(&base).expect("below it").with_extension("");
        let mut module: Vec<String> =
            relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let is_test = module.iter().any(|part| part == "tests");
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        let Some(own) = module.first().cloned().filter(|_| !is_test) else { continue };
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        for other in used_modules(&module, &text) {
            if other != own {
                found.push((own.clone(), other, path.clone()));
            }
        }
    }
    assert!(found.len() > 10, "this test reads {crate_src} wrongly");
    found
}

#[test]
fn layers_inside_a_crate_have_no_cycles() {
    let mut wrong = Vec::new();
    for (crate_src, layers) in LAYERS {
        let layer = |module: &str| layers.iter().position(|l| *l == module);
        for (own, other, path) in module_uses(crate_src) {
            let own_layer = layer(&own).unwrap_or_else(|| panic!("{crate_src}/{own} is in no layer"));
            if layer(&other).is_some_and(|other| other > own_layer) {
                wrong.push(format!("{}: {own} is below {other}", path.display()));
            }
        }
    }
    for IndependentModules { crate_src, modules, allowed } in INDEPENDENT {
        let is_one = |module: &String| modules.contains(&module.as_str());
        for (own, other, path) in module_uses(crate_src) {
            let is_allowed = allowed.contains(&(own.as_str(), other.as_str()));
            if is_one(&own) && is_one(&other) && !is_allowed {
                wrong.push(format!("{}: {own} must not know {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn uses_of_modules_are_read_rightly() {
    let text = "use crate::plan::{Plan, PlanOp};\nuse crate::{limits::A, query::{b, c}};\n// crate::comment::X\n\
                use super::super::live::Sink;\nuse super::guard;\nfn f() { crate::types::g() }\n\
                #[cfg(test)]\nmod tests {\n    use crate::testing;\n}\n";
    let module = ["operators".to_owned(), "map".to_owned()];
    let used = used_modules(&module, text);
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["limits", "live", "plan", "query", "types"]);
}
