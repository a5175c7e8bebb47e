//! Configurations with a canary in every secret field of every block of Prometheus 3.14. The lists
//! are from its sources (`Secret` in `discovery/*/*.go`, `config`, `common/config`, `sigv4`,
//! `azuread`), not from the schemas of this build, which they test.

/// A text that must never be shown.
pub const CANARY: &str = "CANARY";

/// Discovery mechanisms: key, and what an entry needs besides the options of an HTTP client. They
/// lead all requests to a closed port of this machine.
const SUPPORTED: &[(&str, &str)] = &[
    ("consul_sd_configs", "server: '127.0.0.1:9'"),
    ("aws_sd_configs", "role: ec2, access_key: k, secret_key: CANARY, region: r"),
    ("azure_sd_configs", "subscription_id: s, tenant_id: t, client_id: c, client_secret: CANARY"),
    ("digitalocean_sd_configs", ""),
    ("ec2_sd_configs", "access_key: k, secret_key: CANARY, region: r"),
    ("ecs_sd_configs", "access_key: k, secret_key: CANARY, region: r"),
    ("elasticache_sd_configs", "access_key: k, secret_key: CANARY, region: r"),
    ("lightsail_sd_configs", "access_key: k, secret_key: CANARY, region: r"),
    ("msk_sd_configs", "access_key: k, secret_key: CANARY, region: r"),
    ("rds_sd_configs", "access_key: k, secret_key: CANARY, region: r"),
    (
        "docker_sd_configs",
        "host: 'http://u:CANARY@127.0.0.1:9', filters: [{name: status, values: [running]}]",
    ),
    ("dockerswarm_sd_configs", "host: 'http://u:CANARY@127.0.0.1:9', role: nodes"),
    ("hetzner_sd_configs", "role: hcloud"),
    ("ionos_sd_configs", "datacenter_id: d"),
    ("kubernetes_sd_configs", "role: pod, api_server: 'http://u:CANARY@127.0.0.1:9/'"),
    ("kuma_sd_configs", "server: 'http://u:CANARY@127.0.0.1:9/'"),
    ("linode_sd_configs", "region: eu"),
    ("marathon_sd_configs", "servers: ['http://u:CANARY@127.0.0.1:9/']"),
    ("nomad_sd_configs", "server: 'http://u:CANARY@127.0.0.1:9/'"),
    ("outscale_sd_configs", "access_key: k, secret_key: CANARY"),
    ("puppetdb_sd_configs", "url: 'http://u:CANARY@127.0.0.1:9', query: q"),
    ("vultr_sd_configs", ""),
    ("eureka_sd_configs", "server: 'http://u:CANARY@127.0.0.1:9'"),
    ("oci_sd_configs", "region: r, tenancy: t, user: u, fingerprint: f, key_file: k, key_passphrase: CANARY"),
    (
        "scaleway_sd_configs",
        "role: instance, project_id: 00000000-0000-0000-0000-000000000000, access_key: SCWAAAAAAAAAAAAAAAAA, \
         secret_key: CANARY-00000000-0000-0000-0000-000000000000",
    ),
    ("uyuni_sd_configs", "server: 'http://u:CANARY@127.0.0.1:9', username: u, password: CANARY"),
];

/// The same for mechanisms without the options of an HTTP client.
const WITHOUT_HTTP: &[(&str, &str)] = &[
    (
        "openstack_sd_configs",
        "role: instance, region: r, identity_endpoint: 'http://u:CANARY@127.0.0.1:9/v3', userid: u, \
         password: CANARY, application_credential_secret: CANARY, tls_config: {cert: c, key: CANARY}",
    ),
    (
        "ovhcloud_sd_configs",
        "endpoint: 'http://u:CANARY@127.0.0.1:9/1.0', application_key: k, application_secret: CANARY, \
         consumer_key: CANARY, service: vps",
    ),
];

/// HTTP client options that this build supports, with one kind of secret each.
const SUPPORTED_HTTP: &[&str] = &[
    "basic_auth: {username: u, password: CANARY}",
    "authorization: {credentials: CANARY}",
    "bearer_token: CANARY",
    "proxy_url: 'http://u:CANARY@127.0.0.1:9'",
    "http_headers: {X-A: {values: [shown], secrets: [CANARY]}}",
    "oauth2: {client_id: i, client_secret: CANARY, token_url: 'http://u:CANARY@127.0.0.1:9/'}",
];

