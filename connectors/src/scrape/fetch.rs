//! The HTTP request of a scrape: headers, timeout, size limit, and the exposition format from the
//! response's `Content-Type`. [`super::scrape_loop`] calls it and passes the body on to
//! [`super::work`].

use crate::decompress::DecompressError;
use crate::exposition::{BodyFormat, ExpositionEntry, ExpositionParser, TextFormat};
use crate::http_client::{HttpClient, RequestError, SendError, error_chain};
use crate::limits::SERIES_BYTES;
use crate::scrape::config::{ScrapeJob, ScrapeProtocol};
use crate::scrape::content_type;
use crate::scrape::target::{Target, UrlError};
use bytes::Bytes;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use storage::spans::{SpanContext, TRACEPARENT};
use tokio::time::Instant;
use url::Url;

/// Why a target returned no exposition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The body exceeds `body_size_limit`.
    #[error("body size limit exceeded")]
    BodyLimit,
    /// The labels of the target make no URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The request cannot be made from the configuration of the job, such as a password file.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The target cannot be reached, or the connection broke, or the timeout passed.
    #[error("Get \"{url}\": {reason}")]
    Unavailable {
        /// The URL.
        url: Url,
        /// Why, in Prometheus' words.
        reason: String,
    },
    /// The target answered with a status other than 200.
    #[error("server returned HTTP status {0}")]
    Status(StatusCode),
    /// The format of the body is not known.
    #[error("{0}")]
    Format(String),
    /// The body cannot be decompressed.
    #[error(transparent)]
    Damaged(#[from] DecompressError),
    /// A line or a metric is larger than any can be: it is read as a whole.
    #[error("a line or a metric is longer than {SERIES_BYTES} bytes")]
    TooLong,
    /// Other scrapes had all of the memory until the timeout.
    #[error(
        "context deadline exceeded while the scrape waited for memory that others take; see --scrape.max-memory"
    )]
    NoMemory,
    /// The pool has too many targets, so that none is scraped.
    #[error("{0}")]
    Refused(String),
    /// The scrape panicked.
    #[error("an internal error: the log of the server says more")]
    Internal,
}

/// A response whose body has not been received yet.
#[derive(Debug)]
pub struct Answer {
    /// The `Content-Type` header, "" if it is missing.
    pub content_type: String,
    /// Whether the body is compressed with gzip.
    pub gzip: bool,
    response: Response,
    url: Url,
}

/// Sends the request to a target; the response headers must arrive before `deadline`. `span` is the
/// span of the request, if there is one.
pub async fn fetch(
    client: &HttpClient,
    target: &Target,
    job: &ScrapeJob,
    deadline: Instant,
    span: Option<SpanContext>,
) -> Result<Answer, FetchError> {
    let url = target.url.get().map_err(|error| error.clone())?;
    // `identity` and not an empty header: some servers compress unless they are told not to.
    let encoding = if job.config.keys.enable_compression { "gzip" } else { "identity" };
    let mut request = client
        .request(reqwest::Method::GET, url.clone())?
        .header(ACCEPT, &job.accept)
        .header(ACCEPT_ENCODING, encoding)
        .header("X-Prometheus-Scrape-Timeout-Seconds", target.timeout.seconds().to_string());
    if let Some(span) = span {
        request = request.header(TRACEPARENT, span.to_string());
    }
    let response = within(deadline, url, client.send(request)).await?;
    // Only 200, as in Prometheus: a 204 has no body, and a redirect that was not followed has one
    // that is no exposition.
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let gzip = header(CONTENT_ENCODING).eq_ignore_ascii_case("gzip");
    Ok(Answer { content_type: header(CONTENT_TYPE), gzip, response, url: url.clone() })
}

impl Answer {
    /// The next bytes of the body; `None` at its end.
    pub async fn chunk(&mut self, deadline: Instant) -> Result<Option<Bytes>, FetchError> {
        within(deadline, &self.url, self.response.chunk()).await
    }
}

