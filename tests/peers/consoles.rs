//! Tests console templates: the examples of Debian's package give the same pages in Debian's
//! Prometheus and in ours; which files a page may not read, and the limits of its cost.

use crate::seeds::node_exporter;
use crate::support::server::Server;
use crate::support::{eventually, http};
use std::path::Path;
use testing::skipped;

/// Where Debian's package has its examples.
const EXAMPLES: &str = "/usr/share/doc/prometheus/examples";

/// The text of a page with each number that stands between elements, and the prefix of its unit, as
/// `#`: the two servers read the targets at different moments. What stands inside tags and scripts
/// stays.
fn masked(page: &str) -> String {
    let mut out = String::new();
    for piece in page.split_inclusive('>') {
        let (text, tag) = piece.split_at(piece.find('<').unwrap_or(piece.len()));
        if out.ends_with("<script>") {
            out.push_str(text);
        } else {
            mask_numbers(text, &mut out);
        }
        out.push_str(tag);
    }
    out
}

fn mask_numbers(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(rest[..at].strip_suffix(['-', '+']).unwrap_or(&rest[..at]));
        rest = &rest[at..];
        let number = |c: char| c.is_ascii_digit() || c == '.';
        rest = rest.trim_start_matches(number);
        if let Some(exponent) = rest.strip_prefix("e-").or_else(|| rest.strip_prefix("e+")) {
            rest = exponent.trim_start_matches(number);
        }
        rest = rest.strip_prefix(|c| "kMGTPEmunpfa".contains(c)).unwrap_or(rest);
        rest = rest.strip_prefix('i').unwrap_or(rest);
        out.push('#');
    }
    out.push_str(rest);
}

/// The first line in which two pages differ.
fn difference(theirs: &str, ours: &str) -> Option<String> {
    let pairs = theirs.lines().zip(ours.lines());
    let different = pairs.enumerate().find(|(_, (theirs, ours))| theirs != ours);
    if let Some((line, (theirs, ours))) = different {
        return Some(format!("line {}:\ntheirs {theirs}\nours   {ours}", line + 1));
    }
    let lengths = [theirs.lines().count(), ours.lines().count()];
    (lengths[0] != lengths[1]).then(|| format!("lines: {lengths:?}"))
}

#[test]
fn numbers_between_elements_are_masked_and_nothing_else() {
    let page = "<td a=\"1\">12.5kB</td><td>-1e-05 of 3</td><script>max: 2</script><td>-</td><td>8Mi</td>";
    let want = "<td a=\"1\">#B</td><td># of #</td><script>max: 2</script><td>-</td><td>#</td>";
    assert_eq!(masked(page), want);
}

