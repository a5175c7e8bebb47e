//! The function list for editors: every function of the engine's table with its signature and
//! result type, so that an editor knows what this server supports.

use super::PromqlOptions;
use engine::functions::{signature, table};
use serde_json::{Value, json};

/// The functions as a JSON array, ordered by name; `enabled` says whether the server's feature
/// flags allow the function.
pub fn functions(options: &PromqlOptions) -> Value {
    let entry = |f: &&engine::functions::Function| {
        json!({
            "name": f.name,
            "signature": signature(f),
            "doc": f.doc,
            "example": f.example,
            "experimental": f.experimental,
            "enabled": !f.experimental || options.experimental_functions,
        })
    };
    table().iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_offered_once() {
        let list = functions(&PromqlOptions::default());
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), table().len());
        let named = |name: &str| list.iter().find(|f| f["name"] == name).unwrap();
        assert_eq!(named("round")["signature"], "round(vector, [scalar]) → vector");
        assert_eq!((&named("rate")["enabled"], &named("info")["enabled"]), (&true.into(), &false.into()));
        assert!(list.iter().all(|f| f["doc"] != "" && f["example"] != ""));
    }
}
