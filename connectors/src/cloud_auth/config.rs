//! The configuration blocks `sigv4`, `azuread` and `google_iam`: cloud credentials of an HTTP
//! client, as in Prometheus' `remote_write` and `alerting`. [`super`] makes request signers of
//! them.

use super::azure::{AzureCertificate, AzureLogin};
use crate::aws_credentials::AwsSettings;
use crate::config::error::BlockError;
use crate::config::secret::{CredentialError, Secret};
use crate::config_block;

config_block! {
    /// `sigv4`.
    pub struct SigV4Config as "sigv4.SigV4Config" {
        /// The region; by default that of the environment or of the machine.
        region: String = String::new(),
        /// The id of an access key. Without it the keys are looked up as in AWS' SDKs.
        access_key: String = String::new(),
        /// The secret of the access key.
        secret_key: Secret = Secret::default(),
        /// A profile of `~/.aws/credentials` and `~/.aws/config`, or of the files that the
        /// environment names; by default that of `AWS_PROFILE`.
        profile: String = String::new(),
        /// A role to assume.
        role_arn: String = String::new(),
        /// The external id that the owner of the role requires.
        external_id: String = String::new(),
        /// Whether roles are assumed at a FIPS endpoint of STS.
        use_fips_sts_endpoint: bool = false,
        /// The service that signatures are for; `aps` if it is not given.
        service_name: String = String::new(),
    }
}

config_block! {
    /// `azuread`.
    pub struct AzureAdConfig as "azuread.AzureADConfig" {
        /// The identity of the machine.
        managed_identity: Option<ManagedIdentityConfig> = None,
        /// The identity of a workload, such as a pod.
        workload_identity: Option<WorkloadIdentityConfig> = None,
        /// An application and its secret.
        oauth: Option<AzureOAuthConfig> = None,
        /// What the environment has: the secret of an application (`AZURE_CLIENT_SECRET`), else the
        /// token of a workload, else the identity of the machine. Logins of command line tools are
        /// not used.
        sdk: Option<AzureSdkConfig> = None,
        /// An application and its certificate.
        certificate: Option<AzureCertificateConfig> = None,
        /// `AzurePublic`, `AzureChina` or `AzureGovernment`; the first if it is not given.
        cloud: String = String::new(),
        /// The service that accepts the tokens; by default Azure Monitor.
        scope: String = String::new(),
    }
}

config_block! {
    /// `azuread.managed_identity`.
    pub struct ManagedIdentityConfig as "azuread.ManagedIdentityConfig" {
        /// The client id of the identity, if the machine has several.
        client_id: String = String::new(),
    }
}

config_block! {
    /// `azuread.workload_identity`.
    pub struct WorkloadIdentityConfig as "azuread.WorkloadIdentityConfig" {
        /// The application.
        client_id: String = String::new(),
        /// The tenant.
        tenant_id: String = String::new(),
        /// A file with the token of the workload; by default that of `AZURE_FEDERATED_TOKEN_FILE`.
        token_file_path: String = String::new(),
    }
}

config_block! {
    /// `azuread.oauth`.
    pub struct AzureOAuthConfig as "azuread.OAuthConfig" {
        /// The application.
        client_id: String = String::new(),
        /// Its secret.
        client_secret: Secret = Secret::default(),
        /// The tenant.
        tenant_id: String = String::new(),
    }
}

config_block! {
    /// `azuread.sdk`.
    pub struct AzureSdkConfig as "azuread.SDKConfig" {
        /// The tenant.
        tenant_id: String = String::new(),
    }
}

config_block! {
    /// `azuread.certificate`.
    pub struct AzureCertificateConfig as "azuread.CertificateConfig" {
        /// The application.
        client_id: String = String::new(),
        /// The tenant.
        tenant_id: String = String::new(),
        /// A file with the certificate, PEM.
        certificate_path: String = String::new(),
        /// A file with its key, PEM; by default it is in the same file.
        certificate_key_path: String = String::new(),
        /// The password of a file in another form, which this build does not read.
        certificate_password: Secret = Secret::default(),
        /// Whether the request has the chain of certificates, too.
        send_certificate_chain: bool = false,
    }
}

