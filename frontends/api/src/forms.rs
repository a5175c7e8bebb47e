//! Reads the bodies of HTML forms, as POST requests of the API have them: their media type, and the
//! values of `multipart/form-data`, as Go reads them. [`super::params`] reads the values.

/// The value of a `Content-Type`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MediaType {
    /// Type and subtype in lower case; "" if they cannot be parsed.
    pub essence: String,
    /// The parameter `boundary`, unquoted.
    pub boundary: Option<String>,
    /// What is wrong, in Go's words.
    pub fault: Option<&'static str>,
}

impl MediaType {
    /// Parses the header; without one, the type is `application/octet-stream`.
    pub(crate) fn parse(header: Option<&str>) -> MediaType {
        // RFC 7231's default, which Go's `ParseForm` uses; such a body is no form.
        let text = header.filter(|text| !text.is_empty()).unwrap_or("application/octet-stream");
        let (essence, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let essence = essence.trim().to_ascii_lowercase();
        if let Some(fault) = essence_fault(&essence) {
            return MediaType { fault: Some(fault), ..MediaType::default() };
        }
        let mut read = MediaType { essence, ..MediaType::default() };
        while !matches!(rest.trim(), "" | ";") {
            // Go keeps the type and drops all parameters, so a form with a broken charset is still
            // read.
            let Some((name, value, behind)) = parameter(rest) else {
                read.fault = Some("mime: invalid media parameter");
                return MediaType { boundary: None, ..read };
            };
            if name == "boundary" {
                read.boundary = Some(value);
            }
            rest = behind;
        }
        read
    }
}

/// What is wrong with a type and subtype.
fn essence_fault(text: &str) -> Option<&'static str> {
    let (kind, rest) = token(text);
    if kind.is_empty() {
        // The texts are those of Go's `mime` package, which Prometheus passes on to clients.
        return Some("mime: no media type");
    }
    if rest.is_empty() {
        return None;
    }
    let Some(rest) = rest.strip_prefix('/') else {
        return Some("mime: expected slash after first token");
    };
    let (subtype, rest) = token(rest);
    if subtype.is_empty() {
        return Some("mime: expected token after slash");
    }
    (!rest.is_empty()).then_some("mime: unexpected content after media subtype")
}

/// The token at the beginning of `text`, and the rest.
fn token(text: &str) -> (&str, &str) {
    let is_part = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c);
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

/// Parses `; name=value` at the beginning of `text`: the name in lower case, the value unquoted,
/// the rest.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = token(text.trim_start().strip_prefix(';')?.trim_start());
    let rest = rest.trim_start().strip_prefix('=').filter(|_| !name.is_empty())?.trim_start();
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => {
            let (value, rest) = token(rest);
            (value.to_owned(), rest)
        }
    };
    // An empty value must be quoted to be one.
    (!value.is_empty() || text.contains('"')).then(|| (name.to_ascii_lowercase(), value, rest))
}

/// The content of a quoted string whose opening quote has been read, and the text after the closing
/// quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            // A header has one line; such a value was not closed.
            '\r' | '\n' => return None,
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// The values of a multipart form, without the uploaded files; `None`: the body is truncated or is
/// no such form.
pub(crate) fn multipart(body: &[u8], boundary: &str) -> Option<Vec<(String, String)>> {
    let delimiter = format!("--{boundary}");
    let mut values = Vec::new();
    // Text before the first delimiter is allowed and ignored (RFC 2046).
    let mut rest = after_line(body, |line| line.trim_ascii_end() == delimiter.as_bytes())?;
    loop {
        let mut name = None;
        let mut is_file = false;
        loop {
            let (line, behind) = line(rest)?;
            rest = behind;
            let line = line.trim_ascii_end();
            if line.is_empty() {
                break;
            }
            if let Some(value) = header(line, "content-disposition") {
                (name, is_file) = disposition(value);
            }
        }
        let (content, behind) = part(rest, delimiter.as_bytes())?;
        // Files are skipped: Go keeps them apart from the values, and no endpoint takes any.
        if let Some(name) = name.filter(|_| !is_file) {
            // A value that is not UTF-8 can only be wrong later, with a text that names the
            // parameter.
            values.push((name, String::from_utf8_lossy(content).into_owned()));
        }
        // The delimiter with two dashes ends the form; what follows is ignored.
        if behind.starts_with(b"--") {
            return Some(values);
        }
        rest = line(behind)?.1;
    }
}

/// The first line of `text`, and the rest.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|b| *b == b'\n')?;
    Some((&text[..end], &text[end + 1..]))
}

/// The text after the first line that is `wanted`.
fn after_line(text: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
    let mut rest = text;
    loop {
        let (first, behind) = line(rest)?;
        if wanted(first) {
            return Some(behind);
        }
        rest = behind;
    }
}

