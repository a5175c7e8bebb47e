//! The configuration of the tests that wait for rules: one target, scraped five times a second, and
//! rules of `rules.yml` evaluated once a second.
//!
//! Each of these tests includes this file by `#[path]`. It is no module of `support`, because most
//! users of `support` have other configurations.

/// The configuration of a server that scrapes the exporter at `port` of this machine.
pub fn config(port: u16) -> String {
    format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}\n\
         rule_files: [rules.yml]\n\
         scrape_configs:\n\
         - job_name: a\n  \
           static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
}
