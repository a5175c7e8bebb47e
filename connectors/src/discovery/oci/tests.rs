//! Tests `oci_sd_configs` against recorded answers.

use super::super::recorded_server::{
    RecordedServer, answer, assert_cases, assert_port, assert_refused, listed, lister,
};
use super::*;
use crate::jwt::tests::PEM;

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
    let principal = error("{region: r, auth: instance_principal}");
    assert!(principal.ends_with("is not supported by this build; use api_key"), "{principal}");
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
