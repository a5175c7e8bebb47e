//! How the Kubernetes API is reached: by the configured URL, as a pod of the cluster (with its
//! service account, the identity that Kubernetes gives to a pod), or by a kubeconfig file, as
//! `kubectl` does.

use super::KubernetesSdConfig;
use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::secret::{CredentialError, Secret};
use crate::config::url::ConfigUrl;
use crate::discovery::StartError;
use crate::discovery::names::host_port;
use crate::http_client::{Authorization, BasicAuth, HttpConfig, TlsConfig};
use crate::jwt::from_base64;
use serde::Deserialize;
use std::path::Path;
use url::Url;

/// The URL of the API, and the options of its client.
pub(super) struct Access {
    /// The URL, to which the paths of the API are appended.
    pub(super) base: Url,
    /// Credentials and TLS.
    pub(super) http: HttpConfig,
}

/// What Kubernetes gives a pod: the address of the API in its environment, and a directory with its
/// service account: a token, the certificate of the API, and the namespace.
struct Pod<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    directory: &'a str,
}

/// The pod in which this process runs, if it does.
const THIS_POD: Pod<'static> = Pod {
    variable: &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
    directory: "/var/run/secrets/kubernetes.io/serviceaccount",
};

/// The access of an entry. Reads the kubeconfig file.
pub(super) fn access(config: &KubernetesSdConfig) -> Result<Access, StartError> {
    // Validation made sure that at most one of the two is set.
    if !config.keys.kubeconfig_file.is_empty() {
        return kubeconfig(&config.keys.kubeconfig_file);
    }
    let server = config.keys.api_server.expose();
    if server.is_empty() {
        return THIS_POD.access();
    }
    Ok(Access { base: parse_url(server)?, http: config.http.clone() })
}

fn parse_url(text: &str) -> Result<Url, BlockError> {
    // Shown without its password.
    let shown = ConfigUrl::from(text);
    Url::parse(text)
        .map_err(|error| BlockError::new(format!("the URL {shown} of the Kubernetes API: {error}")))
}

/// The namespace of the pod in which this process runs.
pub(super) fn own_namespace() -> Result<String, StartError> {
    THIS_POD.namespace()
}

impl Pod<'_> {
    fn access(&self) -> Result<Access, StartError> {
        let address = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"].map(self.variable);
        let [Some(host), Some(port)] = address else {
            let text = "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and \
                        KUBERNETES_SERVICE_PORT must be defined";
            return Err(CredentialError::Missing(text.to_owned()).into());
        };
        let file = |name| Some(ConfigPath::from(format!("{}/{name}", self.directory)));
        let http = HttpConfig {
            // Read for each request: the token is renewed.
            authorization: Some(Authorization {
                credentials_file: file("token"),
                ..Authorization::default()
            }),
            tls_config: TlsConfig { ca_file: file("ca.crt"), ..TlsConfig::default() },
            // As Kubernetes' own library, which has no block here to ask.
            proxy_from_environment: true,
            ..HttpConfig::default()
        };
        Ok(Access { base: parse_url(&format!("https://{}", host_port(&host, port)))?, http })
    }

    fn namespace(&self) -> Result<String, StartError> {
        let content = std::fs::read_to_string(format!("{}/namespace", self.directory));
        let missing = |text: String| CredentialError::Missing(text);
        let name =
            content.map_err(|error| missing(format!("could not determine the pod's namespace: {error}")))?;
        if name.is_empty() {
            return Err(missing("could not read own namespace name (empty file)".to_owned()).into());
        }
        Ok(name)
    }
}

/// A kubeconfig file: a context names a cluster and a user.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: String,
    contexts: Vec<NamedEntry<Context>>,
    clusters: Vec<NamedEntry<Cluster>>,
    users: Vec<NamedEntry<User>>,
}

/// An entry of a list: the name, and one more key.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedEntry<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    value: T,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: ConfigPath,
    certificate_authority_data: String,
    insecure_skip_tls_verify: bool,
    tls_server_name: String,
    proxy_url: Option<ConfigUrl>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    client_certificate: ConfigPath,
    client_certificate_data: String,
    client_key: ConfigPath,
    client_key_data: Secret,
    token: Secret,
    #[serde(rename = "tokenFile")]
    token_file: ConfigPath,
    username: String,
    password: Secret,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

