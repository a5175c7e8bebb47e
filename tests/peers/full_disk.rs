//! Tests a real full disk: writes are refused with 503, scrapes fail, and queries work; everything
//! recovers without a restart once there is space. `storage/tests/failing_disk.rs` tests the same
//! on a simulated disk, byte by byte.

use crate::support::exporter::Exporter;
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use crate::support::{eventually, now_ms};
use std::path::{Path, PathBuf};
use std::process::Command;

const SERIES: usize = 100;
const SAMPLES: i64 = 200;

/// A file system in memory, unmounted on drop.
struct SmallFileSystem(PathBuf);

impl SmallFileSystem {
    /// Mounts the file system; `None` if that is not permitted.
    fn mount(on: &Path) -> Option<SmallFileSystem> {
        std::fs::create_dir_all(on).expect("a directory");
        SmallFileSystem::run("mount", &["-t", "tmpfs", "-o", "size=4m", "none"], on)
            .then(|| SmallFileSystem(on.to_owned()))
    }

    fn run(program: &str, arguments: &[&str], on: &Path) -> bool {
        Command::new(program).args(arguments).arg(on).status().is_ok_and(|status| status.success())
    }

    fn grow(&self) {
        assert!(SmallFileSystem::run("mount", &["-o", "remount,size=64m"], &self.0));
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        SmallFileSystem::run("umount", &["-l"], &self.0);
    }
}

/// A number without a pattern, so that it cannot be compressed below eight bytes.
fn value(s: usize, t: i64) -> f64 {
    let mixed = (t as u64 ^ (s as u64) << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    f64::from_bits(0x3ff0_0000_0000_0000 | mixed >> 12)
}

fn request(start: i64, n: i64) -> Vec<Series> {
    let times = (n * SAMPLES..(n + 1) * SAMPLES).map(|i| start + i * 10);
    let one = |s: usize| {
        Series::new("w", &[("s", &s.to_string())], times.clone().map(|t| (t, value(s, t))).collect())
    };
    (0..SERIES).map(one).collect()
}

fn count(server: &Server, query: &str) -> f64 {
    let rows = server.query(query);
    rows.first().map_or(0.0, |row| row["value"][1].as_str().expect("text").parse().expect("a number"))
}

#[test]
fn a_full_disk_refuses_keeps_reading_and_resumes_by_itself() {
    let exporter = Exporter::start("scraped 1\n");
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n- job_name: x\n  \
         static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let mut server = Server::prepare_together(&config, &[], &[Vec::new()]).remove(0);
    let Some(disk) = SmallFileSystem::mount(&server.file("data")) else {
        return testing::skipped("a full disk: nothing may be mounted here");
    };
    server.run();
    let start = now_ms() - 3_000_000;
    let mut acknowledged = 0;
    let refusal = loop {
        let answer = write(server.port, &request(start, acknowledged)).expect("an answer");
        if answer.status / 100 != 2 {
            break answer;
        }
        acknowledged += 1;
    };
    assert_eq!(refusal.status, 503, "{}", refusal.text());
    assert!(refusal.text().contains("No space left on device"), "{}", refusal.text());
    assert!(acknowledged > 2, "{acknowledged}");
    let all = |n: i64| (n * SAMPLES * SERIES as i64) as f64;
    let written = "sum(count_over_time(w[1h]))";
    // The refused samples may be present: they are queued, and will be written.
    assert!((all(acknowledged)..=all(acknowledged + 1)).contains(&count(&server, written)), "reads go on");
    let says = |path: &str, status: u16, text: &str| {
        eventually(path, 10, || {
            let answer = server.get(path);
            let fits = answer.status == status && answer.text().contains(text);
            if fits { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
        });
    };
    says("/-/healthy", 503, "No space left on device");
    says("/-/ready", 503, "the write-ahead log refuses writes");

    disk.grow();
    eventually("writes are taken again", 30, || {
        let answer = write(server.port, &request(start, acknowledged)).expect("an answer");
        if answer.status / 100 == 2 { Ok(()) } else { Err(answer.text()) }
    });
    says("/-/healthy", 200, "Healthy");
    says("/-/ready", 200, "Ready");
    let log = server.log();
    for line in ["the server is not healthy", "the server is healthy again"] {
        assert!(log.contains(line), "{log}");
    }
    server.wait_health(&[("x", "up")]);
    assert_eq!(count(&server, written), all(acknowledged + 1));
    server.kill();
    server.run();
    assert_eq!(count(&server, written), all(acknowledged + 1), "and after kill -9");
}
