//! AWS credentials and region, in the order of AWS' SDKs: configuration, environment, web identity,
//! shared files, metadata of the container or machine; and roles that are assumed with them.
//! [`crate::aws_signature`] signs requests with the result.

use crate::api_client::{ApiAnswer, ApiClient, ApiError, form};
use crate::aws_signature::{AwsCredentials, AwsScope, sign};
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::limits::AWS_KEY_SPARE_SECONDS;
use crate::xml::Element;
use chrono::{DateTime, Utc};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a configuration says about region and keys; empty texts: nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AwsSettings {
    /// The region.
    pub region: String,
    /// The public part of an access key.
    pub access_key: String,
    /// The secret part.
    pub secret_key: Secret,
    /// A profile of the shared files.
    pub profile: String,
    /// A role to assume with the keys found.
    pub role_arn: String,
    /// The external id, a word that the owner of the role demands; empty: none.
    pub external_id: String,
    /// Whether roles are assumed at an endpoint with FIPS.
    pub uses_fips_sts: bool,
}

/// Variables of the environment; tests have their own.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Finds region and keys, and remembers them until they end.
pub struct AwsSession {
    settings: AwsSettings,
    variables: Variables,
    /// For the services that give keys.
    api: ApiClient,
    /// The region, once it is known.
    region: Option<String>,
    /// The keys, until they expire or are refused.
    credentials: Option<AwsCredentials>,
}

/// A section of a shared file: its keys.
type Section = BTreeMap<String, String>;

/// The metadata service of an EC2 instance: region, and keys of its role.
const METADATA: &str = "http://169.254.169.254";
/// The service that gives the keys of its role to a container of ECS.
const CONTAINER: &str = "http://169.254.170.2";
/// The version of the API of STS, which assumes roles.
const STS_VERSION: &str = "2011-06-15";
/// Profiles that may name one another as their source.
const PROFILE_CHAIN: usize = 10;

