//! Which words names and comments use: those of `docs/glossary.md`, and none that it has replaced.
//! In Rust, in the TypeScript of the page and of its tests, and on the pages of the documentation.

use super::{files, function_name, root, sources};
use std::path::{Path, PathBuf};

/// Words that `docs/glossary.md` replaces by better ones and that say nothing in code: images, and
/// nicknames of modules that have other names now. No file, type, function or field may contain
/// them, and no comment or page of the documentation.
const RETIRED: &[&str] = &[
    "asker", "awake", "bell", "cohort", "crew", "deaf", "desk", "door", "doubt", "ear", "house", "inbox",
    "kinship", "litter", "lookout", "loom", "moody", "mouth", "pulse", "remark", "remarked", "seam", "tape",
    "twins", "untold", "weave", "young",
];

/// Words that are no names of things: participles, placeholders, and images that are also plain
/// English. No file and no type may contain them; in sentences they are welcome.
const RETIRED_AS_TYPES: &[&str] = &[
    "aside",
    "asked",
    "caller",
    "elsewhere",
    "far",
    "hand",
    "keeping",
    "kept",
    "noticed",
    "nowhere",
    "pace",
    "piece",
    "rhythm",
    "room",
    "rooms",
    "said",
    "stretch",
    "taken",
    "told",
];

/// Participles and placeholders that are no type by themselves, though a type may contain them: a
/// `PatternItem` is an item of something.
const NO_TYPE: &[&str] = &[
    "Asked", "Drawn", "Found", "Given", "Held", "Item", "Kept", "Known", "Noticed", "Part", "Place", "Seen",
    "Shown", "Taken", "Thing", "Told", "Wanted",
];

/// The types that a source declares: name, and whether it is public.
pub(super) fn types(text: &str) -> Vec<(String, bool)> {
    let declared = |line: &str| {
        let line = line.trim_start();
        let public = line.starts_with("pub ");
        let line = line
            .strip_prefix("pub ")
            .or_else(|| line.strip_prefix("pub(")?.split_once(") ").map(|(_, l)| l))
            .unwrap_or(line);
        let rest = ["struct ", "enum ", "trait ", "type "].iter().find_map(|word| line.strip_prefix(word))?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        Some((rest[..end].to_owned(), public))
    };
    text.lines().filter_map(declared).collect()
}

/// The words of a name: `LateSamples` and `late_samples` have two.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_ascii_uppercase() {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().expect("there is one").push(c.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn names_have_their_words() {
    assert_eq!(words("LateSamples"), ["late", "samples"]);
    assert_eq!(words("late_samples"), ["late", "samples"]);
    assert_eq!(
        types("pub(super) struct A<T>;\n    pub enum B {"),
        [("A".to_owned(), false), ("B".to_owned(), true)]
    );
}

/// The functions and fields that a source declares. A field is what stands before a colon at the
/// beginning of a line, so named parameters and the fields of values are among them.
fn functions_and_fields(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
        names.extend(function_name(line));
        let line = line.strip_prefix("pub ").unwrap_or(line);
        if let Some((name, after)) = line.split_once(':') {
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_name && !after.starts_with(':') {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// The first retired word of a text in plain English; names in backquotes are left out.
fn retired_word(text: &str) -> Option<&'static str> {
    let prose = text.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
    let mut words = prose.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|word| RETIRED.iter().find(|retired| **retired == word).copied())
}

#[test]
fn words_are_found_in_names_and_sentences() {
    let text = "// fn bell() {}\nfn two(\n    door: u8,\n) {}\npub struct A {\n    pub ear: u8,\n}\nlet x = a::b();\n";
    assert_eq!(functions_and_fields(text), ["two", "door", "ear"]);
    assert_eq!(retired_word("What rings, the Bell or `door`?"), Some("bell"));
    assert_eq!(retired_word("the doors of `house` are heard"), None);
}

#[test]
fn retired_words_name_no_file_and_no_type() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let stem = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let names = types(&text).into_iter().map(|(name, _)| name).chain([stem]);
        let is_retired = |name: &String| {
            let words = words(name);
            let mut words = words.iter().map(String::as_str);
            words.any(|word| RETIRED.contains(&word) || RETIRED_AS_TYPES.contains(&word))
                || NO_TYPE.contains(&name.as_str())
        };
        for name in names.filter(is_retired) {
            found.push(format!("{}: {name}", path.display()));
        }
    }
    // What an iterator yields is called so by the standard library.
    found.retain(|line| !line.ends_with(": Item"));
    assert!(found.is_empty(), "docs/glossary.md has other words for these:\n{}", found.join("\n"));
}

