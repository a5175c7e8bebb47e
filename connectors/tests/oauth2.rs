//! Tests `oauth2` of HTTP clients against a token server in this process.

use connectors::config::secret::Secret;
use connectors::http_client::{HttpClient, HttpConfig, OAuth2, Peer, Peers};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::header::AUTHORIZATION;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// A key that was made for tests.
const KEY: &str = include_str!("data/discovery/test-key.pem");

/// Hands out tokens 1, 2, 3 …, to who names himself in the form, and remembers what was asked.
#[derive(Default)]
struct TokenServer {
    asked: Mutex<Vec<String>>,
    granted: Mutex<u32>,
    lifetime: u64,
}

impl Peer for TokenServer {
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, reqwest::Result<reqwest::Response>> {
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
        let body = String::from_utf8_lossy(body).into_owned();
        let header = request.headers().get(AUTHORIZATION).map_or("", |value| value.to_str().unwrap());
        self.asked.lock().push(format!("{} {header} {body}", request.url().path()));
        let (status, text) = if request.url().path() != "/token" {
            (200, header.to_owned())
        } else if body.contains("client_secret=") || body.contains("assertion=") {
            *self.granted.lock() += 1;
            let number = *self.granted.lock();
            let lifetime = self.lifetime;
            (200, format!("{{\"access_token\":\"t{number}\",\"expires_in\":\"{lifetime}\"}}"))
        } else {
            (401, "who?".to_owned())
        };
        let answer = axum::http::Response::builder().status(status).body(text).unwrap();
        Box::pin(std::future::ready(Ok(answer.into())))
    }
}

async fn header_sent(client: &HttpClient) -> Result<String, String> {
    let request = client.request(reqwest::Method::GET, Url::parse("http://h/x").unwrap()).unwrap();
    let answer = client.send(request).await.map_err(|e| e.to_string())?;
    answer.text().await.map_err(|e| e.to_string())
}

fn config() -> OAuth2 {
    OAuth2 {
        client_id: "me".to_owned(),
        client_secret: Some(Secret::new("s3")),
        token_url: "http://h/token".into(),
        scopes: vec!["a".to_owned(), "b".to_owned()],
        endpoint_params: BTreeMap::from([("x".to_owned(), "y z".to_owned())]),
        ..OAuth2::default()
    }
}

fn client(config: OAuth2, server: &Arc<TokenServer>) -> HttpClient {
    let config = HttpConfig { oauth2: Some(config), ..HttpConfig::default() };
    config.validate().unwrap();
    config.client().unwrap().with_peers(&Peers::Given(server.clone()))
}

#[tokio::test]
async fn a_token_is_fetched_once_in_the_form_that_the_server_takes() {
    let server = Arc::new(TokenServer { lifetime: 3_600, ..TokenServer::default() });
    let client = client(config(), &server);
    for _ in 0..3 {
        assert_eq!(header_sent(&client).await.as_deref(), Ok("Bearer t1"));
    }
    let asked = server.asked.lock().clone();
    assert_eq!(asked[0], "/token Basic bWU6czM= grant_type=client_credentials&scope=a+b&x=y+z");
    assert_eq!(
        asked[1],
        "/token  grant_type=client_credentials&scope=a+b&x=y+z&client_id=me&client_secret=s3"
    );
    assert_eq!(asked.len(), 5);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_renewed() {
    let server = Arc::new(TokenServer { lifetime: 10, ..TokenServer::default() });
    let client = client(config(), &server);
    assert_eq!(header_sent(&client).await.as_deref(), Ok("Bearer t1"));
    assert_eq!(header_sent(&client).await.as_deref(), Ok("Bearer t2"));
    assert_eq!(server.asked.lock().len(), 5, "the second call goes in the form at once");
}

#[tokio::test]
async fn a_secret_that_is_missing_fails_the_request() {
    let server = Arc::new(TokenServer::default());
    let config = OAuth2 { client_secret: None, client_secret_file: Some("/none/s".into()), ..config() };
    let why = header_sent(&client(config, &server)).await.unwrap_err();
    assert!(why.contains("unable to read oauth2 client secret") && why.contains("/none/s"), "{why}");
    assert!(server.asked.lock().is_empty());
}

#[test]
fn faults_are_those_of_prometheus() {
    let cases: [(OAuth2, &str); 5] = [
        (OAuth2 { client_id: String::new(), ..config() }, "oauth2 client_id must be configured"),
        (OAuth2 { token_url: "".into(), ..config() }, "oauth2 token_url must be configured"),
        (OAuth2 { client_secret_file: Some("x".into()), ..config() }, "at most one of oauth2 client_secret"),
        (
            OAuth2 { grant_type: JWT_GRANT.to_owned(), signature_algorithm: "HS256".to_owned(), ..config() },
            "valid signature algorithms are RS256, RS384 and RS512",
        ),
        (
            OAuth2 { endpoint_params: BTreeMap::from([("scope".to_owned(), "x".to_owned())]), ..config() },
            "oauth2: cannot overwrite parameter \"scope\"",
        ),
    ];
    for (config, want) in cases {
        let config = HttpConfig { oauth2: Some(config), ..HttpConfig::default() };
        let fault = config.validate().unwrap_err();
        assert!(fault.to_string().contains(want), "{fault}");
    }
}

#[tokio::test]
async fn a_signed_statement_is_a_grant() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pem").display().to_string();
    std::fs::write(&file, KEY).unwrap();
    for (inline, file) in [(Some(Secret::new(KEY)), String::new()), (None, file)] {
        a_grant_is_signed_with(inline, file).await;
    }
}

async fn a_grant_is_signed_with(inline: Option<Secret>, file: String) {
    let server = Arc::new(TokenServer { lifetime: 60, ..TokenServer::default() });
    let config = OAuth2 {
        grant_type: JWT_GRANT.to_owned(),
        signature_algorithm: "RS384".to_owned(),
        client_secret: None,
        client_certificate_key: inline,
        client_certificate_key_file: file,
        client_certificate_key_id: "k".to_owned(),
        ..config()
    };
    assert_eq!(header_sent(&client(config, &server)).await.as_deref(), Ok("Bearer t1"));
    let asked = server.asked.lock()[0].clone();
    // {"alg":"RS384","typ":"JWT","kid":"k"}
    let start = "/token  assertion=eyJhbGciOiJSUzM4NCIsInR5cCI6IkpXVCIsImtpZCI6ImsifQ.";
    assert!(asked.starts_with(start), "{asked}");
    assert!(asked.contains("&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"), "{asked}");
}