fn kubeconfig(path: &str) -> Result<Access, StartError> {
    let file_error = |text: String| BlockError::new(text).within(path);
    let text = crate::config::secret::read_credential(path)?;
    let file: Kubeconfig = serde_saphyr::from_str(&text)
        // Not the parser's text, which quotes the file.
        .map_err(|error| file_error(format!("not a kubeconfig{}", line_of(&error))))?;
    let find_context = file.contexts.into_iter().find(|context| context.name == file.current_context);
    let context = find_context
        .map(|found| found.value)
        .ok_or_else(|| file_error(format!("context {:?} does not exist", file.current_context)))?;
    let cluster = file.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
    let mut cluster = cluster
        .map(|found| found.value)
        .ok_or_else(|| file_error(format!("cluster {:?} does not exist", context.cluster)))?;
    // A context without user is an API without authentication, as a proxy of kubectl is.
    let user = file.users.into_iter().find(|user| user.name == context.user);
    let mut user = user.map(|found| found.value).unwrap_or_default();
    // Without the plugin all requests would be refused, with an error that does not name it.
    if user.exec.is_some() || user.auth_provider.is_some() {
        let text = format!("{path}: credentials from a plugin (exec, auth-provider) are not supported");
        return Err(CredentialError::Unsupported(text).into());
    }
    if !cluster.tls_server_name.is_empty() {
        return Err(file_error("tls-server-name is not supported".to_owned()).into());
    }
    let directory = Path::new(path).parent().unwrap_or(Path::new(""));
    let files = [
        &mut cluster.certificate_authority,
        &mut user.client_certificate,
        &mut user.client_key,
        &mut user.token_file,
    ];
    for file in files {
        // Relative to the file and not to the directory of the process, as for kubectl.
        file.resolve(directory);
    }
    let base = parse_url(&cluster.server)?;
    Ok(Access { base, http: http_config(path, cluster, user)? })
}

/// ` (line 7)`, if the parser knows the line.
fn line_of(error: &serde_saphyr::Error) -> String {
    error.location().map_or(String::new(), |location| format!(" (line {})", location.line()))
}

/// The options of a client. `path` is that of the kubeconfig file, for errors.
fn http_config(path: &str, cluster: Cluster, user: User) -> Result<HttpConfig, CredentialError> {
    let pem = |key: &str, base64: &str| pem(&format!("{path}: {key}"), base64);
    let file = |path: ConfigPath| Some(path).filter(|path| !path.is_empty());
    let secret = |secret: Secret| Some(secret).filter(|secret| !secret.expose().is_empty());
    let tls_config = TlsConfig {
        ca: pem("certificate-authority-data", &cluster.certificate_authority_data)?,
        ca_file: file(cluster.certificate_authority),
        cert: pem("client-certificate-data", &user.client_certificate_data)?,
        cert_file: file(user.client_certificate),
        key: pem("client-key-data", user.client_key_data.expose())?.map(Secret::new),
        key_file: file(user.client_key),
        insecure_skip_verify: cluster.insecure_skip_tls_verify,
        ..TlsConfig::default()
    };
    let token_file = file(user.token_file);
    // As in kubectl: a file of a token is before a token, and a token before a password.
    let token = secret(user.token).filter(|_| token_file.is_none());
    let has_token = token.is_some() || token_file.is_some();
    let authorization =
        Authorization { credentials: token, credentials_file: token_file, ..Authorization::default() };
    let basic_auth = BasicAuth {
        username: user.username.clone(),
        password: secret(user.password),
        ..BasicAuth::default()
    };
    Ok(HttpConfig {
        authorization: has_token.then_some(authorization),
        // Two kinds of credentials for one header are an error of the client.
        basic_auth: (!has_token && !user.username.is_empty()).then_some(basic_auth),
        tls_config,
        // As Kubernetes' own library.
        proxy_from_environment: cluster.proxy_url.is_none(),
        proxy_url: cluster.proxy_url,
        ..HttpConfig::default()
    })
}