/// Waits for `answer` until `deadline`.
async fn within<T, E: Into<SendError>>(
    deadline: Instant,
    url: &Url,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, FetchError> {
    let reason = match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => match error.into() {
            SendError::Http(error) => reason(&error, url),
            token => token.to_string(),
        },
        Err(_) => "context deadline exceeded".to_owned(),
    };
    Err(FetchError::Unavailable { url: url.clone(), reason })
}

/// Describes a connection error in the wording that users of Prometheus know.
fn reason(error: &reqwest::Error, url: &Url) -> String {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    let mut io = None;
    while let Some(cause) = source {
        io = cause.downcast_ref::<std::io::Error>().or(io);
        source = cause.source();
    }
    let address = format!("{}:{}", url.host_str().unwrap_or(""), url.port_or_known_default().unwrap_or(80));
    match io.map(std::io::Error::kind) {
        // The text of Go, because alerts, dashboards and people search for it.
        Some(std::io::ErrorKind::ConnectionRefused) => {
            format!("dial tcp {address}: connect: connection refused")
        }
        Some(std::io::ErrorKind::UnexpectedEof) => "EOF".to_owned(),
        _ => std::error::Error::source(error).map_or_else(|| "request failed".to_owned(), error_chain),
    }
}

/// Determines the format of a response; the second value is a warning if the format was guessed.
///
/// In `strict` mode only the `Content-Type` and the job's fallback protocol count, as in Prometheus
/// 3. Otherwise a body that looks like the text format is read as such; `begin` is what has arrived
/// of it.
pub fn format(
    given: &str,
    begin: &[u8],
    fallback: Option<ScrapeProtocol>,
    strict: bool,
) -> Result<(BodyFormat, Option<String>), FetchError> {
    let text = BodyFormat::Text(TextFormat::Text);
    let open_metrics = BodyFormat::Text(TextFormat::OpenMetrics);
    let media_type = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let delimited = |given: &str| {
        let mut parameters = given.split(';').skip(1).map(|p| p.trim().to_ascii_lowercase());
        let known = ["proto=io.prometheus.client.metricfamily", "encoding=delimited"];
        let other = |p: &String| {
            known.iter().all(|k| p != k) && (p.starts_with("proto=") || p.starts_with("encoding="))
        };
        !parameters.any(|p| other(&p))
    };
    // A malformed parameter after the media type matters only in strict mode, or with a fallback
    // protocol.
    let malformed = content_type::check(given).err().filter(|_| !given.is_empty());
    let minds = strict || fallback.is_some();
    match media_type.as_str() {
        // Falls through to the fallback or the refusal.
        _ if malformed.is_some() && minds => {}
        "application/openmetrics-text" => return Ok((open_metrics, None)),
        "text/plain" => return Ok((text, None)),
        "application/vnd.google.protobuf" if delimited(given) => return Ok((BodyFormat::Protobuf, None)),
        _ => {}
    }
    let (problem, refusal) = if given.is_empty() {
        let problem = "non-compliant scrape target sending blank Content-Type".to_owned();
        (problem.clone(), format!("{problem} and no fallback_scrape_protocol specified for target"))
    } else if let Some(why) = malformed {
        (
            format!("could not parse received Content-Type {given:?}: {why}"),
            format!("cannot parse Content-Type {given:?} and no fallback_scrape_protocol for target: {why}"),
        )
    } else {
        let problem = format!("received unsupported Content-Type {given:?}");
        (problem.clone(), format!("{problem} and no fallback_scrape_protocol specified for target"))
    };
    match fallback {
        Some(ScrapeProtocol::PrometheusProto) => Ok((BodyFormat::Protobuf, Some(problem))),
        Some(ScrapeProtocol::OpenMetrics0 | ScrapeProtocol::OpenMetrics1) => {
            Ok((open_metrics, Some(problem)))
        }
        Some(ScrapeProtocol::Text0 | ScrapeProtocol::Text1) => Ok((text, Some(problem))),
        // What Prometheus 2 did. Strict is what Prometheus 3 does; the flag lets a server be
        // swapped before all exporters are mended.
        None if !strict && looks_like_text(begin) => {
            Ok((text, Some(format!("{problem}; the body looks like the text format and is read as such"))))
        }
        None => Err(FetchError::Format(refusal)),
    }
}

