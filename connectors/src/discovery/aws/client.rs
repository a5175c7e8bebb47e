//! [`AwsClient`]: calls AWS' APIs for the mechanisms of [`super`]: signed requests, repeated after
//! temporary failures, with answers in XML or JSON. The keys come from [`crate::aws_credentials`].

use super::AwsKeys;
use crate::api_client::{ApiAnswer, ApiClient, ApiError, ApiRemedy, form};
use crate::aws_credentials::{AwsSession, host};
use crate::aws_signature::{AwsCredentials, AwsScope, sign};
use crate::discovery::{DiscoveryContext, StartError};
use crate::http_client::HttpConfig;
use crate::limits::{AWS_ATTEMPTS, AWS_RETRY_MS};
use crate::xml::Element;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// A service of AWS, as one entry of a configuration reaches it.
pub(super) struct AwsClient {
    session: AwsSession,
    api: ApiClient,
    service: &'static str,
    endpoint: String,
}

impl AwsClient {
    /// `service` is the name in host names and signatures.
    pub(super) fn new(
        service: &'static str,
        aws: &AwsKeys,
        http: &HttpConfig,
        context: &DiscoveryContext<'_>,
    ) -> Result<AwsClient, StartError> {
        // The signature takes the place of all other credentials.
        let http = HttpConfig {
            basic_auth: None,
            authorization: None,
            bearer_token: None,
            bearer_token_file: None,
            ..http.clone()
        };
        let api = ApiClient::with_timeout(context.client(&http)?, aws.refresh_interval.std());
        let session = AwsSession::new(aws.settings(), api.clone());
        let endpoint = aws.endpoint.trim_end_matches('/').to_owned();
        Ok(AwsClient { session, api, service, endpoint })
    }

    /// The same for a service of which the configuration names no other URL.
    pub(super) fn regional(mut self) -> AwsClient {
        self.endpoint.clear();
        self
    }

    /// What the calls of one refresh need: the region and good keys.
    pub(super) async fn open(&mut self) -> Result<AwsCalls, ApiError> {
        let region = self.session.region().await?;
        let keys = self.session.credentials().await?;
        // A configured endpoint is one of a private network or of a program that plays AWS.
        let base = match self.endpoint.as_str() {
            "" => format!("https://{}", host(self.service, &region)),
            endpoint => endpoint.to_owned(),
        };
        Ok(AwsCalls { api: self.api.clone(), service: self.service, base, region, keys })
    }

    /// Reads the keys anew before the next refresh, if the error says that they are not good.
    pub(super) fn note<T>(&mut self, outcome: &Result<T, ApiError>) {
        let codes = ["AuthFailure", "UnauthorizedOperation", "ExpiredToken", "InvalidClientTokenId"];
        if outcome.as_ref().is_err_and(|error| codes.iter().any(|code| error.code().contains(code))) {
            // Keys of a role end; and a file of keys may have been changed.
            self.session.forget();
        }
    }
}

/// The calls of one refresh.
pub(super) struct AwsCalls {
    api: ApiClient,
    service: &'static str,
    base: String,
    /// The region.
    pub(super) region: String,
    keys: AwsCredentials,
}

impl AwsCalls {
    /// A call of a query API: a form, answered by XML.
    pub(super) async fn query<N, V>(
        &self,
        version: &str,
        action: &str,
        fields: &[(N, V)],
    ) -> Result<Element, ApiError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let start = form([("Action", action), ("Version", version)]);
        let rest = form(fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        let and = if rest.is_empty() { "" } else { "&" };
        let body = format!("{start}{and}{rest}");
        // Made anew for each attempt: the signature holds the time.
        let make = || {
            let request = self.api.request(Method::POST, &format!("{}/", self.base))?;
            let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8");
            Ok(request.body(body.clone()))
        };
        Ok(Element::parse(&self.call(make).await?.text())?)
    }

    /// A call of a JSON API; `target` names the operation.
    pub(super) async fn json(&self, target: &str, body: &Value) -> Result<Value, ApiError> {
        let make = || {
            let request = self.api.request(Method::POST, &format!("{}/", self.base))?;
            let request = request.header(CONTENT_TYPE, "application/x-amz-json-1.1");
            Ok(request.header("X-Amz-Target", target).body(body.to_string()))
        };
        Ok(self.call(make).await?.json()?)
    }

    /// A call of a REST API; `path` with its query.
    pub(super) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        let make = || self.api.request(Method::GET, &format!("{}{path}", self.base));
        Ok(self.call(make).await?.json()?)
    }

    /// Sends a request until it is answered well, up to a limit.
    async fn call(&self, make: impl Fn() -> Result<RequestBuilder, ApiError>) -> Result<ApiAnswer, ApiError> {
        let mut attempt = 1;
        loop {
            let scope = AwsScope { region: &self.region, service: self.service };
            let signed =
                |request: &mut reqwest::Request| Ok(sign(request, scope, &self.keys, SystemTime::now())?);
            let outcome = self.api.send_changed(make()?, signed).await;
            let may_pass = match &outcome {
                Ok(answer) if answer.status.is_success() => return outcome,
                Ok(answer) => {
                    let code = error_code(answer);
                    answer.status.is_server_error()
                        || code.contains("Throttl")
                        || code.contains("RequestLimit")
                }
                // A request that cannot be signed or made cannot be made a second time, either.
                Err(error) => error.remedy() == ApiRemedy::Wait,
            };
            if attempt == AWS_ATTEMPTS || !may_pass {
                let answer = outcome?;
                let code = error_code(&answer);
                let text = format!("HTTP status {}, api error {code}: {}", answer.status, answer.quote());
                return Err(ApiError::Status { status: answer.status, code, text });
            }
            // Not all at the same time: the clock's last digits are as good as random ones.
            let nanos =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
            let wait = AWS_RETRY_MS << attempt;
            let wait = wait / 2 + u64::from(nanos) % (wait / 2);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            attempt += 1;
        }
    }
}

/// The code of an error, in XML or JSON; empty if there is none.
fn error_code(answer: &ApiAnswer) -> String {
    // Each API has its own form of errors, and a proxy in between may have none.
    if let Ok(json) = answer.json() {
        let code = json["__type"].as_str().or(json["code"].as_str()).unwrap_or_default();
        return code.rsplit('#').next().unwrap_or_default().to_owned();
    }
    let Ok(root) = Element::parse(&answer.text()) else { return String::new() };
    let codes = [root.text("Error.Code"), root.text("Errors.Error.Code")];
    codes.into_iter().find(|code| !code.is_empty()).unwrap_or_default()
}
