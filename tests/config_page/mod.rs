//! The tables in `docs/configuration.md` that are generated from declarations in the sources.

use super::flags::{FLAGS, Feature};
use std::fmt::Write;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

/// The command that writes the tables anew.
const RENEW: &str = "UPDATE_DOCS=1 cargo test --workspace --test config -- page";

/// The text of a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// The default of a flag or key.
fn code(text: Option<&str>) -> String {
    text.map(|text| format!("`{text}`")).unwrap_or_default()
}

fn flags() -> String {
    let mut table = "| flag | default | what it does |\n|---|---|---|\n".to_owned();
    for flag in FLAGS {
        let default = match flag.default_text {
            Some(text) => text.to_owned(),
            None => code(flag.shown_default()),
        };
        let help = cell(&flag.help());
        writeln!(table, "| `--{}` | {default} | {help} |", flag.name).expect("a string");
    }
    table
}

fn features() -> String {
    let mut table = "| feature | |\n|---|---|\n".to_owned();
    for feature in Feature::ALL {
        let effect = match feature.no_effect() {
            None => "works".to_owned(),
            Some(why) => format!("no effect: {why}"),
        };
        writeln!(table, "| `{}` | {effect} |", feature.name()).expect("a string");
    }
    table
}

/// The page with the tables of today between its markers.
fn renewed(page: &str) -> String {
    let mut page = page.to_owned();
    for (name, table) in [("flags", flags()), ("features", features())] {
        let start = format!("<!-- {name}: generated -->\n");
        let end = format!("<!-- end of {name} -->");
        let from = page.find(&start).unwrap_or_else(|| panic!("{start} is missing")) + start.len();
        let to = page.find(&end).unwrap_or_else(|| panic!("{end} is missing"));
        page.replace_range(from..to, &table);
    }
    page
}

#[test]
fn the_page_has_the_tables_of_the_sources() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let current = renewed(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &current).expect("the page");
        return;
    }
    assert!(page == current, "docs/configuration.md is stale; renew it with\n  {RENEW}");
}
