//! Checks whether a `Content-Type` is well-formed, as Go's library does: with a malformed one a
//! scrape fails, as in Prometheus.

/// Checks `given`. The error says what is wrong.
pub fn check(given: &str) -> Result<(), &'static str> {
    let (media_type, parameters) = given.split_at(given.find(';').unwrap_or(given.len()));
    let mut parts = media_type.trim().split('/');
    let is_type =
        parts.next().is_some_and(is_token) && parts.next().is_none_or(is_token) && parts.next().is_none();
    if !is_type {
        return Err("mime: expected a type and a subtype");
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut rest = parameters.trim_start();
    while !rest.is_empty() {
        let Some((name, value, behind)) = parameter(rest) else {
            // A semicolon at the end is allowed.
            return if rest.trim() == ";" { Ok(()) } else { Err("mime: invalid media parameter") };
        };
        if seen.iter().any(|(other, said)| *other == name && *said != value) {
            return Err("mime: duplicate parameter name");
        }
        seen.push((name, value));
        rest = behind.trim_start();
    }
    Ok(())
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

fn token(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_token_char(c)).unwrap_or(text.len()))
}

/// Parses `; name=value` at the start of `text`: name, value, and the rest.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = token(text.strip_prefix(';')?.trim_start());
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    if name.is_empty() {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, behind) = token(rest);
        return (!value.is_empty()).then(|| (name, value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            '\r' | '\n' => return None,
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_go_reads_is_well_formed() {
        for good in [
            "text/plain",
            "text/plain; version=0.0.4; charset=utf-8",
            "text/plain;",
            "TEXT/plain ; a = \"x;\\\"y\" ; ",
            "text/plain; a=1; A=1",
            "text",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let parameter = "mime: invalid media parameter";
        for (bad, why) in [
            ("text/plain;;", parameter),
            ("text/plain; version", parameter),
            ("text/plain; version=", parameter),
            ("text/plain; version=0.0.4, text/html", parameter),
            ("text/plain; a=\"x", parameter),
            ("text/plain; =1", parameter),
            ("text/plain; a=1; a=2", "mime: duplicate parameter name"),
            ("text/", "mime: expected a type and a subtype"),
            ("", "mime: expected a type and a subtype"),
            ("a/b/c", "mime: expected a type and a subtype"),
        ] {
            assert_eq!(check(bad), Err(why), "{bad}");
        }
    }
}
