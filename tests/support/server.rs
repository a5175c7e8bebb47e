//! [`Server`]: a running server with Prometheus' HTTP API: ours, or the real Prometheus for
//! comparison.

use super::daemon::{Daemon, free_port, program};
use super::{eventually, http};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A server and its directory; killed and removed on drop.
pub struct Server {
    pub port: u16,
    binary: PathBuf,
    daemon: Option<Daemon>,
    directory: TempDir,
    flags: Vec<String>,
    files: Option<u32>,
    /// Variables of its environment.
    variables: Vec<(String, String)>,
    /// Whether it runs as an agent.
    is_agent: bool,
}

/// The resident memory of a process, MiB.
#[derive(Copy, Clone, Debug)]
pub struct Memory {
    pub now: f64,
    pub peak: f64,
}

/// The path of our binary, or of the one in `PERENNIAL_UNDER_TEST`.
pub fn binary_under_test() -> PathBuf {
    std::env::var("PERENNIAL_UNDER_TEST")
        .map_or_else(|_| PathBuf::from(env!("CARGO_BIN_EXE_perennial")), PathBuf::from)
}

impl Server {
    /// Starts our server with this configuration (`{self}` is replaced by its port) and these
    /// further files next to it, and waits until it is ready.
    pub fn start(config: &str, files: &[(&str, &str)]) -> Server {
        Server::start_binary(binary_under_test(), config, files)
    }

    /// As [`Server::start`], with further flags.
    pub fn start_with(config: &str, files: &[(&str, &str)], flags: &[&str]) -> Server {
        let mut server = Server::prepare(binary_under_test(), config, files);
        server.flags.extend(flags.iter().map(ToString::to_string));
        server.run();
        server
    }

    /// As [`Server::start`], with further variables of its environment.
    pub fn start_with_variables(config: &str, variables: &[(&str, &str)]) -> Server {
        Server::start_files(config, &[], &[], variables)
    }