#[test]
fn debians_examples_are_what_prometheus_makes_of_them() {
    if !Path::new(EXAMPLES).join("consoles/node.html").exists() {
        return skipped(&format!(
            "the example consoles: {EXAMPLES} is missing (the package's documentation)"
        ));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (_node, node) = node_exporter(directory.path());
    let flags = [
        format!("--web.console.templates={EXAMPLES}/consoles"),
        format!("--web.console.libraries={EXAMPLES}/console_libraries"),
    ];
    let flags = [flags[0].as_str(), flags[1].as_str()];
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: node\n    static_configs: [{{targets: [\"127.0.0.1:{node}\"]}}]\n  \
         - job_name: prometheus\n    static_configs: [{{targets: [\"127.0.0.1:{{self}}\"]}}]\n"
    );
    let theirs = Server::prometheus_with(&config, &flags);
    let ours = Server::start_with(&config.replace("{self}", &theirs.port.to_string()), &[], &flags);
    for server in [&theirs, &ours] {
        server.wait_rows("count(irate(node_cpu_seconds_total[5m]))", 1);
        server.wait_rows(
            "count(irate(prometheus_tsdb_head_samples_appended_total{job=\"prometheus\"}[5m]))",
            1,
        );
    }
    let at_node = format!("instance=127.0.0.1:{node}");
    let at_server = format!("instance=127.0.0.1:{}", theirs.port);
    let pages = [
        "index.html.example".to_owned(),
        "node.html".to_owned(),
        format!("node-overview.html?{at_node}"),
        format!("node-cpu.html?{at_node}"),
        format!("node-disk.html?{at_node}"),
        "prometheus.html".to_owned(),
        format!("prometheus-overview.html?{at_server}"),
    ];
    for page in pages {
        // Again, because a rate is there only when both have two samples of it.
        eventually(&format!("{page} is the same"), 60, || {
            let [theirs, ours] = [&theirs, &ours].map(|server| server.get(&format!("/consoles/{page}")));
            assert_eq!([theirs.status, ours.status], [200, 200], "{page}: {}", ours.text());
            assert!(theirs.text().contains("</html>") && theirs.body.len() > 1_500, "{page} is a page");
            difference(&masked(&theirs.text()), &masked(&ours.text())).map_or(Ok(()), Err)
        });
    }
    let script = ours.get("/classic/static/js/prom_console.js");
    assert!(script.status == 200 && script.text().contains("PromConsole"), "{}", script.status);
    for link in ours.get("/consoles/node.html").text().split(['"']).filter(|text| text.contains("/static/")) {
        assert_eq!(ours.get(link).status, 200, "{link}");
    }
}

#[test]
fn no_console_reads_beside_its_folder_or_costs_too_much() {
    let directory = tempfile::tempdir().expect("a directory");
    let consoles = directory.path().join("consoles");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write("secret.html", "the secret");
    write("consoles/.hidden.html", "the secret");
    write("consoles/.git/x.html", "the secret");
    write("consoles/one.html", "{{ with query \"1\" }}{{ . | first | value }}{{ end }}");
    write("consoles/queries.html", &"{{ with query \"1\" }}{{ end }}".repeat(501));
    let line = "x".repeat(500_000);
    let large =
        format!("{{{{ define \"line\" }}}}{line}{{{{ end }}}}{}", "{{ template \"line\" }}".repeat(20));
    write("consoles/large.html", &large);
    write(
        "consoles/endless.html",
        "{{ define \"again\" }}{{ template \"again\" }}{{ end }}{{ template \"again\" }}",
    );
    write("consoles/file.html", &"y".repeat((1 << 20) + 1));
    let flags = [format!("--web.console.templates={}", consoles.display())];
    let ours = Server::start_with("scrape_configs: []\n", &[], &[flags[0].as_str()]);

    let ok = ours.get("/consoles/one.html");
    assert_eq!((ok.status, ok.text().as_str()), (200, "1"));
    for path in [
        "/consoles/../secret.html",
        "/consoles/%2e%2e/secret.html",
        "/consoles/..%2fsecret.html",
        "/consoles/a/..%2f..%2fsecret.html",
        "/consoles/..%5csecret.html",
        "/consoles/.hidden.html",
        "/consoles/%2ehidden.html",
        "/consoles/.git/x.html",
        "/consoles/one.html%00.html",
        "/consoles/one.html/x",
        "/consoles//etc/passwd",
        "/user/../secret.html",
        "/classic/static/../../index.html",
        "/classic/static/..%2f..%2findex.html",
    ] {
        let answer = ours.get(path);
        assert!(answer.status >= 300, "{path}: {}", answer.status);
        let text = answer.text();
        let folder = directory.path().display().to_string();
        assert!(
            !text.contains("the secret") && !text.contains("root:") && !text.contains(&folder),
            "{path}: {text}"
        );
    }
    for (page, said) in [
        ("queries.html", "the page makes more than 500 queries"),
        ("large.html", "its text is longer than 8388608 bytes"),
        ("endless.html", "error executing template"),
        ("file.html", "file.html: it has more than 1048576 bytes"),
    ] {
        let answer = ours.get(&format!("/consoles/{page}"));
        assert_eq!(answer.status, 500, "{page}");
        assert!(answer.text().contains(said), "{page}: {}", answer.text());
    }
    assert_eq!(http::get(ours.port, "/consoles/one.html").expect("an answer").status, 200);
}
