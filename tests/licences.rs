//! Tests the licences of all dependencies against the list in `deny.toml`.
//!
//! `cargo deny check` does the same and more, but is not installed everywhere: this runs with
//! every `cargo test`, without the network. A licence that no dependency has any more must leave
//! the list.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The texts in quotes in a list of `deny.toml`.
fn quoted(list: &str) -> BTreeSet<String> {
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The licences that `deny.toml` allows.
#[derive(Debug)]
struct AllowedLicences {
    /// Those that every dependency may have.
    all: BTreeSet<String>,
    /// Further ones of single packages: the package and its licences.
    exceptions: Vec<(String, BTreeSet<String>)>,
}

impl AllowedLicences {
    fn read() -> AllowedLicences {
        let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
        let section = text.split("[licenses]").nth(1).expect("a section on licences");
        let section = section.split("\n[").next().unwrap_or_default();
        let all = section.split("\nallow = [").nth(1).and_then(|rest| rest.split(']').next());
        let exceptions = section.split("\nexceptions = [").nth(1).unwrap_or_default().lines();
        let exception = |line: &str| {
            let (_, rest) = line.split_once("allow = [")?;
            let (licences, rest) = rest.split_once(']')?;
            let (_, name) = rest.split_once("crate = \"")?;
            Some((name.split('"').next()?.to_owned(), quoted(licences)))
        };
        AllowedLicences {
            all: quoted(all.expect("a list of licences")),
            exceptions: exceptions.filter_map(exception).collect(),
        }
    }

    fn allow(&self, package: &str, licence: &str) -> bool {
        let of_package =
            |(name, licences): &(String, BTreeSet<String>)| name == package && licences.contains(licence);
        self.all.contains(licence) || self.exceptions.iter().any(of_package)
    }
}

/// A licence expression of SPDX, read from left to right: `MIT OR (Apache-2.0 AND ISC)`.
struct Expression<'a> {
    tokens: Vec<&'a str>,
    at: usize,
}

impl<'a> Expression<'a> {
    /// `/` is an old spelling of `OR`.
    fn new(spaced: &'a str) -> Expression<'a> {
        Expression { tokens: spaced.split_whitespace().collect(), at: 0 }
    }

    fn takes(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.at) == Some(&token);
        self.at += usize::from(is_next);
        is_next
    }

    /// Whether the licences that `is_allowed` accepts are enough.
    fn holds(&mut self, is_allowed: &mut dyn FnMut(&str) -> bool) -> bool {
        let mut any = self.all_hold(is_allowed);
        while self.takes("OR") {
            // Not `||`, which would leave the rest unread.
            any |= self.all_hold(is_allowed);
        }
        any
    }

    fn all_hold(&mut self, is_allowed: &mut dyn FnMut(&str) -> bool) -> bool {
        let mut all = self.one_holds(is_allowed);
        while self.takes("AND") {
            all &= self.one_holds(is_allowed);
        }
        all
    }

    fn one_holds(&mut self, is_allowed: &mut dyn FnMut(&str) -> bool) -> bool {
        if self.takes("(") {
            let inner = self.holds(is_allowed);
            assert!(self.takes(")"), "{:?}", self.tokens);
            return inner;
        }
        let mut licence = self.tokens.get(self.at).expect("a licence").to_string();
        self.at += 1;
        if self.takes("WITH") {
            licence = format!("{licence} WITH {}", self.tokens.get(self.at).expect("an exception"));
            self.at += 1;
        }
        is_allowed(&licence)
    }
}

/// Whether an expression holds; every licence in it is passed to `is_allowed`.
fn holds(expression: &str, is_allowed: &mut dyn FnMut(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut expression = Expression::new(&spaced);
    let holds = expression.holds(is_allowed);
    assert_eq!(expression.at, expression.tokens.len(), "{spaced:?} is not read to its end");
    holds
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Apache-2.0", true),
        ("MIT AND (GPL-3.0 AND Apache-2.0)", false),
        ("Apache-2.0 WITH LLVM-exception", false),
    ] {
        let mut is_allowed = |licence: &str| matches!(licence, "MIT" | "Apache-2.0");
        assert_eq!(holds(expression, &mut is_allowed), expected, "{expression}");
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let allowed = AllowedLicences::read();
    let mut used = BTreeSet::new();
    let mut refused = Vec::new();
    let mut count = 0;
    // Our own packages have no source.
    let packages = metadata["packages"].as_array().expect("packages").iter();
    for package in packages.filter(|package| !package["source"].is_null()) {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or("none");
        count += 1;
        let mut is_allowed = |licence: &str| {
            used.insert(licence.to_owned());
            allowed.allow(name, licence)
        };
        if !holds(licence, &mut is_allowed) {
            refused.push(format!("{name}: {licence}"));
        }
    }
    assert!(count > 100, "{count} packages: this test reads the metadata wrongly");
    assert!(refused.is_empty(), "deny.toml does not allow:\n{}", refused.join("\n"));
    let unused: Vec<&String> = allowed.all.difference(&used).collect();
    assert!(unused.is_empty(), "deny.toml allows licences that no dependency has: {unused:?}");
}