    /// As [`Server::start_with`], with further variables of its environment.
    pub fn start_files(
        config: &str,
        files: &[(&str, &str)],
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Server {
        let mut server = Server::prepare(binary_under_test(), config, files);
        server.flags.extend(flags.iter().map(ToString::to_string));
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        server.variables = variables.iter().map(owned).collect();
        server.run();
        server
    }

    /// Starts our server as an agent, with further flags.
    pub fn agent(config: &str, flags: &[&str]) -> Server {
        let mut server = Server::prepare(binary_under_test(), config, &[]);
        server.flags.extend(flags.iter().map(ToString::to_string));
        server.is_agent = true;
        server.run();
        server
    }

    /// Prepares several of our servers with the same configuration, each with its own further
    /// flags, that wait for each other. They do not run yet, see [`Server::run_together`].
    pub fn prepare_together(config: &str, files: &[(&str, &str)], flags: &[Vec<String>]) -> Vec<Server> {
        let prepare = |flags: &Vec<String>| {
            let mut server = Server::prepare(binary_under_test(), config, files);
            server.flags.clone_from(flags);
            server
        };
        flags.iter().map(prepare).collect()
    }

    /// Starts servers that wait for each other, and waits until all are ready.
    pub fn run_together(servers: &mut [Server]) {
        Server::spawn_together(servers);
        for server in servers {
            let port = server.port;
            server.daemon.as_mut().expect("just started").wait_ready(port, "/-/ready");
        }
    }

    /// Starts servers that wait for each other.
    pub fn spawn_together(servers: &mut [Server]) {
        for server in servers {
            let flags = server.flags();
            let daemon = Daemon::start(&server.binary, &flags, server.directory.path());
            if let Some(most) = server.files {
                daemon.limit_files(most);
            }
            server.daemon = Some(daemon);
        }
    }

    /// Limits the number of open files from the next start on.
    pub fn limit_files(&mut self, most: u32) {
        self.files = Some(most);
    }

    /// The number of open files.
    pub fn open_files(&self) -> usize {
        self.daemon.as_ref().expect("a running server").open_files()
    }

    /// Waits until the server ends by itself; returns the exit code and the output of all its runs.
    pub fn wait_end(&mut self) -> (Option<i32>, String) {
        self.daemon.take().expect("a running server").wait()
    }

    /// Starts Debian's Prometheus and waits until it is ready.
    pub fn prometheus(config: &str) -> Server {
        Server::start_binary(program("prometheus", "prometheus"), config, &[])
    }

    /// As [`Server::prometheus`], with further flags.
    pub fn prometheus_with(config: &str, flags: &[&str]) -> Server {
        Server::prometheus_files(config, &[], flags)
    }

    /// As [`Server::prometheus_with`], with further files next to the configuration.
    pub fn prometheus_files(config: &str, files: &[(&str, &str)], flags: &[&str]) -> Server {
        let mut server = Server::prepare(program("prometheus", "prometheus"), config, files);
        server.flags.extend(flags.iter().map(ToString::to_string));
        server.run();
        server
    }

    fn start_binary(binary: PathBuf, config: &str, files: &[(&str, &str)]) -> Server {
        let mut server = Server::prepare(binary, config, files);
        server.run();
        server
    }

    fn prepare(binary: PathBuf, config: &str, files: &[(&str, &str)]) -> Server {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let config = config.replace("{self}", &port.to_string());
        for (name, text) in files.iter().chain(&[("prometheus.yml", config.as_str())]) {
            std::fs::write(directory.path().join(name), text).expect("a file");
        }
        Server {
            port,
            binary,
            daemon: None,
            directory,
            flags: Vec::new(),
            files: None,
            variables: Vec::new(),
            is_agent: false,
        }
    }

    /// Starts a second server on the same data directory, with these flags after the usual ones,
    /// and expects it to end by itself; returns the exit code and output.
    pub fn fail_beside(&self, flags: &[&str]) -> (Option<i32>, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let address = |port: u16| format!("--web.listen-address=127.0.0.1:{port}");
        let mut all: Vec<String> = self.flags().into_iter().filter(|f| *f != address(self.port)).collect();
        all.push(address(free_port()));
        all.extend(flags.iter().map(ToString::to_string));
        Daemon::start(&self.binary, &all, directory.path()).wait()
    }

    /// Starts our server and expects it to end by itself; returns the exit code and output.
    pub fn fail(config: &str, files: &[(&str, &str)]) -> (Option<i32>, String) {
        let server = Server::prepare(binary_under_test(), config, files);
        Daemon::start(&server.binary, &server.flags(), server.directory.path()).wait()
    }

    fn flags(&self) -> Vec<String> {
        let dir = self.directory.path();
        let mut flags = vec![
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!(
                "--storage.{}.path={}",
                if self.is_agent { "agent" } else { "tsdb" },
                dir.join("data").display()
            ),
            format!("--web.listen-address=127.0.0.1:{}", self.port),
            "--web.enable-remote-write-receiver".into(),
            "--web.enable-lifecycle".into(),
        ];
        // `./test` runs these tests with the default number of workers, with one, and with four.
        if self.binary == binary_under_test() {
            flags.extend(std::env::var("PERENNIAL_TEST_WORKERS").map(|n| format!("--live.workers={n}")));
        }
        flags.extend(self.is_agent.then(|| "--agent".to_owned()));
        flags.extend(self.flags.iter().cloned());
        flags
    }

    /// Starts the server on the same directory, and waits until it is ready.
    pub fn run(&mut self) {
        let directory = self.directory.path();
        let mut daemon = Daemon::start_with(&self.binary, &self.flags(), directory, &self.variables);
        daemon.wait_ready(self.port, "/-/ready");
        self.daemon = Some(daemon);
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.take().expect("a running server").kill();
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        self.daemon.as_ref().expect("a running server").signal(name);
    }

    /// The current and the peak memory, MiB. Linux only, like these tests.
    pub fn memory(&self) -> Memory {
        let path = format!("/proc/{}/status", self.daemon.as_ref().expect("a running server").id());
        let status = std::fs::read_to_string(path).expect("a process");
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
            let kib: f64 = line.trim_end_matches("kB").trim().parse().expect("a number");
            kib / 1024.0
        };
        Memory { now: value("VmRSS:"), peak: value("VmHWM:") }
    }

