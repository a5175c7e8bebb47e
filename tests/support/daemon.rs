//! Child programs: found by name (if missing, the error names the Debian package), started on free
//! ports, killed on drop.

use super::{eventually, http};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running child process; its output is in `log`.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program` with `arguments`; the output goes to `directory/<name>.log`.
    pub fn start(program: &Path, arguments: &[String], directory: &Path) -> Daemon {
        Daemon::start_with(program, arguments, directory, &[])
    }

    /// As [`Daemon::start`], with further variables of the environment.
    pub fn start_with(
        program: &Path,
        arguments: &[String],
        directory: &Path,
        variables: &[(String, String)],
    ) -> Daemon {
        let name = program.file_name().expect("a file name").to_string_lossy().into_owned();
        let log = directory.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("log file");
        let err = out.try_clone().expect("log file");
        let child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        Daemon { child, log }
    }

    /// Waits until `GET path` on `port` returns 200; panics with the end of the log if the child
    /// exits.
    pub fn wait_ready(&mut self, port: u16, path: &str) {
        let Daemon { child, log } = self;
        eventually(&format!("{} ready", log.display()), 60, || {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("exited with {status}: {}", tail(log));
            }
            match http::get(port, path) {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}; log: {}", tail(log))),
            }
        });
    }

    /// Sends SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("a running child");
        self.child.wait().expect("a child");
    }

    /// Sends a signal by its name, for example `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success(), "kill -s {name}");
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Limits the number of open files of the process.
    pub fn limit_files(&self, most: u32) {
        let arguments = [format!("--pid={}", self.child.id()), format!("--nofile={most}:{most}")];
        let limited = Command::new("prlimit").args(arguments).status();
        assert!(limited.expect("prlimit").success(), "prlimit --nofile={most}");
    }

    /// The number of open files of the process.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a running child").count()
    }

    /// Waits for the process to end by itself; returns its exit code (`None` after a signal) and
    /// its output.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let child = &mut self.child;
        let status = eventually("the program ends", 30, || {
            child.try_wait().expect("a child").ok_or_else(|| "still running".to_string())
        });
        (status.code(), std::fs::read_to_string(&self.log).expect("log file"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), tail(&self.log));
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A loopback port that no process listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// The path of an installed program; panics with the name of the Debian package if it is missing.
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var("PATH").expect("PATH");
    path.split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|p| p.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run .ci/install, or: apt-get install {package}"))
}

/// The Python interpreter with prometheus_client; panics with installation instructions if it is
/// missing.
pub fn python() -> PathBuf {
    let venv = std::env::var("PERENNIAL_TEST_VENV")
        .map(PathBuf::from)
        .unwrap_or_else(|_| Path::new(&std::env::var("HOME").expect("HOME")).join(".cache/perennial/venv"));
    let python = venv.join("bin/python3");
    assert!(python.is_file(), "no {}: run .ci/install (Debian package python3-venv)", python.display());
    python
}
