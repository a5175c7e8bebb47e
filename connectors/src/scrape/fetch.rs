//! One HTTP request of a scrape: headers, limits, and which format the answer has.

use crate::decompress::{DecompressError, gunzip};
use crate::http_client::{HttpClient, error_chain};
use crate::scrape::config::{Job, Protocol};
use crate::scrape::exposition::{BodyFormat, Entry, Format, Parser};
use crate::scrape::target::Target;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};

/// Why a target gave no exposition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The body is too long.
    #[error("body size limit exceeded")]
    BodyLimit,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

/// An answer.
#[derive(Debug)]
pub struct Fetched {
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// The `Content-Type` header, "" if none.
    pub content_type: String,
}

/// Fetches a target within its timeout. `expected` is how large the last body was.
pub async fn fetch(
    client: &HttpClient,
    target: &Target,
    job: &Job,
    expected: usize,
) -> Result<Fetched, FetchError> {
    let answer = request(client, target, job, expected);
    match tokio::time::timeout(target.timeout.std(), answer).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::Failed(format!("Get \"{}\": context deadline exceeded", target.url))),
    }
}

async fn request(
    client: &HttpClient,
    target: &Target,
    job: &Job,
    expected: usize,
) -> Result<Fetched, FetchError> {
    let failed =
        |e: reqwest::Error| FetchError::Failed(format!("Get \"{}\": {}", target.url, reason(&e, target)));
    let encoding = if job.config.keys.enable_compression { "gzip" } else { "identity" };
    let request = client
        .request(reqwest::Method::GET, target.url.clone())
        .map_err(FetchError::Failed)?
        .header(ACCEPT, &job.accept)
        .header(ACCEPT_ENCODING, encoding)
        .header("X-Prometheus-Scrape-Timeout-Seconds", target.timeout.seconds().to_string());
    let mut response = request.send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Failed(format!("server returned HTTP status {}", response.status())));
    }
    let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let (content_type, content_encoding) = (header(CONTENT_TYPE), header(CONTENT_ENCODING));
    let mut body = Vec::with_capacity(expected.min(job.limits.body));
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > job.limits.body {
            return Err(FetchError::BodyLimit);
        }
        body.extend_from_slice(&chunk);
    }
    if content_encoding.eq_ignore_ascii_case("gzip") {
        body = inflate(&body, job.limits.body, expected)?;
    }
    Ok(Fetched { body, content_type })
}

fn inflate(packed: &[u8], limit: usize, expected: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::with_capacity(expected.min(limit));
    match gunzip(packed, limit, &mut body) {
        Ok(()) => Ok(body),
        Err(DecompressError::TooLarge(_)) => Err(FetchError::BodyLimit),
        Err(damaged) => Err(FetchError::Failed(damaged.to_string())),
    }
}

/// A connection error in the words that Prometheus' users know.
fn reason(error: &reqwest::Error, target: &Target) -> String {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    let mut io = None;
    while let Some(cause) = source {
        io = cause.downcast_ref::<std::io::Error>().or(io);
        source = cause.source();
    }
    let address = format!(
        "{}:{}",
        target.url.host_str().unwrap_or(""),
        target.url.port_or_known_default().unwrap_or(80)
    );
    match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => {
            format!("dial tcp {address}: connect: connection refused")
        }
        Some(std::io::ErrorKind::UnexpectedEof) => "EOF".to_owned(),
        _ => std::error::Error::source(error).map_or_else(|| "request failed".to_owned(), error_chain),
    }
}