impl AwsSession {
    /// A session with the variables of this process.
    pub fn new(settings: AwsSettings, api: ApiClient) -> AwsSession {
        let variables = Arc::new(|name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()));
        AwsSession::with_variables(settings, api, variables)
    }

    /// A session with other variables.
    pub fn with_variables(settings: AwsSettings, api: ApiClient, variables: Variables) -> AwsSession {
        AwsSession { settings, variables, api, region: None, credentials: None }
    }

    /// Forgets the keys, because a service refused them.
    pub fn forget(&mut self) {
        self.credentials = None;
    }

    /// The region: the configured one, or that of the environment, of a shared file, of the
    /// machine.
    pub async fn region(&mut self) -> Result<String, ApiError> {
        if let Some(region) = &self.region {
            return Ok(region.clone());
        }
        let region = self.find_region().await.map_err(|e| e.doing("could not determine AWS region"))?;
        self.region = Some(region.clone());
        Ok(region)
    }

    async fn find_region(&self) -> Result<String, ApiError> {
        if !self.settings.region.is_empty() {
            return Ok(self.settings.region.clone());
        }
        let variable = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| self.variable(name));
        if let Some(region) = variable {
            return Ok(region);
        }
        let name = self.variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        // The files of a user come before the machine, so that a developer can work on a machine of
        // another region.
        if let Some(region) = self.profile(&name).remove("region") {
            return Ok(region);
        }
        let path = "/latest/dynamic/instance-identity/document";
        let document = self.metadata(path).await.and_then(|answer| Ok(answer.json()?));
        let document = document.map_err(|e| e.doing("failed to get region from IMDS"))?;
        let region = document["region"].as_str().filter(|region| !region.is_empty());
        let missing = || CredentialError::Missing("region not found in AWS config or IMDS".to_owned());
        Ok(region.map(str::to_owned).ok_or_else(missing)?)
    }

    /// Keys that are good for a while.
    pub async fn credentials(&mut self) -> Result<AwsCredentials, ApiError> {
        let soon = SystemTime::now() + Duration::from_secs(AWS_KEY_SPARE_SECONDS);
        let is_good = |keys: &&AwsCredentials| keys.expires.is_none_or(|expires| expires > soon);
        if let Some(keys) = self.credentials.as_ref().filter(is_good) {
            return Ok(keys.clone());
        }
        let region = self.region().await?;
        let mut keys = self.own_keys(&region).await?;
        if !self.settings.role_arn.is_empty() {
            let settings = &self.settings;
            keys = self.assume_role(&settings.role_arn, &settings.external_id, &region, &keys).await?;
        }
        self.credentials = Some(keys.clone());
        Ok(keys)
    }

    /// The keys before a role is assumed.
    async fn own_keys(&self, region: &str) -> Result<AwsCredentials, ApiError> {
        let settings = &self.settings;
        if !settings.access_key.is_empty() && !settings.secret_key.expose().is_empty() {
            return Ok(AwsCredentials {
                access_key: settings.access_key.clone(),
                secret_key: settings.secret_key.clone(),
                ..AwsCredentials::default()
            });
        }
        // A profile that was named must have keys: to go on to others would be to act as somebody
        // else.
        if !settings.profile.is_empty() {
            let found = self.profile_keys(&settings.profile, region).await?;
            let missing = || CredentialError::Missing(format!("profile {:?} has no keys", settings.profile));
            return Ok(found.ok_or_else(missing)?);
        }
        if let Some(keys) = self.environment_keys() {
            return Ok(keys);
        }
        // As EKS sets it for pods with a service account.
        if let Some(file) = self.variable("AWS_WEB_IDENTITY_TOKEN_FILE") {
            let role = self.variable("AWS_ROLE_ARN");
            let role = role.ok_or_else(|| CredentialError::Variable("AWS_ROLE_ARN".to_owned()))?;
            return self.web_identity(&file, &role, region).await;
        }
        let name = self.variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        if let Some(keys) = self.profile_keys(&name, region).await? {
            return Ok(keys);
        }
        // Before the machine: on ECS a task has a role of its own, and that of the machine may do
        // more or less.
        if let Some(keys) = self.container_keys().await? {
            return Ok(keys);
        }
        self.machine_keys().await.map_err(|e| e.doing("no AWS credentials found; of the machine"))
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name)
    }

    fn environment_keys(&self) -> Option<AwsCredentials> {
        Some(AwsCredentials {
            access_key: self.variable("AWS_ACCESS_KEY_ID")?,
            secret_key: Secret::new(self.variable("AWS_SECRET_ACCESS_KEY")?),
            session_token: self.variable("AWS_SESSION_TOKEN").map(Secret::new),
            expires: None,
        })
    }

    /// What the shared files say of a profile; the keys of the credentials file win.
    fn profile(&self, name: &str) -> Section {
        let home = self.variable("HOME").unwrap_or_default();
        let path = |variable: &str, file: &str| {
            self.variable(variable).unwrap_or_else(|| format!("{home}/.aws/{file}"))
        };
        let mut profile = Section::new();
        let config = path("AWS_CONFIG_FILE", "config");
        // The file `config` names sections `profile x`, except for `default`.
        for section in [name.to_owned(), format!("profile {name}")] {
            profile.extend(section_of(&config, &section));
        }
        profile.extend(section_of(&path("AWS_SHARED_CREDENTIALS_FILE", "credentials"), name));
        profile
    }

    /// The keys of a profile, and of the roles that it and its sources name.
    async fn profile_keys(&self, name: &str, region: &str) -> Result<Option<AwsCredentials>, ApiError> {
        let mut roles = Vec::new();
        let mut name = name.to_owned();
        let mut keys = None;
        // Sources may form a circle.
        for _ in 0..PROFILE_CHAIN {
            let profile = self.profile(&name);
            let value = |key: &str| profile.get(key).filter(|value| !value.is_empty()).cloned();
            let own = value("aws_access_key_id").zip(value("aws_secret_access_key"));
            let own = own.map(|(access_key, secret_key)| AwsCredentials {
                access_key,
                secret_key: Secret::new(secret_key),
                session_token: value("aws_session_token").map(Secret::new),
                expires: None,
            });
            let Some(role) = value("role_arn") else {
                let unsupported = ["credential_process", "sso_session", "sso_start_url"];
                if let Some(key) = unsupported.iter().find(|key| own.is_none() && value(key).is_some()) {
                    let text = format!("{key} of profile {name:?} is not supported by this build");
                    return Err(CredentialError::Unsupported(text).into());
                }
                keys = own;
                break;
            };
            if let Some(file) = value("web_identity_token_file") {
                keys = Some(self.web_identity(&file, &role, region).await?);
                break;
            }
            // Assumed after the loop and from the last to the first, for each needs the keys of its
            // source.
            roles.push((role, value("external_id").unwrap_or_default()));
            if let Some(source) = value("credential_source") {
                keys = Some(self.source_keys(&source).await?);
                break;
            }
            match value("source_profile") {
                Some(source) if source != name => name = source,
                _ => {
                    keys = own;
                    break;
                }
            }
        }
        let Some(mut keys) = keys else { return Ok(None) };
        while let Some((role, external_id)) = roles.pop() {
            keys = self.assume_role(&role, &external_id, region, &keys).await?;
        }
        Ok(Some(keys))
    }

    async fn source_keys(&self, source: &str) -> Result<AwsCredentials, ApiError> {
        let keys = match source {
            "Environment" => self.environment_keys(),
            "EcsContainer" => self.container_keys().await?,
            "Ec2InstanceMetadata" => Some(self.machine_keys().await?),
            _ => {
                let text = format!("unknown credential_source {source:?}");
                return Err(CredentialError::Unsupported(text).into());
            }
        };
        let missing = || CredentialError::Missing(format!("credential_source {source:?} has no keys"));
        Ok(keys.ok_or_else(missing)?)
    }

    async fn container_keys(&self) -> Result<Option<AwsCredentials>, ApiError> {
        let relative = self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let relative = relative.map(|path| format!("{CONTAINER}{path}"));
        let Some(url) = relative.or_else(|| self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else {
            return Ok(None);
        };
        // The token is a file that EKS renews, so it is read for each request.
        let mut request = self.api.request(Method::GET, &url)?;
        let file = self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        let token = match file {
            Some(file) => Some(read_credential(&file)?),
            None => self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        };
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let answer = self.api.send(request).await?.success()?.json()?;
        Ok(Some(metadata_keys(&answer)?))
    }

    async fn machine_keys(&self) -> Result<AwsCredentials, ApiError> {
        let base = "/latest/meta-data/iam/security-credentials/";
        let roles = self.metadata(base).await?.text();
        // A machine has one role at most.
        let role = roles.lines().next().filter(|role| !role.is_empty());
        let role = role.ok_or_else(|| CredentialError::Missing("the machine has no role".to_owned()))?;
        let answer = self.metadata(&format!("{base}{role}")).await?.json()?;
        Ok(metadata_keys(&answer)?)
    }

    /// The answer of the machine's metadata to a path: with a token, and without one where the
    /// service does not know tokens.
    async fn metadata(&self, path: &str) -> Result<ApiAnswer, ApiError> {
        if self.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            let text = "access disabled to EC2 IMDS by AWS_EC2_METADATA_DISABLED";
            return Err(CredentialError::Missing(text.to_owned()).into());
        }
        let base = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let base = base.map_or_else(|| METADATA.to_owned(), |base| base.trim_end_matches('/').to_owned());
        let token = self.api.request(Method::PUT, &format!("{base}/latest/api/token"))?;
        // Version 2 of the service gives tokens; machines can be set up to answer nothing without
        // one.
        let token = self.api.send(token.header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")).await?;
        let mut request = self.api.request(Method::GET, &format!("{base}{path}"))?;
        let knows_none = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED]
            .contains(&token.status);
        if !knows_none {
            request = request.header("X-Aws-Ec2-Metadata-Token", token.success()?.text());
        }
        self.api.send(request).await?.success()
    }

    async fn web_identity(&self, file: &str, role: &str, region: &str) -> Result<AwsCredentials, ApiError> {
        let token = read_credential(file)?;
        let session = self.variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(session_name);
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", STS_VERSION),
            ("RoleArn", role),
            ("RoleSessionName", &session),
            ("WebIdentityToken", &token),
        ];
        // Not signed: the token is the proof.
        self.sts("AssumeRoleWithWebIdentity", &fields, region, None).await
    }

    async fn assume_role(
        &self,
        role: &str,
        external_id: &str,
        region: &str,
        keys: &AwsCredentials,
    ) -> Result<AwsCredentials, ApiError> {
        let session = session_name();
        let mut fields = vec![
            ("Action", "AssumeRole"),
            ("Version", STS_VERSION),
            ("RoleArn", role),
            ("RoleSessionName", &session),
            // The shortest that AWS allows: keys that leak are of little use.
            ("DurationSeconds", "900"),
        ];
        if !external_id.is_empty() {
            fields.push(("ExternalId", external_id));
        }
        self.sts("AssumeRole", &fields, region, Some(keys)).await
    }

    /// The keys that the security token service answers.
    async fn sts(
        &self,
        action: &str,
        fields: &[(&str, &str)],
        region: &str,
        keys: Option<&AwsCredentials>,
    ) -> Result<AwsCredentials, ApiError> {
        let service = if self.settings.uses_fips_sts { "sts-fips" } else { "sts" };
        let url = format!("https://{}/", host(service, region));
        let request = self.api.request(Method::POST, &url)?;
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(form(fields.iter().copied()));
        let scope = AwsScope { region, service: "sts" };
        let answer = self.api.send_changed(request, |request| match keys {
            Some(keys) => Ok(sign(request, scope, keys, SystemTime::now())?),
            None => Ok(()),
        });
        let answer = answer.await?;
        if !answer.status.is_success() {
            let code = Element::parse(&answer.text()).map(|root| root.text("Error.Code"));
            let code = code.unwrap_or_default();
            let text = format!("{action}: HTTP status {} {code}", answer.status);
            return Err(ApiError::Status { status: answer.status, code, text });
        }
        let root = Element::parse(&answer.text())?;
        let value = |name: &str| root.text(&format!("{action}Result.Credentials.{name}"));
        let keys = AwsCredentials {
            access_key: value("AccessKeyId"),
            secret_key: Secret::new(value("SecretAccessKey")),
            session_token: Some(Secret::new(value("SessionToken"))),
            expires: time(&value("Expiration")),
        };
        // An answer of another form must not become a request that is signed with nothing.
        if keys.access_key.is_empty() {
            return Err(ApiError::unexpected(format!("{action} answered no keys")));
        }
        Ok(keys)
    }
}

