//! Which labels the rows of a plan have for whoever wrote the query.
//!
//! In PromQL a row has the labels of its plan. A statement of SQL lists columns: the same plan, so
//! that its steps are shared, but an alert of it has only the labels that are listed, under the
//! names that they have there.

use storage::model::Labels;

/// The labels of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ShownLabels {
    /// Those of the plan.
    #[default]
    All,
    /// These only.
    Listed(Vec<ShownLabel>),
}

/// A label of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownLabel {
    /// Name of the label.
    pub name: String,
    /// Where its value comes from.
    pub value: ShownValue,
}

/// The value of a label of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownValue {
    /// That of this label of the plan.
    Label(String),
    /// The same in each row.
    Text(String),
}

impl ShownLabels {
    /// The labels of a row that has `labels` in the plan.
    pub fn shown(&self, labels: &Labels) -> Labels {
        let ShownLabels::Listed(listed) = self else { return labels.clone() };
        let pair = |shown: &ShownLabel| {
            let value = match &shown.value {
                ShownValue::Label(name) => labels.get(name).unwrap_or("").to_owned(),
                ShownValue::Text(text) => text.clone(),
            };
            (shown.name.clone(), value)
        };
        Labels::from_pairs(listed.iter().map(pair).filter(|(_, value)| !value.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_labels_have_the_names_of_the_list() {
        let row = Labels::from_pairs([("__name__", "up"), ("instance", "a:1"), ("job", "api")]);
        assert_eq!(ShownLabels::All.shown(&row), row);
        let label = |name: &str, of: &str| ShownLabel {
            name: name.to_owned(),
            value: ShownValue::Label(of.to_owned()),
        };
        let team = ShownLabel { name: "team".to_owned(), value: ShownValue::Text("db".to_owned()) };
        let listed = ShownLabels::Listed(vec![label("host", "instance"), label("env", "env"), team]);
        assert_eq!(listed.shown(&row), Labels::from_pairs([("host", "a:1"), ("team", "db")]));
    }
}
