//! Tests of flags, first words and joining, in one process over loopback.

use super::hello::{Hello, Purpose};
use super::join::{Joined, join};
use super::*;
use crate::flags;
use std::net::{TcpListener, TcpStream};

/// Addresses that were free a moment ago.
fn addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn setup(process: usize, addresses: &[String], version: &str) -> Setup {
    Setup {
        process,
        addresses: addresses.to_vec(),
        patience: Duration::from_secs(60),
        configuration: 0,
        facts: vec![("version".to_owned(), version.to_owned())],
    }
}

/// Joins processes with these versions, each in a thread, started in this order.
fn join_all(order: &[usize], versions: &[&str]) -> Vec<Result<Joined, String>> {
    let addresses = addresses(versions.len());
    let mut threads: Vec<_> = order
        .iter()
        .map(|process| {
            let setup = setup(*process, &addresses, versions[*process]);
            let thread = std::thread::spawn(move || join(&setup));
            std::thread::sleep(Duration::from_millis(30));
            (*process, thread)
        })
        .collect();
    threads.sort_by_key(|(process, _)| *process);
    threads.into_iter().map(|(_, thread)| thread.join().unwrap()).collect()
}

#[test]
fn processes_find_each_other_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        for (process, joined) in join_all(&order, &["1"; 3]).into_iter().enumerate() {
            let joined = joined.unwrap();
            for streams in [joined.links, joined.pulses] {
                let there: Vec<bool> = streams.iter().map(Option::is_some).collect();
                let expected: Vec<bool> = (0..3).map(|other| other != process).collect();
                assert_eq!(there, expected);
            }
        }
    }
}

#[test]
fn processes_that_do_not_fit_are_refused_by_both() {
    for joined in join_all(&[0, 1], &["1", "2"]) {
        let error = joined.err().unwrap();
        assert!(error.contains("does not fit: version is"), "{error}");
    }
}

#[test]
fn strangers_are_sent_away_and_waiting_has_an_end() {
    let addresses = addresses(2);
    let mut alone = setup(0, &addresses, "1");
    alone.patience = Duration::from_secs(4);
    let thread = std::thread::spawn(move || join(&alone));
    let mut stranger = loop {
        match TcpStream::connect(&addresses[0]) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    std::io::Write::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let error = thread.join().unwrap().err().unwrap();
    assert!(error.contains("not complete after 4s") && error.contains(&addresses[1]), "{error}");
}

#[test]
fn differences_are_named() {
    let hello = |facts: &[(&str, &str)]| Hello {
        process: 0,
        purpose: Purpose::Link,
        incarnation: 1,
        facts: facts.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
    };
    let ours = hello(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert!(ours.differences(&ours).is_empty());
    let found = ours.differences(&hello(&[("a", "1"), ("b", "4")]));
    assert_eq!(found, [r#"b is "2" here and "4" there"#, r#"c is "3" here and "unknown" there"#]);
}

#[test]
fn flags_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yml");
    std::fs::write(&file, "global: {}\n").unwrap();
    let config = format!("--config.file={}", file.display());
    let of = |args: &[&str]| Setup::of(&flags::parse(args.iter().copied()).unwrap(), 2);
    assert_eq!(of(&[]), Ok(None));
    let two = "--cluster.addresses=127.0.0.1:2101, 127.0.0.1:2102";
    for (args, error) in [
        (&["--cluster.process=0"][..], "needs --cluster.addresses"),
        (&[two, &config], "needs --cluster.process"),
        (&[two, "--cluster.process=0"], "needs a configuration file"),
        (&[two, "--cluster.process=2", &config], "has the processes 0 to 1"),
        (&["--cluster.addresses=a:1", "--cluster.process=0", &config], "a cluster has 2 to"),
    ] {
        let said = of(args).unwrap_err();
        assert!(said.contains(error), "{said}");
    }
    let setup = of(&[two, "--cluster.process=1", &config]).unwrap().unwrap();
    assert_eq!((setup.process, setup.addresses.len()), (1, 2));
    assert!(
        setup.partial().ends_with("without the series of process 0 (127.0.0.1:2101)"),
        "{}",
        setup.partial()
    );
    let before = setup.facts.clone();
    std::fs::write(&file, "global: {scrape_interval: 5s}\n").unwrap();
    assert_ne!(of(&[two, "--cluster.process=1", &config]).unwrap().unwrap().facts, before);
}