/// The text of a PEM file in base64; `None` if it is empty.
fn pem(key: &str, base64: &str) -> Result<Option<String>, CredentialError> {
    let malformed = |form| CredentialError::Malformed { what: key.to_owned(), form };
    if base64.is_empty() {
        return Ok(None);
    }
    let bytes = from_base64(base64).ok_or_else(|| malformed("base64"))?;
    String::from_utf8(bytes).map(Some).map_err(|_| malformed("PEM"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, text: &str) -> String {
        let path = dir.join("config").display().to_string();
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_kubeconfig_is_read_as_kubectl_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(
            dir.path(),
            "apiVersion: v1\nkind: Config\ncurrent-context: b\n\
             contexts:\n- {name: a, context: {cluster: x, user: y}}\n\
             - {name: b, context: {cluster: c, user: u, namespace: n}}\n\
             clusters:\n- {name: c, cluster: {server: 'https://h:6443/p', certificate-authority-data: YWJj, proxy-url: 'http://p:1'}}\n\
             users:\n- {name: u, user: {token: CANARY, tokenFile: t, username: n, client-certificate: c.pem, client-key: /k.pem}}\n",
        );
        let access = kubeconfig(&path).unwrap();
        assert_eq!(access.base.as_str(), "https://h:6443/p");
        let http = access.http;
        let authorization = http.authorization.unwrap();
        assert_eq!(
            authorization.credentials_file.as_deref(),
            Some(dir.path().join("t").display().to_string().as_str())
        );
        assert!(authorization.credentials.is_none() && http.basic_auth.is_none());
        assert_eq!(http.tls_config.ca.as_deref(), Some("abc"));
        assert_eq!(http.tls_config.key_file.as_deref(), Some("/k.pem"));
        assert_eq!(http.proxy_url.unwrap().expose(), "http://p:1");
    }

    #[test]
    fn a_pod_finds_its_cluster_and_its_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().to_str().unwrap();
        let variable = |name: &str| {
            let value = if name.ends_with("HOST") { "fd00::1" } else { "443" };
            Some(value.to_owned())
        };
        let pod = Pod { variable: &variable, directory };
        let access = pod.access().unwrap();
        assert_eq!(access.base.as_str(), "https://[fd00::1]/");
        let token = access.http.authorization.unwrap().credentials_file.unwrap();
        assert_eq!(&*token, format!("{directory}/token"));
        assert_eq!(access.http.tls_config.ca_file.as_deref(), Some(format!("{directory}/ca.crt").as_str()));
        let error = || pod.namespace().unwrap_err().to_string();
        assert!(error().starts_with("could not determine the pod's namespace: "), "{}", error());
        std::fs::write(dir.path().join("namespace"), "").unwrap();
        assert_eq!(error(), "could not read own namespace name (empty file)");
        std::fs::write(dir.path().join("namespace"), "monitoring").unwrap();
        assert_eq!(pod.namespace().unwrap(), "monitoring");
        let outside = Pod { variable: &|_| None, directory };
        assert!(outside.access().is_err());
    }

    #[test]
    fn errors_say_what_is_missing_and_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let base = "contexts: [{name: b, context: {cluster: c, user: u}}]\n";
        let cluster = "clusters: [{name: c, cluster: {server: 'https://h'}}]\n";
        for (text, error) in [
            (format!("{base}current-context: x\n"), "context \"x\" does not exist"),
            (format!("{base}current-context: b\n"), "cluster \"c\" does not exist"),
            (
                format!(
                    "{base}{cluster}current-context: b\nusers: [{{name: u, user: {{exec: {{command: x}}}}}}]\n"
                ),
                "credentials from a plugin",
            ),
            (
                format!(
                    "{base}{cluster}current-context: b\nusers: [{{name: u, user: {{client-key-data: '*CANARY*'}}}}]\n"
                ),
                "client-key-data is not base64",
            ),
            ("users: [{name: u, user: {token: [CANARY]}}]\n".to_owned(), "not a kubeconfig"),
        ] {
            let path = write(dir.path(), &text);
            let got = kubeconfig(&path).err().expect("an error").to_string();
            assert!(got.contains(error) && !got.contains("CANARY"), "{got} is not {error}");
        }
    }
}
