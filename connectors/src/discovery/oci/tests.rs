//! Tests `oci_sd_configs` against recorded answers.

use super::super::recorded_server::{
    RecordedServer, answer, assert_cases, assert_port, assert_refused, listed, lister,
};
use super::*;
use crate::discovery::DiscoveryUser;
use crate::http_client::{Peer, Peers, base64};
use crate::jwt::tests::{PEM, verifies};
use crate::jwt::{RsaHash, base64_url, from_base64};
use axum::http;
use futures::future::BoxFuture;
use parking_lot::Mutex as SyncMutex;
use std::time::SystemTime;
use storage::metrics::Metrics;

const API_KEY: &str = "region: eu-frankfurt-1, tenancy: t, user: u, fingerprint: 'a:b', key_file";

#[tokio::test(start_paused = true)]
async fn instances_have_the_labels_of_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    std::fs::write(&key, PEM).unwrap();
    let cases = include_str!("../../../tests/data/discovery/oci.json");
    let cases = cases.replace("{key}", key.to_str().unwrap());
    assert_cases::<OciSd>(&cases).await;
    assert_port::<OciSd>(&cases).await;
}

/// The signature can be checked with the public key and the headers of the request.
#[tokio::test]
async fn requests_are_signed() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    std::fs::write(&key, PEM).unwrap();
    let server = RecordedServer::new(vec![answer(
        "GET https://iaas.eu-frankfurt-1.oraclecloud.com/20160918/instances?compartmentId=c&limit=100",
        "[]",
    )]);
    let config = format!("{{{API_KEY}: '{}', compartments: [c]}}", key.display());
    listed::<OciSd>(&config, &server).await.unwrap();
    let seen = server.seen().remove(0);
    let of = |name: &str| seen.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let target = "get /20160918/instances?compartmentId=c&limit=100";
    let signed = format!(
        "date: {}\n(request-target): {target}\nhost: iaas.eu-frankfurt-1.oraclecloud.com",
        of("date: ")
    );
    let signature = base64(&RsaKey::from_pem(PEM).unwrap().sign(RsaHash::Sha256, signed.as_bytes()).unwrap());
    let expected = format!(
        "Signature version=\"1\",headers=\"date (request-target) host\",keyId=\"t/u/a:b\",\
         algorithm=\"rsa-sha256\",signature=\"{signature}\""
    );
    assert_eq!(of("authorization: "), expected);
}

/// A key may have a passphrase, which stands in the block or in a file.
#[test]
fn keys_may_have_a_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let key = file("key.pem", include_str!("../../../tests/data/discovery/test-key-aes256.pem"));
    let passphrase = file("passphrase", "open-sesame\n");
    let server = RecordedServer::new(Vec::new());
    let made = |more: &str| {
        let made = lister::<OciSd>(&format!("{{{API_KEY}: '{key}'{more}}}"), &server);
        made.map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(made(", key_passphrase: open-sesame"), Ok(()));
    assert_eq!(made(&format!(", key_passphrase_file: '{passphrase}'")), Ok(()));
    assert!(made("").is_err_and(|e| e.ends_with("is encrypted: a passphrase is required")));
    assert!(made(", key_passphrase: x").is_err_and(|e| e.ends_with("the passphrase is wrong")));
}

/// A request that meets a busy server is sent again, and not for ever.
#[tokio::test(start_paused = true)]
async fn a_busy_server_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    std::fs::write(&key, PEM).unwrap();
    let url = "GET https://iaas.eu-frankfurt-1.oraclecloud.com/20160918/instances?compartmentId=c&limit=100";
    let server = RecordedServer::new(vec![answer(url, "slower").status(429)]);
    let config = format!("{{{API_KEY}: '{}', compartments: [c]}}", key.display());
    let error = listed::<OciSd>(&config, &server).await.unwrap_err();
    assert_eq!(
        error,
        "listing OCI instances in compartment c: server returned HTTP status 429 Too Many Requests: slower"
    );
    assert_eq!(server.seen().len(), OCI_ATTEMPTS as usize);
}

/// A burst goes at once, what is more goes one after the other.
#[tokio::test(start_paused = true)]
async fn requests_have_a_pace() {
    let mut spacing = RequestSpacing::default();
    let start = Instant::now();
    for _ in 0..OCI_BURST {
        assert!(spacing.turn() <= start);
    }
    let after = Duration::from_millis(OCI_INTERVAL_MS);
    assert_eq!(spacing.turn(), start + after);
    assert_eq!(spacing.turn(), start + 2 * after);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(spacing.turn() <= Instant::now());
}

#[test]
fn keys_that_cannot_be_used_are_found_at_the_start() {
    let server = RecordedServer::new(Vec::new());
    let error = |yaml: &str| lister::<OciSd>(yaml, &server).map(|_| ()).unwrap_err().to_string();
    let missing = error(&format!("{{{API_KEY}: /nonexistent/key.pem}}"));
    let start = "oci_sd: failed to build configuration provider: unable to read file /nonexistent/key.pem";
    assert!(missing.starts_with(start), "{missing}");
}

