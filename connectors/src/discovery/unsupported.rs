//! Prometheus' mechanisms that this build does not have. Their blocks are accepted and give a
//! warning, so that files load; their keys are known here, so that `/api/v1/status/config` shows
//! them without secrets. A mechanism that is added leaves this table.

use crate::config::schema::ValueKind::{Flag, List, Number, Secret, Table, Text, Url};
use crate::config::schema::{BlockTable, ConfigValue, KeySpec, key};
use crate::http_client::TlsConfig;

/// The key of a mechanism: a list of blocks with these keys, and with those of HTTP clients.
macro_rules! mechanism {
    ($key:literal as $block:literal, http: $http:literal, [$($spec:expr),* $(,)?]) => {
        key($key, List(&Table(&BlockTable { name: $block, http: $http, keys: &[$($spec),*] })))
    };
}

/// The keys, as in Prometheus 3.14's `discovery/*/*.go`.
pub(super) const UNSUPPORTED: &[KeySpec] = &[
    mechanism!("eureka_sd_configs" as "eureka.SDConfig", http: true, [key("server", Url), key("refresh_interval", Text)]),
    mechanism!("oci_sd_configs" as "oci.SDConfig", http: true, [key("auth", Text), key("tenancy", Text), key("user", Text), key("fingerprint", Text), key("key_file", Text), key("key_passphrase", Secret), key("key_passphrase_file", Text), key("region", Text), key("compartments", List(&Text)), key("port", Number), key("refresh_interval", Text)]),
    mechanism!("openstack_sd_configs" as "openstack.SDConfig", http: false, [key("identity_endpoint", Url), key("username", Text), key("userid", Text), key("password", Secret), key("project_name", Text), key("project_id", Text), key("domain_name", Text), key("domain_id", Text), key("application_credential_name", Text), key("application_credential_id", Text), key("application_credential_secret", Secret), key("role", Text), key("region", Text), key("refresh_interval", Text), key("port", Number), key("all_tenants", Flag), key("tls_config", TlsConfig::KIND), key("availability", Text)]),
    mechanism!("ovhcloud_sd_configs" as "ovhcloud.SDConfig", http: false, [key("endpoint", Url), key("application_key", Text), key("application_secret", Secret), key("consumer_key", Secret), key("refresh_interval", Text), key("service", Text)]),
    mechanism!("scaleway_sd_configs" as "scaleway.SDConfig", http: true, [key("project_id", Text), key("api_url", Url), key("zone", Text), key("access_key", Text), key("secret_key", Secret), key("secret_key_file", Text), key("name_filter", Text), key("tags_filter", List(&Text)), key("refresh_interval", Text), key("port", Number), key("role", Text)]),
    mechanism!("uyuni_sd_configs" as "uyuni.SDConfig", http: true, [key("server", Url), key("username", Text), key("password", Secret), key("entitlement", Text), key("separator", Text), key("refresh_interval", Text)]),
];
