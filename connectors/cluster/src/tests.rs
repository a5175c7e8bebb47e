//! Tests the connections of a cluster in one process, over loopback: handshakes, joining, requests,
//! and how they end.

use super::handshake::{ConnectionPurpose, Handshake};
use super::join::{JoinedPeers, join};
use super::*;
use connectors::wall_clock::SystemClock;
use engine::limits::{MESSAGE_BYTES, PEER_QUERIES, PLAN_DEPTH};
use engine::memory::MemoryPool;
use engine::query::SeriesCatalog;
use engine::query::guard::QueryGuard;
use engine::query::peers::PeerChannel;
use engine::query::{Querier, QueryAnswer, QueryError, QueryOptions, QueryValue};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use storage::codec;
use storage::model::Labels;
use storage::store::{FloatRow, Store};
use views::recording::{LateSampleClient, LateSampleMonitor, WatchList};

/// Addresses with ports that were free a moment ago.
fn addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn setup(process: usize, addresses: &[String], version: &str) -> ClusterConfig {
    ClusterConfig {
        process,
        addresses: addresses.to_vec(),
        join_timeout: Duration::from_secs(60),
        configuration_checksum: 0,
        required_settings: vec![("version".to_owned(), version.to_owned())],
    }
}

/// Joins processes with these versions, each in a thread, started in this order.
fn join_all(order: &[usize], versions: &[&str]) -> Vec<Result<JoinedPeers, ClusterError>> {
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
            for streams in [joined.links, joined.heartbeats] {
                let there: Vec<bool> = streams.iter().map(Option::is_some).collect();
                let expected: Vec<bool> = (0..3).map(|other| other != process).collect();
                assert_eq!(there, expected);
            }
        }
    }
}

/// A process restarts while the others wait for a third one: they connect to it again.
#[test]
fn who_starts_anew_is_found_again() {
    let addresses = addresses(3);
    let start = |process, seconds| {
        let setup =
            ClusterConfig { join_timeout: Duration::from_secs(seconds), ..setup(process, &addresses, "1") };
        std::thread::spawn(move || join(&setup).map(|joined| joined.links.iter().flatten().count()))
    };
    let waits = start(1, 30);
    assert!(start(0, 1).join().unwrap().is_err());
    let anew = start(0, 30);
    std::thread::sleep(Duration::from_millis(300));
    let last = start(2, 30);
    for joined in [waits, anew, last] {
        assert_eq!(joined.join().unwrap().unwrap(), 2);
    }
}

#[test]
fn processes_that_do_not_fit_are_refused_by_both() {
    for joined in join_all(&[0, 1], &["1", "2"]) {
        let error = joined.err().unwrap().to_string();
        assert!(error.contains("does not fit: version is"), "{error}");
    }
}