/// The content of a part, and the text after the delimiter that ends it.
fn part<'a>(text: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut from = 0;
    loop {
        if let Some(behind) = text[from..].strip_prefix(delimiter) {
            let content = &text[..from];
            // The line break before a delimiter belongs to the delimiter.
            let content = content.strip_suffix(b"\n").unwrap_or(content);
            return Some((content.strip_suffix(b"\r").unwrap_or(content), behind));
        }
        // Only the beginnings of lines are compared, so the search is linear whatever the content.
        from += line(&text[from..])?.0.len() + 1;
    }
}

/// The value of a header line, if the header has this name.
fn header<'a>(line: &'a [u8], name: &str) -> Option<&'a str> {
    let (given, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    given.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

/// The name of a part's value, and whether the part is a file.
fn disposition(value: &str) -> (Option<String>, bool) {
    let (kind, mut rest) = value.split_at(value.find(';').unwrap_or(value.len()));
    let mut name = None;
    let mut is_file = false;
    while let Some((given, value, behind)) = parameter(rest) {
        match given.as_str() {
            "name" => name = Some(value),
            "filename" => is_file |= !value.is_empty(),
            _ => {}
        }
        rest = behind;
    }
    (name.filter(|_| kind.trim().eq_ignore_ascii_case("form-data")), is_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::assert_proportional;

    #[test]
    fn types_are_read_as_go_reads_them() {
        let of = |essence: &str, boundary: Option<&str>, fault| MediaType {
            essence: essence.to_owned(),
            boundary: boundary.map(str::to_owned),
            fault,
        };
        let form = "application/x-www-form-urlencoded";
        let invalid = Some("mime: invalid media parameter");
        for (text, want) in [
            ("Application/X-WWW-Form-Urlencoded", of(form, None, None)),
            ("application/x-www-form-urlencoded; charset=UTF-8;", of(form, None, None)),
            ("application/x-www-form-urlencoded;;", of(form, None, invalid)),
            ("garbage;;", of("garbage", None, invalid)),
            ("garbage", of("garbage", None, None)),
            ("multipart/form-data; boundary=ab", of("multipart/form-data", Some("ab"), None)),
            (r#"multipart/form-data; x=1; Boundary="a\" b""#, of("multipart/form-data", Some("a\" b"), None)),
            (r#"multipart/form-data; boundary="a"#, of("multipart/form-data", None, invalid)),
            ("", of("application/octet-stream", None, None)),
            (" ", of("", None, Some("mime: no media type"))),
            ("a b", of("", None, Some("mime: expected slash after first token"))),
            ("a/", of("", None, Some("mime: expected token after slash"))),
            ("a/b c", of("", None, Some("mime: unexpected content after media subtype"))),
        ] {
            assert_eq!(MediaType::parse(Some(text)), want, "{text:?}");
        }
        assert_eq!(MediaType::parse(None).essence, "application/octet-stream");
    }

    fn values(body: &str) -> Option<Vec<(String, String)>> {
        multipart(body.as_bytes(), "b")
    }

    #[test]
    fn values_of_parts() {
        let body = "preamble\r\n--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\na\r\n+ b\r\n\
                    --b\r\nX: y\r\ncontent-disposition: form-data; name=f; filename=x\r\n\r\nno\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"match[]\"\r\nContent-Type: text/plain\r\n\r\n\r\n--b--\r\n";
        let pairs = [("query", "a\r\n+ b"), ("match[]", "")];
        let want: Vec<(String, String)> = pairs.map(|(name, value)| (name.into(), value.into())).into();
        assert_eq!(values(body), Some(want.clone()));
        assert_eq!(values(&body.replace("\r\n", "\n").replace("a\n", "a\r\n")), Some(want));
        for cut in
            ["", "--b", "--b\r\n", "--b\r\nX: y\r\n\r\n", "--b\r\n\r\nx\r\n--b", "--c\r\n\r\nx\r\n--c--"]
        {
            assert_eq!(values(cut), None, "{cut:?}");
        }
        assert_eq!(values("--b\r\n\r\nno name\r\n--b--"), Some(Vec::new()));
    }

    #[test]
    fn twice_the_body_costs_twice_as_much() {
        let parts = |n: usize| "--b\nContent-Disposition: form-data; name=x\n\ny\n".repeat(n / 50) + "--b--";
        assert_proportional("parts", 100_000, parts, |body| values(body).map(|v| v.len()));
        let lines = |n: usize| format!("--b\n\n{}--b--", "\r\n".repeat(n / 2));
        assert_proportional("lines of a value", 100_000, lines, |body| values(body).map(|v| v.len()));
        let header = |n: usize| format!("a/b{}", "; a=\"\\\"\"".repeat(n / 8));
        assert_proportional("parameters", 100_000, header, |text| MediaType::parse(Some(text)));
    }
}