/// The host of a service in a region.
pub(crate) fn host(service: &str, region: &str) -> String {
    // The regions of China have a domain of their own.
    let end = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("{service}.{region}.amazonaws.com{end}")
}

fn session_name() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("aws-go-sdk-{}", now.as_nanos())
}

fn time(text: &str) -> Option<SystemTime> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc).into())
}

/// The keys that metadata of a machine or a container answers.
fn metadata_keys(answer: &Value) -> Result<AwsCredentials, CredentialError> {
    let value = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    if value("AccessKeyId").is_empty() {
        return Err(CredentialError::Missing("the metadata has no keys".to_owned()));
    }
    Ok(AwsCredentials {
        access_key: value("AccessKeyId"),
        secret_key: Secret::new(value("SecretAccessKey")),
        session_token: Some(Secret::new(value("Token"))),
        expires: time(&value("Expiration")),
    })
}

/// The keys of a section of a shared file; none if the file or the section is missing.
fn section_of(path: &str, section: &str) -> Section {
    // Missing files are the usual case.
    let Ok(text) = read_credential(path) else { return Section::new() };
    let mut found = Section::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            is_inside = name.0.split_whitespace().eq(section.split_whitespace());
        } else if is_inside && let Some((key, value)) = line.split_once('=') {
            found.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests;
