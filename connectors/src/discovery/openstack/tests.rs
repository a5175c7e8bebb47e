//! Tests `openstack_sd_configs` against recorded answers.

use super::super::recorded_server::{RecordedServer, answer, assert_cases, assert_refused, listed};
use super::*;
use std::sync::Arc;

#[tokio::test]
async fn targets_have_the_labels_of_prometheus() {
    assert_cases::<OpenStackSd>(include_str!("../../../tests/data/discovery/openstack.json")).await;
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    assert_refused::<OpenStackSd>(&[
        ("{role: x}", "unknown OpenStack SD role \"x\""),
        ("{availability: x}", "unknown availability x, must be one of admin, internal or public"),
        ("{}", "role missing (one of: instance, hypervisor, loadbalancer)"),
        ("{role: instance}", "openstack SD configuration requires a region"),
        (
            "{role: instance, region: r, tls_config: {cert: c}}",
            "exactly one of key or key_file must be configured when a client certificate is configured",
        ),
    ]);
}

/// A server that lets everybody in and has no services.
fn login() -> Arc<RecordedServer> {
    RecordedServer::new(vec![
        answer("POST http://k/v3/auth/tokens", "{\"token\": {}}").header("X-Subject-Token", "T").status(201),
    ])
}

/// The kind of endpoint that the block names is asked, with the region's own URL.
#[tokio::test]
async fn endpoints_are_of_the_availability_of_the_block() {
    let endpoint = |interface: &str| serde_json::json!({"interface": interface, "region": "r", "url": format!("http://{interface}/")});
    let endpoints: Vec<_> = ["public", "internal", "admin"].map(endpoint).into();
    let catalog = serde_json::json!({"token": {"catalog": [{"type": "compute", "endpoints": endpoints}]}});
    for availability in ["public", "internal", "admin"] {
        let answer = answer("POST http://k/v3/auth/tokens", catalog.to_string());
        let server = RecordedServer::new(vec![answer.header("X-Subject-Token", "T").status(201)]);
        let config = format!(
            "{{role: hypervisor, region: r, identity_endpoint: 'http://k/v3', userid: u, password: p, \
             availability: {availability}}}"
        );
        listed::<OpenStackSd>(&config, &server).await.unwrap_err();
        let asked = format!("GET http://{availability}/");
        assert!(server.seen()[1].starts_with(&asked), "{:?}", server.seen());
    }
}

/// What is sent to log in, for each way to say who asks.
#[tokio::test]
async fn logins_are_those_of_the_identity_service() {
    let cases = [
        (
            "userid: u, password: p, project_id: pr",
            r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"u","password":"p"}}},"scope":{"project":{"id":"pr"}}}}"#,
        ),
        (
            "username: u, domain_name: d, password: p, project_name: pr",
            r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"name":"d"},"name":"u","password":"p"}}},"scope":{"project":{"domain":{"name":"d"},"name":"pr"}}}}"#,
        ),
        (
            "username: u, domain_id: di, password: p",
            r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"id":"di"},"name":"u","password":"p"}}}}}"#,
        ),
        (
            "application_credential_id: c, application_credential_secret: s",
            r#"{"auth":{"identity":{"application_credential":{"id":"c","secret":"s"},"methods":["application_credential"]}}}"#,
        ),
        (
            "application_credential_name: c, application_credential_secret: s, userid: u",
            r#"{"auth":{"identity":{"application_credential":{"name":"c","secret":"s","user":{"id":"u"}},"methods":["application_credential"]}}}"#,
        ),
    ];
    for (keys, body) in cases {
        let server = login();
        let config = format!("{{role: hypervisor, region: r, identity_endpoint: 'http://k/v3', {keys}}}");
        let error = listed::<OpenStackSd>(&config, &server).await.unwrap_err();
        let none = "No suitable endpoint could be found in the service catalog.";
        assert_eq!(error, format!("could not create OpenStack compute session: {none}"));
        let sent: serde_json::Value = serde_json::from_str(server.seen()[0].lines().last().unwrap()).unwrap();
        assert_eq!(sent, serde_json::from_str::<serde_json::Value>(body).unwrap(), "{keys}");
    }
    let cases = [
        ("userid: u", "You must provide a password to authenticate"),
        (
            "username: u, password: p",
            "You must provide exactly one of DomainID or DomainName to authenticate by Username",
        ),
        ("password: p", "One of Username and UserID must be provided for password authentication"),
        (
            "userid: u, password: p, project_name: x",
            "You must provide exactly one of DomainID or DomainName in a Scope with ProjectName",
        ),
    ];
    for (keys, error) in cases {
        let config = format!("{{role: hypervisor, region: r, identity_endpoint: 'http://k/v3', {keys}}}");
        let found = listed::<OpenStackSd>(&config, &login()).await.unwrap_err();
        assert_eq!(found, format!("could not authenticate to OpenStack: {error}"));
    }
}

#[test]
fn without_a_server_the_environment_says_who_asks() {
    let config = OpenStackSdConfig::default();
    let of = |given: &[(&str, &str)]| {
        let given: HashMap<String, String> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Identity::new(&config, &|name| given.get(name).cloned()).map(|_| ()).map_err(|e| e.to_string())
    };
    let url = ("OS_AUTH_URL", "http://k/v3");
    assert_eq!(of(&[]), Err("OS_AUTH_URL is not set".to_owned()));
    assert_eq!(of(&[url]), Err("OS_USERID or OS_USERNAME is not set".to_owned()));
    assert_eq!(of(&[url, ("OS_USERNAME", "u")]), Err("OS_PASSWORD is not set".to_owned()));
    let credential = ("OS_APPLICATION_CREDENTIAL_ID", "c");
    assert_eq!(of(&[url, credential]), Err("OS_APPLICATION_CREDENTIAL_SECRET is not set".to_owned()));
    assert_eq!(of(&[url, ("OS_USERID", "u"), ("OS_PASSWORD", "p")]), Ok(()));
    assert_eq!(of(&[url, credential, ("OS_APPLICATION_CREDENTIAL_SECRET", "s")]), Ok(()));
}
