//! Tests `dns_sd_configs` against Debian's dnsmasq, and against a server whose answers are damaged
//! or unusual.

use super::message::{Answer, Server};
use super::resolver::ResolvConf;
use super::*;
use crate::discovery::DiscoveryUser;
use crate::http_client::Peers;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use storage::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A refresh of `yaml` that asks the servers of the file `resolv_conf` at `port`.
fn refresh(yaml: &str, resolv_conf: &Path, port: u16, metrics: &Metrics) -> DnsRefresh {
    let config: DnsSdConfig = serde_saphyr::from_str(yaml).unwrap();
    DnsSd::validate(&config).unwrap();
    let context =
        DiscoveryContext { peers: &Peers::default(), metrics, pool: "job", user: DiscoveryUser::Scrape };
    DnsRefresh::new(&config, Resolver { resolv_conf: resolv_conf.to_owned(), port }, &context).unwrap()
}

fn resolv_conf(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("resolv.conf");
    std::fs::write(&path, text).unwrap();
    path
}

/// All labels of the targets, `name=value`, without the prefix of their names.
fn shown(targets: &[DiscoveredTarget]) -> Vec<String> {
    let label =
        |(name, value): (&String, &String)| format!("{}={value}", name.trim_start_matches("__meta_dns_"));
    targets.iter().map(|target| target.iter().map(label).collect::<Vec<_>>().join(" ")).collect()
}

struct Dnsmasq(Child);

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dnsmasq(port: u16, dir: &Path) -> Dnsmasq {
    let program =
        ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq"].into_iter().find(|path| Path::new(path).is_file());
    let program = program.expect("dnsmasq is not installed: run .ci/install");
    let hosts = dir.join("hosts");
    std::fs::write(&hosts, "127.0.1.1 web.one.test web\n127.0.1.2 web.one.test\nfd00::1 web.one.test\n")
        .unwrap();
    let config = format!(
        "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nno-daemon\nuser=root\n\
         pid-file=\naddn-hosts={}\nlocal=/test/\nno-negcache\n\
         srv-host=_http._tcp.one.test,a.one.test,8080,1,2\nsrv-host=_http._tcp.one.test,b.one.test,8081,2,1\n\
         mx-host=one.test,mail.one.test,10\ncname=alias.one.test,web.one.test\n\
         dns-rr=one.test,2,026E73036F6E65047465737400\n",
        hosts.display()
    );
    let path = dir.join("dnsmasq.conf");
    std::fs::write(&path, config).unwrap();
    let child = Command::new(program)
        .arg(format!("--conf-file={}", path.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Dnsmasq(child)
}

#[tokio::test]
async fn records_of_a_real_server_become_targets() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = dnsmasq(port, dir.path());
    let conf = resolv_conf(dir.path(), "# none\nnameserver 127.0.0.1\nsearch two.test one.test\n");
    let metrics = Metrics::default();
    let mut first = refresh("{names: [web.one.test], type: a, port: 80}", &conf, port, &metrics);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while first.look_up().await.is_err() {
        assert!(std::time::Instant::now() < deadline, "dnsmasq does not answer");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (yaml, expected) in [
        (
            "{names: [_http._tcp.one.test]}",
            &[
                "__address__=a.one.test:8080 name=_http._tcp.one.test srv_record_port=8080 srv_record_target=a.one.test.",
                "__address__=b.one.test:8081 name=_http._tcp.one.test srv_record_port=8081 srv_record_target=b.one.test.",
            ][..],
        ),
        (
            "{names: [web.one.test], type: A, port: 9100}",
            &["__address__=127.0.1.1:9100 name=web.one.test", "__address__=127.0.1.2:9100 name=web.one.test"],
        ),
        ("{names: [web.one.test.], type: AAAA, port: 1}", &["__address__=[fd00::1]:1 name=web.one.test."]),
        // The alias leads to the addresses, and the search list to the name.
        (
            "{names: [alias], type: A, port: 1}",
            &["__address__=127.0.1.1:1 name=alias", "__address__=127.0.1.2:1 name=alias"],
        ),
        (
            "{names: [one.test], type: mx, port: 25}",
            &["__address__=mail.one.test:25 mx_record_target=mail.one.test. name=one.test"],
        ),
        (
            "{names: [one.test], type: NS, port: 53}",
            &["__address__=ns.one.test:53 name=one.test ns_record_target=ns.one.test."],
        ),
        ("{names: [nobody.one.test], type: A, port: 1}", &[]),
    ] {
        let mut found = shown(&refresh(yaml, &conf, port, &metrics).look_up().await.unwrap());
        found.sort();
        assert_eq!(found, expected, "{yaml}");
    }
}

/// Names are looked up again and again, at the interval of the block.
#[tokio::test]
async fn names_are_looked_up_at_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = dnsmasq(port, dir.path());
    let conf = resolv_conf(dir.path(), "nameserver 127.0.0.1\n");
    let metrics = Metrics::default();
    let yaml = "{names: [web.one.test], type: A, port: 80, refresh_interval: 20ms}";
    let config: DnsSdConfig = serde_saphyr::from_str(yaml).unwrap();
    let context = DiscoveryContext {
        peers: &Peers::default(),
        metrics: &metrics,
        pool: "job",
        user: DiscoveryUser::Scrape,
    };
    let polling = polling(&config, Resolver { resolv_conf: conf, port }, &context).unwrap();
    let (sender, _lists) = crate::discovery::TargetSender::alone();
    let running = tokio::spawn(polling.run(sender));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // The default would be three lookups in this time.
    while !metrics.render().contains("prometheus_sd_dns_lookups_total 5") {
        assert!(std::time::Instant::now() < deadline, "{}", metrics.render());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    running.abort();
}

/// The question section of a question, and an answer header for it with these flags and records.
fn reply(question: &[u8], flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|b| *b == 0).unwrap() + 5;
    let mut out = question[..2].to_vec();
    for word in [0x8000 | flags, 1, records.len() as u16, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&question[12..end]);
    out.extend(records.concat());
    out
}

/// A record of the name asked for, which a pointer refers to.
fn record(record_type: u16, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0xc0, 12];
    for word in [record_type, 1, 0, 60, data.len() as u16] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(data);
    out
}

