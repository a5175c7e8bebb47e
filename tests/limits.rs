//! Tests that `docs/limits.md` lists every limit: each constant of each `limits.rs` is in a row,
//! and each row says how the limit can be changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const COLUMNS: [&str; 5] = ["limit", "default", "flag or key", "beyond it", "constant"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files named `limits.rs` below `directory`.
fn limits(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") && !path.is_symlink() {
            limits(&path, into);
        } else if path.ends_with("limits.rs") && path != root().join(file!()) {
            into.push(path);
        }
    }
}

/// The number of constants of each name.
fn constants() -> BTreeMap<String, usize> {
    let mut files = Vec::new();
    limits(root(), &mut files);
    assert!(files.len() > 5, "this test looks in the wrong place");
    let mut found = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("UTF-8");
        // `pub const`, `pub(crate) const` and `pub(super) const`.
        let constant = |line: &str| {
            let (visibility, rest) = line.split_once(" const ").filter(|_| line.starts_with("pub"))?;
            let is_visibility = !visibility.contains(' ');
            rest.split_once(':').filter(|_| is_visibility).map(|(name, _)| name.to_owned())
        };
        let names = text.lines().filter_map(constant);
        for name in names {
            *found.entry(name).or_default() += 1;
        }
    }
    found
}

/// A row of a table of the document.
struct Row {
    /// The index of the table.
    table: usize,
    cells: Vec<String>,
}

fn cells(line: &str) -> Vec<String> {
    let inside = line.trim().trim_start_matches('|').trim_end_matches('|');
    inside.replace("\\|", "/").split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// All rows, except the heads of the tables.
fn rows() -> Vec<Row> {
    let page = std::fs::read_to_string(root().join("docs/limits.md")).expect("the page");
    let mut table = 0;
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells = cells(line);
        if cells == COLUMNS {
            table += 1;
        } else if !cells.iter().all(|cell| cell.starts_with("--")) {
            rows.push(Row { table, cells });
        }
    }
    assert!(table > 5 && rows.len() > 50, "this test reads the page wrongly");
    rows
}

/// The constants that a cell names in backticks, with or without their module; other code in a cell
/// is not in capitals.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    let names = cell.split('`').skip(1).step_by(2).map(|name| name.rsplit("::").next().unwrap_or(name));
    names.filter(|name| name.chars().all(|c| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit()))
}

#[test]
fn every_limit_is_in_the_table() {
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows() {
        for name in named(row.cells.last().expect("a cell")) {
            *said.entry(name.to_owned()).or_default() += 1;
        }
    }
    let known = constants();
    let missing: Vec<&String> =
        known.iter().filter(|(name, times)| said.get(*name) < Some(*times)).map(|(name, _)| name).collect();
    assert!(missing.is_empty(), "docs/limits.md does not say, once for each limits.rs: {missing:#?}");
    let unknown: Vec<&String> = said.keys().filter(|name| !known.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "docs/limits.md has what no limits.rs has: {unknown:#?}");
}

/// If a limit were in two tables, the two descriptions would diverge.
#[test]
fn every_limit_is_in_one_table() {
    let known = constants();
    let mut tables: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for row in rows() {
        for name in named(row.cells.last().expect("a cell")) {
            tables.entry(name.to_owned()).or_default().insert(row.table);
        }
    }
    let twice: Vec<&String> =
        tables.iter().filter(|(name, of)| of.len() > known[*name]).map(|(name, _)| name).collect();
    assert!(twice.is_empty(), "docs/limits.md has these in several tables: {twice:#?}");
    let mut limits = BTreeSet::new();
    for row in rows() {
        assert!(limits.insert((row.table, row.cells[0].clone())), "there are two rows of {:?}", row.cells[0]);
    }
}

#[test]
fn every_row_is_whole() {
    for Row { cells: row, .. } in rows() {
        assert_eq!(row.len(), COLUMNS.len(), "cells of {row:?}");
        let empty = row.iter().position(String::is_empty).map(|at| COLUMNS[at]);
        assert_eq!(empty, None, "what is empty in {row:?}");
        assert!(row[2].contains('`') || row[2].starts_with("none"), "a flag, a key or none: {row:?}");
        assert!(named(&row[4]).next().is_some() || row[4] == "none", "a constant or none: {row:?}");
    }
}
