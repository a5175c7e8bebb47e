//! The metrics of the host, under the names of node_exporter, so that its dashboards and alerts
//! work without it.
//!
//! [`render`] returns text 0.0.4 for a built-in target. The numbers come from `procfs`; what cannot
//! be read (another operating system, no access to `/proc`) is left out.

pub mod filesystem;
mod writer;

use procfs::{Current, CurrentSI};
use writer::{FamilyWriter, HostExposition, MetricType};

/// Bytes of a sector in `/proc/diskstats`, which do not depend on the disk.
const SECTOR_BYTES: f64 = 512.0;

/// All host metrics as text 0.0.4.
pub fn render() -> String {
    let mut out = HostExposition::default();
    processors(&mut out);
    memory(&mut out);
    load(&mut out);
    filesystem::render(&mut out);
    disks(&mut out);
    network(&mut out);
    time_and_name(&mut out);
    out.finish()
}

fn processors(out: &mut HostExposition) {
    // Left out and not zero: a rule that looks at a zero would fire or stay silent for the wrong
    // reason.
    let Ok(stats) = procfs::KernelStats::current() else { return };
    let mut seconds = FamilyWriter::new(
        "node_cpu_seconds_total",
        MetricType::Counter,
        "Seconds the CPUs spent in each mode.",
    );
    for (cpu, time) in stats.cpu_time.iter().enumerate() {
        let modes = [
            ("idle", Some(time.idle_ms())),
            ("iowait", time.iowait_ms()),
            ("irq", time.irq_ms()),
            ("nice", Some(time.nice_ms())),
            ("softirq", time.softirq_ms()),
            ("steal", time.steal_ms()),
            ("system", Some(time.system_ms())),
            ("user", Some(time.user_ms())),
        ];
        let cpu = cpu.to_string();
        for (mode, ms) in modes.into_iter().filter_map(|(mode, ms)| ms.map(|ms| (mode, ms))) {
            seconds.add(&[("cpu", &cpu), ("mode", mode)], ms as f64 / 1000.0);
        }
    }
    out.put(seconds);
    out.put_one(
        "node_boot_time_seconds",
        MetricType::Gauge,
        "Node boot time, in unixtime.",
        stats.btime as f64,
    );
    out.put_one(
        "node_context_switches_total",
        MetricType::Counter,
        "Total number of context switches.",
        stats.ctxt as f64,
    );
    out.put_one("node_forks_total", MetricType::Counter, "Total number of forks.", stats.processes as f64);
    if let Some(running) = stats.procs_running {
        out.put_one(
            "node_procs_running",
            MetricType::Gauge,
            "Number of processes in runnable state.",
            f64::from(running),
        );
    }
    if let Some(blocked) = stats.procs_blocked {
        out.put_one(
            "node_procs_blocked",
            MetricType::Gauge,
            "Number of processes blocked waiting for I/O.",
            f64::from(blocked),
        );
    }
}

fn memory(out: &mut HostExposition) {
    let Ok(info) = procfs::Meminfo::current() else { return };
    let fields = [
        ("node_memory_MemTotal_bytes", Some(info.mem_total)),
        ("node_memory_MemFree_bytes", Some(info.mem_free)),
        ("node_memory_MemAvailable_bytes", info.mem_available),
        ("node_memory_Buffers_bytes", Some(info.buffers)),
        ("node_memory_Cached_bytes", Some(info.cached)),
        ("node_memory_SwapCached_bytes", Some(info.swap_cached)),
        ("node_memory_Active_bytes", Some(info.active)),
        ("node_memory_Inactive_bytes", Some(info.inactive)),
        ("node_memory_SwapTotal_bytes", Some(info.swap_total)),
        ("node_memory_SwapFree_bytes", Some(info.swap_free)),
        ("node_memory_Dirty_bytes", Some(info.dirty)),
        ("node_memory_Writeback_bytes", Some(info.writeback)),
        ("node_memory_AnonPages_bytes", info.anon_pages),
        ("node_memory_Mapped_bytes", Some(info.mapped)),
        ("node_memory_Shmem_bytes", info.shmem),
        ("node_memory_Slab_bytes", Some(info.slab)),
        ("node_memory_SReclaimable_bytes", info.s_reclaimable),
        ("node_memory_SUnreclaim_bytes", info.s_unreclaim),
        ("node_memory_KernelStack_bytes", info.kernel_stack),
        ("node_memory_PageTables_bytes", info.page_tables),
        ("node_memory_CommitLimit_bytes", info.commit_limit),
        ("node_memory_Committed_AS_bytes", Some(info.committed_as)),
    ];
    for (name, bytes) in fields.into_iter().filter_map(|(name, bytes)| bytes.map(|b| (name, b))) {
        out.put_one(name, MetricType::Gauge, "Memory information field of /proc/meminfo.", bytes as f64);
    }
}

fn load(out: &mut HostExposition) {
    let Ok(load) = procfs::LoadAverage::current() else { return };
    // The kernel prints two decimals; converting the f32 would add digits.
    let exact = |v: f32| (f64::from(v) * 100.0).round() / 100.0;
    out.put_one("node_load1", MetricType::Gauge, "1m load average.", exact(load.one));
    out.put_one("node_load5", MetricType::Gauge, "5m load average.", exact(load.five));
    out.put_one("node_load15", MetricType::Gauge, "15m load average.", exact(load.fifteen));
}

