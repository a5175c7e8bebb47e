//! Tests the search API of a running server: names with the metadata of the targets.

use crate::support::exporter::Exporter;
use crate::support::http::encode;
use crate::support::server::Server;
use serde_json::{Value, json};

const PAGE: &str = "# HELP http_requests_total How often somebody asked.\n# TYPE http_requests_total counter\n\
                    http_requests_total{code=\"200\"} 3\nhttp_requests_total{code=\"500\"} 1\n\
                    # HELP queue_length Letters that wait.\n# TYPE queue_length gauge\nqueue_length 4\n";

fn search(server: &Server, query: &str) -> Vec<Value> {
    let answer = server.get(&format!("/api/v1/search/{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let text = answer.text();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.pop().expect("a last line")["status"], "success");
    lines.iter().flat_map(|line| line["results"].as_array().expect("results").clone()).collect()
}

#[test]
fn names_are_found_by_what_people_type() {
    let exporter = Exporter::start(PAGE);
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: shop\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let server = Server::start_with(&config, &[], &["--enable-feature=search-api"]);
    server.wait_rows("http_requests_total", 2);
    let asked = encode("[]");
    let found = search(&server, &format!("metric_names?search{asked}=hreq&include_metadata=true"));
    assert_eq!(
        found,
        [json!({"name": "http_requests_total", "type": "counter", "help": "How often somebody asked."})]
    );
    let found =
        search(&server, &format!("metric_names?search{asked}=letters+wait&search_help=true&include_score=1"));
    assert_eq!(found, [json!({"name": "queue_length", "score": 0.5})]);
    let found =
        search(&server, &format!("label_values?label=code&match{asked}={}", encode("{job=\"shop\"}")));
    assert_eq!(found, [json!({"value": "200"}), json!({"value": "500"})]);
    let found = search(&server, &format!("label_names?search{asked}=CODE&case_sensitive=false"));
    assert_eq!(found, [json!({"name": "code"})]);
}
