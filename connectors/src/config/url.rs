//! [`ConfigUrl`]: a URL in a configuration, which may contain a password. In logs, errors and
//! `/api/v1/status/config` the password is shown as `<secret>`.

use super::secret::HIDDEN;
use serde::Deserialize;
use std::fmt;
use url::Url;

/// A URL as written in the file, or none: Prometheus tells an empty text from a missing value.
/// `Debug` and `Display` hide its password.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ConfigUrl(Option<String>);

impl ConfigUrl {
    /// The URL with its password, for the code that connects to it; empty if there is none.
    pub fn expose(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there is a value, if only the empty text.
    pub fn is_given(&self) -> bool {
        self.0.is_some()
    }
}

impl From<&str> for ConfigUrl {
    fn from(url: &str) -> ConfigUrl {
        ConfigUrl(Some(url.to_owned()))
    }
}

impl From<String> for ConfigUrl {
    fn from(url: String) -> ConfigUrl {
        ConfigUrl(Some(url))
    }
}

impl fmt::Debug for ConfigUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", hide_password(self.expose()))
    }
}

impl fmt::Display for ConfigUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_password(self.expose()))
    }
}

/// A URL with a hidden password. If the URL contains an `@` and cannot be parsed, all of it is
/// hidden, because the end of the password is unknown.
pub fn hide_password(url: &str) -> String {
    // `http://u:p@ss@[h` cannot be parsed, so where its password ends is a guess. A wrong guess
    // would print a part of it.
    let understood = !url.contains('@') || Url::parse(url).is_ok();
    match url.split_once("://") {
        Some((scheme, rest)) if understood => {
            let authority_end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
            let (authority, tail) = rest.split_at(authority_end);
            let user_and_host =
                // From the right: a password may contain `@`.
                authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host)));
            match user_and_host {
                Some((user, host)) => format!("{scheme}://{user}:{HIDDEN}@{host}{tail}"),
                None => url.to_owned(),
            }
        }
        None if !url.contains('@') => url.to_owned(),
        _ => HIDDEN.to_owned(),
    }
}

/// Whether a scheme is that of HTTP or HTTPS, in upper or lower case, as in URLs.
pub fn is_http_scheme(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_passwords() {
        assert_eq!(hide_password("http://u:p@h:1/x?a=b"), "http://u:<secret>@h:1/x?a=b");
        assert_eq!(hide_password("http://h:1/x@y:z"), "http://h:1/x@y:z");
        assert_eq!(hide_password("http://h/x"), "http://h/x");
        assert_eq!(hide_password("/etc/x"), "/etc/x");
        assert_eq!(hide_password("u:p@h:80"), "<secret>");
        assert_eq!(hide_password("http://u:p/w@h:1"), "<secret>");
    }
}
