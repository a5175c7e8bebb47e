//! Tests of signed requests and of tokens, against recorded answers of the clouds.

use super::*;
use crate::discovery::recorded_server::{RecordedServer, answer};
use crate::http_client::HttpClient;
use crate::jwt::tests::PEM;
use reqwest::Method;
use std::sync::Arc;

const ID: &str = "00000000-a12b-3cd4-e56f-000000000000";

fn sigv4(yaml: &str) -> CloudAuth {
    CloudAuth::SigV4(serde_saphyr::from_str(yaml).expect("a block"))
}

fn azure(yaml: &str) -> CloudAuth {
    CloudAuth::AzureAd(serde_saphyr::from_str(yaml).expect("a block"))
}

fn client(auth: CloudAuth, server: &Arc<RecordedServer>) -> HttpClient {
    auth.validate().expect("a good block");
    let client = HttpConfig::default().client().expect("a client").with_cloud_auth(Some(auth));
    client.with_peers(&Peers::Given(server.clone()))
}

/// The status of a request, or why there is none.
async fn post(client: &HttpClient) -> Result<u16, String> {
    let url = "https://m.example.com/api/v1/write".parse().expect("a URL");
    let request = client.request(Method::POST, url).expect("a request").body("samples");
    client.send(request).await.map(|response| response.status().as_u16()).map_err(|e| e.to_string())
}

#[tokio::test]
async fn requests_are_signed_for_aws() {
    let to = "POST https://m.example.com/api/v1/write AWS4-HMAC-SHA256 x-amz-date";
    let server = RecordedServer::new(vec![
        answer(&format!("{to} Credential=AK/ /eu-west-2/aps/aws4_request"), ""),
        answer(
            "POST https://sts-fips.eu-west-2.amazonaws.com/ Action=AssumeRole",
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLE</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
             <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
        ),
        answer(
            &format!("{to} Credential=ROLE/ /eu-west-2/execute-api/aws4_request x-amz-security-token"),
            "",
        ),
    ]);
    let keys = "region: eu-west-2, access_key: AK, secret_key: s";
    assert_eq!(post(&client(sigv4(&format!("{{{keys}}}")), &server)).await, Ok(200));
    let role = "role_arn: r, external_id: e, use_fips_sts_endpoint: true, service_name: execute-api";
    let role = client(sigv4(&format!("{{{keys}, {role}}}")), &server);
    let before = server.seen().len();
    for _ in 0..2 {
        assert!(post(&role).await.is_ok());
    }
    let seen = server.seen().split_off(before);
    let assumed = seen.iter().filter(|request| request.contains("Action=AssumeRole"));
    assert_eq!((assumed.count(), seen.len()), (1, 3), "{seen:?}");
    assert!(seen[2].contains("Credential=ROLE/"), "{}", seen[2]);
}

/// Each way of Azure: what is asked for the token, which is used for half of its life.
#[tokio::test]
async fn tokens_of_azure() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("token"), "WORKLOAD\n").unwrap();
    // A certificate need not be one that somebody trusts: only its hash and its key are used.
    std::fs::write(
        path("cert.pem"),
        format!("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n{PEM}"),
    )
    .unwrap();
    std::fs::write(path("alone.pem"), "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
        .unwrap();
    std::fs::write(path("key.pem"), PEM).unwrap();
    let public = "POST https://login.microsoftonline.com/t/oauth2/v2.0/token";
    let scope = "scope=https%3A%2F%2Fmonitor.azure.com%2F%2F.default";
    let cases = [
        (
            format!("oauth: {{client_id: {ID}, client_secret: s, tenant_id: t}}"),
            format!("{public} grant_type=client_credentials&client_id={ID}&client_secret=s&{scope}"),
        ),
        (
            format!(
                "workload_identity: {{client_id: {ID}, tenant_id: {ID}, token_file_path: '{}'}}",
                path("token")
            ),
            format!(
                "POST https://login.microsoftonline.com/{ID}/oauth2/v2.0/token client_assertion=WORKLOAD&{scope}"
            ),
        ),
        (
            format!(
                "certificate: {{client_id: {ID}, tenant_id: t, certificate_path: '{}'}}",
                path("cert.pem")
            ),
            format!(
                "{public} client_assertion_type=urn client_assertion=eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsIng1dCNTMjU2"
            ),
        ),
        (
            format!(
                "certificate: {{client_id: {ID}, tenant_id: t, certificate_path: '{}', certificate_key_path: '{}', \
                 send_certificate_chain: true}}",
                path("alone.pem"),
                path("key.pem")
            ),
            // The header, at its end: "x5c":["MAA="]}
            format!(
                "{public} client_assertion=eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsIng1dCNTMjU2IjoiNVBZTkNxYlg4OU8ycGtsTEhJWWJt\
                 ZlpKeHZuc1VhdXZJQnNnOHBjeWZKVSIsIng1YyI6WyJNQUE9Il19."
            ),
        ),
        (
            format!(
                "oauth: {{client_id: {ID}, client_secret: s, tenant_id: t}}, scope: 'https://own/.default'"
            ),
            format!("{public} client_secret=s&scope=https%3A%2F%2Fown%2F.default"),
        ),
        (
            "sdk: {tenant_id: t}".to_owned(),
            "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&\
             resource=https%3A%2F%2Fmonitor.azure.com%2F metadata:"
                .to_owned(),
        ),
        (
            format!("managed_identity: {{client_id: {ID}}}, cloud: AzureChina"),
            format!(
                "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&\
                 resource=https%3A%2F%2Fmonitor.azure.cn%2F&client_id={ID} metadata:"
            ),
        ),
    ];
    for (keys, request) in cases {
        // One of the two as a text, as the service of machines says it.
        let life = if keys.contains("managed") { "\"3600\"" } else { "3600" };
        let server = RecordedServer::new(vec![
            answer(&request, format!("{{\"access_token\": \"T\", \"expires_in\": {life}}}")),
            answer("POST https://m.example.com/api/v1/write authorization: Bearer T samples", ""),
        ]);
        let client = client(azure(&format!("{{{keys}}}")), &server);
        for _ in 0..2 {
            assert_eq!(post(&client).await, Ok(200), "{keys}: {:?}", server.seen());
        }
        assert_eq!(server.seen().len(), 3, "{keys}");
        server.replace(Vec::new());
    }
    let server = RecordedServer::new(Vec::new());
    let certificate = path("cert.pem");
    let keys =
        format!("client_id: {ID}, tenant_id: t, certificate_path: '{certificate}', certificate_password: p");
    let error = post(&client(azure(&format!("{{certificate: {{{keys}}}}}")), &server)).await.unwrap_err();
    assert!(error.contains("certificate_password: files with a password are not supported"), "{error}");
    let keys = format!("{{oauth: {{client_id: {ID}, client_secret: s, tenant_id: t}}}}");
    let error = post(&client(azure(&keys), &server)).await.unwrap_err();
    assert!(error.starts_with("Failed to get access token: "), "{error}");
}

