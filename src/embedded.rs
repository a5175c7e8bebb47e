//! The built-in configuration for a start without a configuration file (the server scrapes itself
//! and this machine), and the text that is printed then.

use crate::config;
use crate::flags::Flags;
use crate::server::{LoadedConfig, defaults};
use promql::{PromqlLanguage, PromqlOptions};
use rules::file;
use rules::yaml::ConfigError;
use std::path::Path;

const CONFIG: &str = include_str!("default/prometheus.yml");
const RULES: &str = include_str!("default/rules.yml");

/// Loads the embedded configuration; `${LISTEN}` is replaced by this server's address.
pub(crate) fn load(flags: &Flags, language: &PromqlOptions) -> Result<LoadedConfig, ConfigError> {
    if *flags.agent {
        let what = "an agent needs a configuration file";
        return Err(ConfigError::whole("embedded/prometheus.yml", what, "start it with --config.file"));
    }
    let address = flags.listen_addresses().into_iter().next().unwrap_or_default();
    // The server scrapes itself, at whatever port it was given.
    let text = CONFIG.replace("${LISTEN}", &reachable(&address));
    let path = Path::new("embedded/prometheus.yml");
    // Without the environment: the embedded text has no variables but the one above.
    let (config, warnings) = config::parse(path, &text, &|_| None)?;
    let language = PromqlLanguage(*language);
    let compile = file::compiler(&language);
    let rules = file::parse("embedded/rules.yml", RULES, defaults(&config), &compile)?;
    Ok(LoadedConfig { config, groups: rules.groups, warnings })
}

/// An address at which a listener can be reached: a wildcard address becomes the loopback address.
fn reachable(address: &str) -> String {
    // From the right, because an IPv6 address has colons, too.
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "9090"));
    match host {
        "" | "0.0.0.0" | "[::]" => format!("127.0.0.1:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// The text with suggestions that is printed at start.
pub(crate) fn welcome(address: &str, is_encrypted: bool) -> String {
    let scheme = if is_encrypted { "https" } else { "http" };
    let url = format!("{scheme}://{}", reachable(address));
    format!(
        "
Perennial is running on its embedded default: it scrapes itself and this host every 5 s and keeps {} standing.

  look       {url}/                                   (queries, alerts, targets, rules: all of it live)
  ask        curl '{url}/api/v1/query' --data-urlencode 'query=instance:cpu_busy:ratio'
  watch      curl -N -G '{url}/api/v1/subscribe' --data-urlencode 'query=rate(node_cpu_seconds_total{{mode=\"user\"}}[1m])'
  rules      curl '{url}/api/v1/rules'
  alerts     curl '{url}/api/v1/alerts'
  your own   perennial --config.file=prometheus.yml      (perennial --help explains every flag)

",
        "a handful of rules"
    )
}
