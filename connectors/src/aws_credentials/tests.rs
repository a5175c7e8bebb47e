//! Where keys and regions come from.

use super::*;
use crate::http_client::{HttpConfig, Peer, Peers};
use axum::http;
use futures::future::BoxFuture;
use parking_lot::Mutex;

/// A server that answers requests whose line (and body) contain a text.
struct Server {
    answers: Vec<(&'static str, u16, String)>,
    seen: Mutex<Vec<String>>,
}

impl Peer for Server {
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, reqwest::Result<reqwest::Response>> {
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
        let mut line = format!("{} {} {}", request.method(), request.url(), String::from_utf8_lossy(body));
        for (name, value) in request.headers() {
            line.push_str(&format!(" {name}={}", String::from_utf8_lossy(value.as_bytes())));
        }
        let found = self.answers.iter().find(|(part, _, _)| line.contains(part));
        let found = found.map_or((404, String::new()), |(_, status, body)| (*status, body.clone()));
        self.seen.lock().push(line);
        let response = http::Response::builder().status(found.0).body(found.1).expect("a response");
        Box::pin(async { Ok(response.into()) })
    }
}

fn server(answers: &[(&'static str, u16, &str)]) -> Arc<Server> {
    let answers = answers.iter().map(|(part, status, body)| (*part, *status, (*body).to_owned())).collect();
    Arc::new(Server { answers, seen: Mutex::default() })
}

fn session(settings: AwsSettings, variables: &[(&str, &str)], server: &Arc<Server>) -> AwsSession {
    let client = HttpConfig::default().client().unwrap().with_peers(&Peers::Given(server.clone()));
    let api = ApiClient::with_timeout(client, Duration::from_secs(5));
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    AwsSession::with_variables(settings, api, Arc::new(move |name| variables.get(name).cloned()))
}

fn settings() -> AwsSettings {
    AwsSettings { region: "eu-west-2".into(), ..AwsSettings::default() }
}

/// What the token service answers to `action`.
fn sts(action: &str, key: &str) -> String {
    format!(
        "<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s\
         </SecretAccessKey><SessionToken>t</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>\
         </Credentials></{action}Result></{action}Response>"
    )
}

#[tokio::test]
async fn keys_come_from_the_first_place_that_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let shared = file(
        "credentials",
        "# keys\n[default]\naws_access_key_id = D\naws_secret_access_key=s\n\n[other]\naws_access_key_id=O\n\
         aws_secret_access_key = s\n",
    );
    let config = file(
        "config",
        "[default]\nregion = us-east-1\n[profile chained]\nrole_arn = arn:c\nsource_profile = other\n",
    );
    let token = file("token", "identity\n");
    let files = [("AWS_SHARED_CREDENTIALS_FILE", shared.as_str()), ("AWS_CONFIG_FILE", config.as_str())];
    let environment =
        [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "x")];
    let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()), ("AWS_ROLE_ARN", "arn:w")];
    let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/c")];
    let own = AwsSettings { access_key: "A".into(), secret_key: Secret::new("s"), ..settings() };
    let profile = |name: &str| AwsSettings { profile: name.into(), ..settings() };
    let role = AwsSettings { role_arn: "arn:r".into(), external_id: "ext".into(), ..own.clone() };
    let both = [&environment[..], &files[..]].concat();
    let server = server(&[
        (
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aw",
            200,
            &sts("AssumeRoleWithWebIdentity", "W"),
        ),
        ("RoleArn=arn%3Ac", 200, &sts("AssumeRole", "C")),
        ("ExternalId=ext", 200, &sts("AssumeRole", "R")),
        (
            "GET http://169.254.170.2/v2/c",
            200,
            r#"{"AccessKeyId": "T", "SecretAccessKey": "s", "Token": "t"}"#,
        ),
        ("PUT http://169.254.169.254/latest/api/token", 200, "imds"),
        ("security-credentials/role", 200, r#"{"AccessKeyId": "M", "SecretAccessKey": "s", "Token": "t"}"#),
        ("security-credentials/", 200, "role"),
    ]);
    for (settings, variables, key) in [
        (own, &both[..], "A"),
        (profile("other"), &both[..], "O"),
        (profile("chained"), &files[..], "C"),
        (settings(), &both[..], "E"),
        (settings(), &[&identity[..], &files[..]].concat()[..], "W"),
        (settings(), &files[..], "D"),
        (settings(), &container[..], "T"),
        (settings(), &[][..], "M"),
        (role, &[][..], "R"),
    ] {
        let mut session = session(settings, variables, &server);
        assert_eq!(session.credentials().await.unwrap().access_key, key);
        assert_eq!(session.credentials().await.unwrap().access_key, key);
    }
    let seen = server.seen.lock().clone();
    let count = |part: &str| seen.iter().filter(|line| line.contains(part)).count();
    // Keys are remembered; those that assume a role are signed with, and a web identity is not.
    assert_eq!((count("arn%3Ac"), count("ExternalId=ext"), count("WebIdentityToken=identity")), (1, 1, 1));
    assert_eq!((count("Credential=O/"), count("Credential=A/")), (1, 1));
    assert_eq!(count("x-aws-ec2-metadata-token=imds"), 2);
}

#[tokio::test]
async fn regions_come_from_the_first_place_that_has_them() {
    let server = server(&[
        ("PUT", 403, ""),
        ("GET http://imds/latest/dynamic/instance-identity/document", 200, r#"{"region": "ap-1"}"#),
    ]);
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://imds/");
    let nothing = AwsSettings::default();
    for (settings, variables, region) in [
        (settings(), &[("AWS_REGION", "us-1")][..], "eu-west-2"),
        (nothing.clone(), &[("AWS_REGION", "us-1"), ("AWS_DEFAULT_REGION", "us-2")][..], "us-1"),
        (nothing.clone(), &[("AWS_DEFAULT_REGION", "us-2")][..], "us-2"),
        (nothing.clone(), &[endpoint][..], "ap-1"),
    ] {
        assert_eq!(session(settings, variables, &server).region().await.unwrap(), region);
    }
    let disabled = [("AWS_EC2_METADATA_DISABLED", "true")];
    let error = session(nothing, &disabled, &server).region().await.unwrap_err().to_string();
    let expected =
        "could not determine AWS region: failed to get region from IMDS: access disabled to EC2 IMDS";
    assert!(error.starts_with(expected), "{error}");
}
