//! The perennial program: flags, configuration, wiring, shutdown. The only crate that depends on
//! all others.
//!
//! `main.rs` only runs [`main`]; this is a library so that the simulation (`tests/whole_server`)
//! can build the same server. [`flags`] and [`config`] are the settings, [`server`] opens the parts
//! of the server and connects them, and the other modules are adapters between two crates.

#![warn(unreachable_pub)]

pub mod alerts;
mod allocator;
mod auto_reload;
mod check;
mod check_views;
mod cluster_config;
pub mod config;
mod consoles;
pub mod control;
mod data_directory_lock;
pub mod descriptors;
mod embedded;
pub mod environment;
mod export;
pub mod flags;
pub mod health;
mod import;
mod limits;
mod listen;
mod log;
mod machine;
mod maintenance;
mod object_store;
mod postgres_wire;
mod process_metrics;
mod query_language;
mod reads;
mod reload_changes;
mod remote_metrics;
mod remote_stores;
mod retention;
mod rule_test;
pub mod server;
mod server_client;
mod sources;
mod sql;
pub mod startup;
pub mod statements;
mod store_metrics;
mod subcommand;
#[cfg(feature = "sql")]
mod tables;
mod test_history;
mod usage_error;
mod writes;

use api::protection::{Protection, ProtectionError};
use api::{ServeOptions, StartupGate, Timeouts, serve};
use control::ServerController;
use environment::Surroundings;
use flags::{EarlyExit, Flags};
use rules::yaml::ConfigError;
use server::{LoadedConfig, Server, ServerError};
use statements::RuleLanguages;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::metrics::Metrics;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Runs a subcommand with the arguments after its name.
type Command = fn(&[String]) -> ExitCode;

/// The subcommands that do not start a server, by the first argument.
const COMMANDS: [(&str, Command); 6] = [
    ("test", check::main),
    ("check", check_views::main),
    ("import", import::main),
    ("export", export::main),
    ("tsdb", import::tsdb),
    ("sql", sql::main),
];

/// The exit code for an invalid configuration or flag.
const UNUSABLE: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    // With huge pages the allocator occupies a quarter more memory than it hands out (measured:
    // docs/benchmarks.md). If the kernel refuses, that is the only cost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, rest @ ..] = args.as_slice()
        && let Some((_, run)) = COMMANDS.iter().find(|(name, _)| name == command)
    {
        return run(rest);
    }
    allocator::configure();
    let flags = match flags::parse(args) {
        Ok(flags) => flags,
        Err(EarlyExit { code: 0, text }) => return say(&mut std::io::stdout(), &text, 0),
        Err(EarlyExit { code, text }) => {
            return say(&mut std::io::stderr(), &text, u8::try_from(code).unwrap_or(UNUSABLE));
        }
    };
    log::start(*flags.log_level, *flags.log_format);
    // Two cryptography providers could be linked; this selects ring. Only the first call has an
    // effect.
    let _ = rustls::crypto::ring::default_provider().install_default();
    descriptors::raise_limit();
    for line in flags.without_effect() {
        tracing::info!("{line}");
    }
    if flags.storage_tsdb_retention.is_given {
        tracing::warn!("--storage.tsdb.retention is deprecated; write --storage.tsdb.retention.time");
    }
    for line in flags.unknown_features() {
        tracing::warn!("{line}");
    }
    // The checksum is computed before the files are read: a change in between then causes one
    // reload too many instead of none.
    let watch = flags.auto_reload().zip(flags.config_file());
    let watch = watch.map(|(every, path)| (every, auto_reload::checksum(&path), path));
    let loaded = match load(&flags) {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("the configuration cannot be used; correct what standard error names");
            return say(&mut std::io::stderr(), &format!("{error}\n"), UNUSABLE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(&mut std::io::stderr(), &format!("cannot start threads: {error}\n"), 1),
    };
    let ended = run(&runtime, flags, loaded, watch);
    // Threads that still block have nothing to complete: the store is closed.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn say(to: &mut dyn Write, text: &str, code: u8) -> ExitCode {
    check::say(to, text);
    ExitCode::from(code)
}

/// Loads the configuration that the flags name, or the embedded one.
pub fn load(flags: &Flags) -> Result<LoadedConfig, ConfigError> {
    if let Some(path) = flags.web_config_file() {
        config::read_web_file(&path)?;
    }
    let language = query_language::options(|feature| flags.has(feature));
    match flags.config_file() {
        None => embedded::load(flags, &language),
        Some(path) => {
            let (config, warnings) = config::load(&path)?;
            config.check_mode(flags)?;
            let data = flags.data_path(config.storage.path.as_ref());
            let compiler = RuleLanguages::at_start(language, *flags.rules_enable_sql, &data);
            server::load_rules(config, warnings, &compiler)
        }
    }
}

/// What auto-reload watches: interval (ms), checksum of the loaded configuration, file.
type ReloadWatch = (i64, u64, PathBuf);