/// Whether the first sample of `body` parses as the text format.
fn looks_like_text(body: &[u8]) -> bool {
    let mut parser = ExpositionParser::new(body, TextFormat::Text);
    loop {
        match parser.next(&[]) {
            Ok(Some(ExpositionEntry::Sample(_))) => return true,
            // Comments prove nothing: a shell script has them, too.
            Ok(Some(ExpositionEntry::Meta(_))) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::HttpConfig;
    use crate::scrape::config::GlobalConfig;
    use crate::scrape::target::{build_target, discovered_labels};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// `__unix_socket__`: the request goes to the socket, with the address of the target in it.
    #[tokio::test]
    async fn a_target_can_be_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exporter.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\na 1\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let yaml = format!(
            "{{job_name: j, relabel_configs: [{{target_label: __unix_socket__, replacement: '{}'}}]}}",
            path.display()
        );
        let config = serde_saphyr::from_str(&yaml).unwrap();
        let job = ScrapeJob::new(config, &GlobalConfig::default()).unwrap();
        let discovered = [("__address__".to_owned(), "exporter:9100".to_owned())].into_iter().collect();
        let target = build_target(&discovered_labels(&discovered, &job), &job).unwrap().unwrap();
        assert_eq!(
            (target.labels.get("instance"), target.labels.get("__unix_socket__")),
            (Some("exporter:9100"), None)
        );
        let client = HttpConfig::default().client().unwrap();
        let client = client.through_socket(std::path::Path::new(&target.socket));
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        let mut answer = fetch(&client, &target, &job, deadline, None).await.unwrap();
        assert_eq!(answer.chunk(deadline).await.unwrap().as_deref(), Some(&b"a 1\n"[..]));
        let request = server.await.unwrap().to_lowercase();
        assert!(
            request.starts_with("get /metrics http/1.1") && request.contains("host: exporter:9100"),
            "{request}"
        );
    }

    #[test]
    fn formats() {
        let answer = |content_type: &str, body: &str| (content_type.to_owned(), body.to_owned());
        let text = |(content_type, body): &(String, String), fallback, strict| {
            format(content_type, body.as_bytes(), fallback, strict)
                .map(|(f, w)| (f, w.is_some()))
                .map_err(|e| e.to_string())
        };
        let good = "# HELP a b\na 1\n";
        assert_eq!(
            text(&answer("text/plain; version=0.0.4", good), None, true),
            Ok((BodyFormat::Text(TextFormat::Text), false))
        );
        assert_eq!(
            text(&answer("application/openmetrics-text; version=1.0.0", good), None, true),
            Ok((BodyFormat::Text(TextFormat::OpenMetrics), false))
        );
        let flask = answer("text/html; charset=utf-8", good);
        assert_eq!(text(&flask, None, false), Ok((BodyFormat::Text(TextFormat::Text), true)));
        assert_eq!(
            text(&flask, None, true),
            Err("received unsupported Content-Type \"text/html; charset=utf-8\" and no fallback_scrape_protocol specified for target".into())
        );
        assert_eq!(
            text(&flask, Some(ScrapeProtocol::OpenMetrics1), true),
            Ok((BodyFormat::Text(TextFormat::OpenMetrics), true))
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
        for given in [
            "text/plain;;",
            "text/plain; version=0.0.4, text/html",
            "text/plain; version",
            "text/plain; a=1; a=2",
        ] {
            let error = text(&answer(given, good), None, true).unwrap_err();
            assert!(
                error.starts_with(&format!(
                    "cannot parse Content-Type {given:?} and no fallback_scrape_protocol"
                )),
                "{error}"
            );
            let fallback = text(&answer(given, good), Some(ScrapeProtocol::OpenMetrics1), true);
            assert_eq!(fallback, Ok((BodyFormat::Text(TextFormat::OpenMetrics), true)), "{given}");
            assert_eq!(
                text(&answer(given, good), None, false),
                Ok((BodyFormat::Text(TextFormat::Text), false)),
                "{given}"
            );
        }
        assert!(text(&answer("", good), None, true).unwrap_err().contains("blank Content-Type"));
        assert_eq!(text(&answer("", good), None, false), Ok((BodyFormat::Text(TextFormat::Text), true)));
    }
}
