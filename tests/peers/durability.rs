//! Tests repeated kill -9 under load: afterwards all acknowledged samples are present exactly once,
//! and nothing else; the same holds for scraped samples that a query has returned.
//! `docs/durability.md` has the contract.
//!
//! Ten kills by default; `KILLS=200 cargo test --workspace --test peers -- --nocapture durability`
//! is the nightly variant. Both print the number of acknowledged samples per second. [`load`] has
//! the writers, the target and the reader.

mod load;

use crate::support::now_ms;
use crate::support::server::Server;
use load::{CountingTarget, OFFERED, Reader, Writers, points};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The number of kills of one server; then the test continues with a new one, because each start
/// replays all samples of the server.
const KILLS_OF_ONE: u64 = 10;

/// A server that is killed, and the expected samples.
struct KilledServer {
    server: Server,
    writers: Writers,
    reader: Reader,
    counting: CountingTarget,
    /// The time in which the writers could write.
    wrote_for: Duration,
}

impl KilledServer {
    fn start() -> KilledServer {
        let counting = CountingTarget::start();
        let config = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\nscrape_configs:\n- job_name: x\n  \
             static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            counting.port()
        );
        let server = Server::start(&config, &[]);
        let writers = Writers::new(now_ms() - 3_000_000);
        let reader = Reader::default();
        KilledServer { server, writers, reader, counting, wrote_for: Duration::ZERO }
    }

    /// Runs the load for a while, kills the server, starts it again, and checks every sample.
    fn round(&mut self, number: u64) {
        let before = self.writers.progress();
        let writers = self.writers.run(self.server.port);
        let reader = self.reader.run(self.server.port);
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(500 + number * 7919 % 700));
        self.writers.wait(before);
        self.server.kill();
        self.wrote_for += began.elapsed();
        self.writers.join(writers);
        self.reader.join(reader);
        if number % 3 == 1 {
            // Kill once more, during the start.
            Server::spawn_together(std::slice::from_mut(&mut self.server));
            std::thread::sleep(Duration::from_millis(number * 37 % 150));
            self.server.kill();
        }
        self.server.run();
        self.writers.check(&self.server);
        self.check_scraped();
    }

    /// Checks that all samples that a query has returned are present, that all present samples were
    /// served, once, and that scrapes are complete.
    fn check_scraped(&self) {
        let found = points(&self.server, "scraped[1h]");
        let served = self.counting.last() as f64;
        for (labels, samples) in &found {
            let grows = |w: &[(i64, f64)]| w[0].0 < w[1].0 && w[0].1 <= w[1].1;
            assert!(samples.windows(2).all(grows), "{labels}: a time twice, or out of order: {samples:?}");
            let possible = |v: f64| (1.0..=served).contains(&v);
            assert!(samples.iter().all(|(_, v)| possible(*v)), "{labels}: never served: {samples:?}");
        }
        for ((labels, t), v) in self.reader.shown() {
            let kept = found.get(labels).and_then(|all| all.iter().find(|sample| sample.0 == *t));
            assert_eq!(kept, Some(&(*t, *v)), "{labels} was shown and is lost");
        }
        let mut scrapes = found.values();
        let Some(first) = scrapes.next() else { return };
        assert!(scrapes.all(|samples| samples == first), "a scrape is there as a whole or not at all");
    }
}

#[test]
fn kill_9_under_load_loses_nothing_and_makes_nothing_up() {
    let kills: u64 = std::env::var("KILLS").map_or(10, |n| n.parse().expect("KILLS is a number"));
    let mut done = 0;
    let mut written = 0;
    let mut shown = 0;
    let mut wrote_for = Duration::ZERO;
    while done < kills {
        let mut killed = KilledServer::start();
        for _ in 0..KILLS_OF_ONE.min(kills - done) {
            killed.round(done);
            done += 1;
        }
        killed.writers.check_all(&killed.server);
        written += killed.writers.samples();
        shown += killed.reader.shown().len();
        wrote_for += killed.wrote_for;
    }
    assert!(shown > 0, "nothing was scraped, or nothing shown");
    let rate = written as f64 / wrote_for.as_secs_f64();
    eprintln!(
        "{done} kills: of {OFFERED:.0} samples a second offered {rate:.0} were acknowledged, {written} in all; {shown} \
         scraped ones were shown. 0 lost, 0 made up, 0 twice."
    );
}

#[test]
fn answers_say_that_a_damaged_block_is_left_out() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("storage/tests/fixtures/data-1");
    let mut server = Server::prepare_together("", &[], &[Vec::new()]).remove(0);
    let copied = Command::new("cp").arg("-r").args([&fixture, &server.file("data")]).status();
    assert!(copied.expect("cp").success());
    let warnings = |server: &Server| server.get("/api/v1/query?query=m").json()["warnings"].clone();
    server.run();
    assert!(warnings(&server).is_null(), "{}", warnings(&server));
    server.kill();
    let blocks = std::fs::read_dir(server.file("data/blocks")).expect("blocks");
    let block = blocks.map(|entry| entry.expect("a block").path()).min().expect("a block");
    let mut labels = std::fs::read(block.join("series.parquet")).expect("labels");
    labels[100] ^= 1;
    std::fs::write(block.join("series.parquet"), labels).expect("labels");
    server.run();
    assert_eq!(warnings(&server)[0], "blocks that are damaged are left out: 1; the log names them");
    assert!(server.log().contains("series.parquet: checksum does not match"), "{}", server.log());
}