fn run(
    runtime: &tokio::runtime::Runtime,
    flags: Flags,
    loaded: LoadedConfig,
    watch: Option<ReloadWatch>,
) -> Result<(), ServerError> {
    let addresses = flags.listen_addresses();
    let default = flags.config_file().is_none();
    let prefix = flags.route_prefix();
    let metrics = Metrics::default();
    // A server that cannot be protected as it should be does not listen.
    let protection = protection(&flags, &metrics)?;
    let is_encrypted = protection.as_ref().is_some_and(|protection| protection.is_encrypted());
    let options = serve_options(&flags, protection.clone());
    let _guard = runtime.enter();
    let listeners = runtime.block_on(listen::listeners(&flags))?;
    let wire = runtime.block_on(postgres_wire::listener(&flags, protection.as_deref()))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let gate = StartupGate::new(&prefix);
    let served_gate = gate.clone();
    let served_metrics = metrics.clone();
    let serving = runtime.spawn(async move {
        serve(listeners, served_gate, async { drop(stopped.await) }, options, &served_metrics).await;
    });
    let here = Surroundings::of_this_machine(&metrics);
    let server = Arc::new(Server::open(flags, &loaded.config, metrics.clone(), here)?);
    // Never dropped: after `close` the server has nothing left to do, and freeing gigabytes piece
    // by piece would delay the end of the process by seconds.
    std::mem::forget(server.clone());
    let control = Arc::new(ServerController::new(server.clone(), &loaded));
    let step = loaded.config.evaluation_interval();
    let startup = startup::begin(&server, &control, loaded, runtime.handle())?;
    let state = server.serve(&gate, &control, step)?;
    let wire = runtime.spawn(postgres_wire::serve(wire, state, protection, metrics));
    tracing::info!(target: "web", version = env!("CARGO_PKG_VERSION"), listen = addresses.join(","), "perennial listens");
    if default {
        say(&mut std::io::stderr(), &embedded::welcome(&addresses[0], is_encrypted), 0);
    }
    let storage = &server.storage;
    let store = storage.store.clone();
    let clock = server.context.clock.clone();
    let maintenance = match server.context.flags.agent_retention() {
        None => {
            let took = maintenance::compaction_time(&server.context.metrics);
            runtime.spawn(maintenance::run_maintenance(store, clock, took))
        }
        Some(retention) => {
            let took = server.context.metrics.summary(
                "prometheus_agent_truncate_duration_seconds",
                "Duration of WAL truncation.",
                &[],
            );
            runtime.spawn(maintenance::run_agent_maintenance(store, clock, retention, took))
        }
    };
    let health = runtime.spawn(health::watch(storage.health.clone()));
    let watch = watch.map(|(every, known, path)| {
        let every = Duration::from_millis(every.unsigned_abs());
        runtime.spawn(auto_reload::watch(control.clone(), path, known, every))
    });
    runtime.block_on(wait_for_end(control));
    let stopping = Instant::now();
    tracing::info!("the server stops");
    // Nothing receives this if serving has ended by itself.
    let _ = stop.send(());
    server.storage.store.replay().stop();
    let served = runtime.block_on(serving).map_err(ServerError::Task);
    let wire = runtime.block_on(wire).map_err(ServerError::Task);
    maintenance.abort();
    health.abort();
    watch.inspect(tokio::task::JoinHandle::abort);
    let started = startup.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let closed = server.close(stopping);
    runtime.block_on(server.traces.close());
    tracing::info!(seconds = stopping.elapsed().as_secs_f64(), "the server has stopped");
    started.and(served).and(wire).and(closed)
}

/// What `--web.config.file` asks for.
fn protection(flags: &Flags, metrics: &Metrics) -> Result<Option<Arc<Protection>>, ServerError> {
    let Some(path) = flags.web_config_file() else { return Ok(None) };
    let read = move || config::read_web_file(&path).map_err(|e| ProtectionError::Files(e.to_string()));
    Protection::new(read, metrics).map(Some).map_err(ServerError::Protection)
}

/// The options of connections, from the flags.
fn serve_options(flags: &Flags, protection: Option<Arc<Protection>>) -> ServeOptions {
    let read = flags.web_read_timeout.std().max(Duration::from_millis(1));
    ServeOptions {
        max_connections: *flags.web_max_connections,
        max_by_address: *flags.web_max_connections_per_address,
        timeouts: Timeouts { read, ..Timeouts::default() },
        protection,
    }
}

/// Resolves when the server should stop; SIGHUP causes a reload meanwhile.
async fn wait_for_end(control: Arc<ServerController>) {
    let signals =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) = signals else {
        tracing::error!("cannot listen for signals; stop the server with /-/quit");
        return control.quit.notified().await;
    };
    loop {
        tokio::select! {
            _ = term.recv() => return tracing::info!("SIGTERM received"),
            _ = int.recv() => return tracing::info!("SIGINT received"),
            () = control.quit.notified() => return tracing::info!(target: "web", "a request to /-/quit was received"),
            () = control.cluster_ends() => return tracing::info!(target: "cluster", "another process of the cluster stops: this one stops, too"),
            // A task, because the reload waits until the server is ready. Its result is logged and
            // counted.
            _ = hup.recv() => drop(tokio::spawn(control.clone().reload())),
        }
    }
}

/// The host name of the machine, for links and labels.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