#[tokio::test]
async fn tokens_of_google() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("account.json");
    let account = serde_json::json!({"type": "service_account", "client_email": "me@p", "private_key_id": "k", "private_key": PEM, "token_uri": "https://token/sa"});
    std::fs::write(&path, account.to_string()).unwrap();
    let server = RecordedServer::new(vec![
        answer(
            "POST https://token/sa assertion=eyJ jwt-bearer",
            r#"{"access_token": "T", "expires_in": 3600}"#,
        ),
        answer("POST https://m.example.com/api/v1/write authorization: Bearer T", ""),
    ]);
    let config = GoogleIamConfig { credentials_file: path.display().to_string() };
    let google = client(CloudAuth::GoogleIam(config), &server);
    for _ in 0..2 {
        assert_eq!(post(&google).await, Ok(200));
    }
    assert_eq!(server.seen().len(), 3);
    let config = GoogleIamConfig { credentials_file: "/nonexistent".to_owned() };
    let error = post(&client(CloudAuth::GoogleIam(config), &server)).await.unwrap_err();
    assert!(error.starts_with("unable to read file /nonexistent"), "{error}");
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    let none = "must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, Azure Certificate or \
                Azure SDK in the Azure AD config";
    let cases = [
        (
            sigv4("{access_key: k}"),
            "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config",
        ),
        (sigv4("{external_id: e}"), "external_id can only be used with role_arn"),
        (azure("{cloud: x, sdk: {}}"), "must provide a cloud in the Azure AD config"),
        (azure("{}"), none),
        (
            azure("{sdk: {tenant_id: t}, managed_identity: {}}"),
            "cannot provide multiple authentication methods in the Azure AD config",
        ),
        (
            azure("{managed_identity: {client_id: x}}"),
            "the provided Azure Managed Identity client_id is invalid",
        ),
        (
            azure("{workload_identity: {client_id: x}}"),
            "must provide an Azure Workload Identity tenant_id in the Azure AD config",
        ),
        (
            azure("{workload_identity: {client_id: x, tenant_id: y}}"),
            "the provided Azure Workload Identity client_id is invalid",
        ),
        (
            azure("{oauth: {client_id: x}}"),
            "must provide an Azure OAuth client_secret in the Azure AD config",
        ),
        (
            azure("{oauth: {client_id: x, client_secret: s, tenant_id: t}}"),
            "the provided Azure OAuth client_id is invalid",
        ),
        (
            azure("{certificate: {client_id: x, tenant_id: t}}"),
            "must provide an Azure Certificate certificate_path in the Azure AD config",
        ),
        (azure("{sdk: {}, scope: 'a;b'}"), "the provided scope contains invalid characters"),
    ];
    for (auth, error) in cases {
        assert_eq!(auth.validate().unwrap_err().to_string(), error);
    }
    for good in [sigv4("{}"), azure("{sdk: {tenant_id: t}}"), azure("{managed_identity: {}}")] {
        good.validate().unwrap();
    }
}
