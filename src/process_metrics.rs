//! Self-metrics of the process, under Prometheus' names: `process_*` and `prometheus_build_info`.

use procfs::process::LimitValue;
use std::sync::Arc;
use storage::metrics::{Gauge, Metrics};

/// Gauges that are set for each request of `/metrics`.
pub(crate) struct ProcessMetrics {
    cpu: Arc<Gauge>,
    resident: Arc<Gauge>,
    virtual_memory: Arc<Gauge>,
    open_fds: Arc<Gauge>,
    max_fds: Arc<Gauge>,
    threads: Arc<Gauge>,
    max_virtual_memory: Arc<Gauge>,
    received: Arc<Gauge>,
    sent: Arc<Gauge>,
}

impl ProcessMetrics {
    /// Registers the metrics; the process started at `started` (ms).
    pub(crate) fn new(metrics: &Metrics, started: i64) -> ProcessMetrics {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        let start =
            gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.");
        start.set(started as f64 / 1000.0);
        let version =
            [("branch", "main"), ("goversion", ""), ("revision", ""), ("version", env!("CARGO_PKG_VERSION"))];
        let help = "A metric with a constant '1' value labeled by version, revision, branch and goversion.";
        metrics.gauge("prometheus_build_info", help, &version).set(1.0);
        ProcessMetrics {
            cpu: metrics.total(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
                &[],
            ),
            resident: gauge("process_resident_memory_bytes", "Resident memory size in bytes."),
            virtual_memory: gauge("process_virtual_memory_bytes", "Virtual memory size in bytes."),
            open_fds: gauge("process_open_fds", "Number of open file descriptors."),
            max_fds: gauge("process_max_fds", "Maximum number of open file descriptors."),
            threads: gauge("process_threads", "Number of threads."),
            max_virtual_memory: gauge(
                "process_virtual_memory_max_bytes",
                "Maximum amount of virtual memory available in bytes.",
            ),
            received: metrics.total(
                "process_network_receive_bytes_total",
                "Number of bytes received by the process over the network.",
                &[],
            ),
            sent: metrics.total(
                "process_network_transmit_bytes_total",
                "Number of bytes sent by the process over the network.",
                &[],
            ),
        }
    }

    /// Reads the values from the operating system. A value that cannot be read remains unchanged.
    pub(crate) fn collect(&self) {
        // Without `/proc` (some containers hide it) the gauges stay at zero; the server works
        // without them.
        let Ok(process) = procfs::process::Process::myself() else { return };
        if let Ok(stat) = process.stat() {
            self.cpu.set((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64);
            self.resident.set((stat.rss * procfs::page_size()) as f64);
            self.virtual_memory.set(stat.vsize as f64);
            self.threads.set(stat.num_threads as f64);
        }
        if let Ok(fds) = process.fd_count() {
            self.open_fds.set(fds as f64);
        }
        if let Ok(limits) = process.limits() {
            // An unlimited number is not shown: any number would be compared with the open files in
            // alerts.
            if let LimitValue::Value(max) = limits.max_open_files.soft_limit {
                self.max_fds.set(max as f64);
            }
            self.max_virtual_memory.set(match limits.max_address_space.soft_limit {
                LimitValue::Value(max) => max as f64,
                // As Prometheus shows it.
                LimitValue::Unlimited => u64::MAX as f64,
            });
        }
        self.collect_network();
    }

    /// Bytes of the network namespace of the process, as in Prometheus.
    fn collect_network(&self) {
        let Ok(devices) = procfs::net::dev_status() else { return };
        self.received.set(devices.values().map(|device| device.recv_bytes as f64).sum());
        self.sent.set(devices.values().map(|device| device.sent_bytes as f64).sum());
    }
}