fn disks(out: &mut HostExposition) {
    let Ok(disks) = procfs::diskstats() else { return };
    // Loop devices are files, which are counted with their disks.
    let ignored = |name: &str| ["loop", "ram", "fd"].iter().any(|prefix| name.starts_with(prefix));
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let mut put = |name, help, value: &dyn Fn(&procfs::DiskStat) -> f64| {
        let mut family = FamilyWriter::new(name, MetricType::Counter, help);
        for disk in disks.iter().filter(|disk| !ignored(&disk.name)) {
            family.add(&[("device", &disk.name)], value(disk));
        }
        out.put(family);
    };
    put("node_disk_read_bytes_total", "Bytes read successfully.", &|d| d.sectors_read as f64 * SECTOR_BYTES);
    put("node_disk_written_bytes_total", "Bytes written successfully.", &|d| {
        d.sectors_written as f64 * SECTOR_BYTES
    });
    put("node_disk_reads_completed_total", "Reads completed successfully.", &|d| d.reads as f64);
    put("node_disk_writes_completed_total", "Writes completed successfully.", &|d| d.writes as f64);
    put("node_disk_read_time_seconds_total", "Seconds spent by all reads.", &|d| seconds(d.time_reading));
    put("node_disk_write_time_seconds_total", "Seconds spent by all writes.", &|d| seconds(d.time_writing));
    put("node_disk_io_time_seconds_total", "Seconds spent doing I/Os.", &|d| seconds(d.time_in_progress));
}

fn network(out: &mut HostExposition) {
    let Ok(devices) = procfs::net::dev_status() else { return };
    // In order, so that the scrape's cache of series finds the lines where they were.
    let devices: std::collections::BTreeMap<_, _> = devices.into_iter().collect();
    let mut put = |name, help, value: &dyn Fn(&procfs::net::DeviceStatus) -> u64| {
        let mut family = FamilyWriter::new(name, MetricType::Counter, help);
        for (name, device) in &devices {
            family.add(&[("device", name)], value(device) as f64);
        }
        out.put(family);
    };
    put("node_network_receive_bytes_total", "Bytes received.", &|d| d.recv_bytes);
    put("node_network_receive_packets_total", "Packets received.", &|d| d.recv_packets);
    put("node_network_receive_errs_total", "Receive errors.", &|d| d.recv_errs);
    put("node_network_receive_drop_total", "Received packets dropped.", &|d| d.recv_drop);
    put("node_network_transmit_bytes_total", "Bytes sent.", &|d| d.sent_bytes);
    put("node_network_transmit_packets_total", "Packets sent.", &|d| d.sent_packets);
    put("node_network_transmit_errs_total", "Transmit errors.", &|d| d.sent_errs);
    put("node_network_transmit_drop_total", "Packets to send dropped.", &|d| d.sent_drop);
}

fn time_and_name(out: &mut HostExposition) {
    use storage::clock::Clock;
    let now = crate::wall_clock::SystemClock.now() as f64 / 1000.0;
    out.put_one("node_time_seconds", MetricType::Gauge, "System time in seconds since epoch (1970).", now);
    let uname = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    let mut family = FamilyWriter::new(
        "node_uname_info",
        MetricType::Gauge,
        "Labeled system information as provided by uname.",
    );
    family.add(
        &[
            ("domainname", &text(uname.domainname())),
            ("machine", &text(uname.machine())),
            ("nodename", &text(uname.nodename())),
            ("release", &text(uname.release())),
            ("sysname", &text(uname.sysname())),
            ("version", &text(uname.version())),
        ],
        1.0,
    );
    out.put(family);
}

#[cfg(test)]
mod tests {
    use crate::exposition::{ExpositionEntry, ExpositionParser, TextFormat, series};
    use std::collections::HashMap;

    #[test]
    fn the_exposition_is_one_and_has_the_names_that_dashboards_ask_for() {
        let body = super::render();
        let mut parser = ExpositionParser::new(body.as_bytes(), TextFormat::Text);
        let mut values: HashMap<String, f64> = HashMap::new();
        while let Some(entry) = parser.next(&[]).unwrap() {
            let ExpositionEntry::Sample(sample) = entry else { continue };
            let labels = series::parse(sample.series, parser.context()).unwrap().build();
            assert!(values.insert(labels.to_string(), sample.value).is_none(), "{labels} is there twice");
        }
        let has = |prefix: &str| values.keys().any(|name| name.starts_with(prefix));
        for name in [
            "node_cpu_seconds_total{cpu=\"0\", mode=\"idle\"}",
            "node_cpu_seconds_total{cpu=\"0\", mode=\"user\"}",
            "node_load1",
            "node_network_receive_bytes_total{device=\"lo\"}",
            "node_network_transmit_drop_total{device=\"lo\"}",
            "node_filesystem_avail_bytes{device=",
            "node_uname_info{domainname=",
            "node_boot_time_seconds",
            "node_time_seconds",
        ] {
            assert!(has(name), "{name} is missing in\n{body}");
        }
        let value = |name: &str| values[name];
        assert!(value("node_memory_MemTotal_bytes") >= value("node_memory_MemAvailable_bytes"));
        assert!(value("node_memory_MemTotal_bytes") > 1e8);
        assert!(value("node_time_seconds") > value("node_boot_time_seconds"));
    }
}