/// Oracle's cloud as a machine sees it: the metadata service, the one that gives tokens, and one of
/// the others. It checks who asks, and every signature.
struct OracleCloud(SyncMutex<CloudState>);

struct CloudState {
    /// Seconds that tokens are good for.
    lifetime: u64,
    /// Whether no more tokens are given.
    refuses: bool,
    /// The public keys that tokens were given for.
    keys: Vec<Vec<u8>>,
    /// The requests that were answered.
    seen: Vec<String>,
}

const CERTIFICATE: &str = include_str!("../../../tests/data/discovery/oci-instance.pem");

impl OracleCloud {
    fn new(lifetime: u64) -> Arc<OracleCloud> {
        let state = CloudState { lifetime, refuses: false, keys: Vec::new(), seen: Vec::new() };
        Arc::new(OracleCloud(SyncMutex::new(state)))
    }

    fn answer_to(&self, request: &reqwest::Request) -> (u16, String) {
        let mut state = self.0.lock();
        let url = request.url().as_str();
        let Some(path) = url.strip_prefix("http://169.254.169.254/opc/v2/") else {
            return match url {
                "https://auth.us-phoenix-1.oraclecloud.com/v1/x509" => state.token(request),
                _ => state.instances(request),
            };
        };
        if text_of(request, "authorization") != "Bearer Oracle" {
            return (403, "Forbidden".to_owned());
        }
        state.seen.push(path.to_owned());
        let answer = match path {
            "instance/region" => "phx",
            "identity/key.pem" => PEM,
            "identity/cert.pem" | "identity/intermediate.pem" => CERTIFICATE,
            _ => return (404, String::new()),
        };
        (200, answer.to_owned())
    }
}

impl CloudState {
    /// A token for the key in a request, which the machine has signed.
    fn token(&mut self, request: &reqwest::Request) -> (u16, String) {
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap();
        assert_eq!(text_of(request, "content-length"), body.len().to_string());
        let hash = base64(ring::digest::digest(&ring::digest::SHA256, body).as_ref());
        assert_eq!(text_of(request, "x-content-sha256"), hash);
        let id = "ocid1.tenancy.oc1..ten/fed-x509-sha256/ee:27:36:2a:e7:af:13:e5:8c:12:3b:a2:79:f1:3c:0b:\
                  e3:67:a6:99:2e:26:30:e1:0f:8c:72:70:37:11:9d:b4";
        let parts = "date (request-target) content-length content-type x-content-sha256";
        let signed = format!(
            "date: {}\n(request-target): post /v1/x509\ncontent-length: {}\ncontent-type: application/json\n\
             x-content-sha256: {hash}",
            text_of(request, "date"),
            body.len()
        );
        let machine = RsaKey::from_pem(PEM).unwrap().public_key();
        assert!(is_signed(request, parts, id, &signed, &machine));
        let body: Value = serde_json::from_slice(body).unwrap();
        let certificate: String = CERTIFICATE.lines().filter(|line| !line.starts_with("-----")).collect();
        assert_eq!(body["certificate"], certificate);
        assert_eq!(body["intermediateCertificates"][0], certificate);
        assert_eq!(body["fingerprintAlgorithm"], "SHA256");
        if self.refuses {
            return (503, "no tokens".to_owned());
        }
        self.keys.push(from_base64(body["publicKey"].as_str().unwrap()).unwrap());
        self.seen.push("token".to_owned());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let claims = serde_json::json!({"exp": now + self.lifetime, "number": self.keys.len()});
        let token = format!("e30.{}.x", base64_url(claims.to_string().as_bytes()));
        (200, serde_json::json!({"token": token}).to_string())
    }