    /// Resets the peak memory to the current memory.
    pub fn forget_peak(&self) {
        let id = self.daemon.as_ref().expect("a running server").id();
        std::fs::write(format!("/proc/{id}/clear_refs"), "5").expect("our own child");
    }

    /// The path of a file in the server's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }

    /// Sends `GET path`; panics if there is no HTTP response.
    pub fn get(&self, path: &str) -> http::Answer {
        http::get(self.port, path).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// Sends `POST path` without a body; panics if there is no HTTP response.
    pub fn post(&self, path: &str) -> http::Answer {
        http::post(self.port, path).unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// The log of the server so far, of all its runs.
    pub fn log(&self) -> String {
        let name = self.binary.file_name().expect("a file name").to_string_lossy().into_owned();
        std::fs::read_to_string(self.file(&format!("{name}.log"))).expect("a log")
    }

    /// The `data` of `GET path` of the JSON API; panics on an error response.
    pub fn api(&self, path: &str) -> Value {
        let answer = self.get(path);
        let json = answer.json();
        assert_eq!(json["status"], "success", "GET {path}: {} {json}", answer.status);
        json["data"].clone()
    }

    /// The `data` (resultType, result) of an instant query at `t` ms.
    pub fn query_at(&self, query: &str, t: i64) -> Value {
        self.api(&format!("/api/v1/query?query={}&time={}", http::encode(query), seconds(t)))
    }

    /// The result list of an instant query now.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let data = self.api(&format!("/api/v1/query?query={}", http::encode(query)));
        data["result"].as_array().expect("a list").clone()
    }

    /// The `data` of a range query from `start` to `end` with `step`, all in ms.
    pub fn query_range(&self, query: &str, start: i64, end: i64, step: i64) -> Value {
        let start = seconds(start);
        let end = seconds(end);
        let step = seconds(step);
        self.api(&format!(
            "/api/v1/query_range?query={}&start={start}&end={end}&step={step}",
            http::encode(query)
        ))
    }

    /// Waits until the query has `rows` rows; returns them.
    pub fn wait_rows(&self, query: &str, rows: usize) -> Vec<Value> {
        eventually(&format!("{query} has {rows} rows"), 60, || {
            let found = self.query(query);
            if found.len() == rows { Ok(found) } else { Err(format!("{} rows: {found:?}", found.len())) }
        })
    }

    /// The active targets as (job, health, last error).
    pub fn targets(&self) -> Vec<(String, String, String)> {
        let data = self.api("/api/v1/targets?state=active");
        let list = data["activeTargets"].as_array().expect("a list");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        list.iter().map(|t| (text(&t["labels"]["job"]), text(&t["health"]), text(&t["lastError"]))).collect()
    }

    /// Waits until each job has a target with the given health.
    pub fn wait_health(&self, expected: &[(&str, &str)]) {
        eventually(&format!("targets {expected:?}"), 60, || {
            let targets = self.targets();
            let found = |(job, health): &(&str, &str)| targets.iter().any(|t| t.0 == *job && t.1 == *health);
            if expected.iter().all(found) { Ok(()) } else { Err(format!("{targets:?}")) }
        });
    }
}

/// Milliseconds as decimal seconds, as the API expects them.
fn seconds(t: i64) -> String {
    format!("{}.{:03}", t.div_euclid(1000), t.rem_euclid(1000))
}