#[test]
fn strangers_are_sent_away_and_waiting_has_an_end() {
    let addresses = addresses(2);
    let mut alone = setup(0, &addresses, "1");
    alone.join_timeout = Duration::from_secs(4);
    let thread = std::thread::spawn(move || join(&alone));
    let mut stranger = loop {
        match TcpStream::connect(&addresses[0]) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    std::io::Write::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let error = thread.join().unwrap().err().unwrap().to_string();
    assert!(error.contains("not complete after 4s") && error.contains(&addresses[1]), "{error}");
}

#[test]
fn differences_are_named() {
    let handshake = |settings: &[(&str, &str)]| Handshake {
        process: 0,
        purpose: ConnectionPurpose::Dataflow,
        incarnation: 1,
        required_settings: settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
    };
    let ours = handshake(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert!(ours.differences(&ours).is_empty());
    let found = ours.differences(&handshake(&[("a", "1"), ("b", "4")]));
    assert_eq!(found, [r#"b is "2" here and "4" there"#, r#"c is "3" here and "unknown" there"#]);
}

/// A store with one series, `up{process="…"}`, whose value is `process` at 1,000 ms.
fn store(dir: &Path, process: usize) -> Arc<Store> {
    let options = storage::store::StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let disk = Arc::new(storage::disk::OsDisk);
    let store = Store::open(options, disk, &storage::metrics::Metrics::default()).unwrap().0;
    let labels = Labels::from_pairs([("__name__", "up"), ("process", &process.to_string())]);
    let row = FloatRow { series: store.get_or_create_series(&labels), t: 1_000, v: process as f64 };
    store.append_rows(&[row]).unwrap();
    store
}

/// Two processes that have joined; those in `open` answer requests.
fn two(dir: &Path, open: &[usize]) -> Vec<(Arc<Store>, Arc<PeerClient>, Arc<Querier>)> {
    let addresses = addresses(2);
    let join = |process: usize| {
        let setup = setup(process, &addresses, "1");
        std::thread::spawn(move || (join(&setup).unwrap(), setup))
    };
    let threads: Vec<_> = (0..2).map(join).collect();
    let joined = threads.into_iter().map(|thread| thread.join().unwrap());
    let process = |(process, (joined, setup)): (usize, (JoinedPeers, ClusterConfig))| {
        let store = store(&dir.join(process.to_string()), process);
        let client = PeerClient::new(setup.clone(), joined.incarnations.clone());
        let querier = Querier::new(store.clone(), 1).with_peers(Arc::new(ClusterQueryPeers(client.clone())));
        let querier = Arc::new(querier);
        let listener = joined.listener;
        let incarnations = joined.incarnations;
        let listener = PeerListener { setup, listener, incarnations };
        if open.contains(&process) {
            let incomplete_reason = Box::new(move || (process == 1).then(|| "a block is damaged".to_owned()));
            let clock = Arc::new(SystemClock);
            let metrics = storage::metrics::Metrics::default();
            let late_samples = Arc::new(LateSampleMonitor::new(store.clone(), clock, &metrics));
            listener
                .open(PeerServices {
                    querier: querier.clone(),
                    store: store.clone(),
                    late_samples,
                    incomplete_reason,
                })
                .unwrap();
        } else {
            // The process listens and does not answer.
            std::mem::forget(listener);
        }
        (store, client, querier)
    };
    joined.enumerate().map(process).collect()
}

fn ask(querier: &Querier, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
    let plan = promql::compile("up", &promql::PromqlOptions::all()).unwrap();
    querier.instant(&plan, 1_000, options)
}

fn rows(answer: Result<QueryAnswer, QueryError>) -> usize {
    let Ok(QueryAnswer { value: QueryValue::Vector(rows), .. }) = answer else { panic!("{answer:?}") };
    rows.len()
}

#[test]
fn whoever_is_asked_answers_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let processes = two(dir.path(), &[0, 1]);
    for (store, client, querier) in &processes {
        assert_eq!(rows(ask(querier, &QueryOptions::default())), 2);
        let store = store.clone();
        let client = client.clone();
        let all = ClusterCatalog { store, client, timeout: Duration::from_secs(10) };
        let memory = MemoryPool::for_queries(usize::MAX).reservation(usize::MAX);
        assert_eq!(all.series(&[], 0, 2_000, &memory).unwrap().len(), 0, "of no matcher sets");
        assert_eq!(all.label_values("process", &[], 0, 2_000).unwrap(), ["0", "1"]);
        assert_eq!(all.label_names(&[], 0, 2_000).unwrap(), ["__name__", "process"]);
    }
    // Without selectors no sample is late.
    let late_samples = PeerLateSamples(processes[0].1.clone());
    assert_eq!(late_samples.processes(), [1]);
    assert!(late_samples.poll(1, &WatchList::default()).is_ok());
    // The next answer says that the other store is partial.
    assert!(processes[0].1.incomplete_reason().unwrap().contains("): a block is damaged"));
    assert_eq!(processes[1].1.incomplete_reason(), None);
}

/// Plans can be as deep as the language allows; the stacks of answering threads must be large
/// enough.
#[test]
fn deep_plans_can_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    let processes = two(dir.path(), &[0, 1]);
    let deepest = |text: &dyn Fn(usize) -> String| {
        let compile = |depth: usize| promql::compile(&text(depth), &promql::PromqlOptions::all()).ok();
        (1..=PLAN_DEPTH).rev().find_map(compile).unwrap()
    };
    let nested = |depth: usize| format!("{}up{}", "abs(".repeat(depth), ")".repeat(depth));
    let summed = |depth: usize| format!("{}up{}", "sum(".repeat(depth), ")".repeat(depth));
    for plan in
        [deepest(&nested), deepest(&summed), deepest(&|depth| "up + 1".to_owned() + &" + 1".repeat(depth))]
    {
        processes[0].2.instant(&plan, 1_000, &QueryOptions::default()).unwrap();
    }
}

#[test]
fn who_does_not_answer_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let processes = two(dir.path(), &[0]);
    let options = QueryOptions { timeout: Duration::from_millis(300), ..QueryOptions::default() };
    let error = ask(&processes[0].2, &options).unwrap_err();
    let QueryError::Timeout(text) = &error else { panic!("{error:?}") };
    assert!(text.starts_with("process 1 (127.0.0.1:"), "{text}");
    assert!(text.contains("did not answer within 300ms"), "{text}");
    let all = ClusterCatalog {
        store: processes[0].0.clone(),
        client: processes[0].1.clone(),
        timeout: Duration::from_millis(100),
    };
    let error = all.label_names(&[], 0, 2_000).unwrap_err().to_string();
    assert!(error.contains("process 1 (127.0.0.1:") && error.contains("did not answer"), "{error}");
    // A cancelled query does not wait.
    let options = QueryOptions::default();
    options.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(ask(&processes[0].2, &options), Err(QueryError::Canceled(_))));
    assert_eq!(rows(ask(&processes[1].2, &QueryOptions::default())), 2, "the other way it works");
}

