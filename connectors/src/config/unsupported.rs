//! Blocks of Prometheus' configuration that this build accepts and does not use: tables of their
//! keys in Prometheus 3.14. By these the blocks can be shown (`/api/v1/status/config`) without the
//! secrets in them.

use super::document::{Node, NodeSeed};
use super::schema::ValueKind::{Flag, Secret, Table, Text};
use super::schema::{BlockTable, ConfigValue, ValueKind, key};
use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use std::marker::PhantomData;

/// A value that is only shown. `T` is its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<T> {
    /// The value, without its secrets.
    pub node: Node,
    kind: PhantomData<fn() -> T>,
}

/// A document without values is a mapping without entries.
impl<T> Default for Shown<T> {
    fn default() -> Self {
        Shown { node: Node::Map(Vec::new()), kind: PhantomData }
    }
}

impl<'de, T: ConfigValue> Deserialize<'de> for Shown<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Shown { node: NodeSeed(T::KIND).deserialize(d)?, kind: PhantomData })
    }
}

impl<T: ConfigValue> ConfigValue for Shown<T> {
    const KIND: ValueKind = T::KIND;

    fn node(&self) -> Node {
        self.node.clone()
    }
}

/// Defines types for blocks that are only tables.
macro_rules! tables {
    ($($(#[$meta:meta])* $name:ident as $shown:literal, http: $http:literal, [$($spec:expr),* $(,)?];)*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        #[derive(serde::Deserialize)]
        pub enum $name {}

        impl ConfigValue for $name {
            const KIND: ValueKind =
                Table(&BlockTable { name: $shown, http: $http, keys: &[$($spec),*] });
        }
    )* };
}

tables! {
    /// `sigv4`.
    SigV4 as "sigv4.SigV4Config", http: false, [
        key("region", Text),
        key("access_key", Text),
        key("secret_key", Secret),
        key("profile", Text),
        key("role_arn", Text),
        key("external_id", Text),
        key("use_fips_sts_endpoint", Flag),
        key("service_name", Text),
    ];
    /// `azuread`.
    AzureAd as "azuread.AzureADConfig", http: false, [
        key("managed_identity", ManagedIdentity::KIND),
        key("workload_identity", WorkloadIdentity::KIND),
        key("oauth", AzureOAuth::KIND),
        key("sdk", AzureSdk::KIND),
        key("certificate", AzureCertificate::KIND),
        key("cloud", Text),
        key("scope", Text),
    ];
    /// `azuread.managed_identity`.
    ManagedIdentity as "azuread.ManagedIdentityConfig", http: false, [key("client_id", Text)];
    /// `azuread.workload_identity`.
    WorkloadIdentity as "azuread.WorkloadIdentityConfig", http: false, [
        key("client_id", Text),
        key("tenant_id", Text),
        key("token_file_path", Text),
    ];
    /// `azuread.oauth`.
    AzureOAuth as "azuread.OAuthConfig", http: false, [
        key("client_id", Text),
        key("client_secret", Secret),
        key("tenant_id", Text),
    ];
    /// `azuread.sdk`.
    AzureSdk as "azuread.SDKConfig", http: false, [key("tenant_id", Text)];
    /// `azuread.certificate`.
    AzureCertificate as "azuread.CertificateConfig", http: false, [
        key("client_id", Text),
        key("tenant_id", Text),
        key("certificate_path", Text),
        key("certificate_key_path", Text),
        key("certificate_password", Secret),
        key("send_certificate_chain", Flag),
    ];
    /// `google_iam`.
    GoogleIam as "googleiam.Config", http: false, [key("credentials_file", Text)];
}