/// A valid file. `{self}` is replaced by a port of this machine.
pub fn accepted() -> String {
    let mut text = String::from("global: {scrape_interval: 1s, external_labels: {token: label-1}}\n");
    text.push_str("scrape_configs:\n");
    for (at, http) in SUPPORTED_HTTP.iter().enumerate() {
        let targets = "static_configs: [{targets: ['127.0.0.1:9'], labels: {key: label-2, password: 'x://u:label-3@h'}}]";
        text.push_str(&format!("- {{job_name: s{at}, {targets}, {http}}}\n"));
    }
    for (at, http) in SUPPORTED_HTTP.iter().enumerate() {
        let list = format!("http_sd_configs: [{{url: 'http://u:CANARY@127.0.0.1:9/', {http}}}]");
        text.push_str(&format!("- {{job_name: h{at}, {list}}}\n"));
    }
    for (key, keys) in SUPPORTED {
        let http = "bearer_token: CANARY, proxy_url: 'http://u:CANARY@127.0.0.1:9'";
        let comma = if keys.is_empty() { "" } else { ", " };
        text.push_str(&format!("- {{job_name: {key}, {key}: [{{{keys}{comma}{http}}}]}}\n"));
    }
    for key in ["token", "password"] {
        let list = format!("consul_sd_configs: [{{server: '127.0.0.1:9', {key}: CANARY}}]");
        text.push_str(&format!("- {{job_name: consul-{key}, {list}}}\n"));
    }
    text.push_str(
        "- {job_name: token, marathon_sd_configs: [{servers: ['http://127.0.0.1:9'], auth_token: CANARY}]}\n",
    );
    for (key, keys) in WITHOUT_HTTP {
        text.push_str(&format!("- {{job_name: {key}, {key}: [{{{keys}}}]}}\n"));
    }
    text.push_str("alerting:\n  alertmanagers:\n");
    for http in SUPPORTED_HTTP {
        text.push_str(&format!("  - {{static_configs: [{{targets: ['127.0.0.1:9']}}], {http}}}\n"));
    }
    let sigv4 = "sigv4: {access_key: k, secret_key: CANARY}";
    let application = "client_id: 00000000-a12b-3cd4-e56f-000000000000, tenant_id: t";
    let oauth = format!("azuread: {{oauth: {{{application}, client_secret: CANARY}}}}");
    let file = "certificate_path: c, certificate_password: CANARY";
    let certificate = format!("azuread: {{certificate: {{{application}, {file}}}}}");
    let url = "url: 'http://u:CANARY@127.0.0.1:9/x'";
    let entries = |more: &[&str]| -> String {
        let all = SUPPORTED_HTTP.iter().chain(more);
        all.map(|keys| format!("- {{{url}, {keys}}}\n")).collect()
    };
    text.push_str(&format!("remote_write:\n{}", entries(&[sigv4, &oauth, &certificate])));
    text.push_str(&format!("remote_read:\n{}", entries(&[])));
    text.push_str("tracing: {endpoint: '127.0.0.1:9', headers: {x-token: CANARY}, tls_config: {cert: c, key: CANARY}}\n");
    text
}

/// Invalid files, each with another error.
pub fn refused() -> Vec<String> {
    let job = |keys: &str| format!("scrape_configs:\n- {{job_name: a, {keys}}}\n");
    let alertmanager = |keys: &str| format!("alerting:\n  alertmanagers:\n  - {{{keys}}}\n");
    let mut files = Vec::new();
    for keys in [
        "oauth2: {client_secret: CANARY}",
        "proxy_connect_header: {X-A: [CANARY]}",
        "tls_config: {cert: x, key: CANARY}",
        "tls_config: {key: CANARY}",
        "tls_config: {key: CANARY, server_name: x}",
        "basic_auth: {password: CANARY, password_file: x}",
        "basic_auth: {password: CANARY}, bearer_token: CANARY",
        "authorization: {type: basic, credentials: CANARY}",
        "proxy_url: 'http://u:CANARY@[h'",
        // A secret with the wrong type.
        "basic_auth: CANARY",
        "basic_auth: [CANARY]",
        "basic_auth: {password: [CANARY]}",
        "basic_auth: {password: {a: CANARY}}",
        "bearer_token: [CANARY]",
        "http_headers: {X-A: CANARY}",
        "http_headers: {X-A: {secrets: CANARY}}",
        "http_headers: {X-A: {secrets: {a: CANARY}}}",
        "tls_config: CANARY",
        // An error after a secret.
        "basic_auth: {password: CANARY, nobody_knows: 1}",
        "bearer_token: CANARY, nobody_knows: 1",
    ] {
        files.push(job(keys));
        files.push(job(&format!("http_sd_configs: [{{url: 'http://u:CANARY@h', {keys}}}]")));
        files.push(job(&format!("kubernetes_sd_configs: [{{role: pod, api_server: 'http://h', {keys}}}]")));
        files.push(alertmanager(keys));
    }
    files.push(job("http_sd_configs: [{url: 'http://u:CANARY@[h'}]"));
    files.push(job("http_sd_configs: [{url: 'ftp://u:CANARY@h'}]"));
    files.push(alertmanager("sigv4: {secret_key: CANARY}"));
    files.push(alertmanager("sigv4: {access_key: k, secret_key: CANARY}, bearer_token: CANARY"));
    files.push(job("consul_sd_configs: [{token: [CANARY]}]"));
    files.push(job("consul_sd_configs: CANARY"));
    files.push("remote_write: [{azuread: {oauth: {client_secret: CANARY}}}]\n".to_owned());
    files.push("remote_write: [{url: 'http://u:CANARY@h', sigv4: {secret_key: [CANARY]}}]\n".to_owned());
    files.push("storage: {objects: {url: 's3://u:CANARY@b'}}\n".to_owned());
    files.push("storage: {objects: {url: 's3://b', secret_access_key: CANARY}}\n".to_owned());
    files.push("storage: {objects: {url: 's3://b', session_token: [CANARY]}}\n".to_owned());
    files
}