/// Requests that end before the answer, or before the request was sent, release their permits.
#[test]
fn places_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let processes = two(dir.path(), &[0, 1]);
    let guard = QueryGuard::new(&QueryOptions::default());
    for purpose in [
        ConnectionPurpose::Query,
        ConnectionPurpose::Catalog,
        ConnectionPurpose::LateSamples,
        ConnectionPurpose::Heartbeat,
    ] {
        for _ in 0..2 * PEER_QUERIES + 1 {
            let mut calls = processes[0].1.call_all(purpose, &guard).unwrap();
            for (_, call) in &mut calls {
                call.send(b"?", &guard).and_then(|()| call.flush(&guard)).unwrap();
            }
        }
    }
    let timeout = |ms: u64| QueryOptions { timeout: Duration::from_millis(ms), ..QueryOptions::default() };
    for ms in (0..4 * PEER_QUERIES as u64).map(|n| n % 8) {
        // It does not matter whether the answer is in time.
        let _ = ask(&processes[0].2, &timeout(ms));
    }
    assert_eq!(rows(ask(&processes[0].2, &QueryOptions::default())), 2);
}

#[test]
fn strangers_get_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let processes = two(dir.path(), &[0, 1]);
    let guard = QueryGuard::new(&QueryOptions::default());
    let calls = processes[0].1.call_all(ConnectionPurpose::Query, &guard).unwrap();
    let name = calls[0].1.name();
    let address = name.trim_start_matches("process 1 (").trim_end_matches(')');
    let handshake = Handshake {
        process: 0,
        purpose: ConnectionPurpose::Query,
        incarnation: 7,
        required_settings: Vec::new(),
    };
    for stranger in [0, 1] {
        let mut stream = TcpStream::connect(address).unwrap();
        match stranger {
            0 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap(),
            _ => handshake.send(&mut stream).unwrap(),
        }
        // The end of the connection may be an error.
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty(), "{said:?}");
    }
}

#[test]
fn messages_have_a_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    let mut connection = framed_connection::FramedConnection::new(stream, "process 1".to_owned()).unwrap();
    let guard = QueryGuard::new(&QueryOptions::default());
    other.write_all(&3u32.to_le_bytes()).unwrap();
    other.write_all(b"abc").unwrap();
    assert_eq!(connection.receive(&guard), Ok(b"abc".to_vec()));
    other.write_all(&(MESSAGE_BYTES as u32 + 1).to_le_bytes()).unwrap();
    let error = connection.receive(&guard).unwrap_err().to_string();
    assert!(error.starts_with("process 1 does not answer") && error.contains("is too long"), "{error}");
    other.write_all(&3u32.to_le_bytes()).unwrap();
    drop(other);
    let error = connection.receive(&guard).unwrap_err().to_string();
    assert!(error.contains("it closed the connection"), "{error}");
}

#[test]
fn a_message_that_was_half_sent_is_finished() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    let mut connection = framed_connection::FramedConnection::new(stream, "process 1".to_owned()).unwrap();
    let hurried = QueryOptions { timeout: Duration::from_millis(100), ..QueryOptions::default() };
    let long = vec![7; 32 << 20];
    let error = connection.send(&long, &QueryGuard::new(&hurried)).unwrap_err();
    assert!(matches!(error, QueryError::Timeout(_)), "{error}");
    let reader = std::thread::spawn(move || {
        let mut connection = framed_connection::FramedConnection::new(other, "process 0".to_owned()).unwrap();
        let guard = QueryGuard::new(&QueryOptions::default());
        (connection.receive(&guard), connection.receive(&guard))
    });
    let guard = QueryGuard::new(&QueryOptions::default());
    connection.send(b"why", &guard).and_then(|()| connection.flush(&guard)).unwrap();
    assert_eq!(reader.join().unwrap(), (Ok(long), Ok(b"why".to_vec())));
}

/// Everybody who can reach the port can send handshakes, and each process of the cluster can send
/// long messages.
#[test]
fn twice_the_words_cost_at_most_a_little_more_than_twice() {
    let settings = |n: usize| (0..n).map(|i| (format!("fact{i}"), i.to_string())).collect();
    let handshake = |n: usize| Handshake {
        process: 1,
        purpose: ConnectionPurpose::Heartbeat,
        incarnation: 1,
        required_settings: settings(n),
    };
    let ours = handshake(10);
    let compared = |theirs: &Handshake| ours.differences(theirs).len();
    assert_eq!((compared(&handshake(5)), compared(&handshake(20))), (5, 0));
    testing::assert_proportional("settings", 1_500, handshake, compared);
    let encoded = |n: usize| codec::encode(&handshake(n)).expect("small enough");
    testing::assert_proportional("first words", 1_500, encoded, |bytes| {
        codec::decode::<Handshake>(bytes).expect("first words").required_settings.len()
    });
}