#[test]
fn retired_words_name_no_function_and_no_field() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for name in functions_and_fields(&text) {
            if words(&name).iter().any(|word| RETIRED.contains(&word.as_str())) {
                found.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "docs/glossary.md has other words for these:\n{}", found.join("\n"));
}

#[test]
fn retired_words_are_in_no_comment_and_on_no_page() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let comments = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
        for comment in comments {
            found.extend(retired_word(comment).map(|word| format!("{}: {word}: {comment}", path.display())));
        }
    }
    let mut pages = Vec::new();
    files(root(), &|path| path.extension().is_some_and(|e| e == "md"), &mut pages);
    for page in pages {
        let name = page.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&page).expect("UTF-8");
        for line in text.lines() {
            found.extend(retired_word(line).map(|word| format!("{name}: {word}: {line}")));
        }
    }
    assert!(found.is_empty(), "docs/glossary.md has other words for these:\n{}", found.join("\n"));
}

/// The sources of the page and of its tests.
fn page_sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["frontends/ui/src", "frontends/ui/test"] {
        let is_source = |path: &Path| {
            path.extension().is_some_and(|e| ["ts", "tsx", "mjs", "css"].iter().any(|own| e == *own))
        };
        files(&root().join(folder), &is_source, &mut found);
    }
    assert!(found.len() > 50, "this test looks in the wrong place");
    found.into_iter().map(|p| (p.clone(), std::fs::read_to_string(&p).expect("UTF-8"))).collect()
}

/// The words of a name in TypeScript: `LateSamples`, `lateSamples` and `LATE_SAMPLES` have two.
fn page_words(name: &str) -> Vec<String> {
    let is_constant = !name.contains(|c: char| c.is_ascii_lowercase());
    if is_constant { words(&name.to_ascii_lowercase()) } else { words(name) }
}

/// The types that a source in TypeScript declares.
fn page_types(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start) {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let kinds = ["interface ", "type ", "class ", "enum "];
        if let Some(name) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
            names.push(&name[..end]);
        }
    }
    names
}

#[test]
fn names_of_the_page_have_their_words() {
    assert_eq!(page_words("lateSamples"), ["late", "samples"]);
    assert_eq!(page_words("LATE_SAMPLES"), ["late", "samples"]);
    let text = "export interface A { b: C }\nclass D<E> {\n  // type of F\n  f: G;\n}\nimport type { H } from 'i';\n";
    assert_eq!(page_types(text), ["A", "D"]);
}

#[test]
fn retired_words_are_nowhere_in_the_page() {
    let mut found = Vec::new();
    for (path, text) in page_sources() {
        let stem = path.file_name().expect("a file").to_string_lossy().into_owned();
        let stem = stem.split('.').next().unwrap_or_default();
        for name in page_types(&text).into_iter().chain([stem]) {
            let is_retired = |word: &String| RETIRED_AS_TYPES.contains(&word.as_str());
            if page_words(name).iter().any(is_retired) || NO_TYPE.contains(&name) {
                found.push(format!("{}: {name}", path.display()));
            }
        }
        // Comments, names and texts alike: the page has no word that means a thing of another kind.
        for (number, line) in text.lines().enumerate() {
            let names = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in names.chain([stem]) {
                if page_words(name).iter().any(|word| RETIRED.contains(&word.as_str())) {
                    found.push(format!("{}:{}: {name}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "docs/glossary.md has other words for these:\n{}", found.join("\n"));
}