fn a(last: u8) -> Vec<u8> {
    record(message::A, &[10, 0, 0, last])
}

/// A server on a loopback address whose answers follow from the first label of the name.
async fn odd_server() -> u16 {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let udp = tokio::net::UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let question = &buffer[..length];
            let answer = match &question[13..16] {
                b"big" => reply(question, 0x0200, &[]),
                b"bad" => reply(question, 2, &[]),
                b"txt" => reply(question, 0, &[record(16, b"\x03abc"), a(1)]),
                b"cut" => reply(question, 0, &[a(1)])[..30].to_vec(),
                // Somebody else's answer comes first.
                b"two" => {
                    let mut forged = reply(question, 0, &[a(66)]);
                    forged[0] ^= 0xff;
                    udp.send_to(&forged, from).await.unwrap();
                    reply(question, 0, &[a(2)])
                }
                _ => reply(question, 3, &[]),
            };
            udp.send_to(&answer, from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await.unwrap();
            let records: Vec<Vec<u8>> = (0..=255).map(a).collect();
            let answer = reply(&question, 0, &records);
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn a_name_that_fails_keeps_its_targets_and_others_go_on() {
    let port = odd_server().await;
    let dir = tempfile::tempdir().unwrap();
    let conf = resolv_conf(dir.path(), "nameserver 127.0.0.1\n");
    let metrics = Metrics::default();
    let mut names =
        refresh("{names: [big.x, two.x, txt.x, nobody.x], type: A, port: 1}", &conf, port, &metrics);
    let found = names.look_up().await.unwrap();
    assert_eq!(found.len(), 258, "256 over TCP, one beside a forged answer, one beside a text");
    assert_eq!(found[256][ADDRESS], "10.0.0.2:1");
    assert!(metrics.render().contains("prometheus_sd_dns_lookup_failures_total 0"));
    std::fs::remove_file(&conf).unwrap();
    assert_eq!(names.look_up().await.unwrap(), found);
    assert!(metrics.render().contains("prometheus_sd_dns_lookup_failures_total 4"));
    assert!(metrics.render().contains("prometheus_sd_dns_lookups_total 8"));
    // The second server is asked after the first has failed; here it fails, too.
    resolv_conf(dir.path(), "nameserver 127.0.0.1\nnameserver 127.0.0.1\nsearch x\n");
    let error = refresh("{names: [bad], type: A, port: 1}", &conf, port, &metrics)
        .look_up()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("could not resolve \"bad\": all servers responded with errors"), "{error}");
}

#[test]
fn search_lists_are_used_as_in_prometheus() {
    let conf = ResolvConf::parse(
        "; x\nnameserver 1.2.3.4\nnameserver ::1\ndomain gone\nsearch a.b c.\noptions rotate ndots:2\n",
    );
    assert_eq!(conf.candidates("x"), ["x.a.b.", "x.c.", "x."]);
    assert_eq!(conf.candidates("x.y"), ["x.y.a.b.", "x.y.c.", "x.y."]);
    assert_eq!(conf.candidates("x.y.z"), ["x.y.z.", "x.y.z.a.b.", "x.y.z.c."]);
    assert_eq!(conf.candidates("x."), ["x."]);
    assert_eq!(ResolvConf::parse("options ndots:99").candidates(&"a.".repeat(15).as_str()[..29]).len(), 1);
}

#[test]
fn messages_are_read_and_damaged_ones_refused() {
    let question = message::question(7, "_a._tcp.x.", message::SRV, true).unwrap();
    // Two servers: the second name begins with a label and goes on in the question.
    let server = |host: &[u8]| record(message::SRV, &[&[0, 1, 0, 2, 0, 80], host].concat());
    let bytes = reply(&question, 0, &[server(b"\x02h1\xc0\x14"), server(b"\x03a.b\x00")]);
    let host = |host: &str| Record::Server(Server { host: host.to_owned(), port: 80 });
    let expected = Answer { code: 0, truncated: false, records: vec![host("h1.x."), host("a\\.b.")] };
    assert_eq!(message::answer(7, &bytes), Some(expected));
    assert_eq!(message::answer(8, &bytes), None);
    for cut in 0..bytes.len() {
        assert_eq!(message::answer(7, &bytes[..cut]), None, "cut at {cut}");
    }
    // A name that refers to itself.
    let mut endless = reply(&question, 0, &[record(message::NS, &[0xc0, 0])]);
    let at = endless.len() - 2;
    endless[at..].copy_from_slice(&[0xc0, at as u8]);
    assert_eq!(message::answer(7, &endless), None);
    let long = "a".repeat(64);
    for bad in [long.as_str(), "a..b", &"abc.".repeat(64)] {
        assert!(message::question(1, bad, message::A, false).is_err(), "{bad}");
    }
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    for (yaml, error) in [
        ("{}", "DNS-SD config must contain at least one SRV record name"),
        ("{names: [a], type: TXT}", "invalid DNS-SD records type TXT"),
        ("{names: [a], type: A}", "a port is required in DNS-SD configs for all record types except SRV"),
    ] {
        let config: DnsSdConfig = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(DnsSd::validate(&config).unwrap_err().to_string(), error);
    }
}