config_block! {
    /// `google_iam`.
    pub struct GoogleIamConfig as "googleiam.Config" {
        /// A file with credentials, relative to the working directory; by default Google's usual
        /// places.
        credentials_file: String = String::new(),
    }
}

/// Where Azure's token of a workload is if nothing says so.
const WORKLOAD_TOKEN_FILE: &str = "/var/run/secrets/azure/tokens/azure-identity-token";

impl SigV4Config {
    pub(super) fn validate(&self) -> Result<(), BlockError> {
        if self.access_key.is_empty() != self.secret_key.expose().is_empty() {
            let text = "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the \
                        SigV4 config";
            return Err(text.into());
        }
        if !self.external_id.is_empty() && self.role_arn.is_empty() {
            return Err("external_id can only be used with role_arn".into());
        }
        Ok(())
    }

    /// As the settings of the client of AWS.
    pub(super) fn settings(&self) -> AwsSettings {
        AwsSettings {
            region: self.region.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            profile: self.profile.clone(),
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
            uses_fips_sts: self.use_fips_sts_endpoint,
        }
    }

    /// The service that signatures are for.
    pub(super) fn service_name(&self) -> &str {
        if self.service_name.is_empty() { "aps" } else { &self.service_name }
    }
}

/// One of Azure's clouds: its name, the host that logs in, and what tokens are for.
struct Cloud {
    name: &'static str,
    login: &'static str,
    scope: &'static str,
}

const CLOUDS: &[Cloud] = &[
    Cloud {
        name: "AzurePublic",
        login: "https://login.microsoftonline.com",
        scope: "https://monitor.azure.com//.default",
    },
    Cloud {
        name: "AzureChina",
        login: "https://login.chinacloudapi.cn",
        scope: "https://monitor.azure.cn//.default",
    },
    Cloud {
        name: "AzureGovernment",
        login: "https://login.microsoftonline.us",
        scope: "https://monitor.azure.us//.default",
    },
];