    /// A list without instances for whoever has signed with the key of a token.
    fn instances(&mut self, request: &reqwest::Request) -> (u16, String) {
        let query = "compartmentId=ocid1.tenancy.oc1..ten";
        let list = match request.url().host_str().unwrap() {
            "identity.us-phoenix-1.oci.oraclecloud.com" => "compartments",
            "iaas.us-phoenix-1.oraclecloud.com" => "instances",
            host => panic!("{host}"),
        };
        assert!(request.url().query().unwrap().starts_with(query), "{}", request.url());
        let url = request.url();
        let signed = format!(
            "date: {}\n(request-target): get {}?{}\nhost: {}",
            text_of(request, "date"),
            url.path(),
            url.query().unwrap(),
            url.host_str().unwrap()
        );
        let authorization = text_of(request, "authorization");
        let id = authorization.split("keyId=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let claims = from_base64(id.strip_prefix("ST$e30.").unwrap().split('.').next().unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let number = claims["number"].as_u64().unwrap() as usize;
        assert!(is_signed(request, "date (request-target) host", &id, &signed, &self.keys[number - 1]));
        self.seen.push(format!("{list} {number}"));
        (200, "[]".to_owned())
    }
}

fn text_of(request: &reqwest::Request, name: &str) -> String {
    request.headers()[name].to_str().unwrap().to_owned()
}

/// Whether the request has this signature of what was signed.
fn is_signed(request: &reqwest::Request, parts: &str, id: &str, signed: &str, key: &[u8]) -> bool {
    let authorization = text_of(request, "authorization");
    let start = format!(
        "Signature version=\"1\",headers=\"{parts}\",keyId=\"{id}\",algorithm=\"rsa-sha256\",signature=\""
    );
    let signature = authorization.strip_prefix(&start).expect(&authorization).trim_end_matches('"');
    verifies(key, signed.as_bytes(), &from_base64(signature).unwrap())
}

impl Peer for OracleCloud {
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, reqwest::Result<reqwest::Response>> {
        let (status, body) = self.answer_to(&request);
        Box::pin(async move { Ok(http::Response::builder().status(status).body(body).unwrap().into()) })
    }
}

/// The discovery of a machine of this cloud. The region of the block means nothing, as in
/// Prometheus.
fn of_machine(cloud: &Arc<OracleCloud>) -> OciSd {
    let config = "{auth: instance_principal, region: eu-frankfurt-1, authorization: {credentials: x}}";
    let config: OciSdConfig = serde_saphyr::from_str(config).unwrap();
    let peers = Peers::Given(cloud.clone());
    let metrics = Metrics::default();
    let context =
        DiscoveryContext { peers: &peers, metrics: &metrics, pool: "job", user: DiscoveryUser::Scrape };
    OciSd::create(&config, &context).unwrap()
}

/// A machine asks as itself: it gets a token for a key of its own, signs with that key, and has
/// another token before the end of the first one.
#[tokio::test]
async fn a_machine_asks_with_tokens() {
    let cloud = OracleCloud::new(3_600);
    let mut machine = of_machine(&cloud);
    assert!(machine.list().await.unwrap().is_empty());
    assert!(machine.list().await.unwrap().is_empty());
    let metadata = ["identity/cert.pem", "identity/key.pem", "identity/intermediate.pem", "token"];
    let lists = ["compartments 1", "instances 1"];
    let expected = [&["instance/region", "identity/cert.pem"][..], &metadata, &lists, &lists].concat();
    assert_eq!(cloud.0.lock().seen, expected);
    // Tokens that end within five minutes are replaced for each request.
    let cloud = OracleCloud::new(299);
    let mut machine = of_machine(&cloud);
    machine.list().await.unwrap();
    let seen = cloud.0.lock().seen.clone();
    let lists: Vec<&str> = seen.iter().map(String::as_str).filter(|line| line.contains(' ')).collect();
    assert_eq!(lists, ["compartments 2", "instances 3"]);
    let keys = &cloud.0.lock().keys;
    assert!(keys.len() == 3 && keys[0] != keys[1] && keys[1] != keys[2]);
}

/// Without a token there is no list, so that the targets of the last one stay.
#[tokio::test]
async fn without_a_token_there_is_no_list() {
    let cloud = OracleCloud::new(60);
    let mut machine = of_machine(&cloud);
    machine.list().await.unwrap();
    cloud.0.lock().refuses = true;
    let error = machine.list().await.unwrap_err();
    assert_eq!(error.remedy(), ApiRemedy::Wait);
    assert_eq!(
        error.to_string(),
        "oci_sd: failed to build configuration provider: failed to renew security token: failed to get security \
         token: server returned HTTP status 503 Service Unavailable: no tokens"
    );
    // On another machine.
    let server = RecordedServer::new(vec![answer("", "no").status(404)]);
    let error = listed::<OciSd>("{auth: instance_principal, region: r}", &server).await.unwrap_err();
    assert_eq!(
        error,
        "oci_sd: failed to build configuration provider: failed to get the region name: \
         http://169.254.169.254/opc/v2/instance/region: server returned HTTP status 404 Not Found: no"
    );
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    assert_refused::<OciSd>(&[
        ("{}", "oci_sd: region is required"),
        (
            "{region: r, auth: x}",
            "oci_sd: unknown auth method \"x\", expected \"api_key\" or \"instance_principal\"",
        ),
        ("{region: r}", "oci_sd: api_key auth requires tenancy"),
        ("{region: r, tenancy: t}", "oci_sd: api_key auth requires user"),
        ("{region: r, tenancy: t, user: u}", "oci_sd: api_key auth requires fingerprint"),
        ("{region: r, tenancy: t, user: u, fingerprint: f}", "oci_sd: api_key auth requires key_file"),
        (
            &format!("{{{API_KEY}: k, key_passphrase: p, key_passphrase_file: f}}"),
            "oci_sd: at most one of key_passphrase and key_passphrase_file must be configured",
        ),
        (
            "{region: r, auth: instance_principal, user: u}",
            "oci_sd: instance_principal auth must not have tenancy, user, fingerprint, key_file, \
             key_passphrase, or key_passphrase_file set",
        ),
        (&format!("{{{API_KEY}: k, compartments: ['']}}"), "oci_sd: compartments[0] must not be empty"),
        (
            &format!("{{{API_KEY}: k, refresh_interval: 0s}}"),
            "oci_sd: refresh_interval must be positive, got 0s",
        ),
    ]);
}