/// The format of an answer and, if it had to be guessed, a warning. In `strict` mode only what the target or the
/// job names counts, as in Prometheus 3; otherwise a body that looks like the text format is taken as it.
pub fn format(
    fetched: &Fetched,
    fallback: Option<Protocol>,
    strict: bool,
) -> Result<(BodyFormat, Option<String>), FetchError> {
    let (text, open_metrics) = (BodyFormat::Text(Format::Text), BodyFormat::Text(Format::OpenMetrics));
    let given = fetched.content_type.as_str();
    let media_type = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let delimited = |given: &str| {
        let mut parameters = given.split(';').skip(1).map(|p| p.trim().to_ascii_lowercase());
        let known = ["proto=io.prometheus.client.metricfamily", "encoding=delimited"];
        let other = |p: &String| {
            known.iter().all(|k| p != k) && (p.starts_with("proto=") || p.starts_with("encoding="))
        };
        !parameters.any(|p| other(&p))
    };
    match media_type.as_str() {
        "application/openmetrics-text" => return Ok((open_metrics, None)),
        "text/plain" => return Ok((text, None)),
        "application/vnd.google.protobuf" if delimited(given) => return Ok((BodyFormat::Protobuf, None)),
        _ => {}
    }
    let (problem, refusal) = if given.is_empty() {
        let problem = "non-compliant scrape target sending blank Content-Type".to_owned();
        (problem.clone(), format!("{problem} and no fallback_scrape_protocol specified for target"))
    } else if !media_type.contains('/') {
        (
            format!("could not parse received Content-Type {given:?}"),
            format!("cannot parse Content-Type {given:?} and no fallback_scrape_protocol for target"),
        )
    } else {
        let problem = format!("received unsupported Content-Type {given:?}");
        (problem.clone(), format!("{problem} and no fallback_scrape_protocol specified for target"))
    };
    match fallback {
        Some(Protocol::PrometheusProto) => Ok((BodyFormat::Protobuf, Some(problem))),
        Some(Protocol::OpenMetrics0 | Protocol::OpenMetrics1) => Ok((open_metrics, Some(problem))),
        Some(Protocol::Text0 | Protocol::Text1) => Ok((text, Some(problem))),
        None if !strict && looks_like_text(&fetched.body) => {
            Ok((text, Some(format!("{problem}; the body looks like the text format and is read as such"))))
        }
        None => Err(FetchError::Failed(refusal)),
    }
}

/// Whether the first sample of `body` can be read as text format.
fn looks_like_text(body: &[u8]) -> bool {
    let mut parser = Parser::new(body, Format::Text);
    loop {
        match parser.next(&[]) {
            Ok(Some(Entry::Sample(_))) => return true,
            Ok(Some(Entry::Meta(_))) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let answer =
            |content_type: &str, body: &str| Fetched { body: body.into(), content_type: content_type.into() };
        let text = |f: &Fetched, fallback, strict| {
            format(f, fallback, strict).map(|(f, w)| (f, w.is_some())).map_err(|e| e.to_string())
        };
        let good = "# HELP a b\na 1\n";
        assert_eq!(
            text(&answer("text/plain; version=0.0.4", good), None, true),
            Ok((BodyFormat::Text(Format::Text), false))
        );
        assert_eq!(
            text(&answer("application/openmetrics-text; version=1.0.0", good), None, true),
            Ok((BodyFormat::Text(Format::OpenMetrics), false))
        );
        let flask = answer("text/html; charset=utf-8", good);
        assert_eq!(text(&flask, None, false), Ok((BodyFormat::Text(Format::Text), true)));
        assert_eq!(
            text(&flask, None, true),
            Err("received unsupported Content-Type \"text/html; charset=utf-8\" and no fallback_scrape_protocol specified for target".into())
        );
        assert_eq!(
            text(&flask, Some(Protocol::OpenMetrics1), true),
            Ok((BodyFormat::Text(Format::OpenMetrics), true))
        );
        let proto =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        assert_eq!(text(&answer(proto, ""), None, true), Ok((BodyFormat::Protobuf, false)));
        let other = "application/vnd.google.protobuf; proto=x.Y; encoding=delimited";
        assert!(text(&answer(other, ""), None, true).unwrap_err().starts_with("received unsupported"));
        let page = answer("text/html", "<!DOCTYPE html><html></html>");
        assert!(
            text(&page, None, false)
                .unwrap_err()
                .starts_with("received unsupported Content-Type \"text/html\"")
        );
        assert!(text(&answer("", good), None, true).unwrap_err().contains("blank Content-Type"));
        assert_eq!(text(&answer("", good), None, false), Ok((BodyFormat::Text(Format::Text), true)));
    }
}