impl AzureAdConfig {
    /// The cloud; none if there is none of this name.
    fn cloud(&self) -> Option<&'static Cloud> {
        let name = if self.cloud.is_empty() { CLOUDS[0].name } else { &self.cloud };
        CLOUDS.iter().find(|cloud| cloud.name == name)
    }

    /// The host of the cloud that logs in.
    pub(super) fn login_host(&self) -> &'static str {
        self.cloud().unwrap_or(&CLOUDS[0]).login
    }

    /// What tokens are for.
    pub(super) fn scope(&self) -> String {
        let usual = self.cloud().unwrap_or(&CLOUDS[0]).scope;
        if self.scope.is_empty() { usual.to_owned() } else { self.scope.clone() }
    }

    pub(super) fn validate(&self) -> Result<(), BlockError> {
        if self.cloud().is_none() {
            return Err("must provide a cloud in the Azure AD config".into());
        }
        let given = [
            self.managed_identity.is_some(),
            self.workload_identity.is_some(),
            self.oauth.is_some(),
            self.certificate.is_some(),
            self.sdk.is_some(),
        ];
        match given.iter().filter(|is_given| **is_given).count() {
            0 => {
                return Err("must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, \
                            Azure Certificate or Azure SDK in the Azure AD config"
                    .into());
            }
            1 => {}
            _ => return Err("cannot provide multiple authentication methods in the Azure AD config".into()),
        }
        self.validate_ids()?;
        let may_be_in_scope = |c: char| {
            c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || matches!(c, '_' | ':' | '/' | '.' | '-')
        };
        if !self.scope.chars().all(may_be_in_scope) {
            return Err("the provided scope contains invalid characters".into());
        }
        Ok(())
    }

    /// Checks the form of tenants and applications.
    fn validate_ids(&self) -> Result<(), BlockError> {
        if let Some(ManagedIdentityConfig { client_id }) = &self.managed_identity {
            return if client_id.is_empty() {
                Ok(())
            } else {
                uuid("Managed Identity", "client_id", client_id)
            };
        }
        if let Some(WorkloadIdentityConfig { client_id, tenant_id, .. }) = &self.workload_identity {
            let of = "Workload Identity";
            let ids = [("client_id", client_id), ("tenant_id", tenant_id)];
            ids.iter().try_for_each(|(name, id)| needed(of, name, id))?;
            return ids.iter().try_for_each(|(name, id)| uuid(of, name, id));
        }
        if let Some(AzureOAuthConfig { client_id, client_secret, tenant_id }) = &self.oauth {
            needed("OAuth", "client_id", client_id)?;
            needed("OAuth", "client_secret", client_secret.expose())?;
            needed("OAuth", "tenant_id", tenant_id)?;
            return uuid("OAuth", "client_id", client_id);
        }
        if let Some(AzureCertificateConfig { client_id, tenant_id, certificate_path, .. }) = &self.certificate
        {
            needed("Certificate", "client_id", client_id)?;
            needed("Certificate", "tenant_id", tenant_id)?;
            needed("Certificate", "certificate_path", certificate_path)?;
            return uuid("Certificate", "client_id", client_id);
        }
        Ok(())
    }

    /// How a token is got.
    pub(super) fn login(&self) -> Result<AzureLogin, CredentialError> {
        if let Some(managed) = &self.managed_identity {
            return Ok(AzureLogin::Managed { client: managed.client_id.clone() });
        }
        if let Some(workload) = &self.workload_identity {
            let given = Some(workload.token_file_path.clone()).filter(|path| !path.is_empty());
            let variable = std::env::var("AZURE_FEDERATED_TOKEN_FILE").ok().filter(|path| !path.is_empty());
            return Ok(AzureLogin::Workload {
                tenant: workload.tenant_id.clone(),
                client: workload.client_id.clone(),
                token_file: given.or(variable).unwrap_or_else(|| WORKLOAD_TOKEN_FILE.to_owned()),
            });
        }
        if let Some(oauth) = &self.oauth {
            return Ok(AzureLogin::ClientSecret {
                tenant: oauth.tenant_id.clone(),
                client: oauth.client_id.clone(),
                secret: oauth.client_secret.clone(),
            });
        }
        if let Some(given) = &self.certificate {
            if !given.certificate_password.expose().is_empty() {
                let text = "certificate_password: files with a password are not supported by this build; \
                            use a certificate and a key in PEM";
                return Err(CredentialError::Unsupported(text.to_owned()));
            }
            return Ok(AzureLogin::Certificate(AzureCertificate {
                tenant: given.tenant_id.clone(),
                client: given.client_id.clone(),
                certificate: given.certificate_path.clone(),
                key: given.certificate_key_path.clone(),
                sends_chain: given.send_certificate_chain,
            }));
        }
        let tenant = self.sdk.as_ref().map(|sdk| sdk.tenant_id.clone()).unwrap_or_default();
        Ok(AzureLogin::Environment { tenant, client: String::new() })
    }
}

/// An error if a key is empty.
fn needed(of: &str, name: &str, value: &str) -> Result<(), BlockError> {
    let is_missing = value.is_empty();
    if is_missing {
        return Err(format!("must provide an Azure {of} {name} in the Azure AD config").into());
    }
    Ok(())
}

/// An error if a value is no UUID.
fn uuid(of: &str, name: &str, value: &str) -> Result<(), BlockError> {
    let groups: Vec<&str> = value.split('-').collect();
    let is_hex = |group: &&str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    if lengths == [8, 4, 4, 4, 12] && groups.iter().all(is_hex) {
        return Ok(());
    }
    Err(format!("the provided Azure {of} {name} is invalid").into())
}
