//! Renders the table of functions as `docs/promql-functions.md`; a test checks that the page is
//! current.

use super::{Function, HistogramSupport, Kernel, OperatorFunction, table};
use crate::types::ValueType;
use std::fmt::Write as _;

/// All functions as a markdown page.
pub fn markdown() -> String {
    let mut page = String::from(
        "# PromQL functions\n\n\
         Rendered from the engine's function table by `functions::markdown()`; edit the entries, not this page.\n\
         Arguments in square brackets are optional; `…` means that the last one can be repeated. Functions\n\
         marked *experimental* need `--enable-feature=promql-experimental-functions`.\n\n\
         | Function | Result | Native histograms | Example |\n|---|---|---|---|\n",
    );
    for f in table() {
        let signature = signature(f);
        let marks = marks(f);
        let histograms = histograms(f);
        let _ = writeln!(page, "| `{signature}`{marks} | {} | {histograms} | `{}` |", f.doc, f.example);
    }
    page
}

/// What the function does with native histograms.
fn histograms(f: &Function) -> &'static str {
    match f.kernel {
        Kernel::Window(kernel) => match kernel.mixed {
            HistogramSupport::Ignored => IGNORED,
            HistogramSupport::Supported(kernel) => kernel.histograms,
        },
        Kernel::Map(_) | Kernel::MapOrClock(_) => IGNORED,
        Kernel::Clock(_)
        | Kernel::Query(_)
        | Kernel::Scalars(_)
        | Kernel::Operator(OperatorFunction::Vector) => "",
        Kernel::Operator(OperatorFunction::Scalar | OperatorFunction::Sort | OperatorFunction::SortDesc) => {
            IGNORED
        }
        Kernel::Histogram(_) => "only histograms",
        Kernel::Relabel(_) | Kernel::Operator(_) => "yes",
    }
}

const IGNORED: &str = "ignored";

/// The signature, such as `round(vector, [scalar]) → vector`.
pub fn signature(f: &Function) -> String {
    let required = f.min_args();
    let mut args: Vec<String> = f
        .args
        .iter()
        .enumerate()
        .map(|(i, t)| if i < required { word(*t).to_owned() } else { format!("[{}]", word(*t)) })
        .collect();
    if f.repeat > 0 {
        args.push("…".to_owned());
    }
    format!("{}({}) → {}", f.name, args.join(", "), word(f.returns))
}

fn word(t: ValueType) -> &'static str {
    match t {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "range",
        ValueType::Text => "string",
    }
}

fn marks(f: &Function) -> String {
    let marks = [(f.experimental, "experimental"), (f.keeps_name, "keeps the name")];
    marks.iter().filter(|(on, _)| *on).map(|(_, mark)| format!(" *{mark}*")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1 cargo test -p perennial-engine functions::docs` writes the page.
    #[test]
    fn the_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/promql-functions.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))
                .expect("docs/ can be made");
            std::fs::write(path, markdown()).expect("docs/ can be written");
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == markdown(), "docs/promql-functions.md is stale; run this test with UPDATE_DOCS=1");
    }

    #[test]
    fn signatures_read_as_they_are_written() {
        let of = |name| signature(super::super::lookup(name).expect("in the table"));
        assert_eq!(of("round"), "round(vector, [scalar]) → vector");
        assert_eq!(of("label_join"), "label_join(vector, string, string, [string], …) → vector");
        assert_eq!(of("time"), "time() → scalar");
    }
}
