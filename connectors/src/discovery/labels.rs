//! [`Labels`]: builds the labels of a discovered target from fields of a JSON answer. All
//! mechanisms that poll an API use it; [`super::names`] makes label names valid.

pub(super) use super::names::{host_port, label_name};
use super::{ADDRESS, DiscoveredTarget};
use crate::api_client::AnswerError;
use serde_json::Value;

/// A list with the separator around each of its items, so that `,a,` matches an item. Empty
/// without items.
pub(super) fn separated<T: AsRef<str>>(items: &[T], separator: &str) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: Vec<&str> = items.iter().map(T::as_ref).collect();
    format!("{separator}{}{separator}", items.join(separator))
}

/// The value at a path of names with dots between them: `image.slug`; the empty path is that of
/// the value itself. Null if it is missing.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    if path.is_empty() {
        return value;
    }
    path.split('.').fold(value, |value, name| &value[name])
}

/// A text, number or flag at a path, as text; everything else is empty.
pub(super) fn text(value: &Value, path: &str) -> String {
    match at(value, path) {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => String::new(),
    }
}

/// The list at a path; a missing one is empty, anything but a list an error.
pub(super) fn list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], AnswerError> {
    match at(value, path) {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(&[]),
        _ => Err(AnswerError::NotAList(path.to_owned())),
    }
}

/// The texts of a list at a path.
pub(super) fn texts(value: &Value, path: &str) -> Vec<String> {
    list(value, path).unwrap_or_default().iter().map(|item| text(item, "")).collect()
}

/// The names and texts of an object at a path.
pub(super) fn pairs(value: &Value, path: &str) -> Vec<(String, String)> {
    let pair = |(name, value): (&String, &Value)| (name.clone(), text(value, ""));
    at(value, path).as_object().map(|object| object.iter().map(pair).collect()).unwrap_or_default()
}

/// The labels of one target, all with the same beginning. Empty values are left out: they mean
/// what a missing label means.
#[derive(Clone)]
pub(super) struct Labels {
    prefix: &'static str,
    labels: DiscoveredTarget,
}

impl Labels {
    /// No labels yet; the names of those to come start with `prefix`.
    pub(super) fn new(prefix: &'static str) -> Labels {
        Labels { prefix, labels: DiscoveredTarget::new() }
    }

    /// Sets a label.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Labels {
        let value = value.into();
        if !value.is_empty() {
            self.labels.insert(format!("{}{name}", self.prefix), value);
        }
        self
    }

    /// Sets labels to what stands at paths of a JSON value: `(label, path)`.
    pub(super) fn copy(&mut self, value: &Value, labels: &[(&str, &str)]) -> &mut Labels {
        for (name, path) in labels {
            self.set(name, text(value, path));
        }
        self
    }

    /// Sets one label for each pair; their names start with `start`, made fit for labels.
    pub(super) fn set_all<I>(&mut self, start: &str, pairs: I) -> &mut Labels
    where
        I: IntoIterator<Item = (String, String)>,
    {
        for (name, value) in pairs {
            self.set(&format!("{start}{}", label_name(&name)), value);
        }
        self
    }

    /// Adds the labels of another set, with their own names.
    pub(super) fn merge(&mut self, other: &Labels) -> &mut Labels {
        self.labels.extend(other.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// A target that only relabelling can give an address.
    pub(super) fn without_address(&self) -> DiscoveredTarget {
        self.labels.clone()
    }

    /// The target at an address.
    pub(super) fn target(&self, address: impl Into<String>) -> DiscoveredTarget {
        let mut labels = self.labels.clone();
        labels.insert(ADDRESS.to_owned(), address.into());
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_lists() {
        assert_eq!(label_name("app.kubernetes.io/näme-1"), "app_kubernetes_io_n_me_1");
        assert_eq!((host_port("::1", 80), host_port("a", "80")), ("[::1]:80".into(), "a:80".into()));
        assert_eq!(separated(&["a", "b"], ","), ",a,b,");
        assert_eq!(separated::<&str>(&[], ","), "");
    }

    #[test]
    fn labels_of_json() {
        let value =
            serde_json::json!({"a": {"b": 1.5}, "t": true, "n": null, "l": ["x", 2], "m": {"k-1": "v"}});
        let mut labels = Labels::new("__meta_x_");
        labels.copy(&value, &[("b", "a.b"), ("t", "t"), ("n", "n"), ("missing", "a.c.d")]);
        labels.set("l", separated(&texts(&value, "l"), ",")).set_all("m_", pairs(&value, "m"));
        let target = labels.target("h:1");
        let shown: Vec<String> = target.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected =
            ["__address__=h:1", "__meta_x_b=1.5", "__meta_x_l=,x,2,", "__meta_x_m_k_1=v", "__meta_x_t=true"];
        assert_eq!(shown, expected);
        assert!(
            list(&value, "a").unwrap_err().to_string().contains("not a list")
                && list(&value, "no").unwrap().is_empty()
        );
    }
}
