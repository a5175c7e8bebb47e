//! [`NamedChanges`]: which jobs, groups or blocks a reload of the configuration added, changed or
//! removed, for the log.

use crate::limits::CHANGES_SHOWN;
use std::collections::BTreeMap;
use std::fmt;

/// Names of one kind of thing, such as scrape jobs. Displayed as `added a, b; changed c; removed
/// d`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedChanges {
    /// New ones.
    pub added: Vec<String>,
    /// Those that are defined in another way.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
}

impl NamedChanges {
    /// The difference of two sets of definitions.
    pub fn between<V: PartialEq>(before: &BTreeMap<String, V>, after: &BTreeMap<String, V>) -> NamedChanges {
        let mut changes = NamedChanges::default();
        for (name, definition) in after {
            match before.get(name) {
                None => changes.added.push(name.clone()),
                Some(old) if old != definition => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let is_gone = |name: &&String| !after.contains_key(*name);
        changes.removed = before.keys().filter(is_gone).cloned().collect();
        changes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl fmt::Display for NamedChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("unchanged");
        }
        let mut before = "";
        for (what, names) in [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)]
        {
            if names.is_empty() {
                continue;
            }
            let shown = &names[..names.len().min(CHANGES_SHOWN)];
            write!(f, "{before}{what} {}", shown.join(", "))?;
            if names.len() > shown.len() {
                write!(f, " and {} more", names.len() - shown.len())?;
            }
            before = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_name() {
        let set = |pairs: &[(&str, i32)]| -> BTreeMap<String, i32> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        let before = set(&[("a", 1), ("b", 1), ("c", 1)]);
        let after = set(&[("a", 1), ("b", 2), ("d", 1)]);
        let changes = NamedChanges::between(&before, &after);
        assert_eq!(changes.to_string(), "added d; changed b; removed c");
        assert_eq!(NamedChanges::between(&after, &after).to_string(), "unchanged");
        let many = (0..CHANGES_SHOWN + 2).map(|at| (format!("n{at:03}"), 1)).collect();
        let shown = NamedChanges::between(&BTreeMap::new(), &many).to_string();
        assert!(shown.starts_with("added n000, n001, ") && shown.ends_with(" and 2 more"), "{shown}");
    }
}
