//! OpenStack's identity service, version 3: gets a token, and the URLs of the other services.
//! [`super`] uses it at each refresh.

use super::OpenStackSdConfig;
use crate::api_client::{AnswerError, ApiClient, ApiError};
use crate::config::secret::{CredentialError, Secret};
use crate::discovery::labels::{list, text};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use url::Url;

/// The credentials for OpenStack's identity service, and its address.
pub(super) struct Identity {
    endpoint: String,
    username: String,
    user_id: String,
    password: Secret,
    project_name: String,
    project_id: String,
    domain_name: String,
    domain_id: String,
    credential_name: String,
    credential_id: String,
    credential_secret: Secret,
}

/// What a login gives.
pub(super) struct Session {
    token: HeaderValue,
    catalog: Value,
}

impl Identity {
    /// Of a configuration or, if that names no server, of the environment.
    pub(super) fn new(
        config: &OpenStackSdConfig,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Identity, CredentialError> {
        if config.identity_endpoint.expose().is_empty() {
            return Identity::from_environment(variable);
        }
        Ok(Identity {
            endpoint: config.identity_endpoint.expose().to_owned(),
            username: config.username.clone(),
            user_id: config.userid.clone(),
            password: config.password.clone(),
            project_name: config.project_name.clone(),
            project_id: config.project_id.clone(),
            domain_name: config.domain_name.clone(),
            domain_id: config.domain_id.clone(),
            credential_name: config.application_credential_name.clone(),
            credential_id: config.application_credential_id.clone(),
            credential_secret: config.application_credential_secret.clone(),
        })
    }

    /// Of the variables `OS_…`, as `openrc` files set them.
    fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Identity, CredentialError> {
        let missing = |names: &str| CredentialError::Variable(names.to_owned());
        let get = |name: &str| variable(name).unwrap_or_default();
        // Projects were called tenants once, and both names are in use.
        let either = |old: &str, new: &str| variable(new).unwrap_or_else(|| get(old));
        let found = Identity {
            endpoint: variable("OS_AUTH_URL").ok_or_else(|| missing("OS_AUTH_URL"))?,
            username: get("OS_USERNAME"),
            user_id: get("OS_USERID"),
            password: Secret::new(get("OS_PASSWORD")),
            project_name: either("OS_TENANT_NAME", "OS_PROJECT_NAME"),
            project_id: either("OS_TENANT_ID", "OS_PROJECT_ID"),
            domain_name: get("OS_DOMAIN_NAME"),
            domain_id: get("OS_DOMAIN_ID"),
            credential_name: get("OS_APPLICATION_CREDENTIAL_NAME"),
            credential_id: get("OS_APPLICATION_CREDENTIAL_ID"),
            credential_secret: Secret::new(get("OS_APPLICATION_CREDENTIAL_SECRET")),
        };
        let has_credential = !found.credential_id.is_empty() || !found.credential_name.is_empty();
        let has_secret = !found.credential_secret.expose().is_empty();
        if found.username.is_empty() && found.user_id.is_empty() && !has_credential {
            return Err(missing("OS_USERID or OS_USERNAME"));
        }
        if found.password.expose().is_empty() && !has_credential {
            return Err(missing("OS_PASSWORD"));
        }
        if has_credential && !has_secret {
            return Err(missing("OS_APPLICATION_CREDENTIAL_SECRET"));
        }
        Ok(found)
    }

    /// Logs in.
    pub(super) async fn session(&self, api: &ApiClient) -> Result<Session, ApiError> {
        let url = format!("{}auth/tokens", self.version(api).await?);
        let request = api.request(Method::POST, &url)?.header(CONTENT_TYPE, "application/json");
        let body = json!({"auth": self.login()?}).to_string();
        let answer = api.send(request.header(ACCEPT, "application/json").body(body)).await?.success()?;
        let token = answer.header("x-subject-token").ok_or(AnswerError::Missing("there is no token"))?;
        let mut token =
            HeaderValue::from_str(token).map_err(|_| CredentialError::NoHeader("bad X-Subject-Token"))?;
        token.set_sensitive(true);
        let mut json = answer.json()?;
        Ok(Session { token, catalog: json["token"]["catalog"].take() })
    }

    /// The URL of version 3 of the API, with a slash at its end: the configured one if it names a
    /// version, else that which the server lists.
    async fn version(&self, api: &ApiClient) -> Result<String, ApiError> {
        let endpoint = format!("{}/", self.endpoint.trim_end_matches('/'));
        if endpoint.ends_with("/v3/") {
            return Ok(endpoint);
        }
        if endpoint.ends_with("/v2.0/") {
            let why = "version 2 of the identity service is not supported by this build: name version 3";
            return Err(CredentialError::Unsupported(why.to_owned()).into());
        }
        let request = api.request(Method::GET, &endpoint)?.header(ACCEPT, "application/json");
        let answer = api.send(request).await?;
        // 300: the server has several versions to choose from.
        let answer = if answer.status.as_u16() == 300 { answer } else { answer.success()? };
        let versions = answer.json()?;
        let is_third = |version: &&Value| text(version, "id").starts_with("v3");
        let found = list(&versions, "versions.values")?.iter().find(is_third);
        let links = found.map(|version| list(version, "links")).transpose()?.unwrap_or_default();
        let own = links.iter().find(|link| text(link, "rel") == "self").map(|link| text(link, "href"));
        let none =
            || ApiError::unexpected(format!("No supported version available from endpoint {endpoint}"));
        own.map(|url| format!("{}/", url.trim_end_matches('/'))).ok_or_else(none)
    }

    /// The body of the login request: the user, and the project for which the token is.
    fn login(&self) -> Result<Value, CredentialError> {
        let missing = |what: &str| CredentialError::Missing(what.to_owned());
        let identity = if !self.password.expose().is_empty() {
            let mut user = self.user()?;
            user["password"] = self.password.expose().into();
            json!({"methods": ["password"], "password": {"user": user}})
        } else if !self.credential_id.is_empty() {
            self.credential(json!({"id": self.credential_id}))
        } else if !self.credential_name.is_empty() {
            self.credential(json!({"name": self.credential_name, "user": self.user()?}))
        } else {
            return Err(missing("You must provide a password to authenticate"));
        };
        let mut login = json!({"identity": identity});
        if !self.project_id.is_empty() {
            login["scope"] = json!({"project": {"id": self.project_id}});
        } else if !self.project_name.is_empty() {
            let domain = self.domain();
            let domain = domain.ok_or_else(|| {
                missing("You must provide exactly one of DomainID or DomainName in a Scope with ProjectName")
            })?;
            login["scope"] = json!({"project": {"name": self.project_name, "domain": domain}});
        }
        Ok(login)
    }

    /// The login with an application credential, which `which` names.
    fn credential(&self, mut which: Value) -> Value {
        which["secret"] = self.credential_secret.expose().into();
        json!({"methods": ["application_credential"], "application_credential": which})
    }

    /// The user of a login with a password.
    fn user(&self) -> Result<Value, CredentialError> {
        let missing = |what: &str| CredentialError::Missing(what.to_owned());
        if !self.user_id.is_empty() {
            return Ok(json!({"id": self.user_id}));
        }
        if self.username.is_empty() {
            return Err(missing("One of Username and UserID must be provided for password authentication"));
        }
        let domain = self.domain();
        let domain = domain.ok_or_else(|| {
            missing("You must provide exactly one of DomainID or DomainName to authenticate by Username")
        })?;
        Ok(json!({"name": self.username, "domain": domain}))
    }

    /// The domain of the user; `None`: it is not given.
    fn domain(&self) -> Option<Value> {
        if !self.domain_id.is_empty() {
            return Some(json!({"id": self.domain_id}));
        }
        (!self.domain_name.is_empty()).then(|| json!({"name": self.domain_name}))
    }
}

impl Session {
    /// The token, as a header.
    pub(super) fn token(&self) -> HeaderValue {
        self.token.clone()
    }

    /// The URL of a service, with a slash at its end.
    pub(super) fn endpoint(
        &self,
        service: &str,
        region: &str,
        availability: &str,
    ) -> Result<String, AnswerError> {
        for entry in list(&self.catalog, "")?.iter().filter(|entry| text(entry, "type") == service) {
            for endpoint in list(entry, "endpoints")? {
                let is_here =
                    [text(endpoint, "region"), text(endpoint, "region_id")].contains(&region.to_owned());
                if is_here && text(endpoint, "interface") == availability {
                    let url = text(endpoint, "url");
                    let is_url = Url::parse(&url).is_ok_and(|url| url.has_host());
                    let bad = || AnswerError::Unexpected(format!("the URL of a service is {url:?}"));
                    return is_url.then(|| format!("{}/", url.trim_end_matches('/'))).ok_or_else(bad);
                }
            }
        }
        Err(AnswerError::Missing("No suitable endpoint could be found in the service catalog."))
    }
}
