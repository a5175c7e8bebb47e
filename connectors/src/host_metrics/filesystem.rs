//! Size and free space of mounted file systems, under node_exporter's names. As there, file systems
//! in memory or of the kernel are left out. [`super`] calls it.

use super::writer::{FamilyWriter, HostExposition, MetricType};
use procfs::MountEntry;

/// File system types that are not disks, or that might not answer.
const IGNORED_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nfs",
    "nfs4",
    "cifs",
    "nsfs",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Mount points without data of the host itself.
const IGNORED_MOUNTS: &[&str] =
    &["/dev", "/proc", "/sys", "/run/credentials", "/var/lib/docker", "/var/lib/containers/storage"];

fn is_shown(mount: &MountEntry) -> bool {
    let inside =
        |prefix: &str| mount.fs_file.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    // In a container, the root is an overlay; elsewhere, overlays belong to containers.
    let foreign_overlay = mount.fs_vfstype == "overlay" && mount.fs_file != "/";
    !IGNORED_TYPES.contains(&mount.fs_vfstype.as_str())
        && !foreign_overlay
        && !IGNORED_MOUNTS.iter().any(|p| inside(p))
}

/// Writes size, free and available bytes, inodes, and whether the file system is read-only.
pub(super) fn render(out: &mut HostExposition) {
    let gauge = |name, help| FamilyWriter::new(name, MetricType::Gauge, help);
    let mut size = gauge("node_filesystem_size_bytes", "Filesystem size in bytes.");
    let mut free = gauge("node_filesystem_free_bytes", "Filesystem free space in bytes.");
    let mut avail =
        gauge("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.");
    let mut files = gauge("node_filesystem_files", "Filesystem total file nodes.");
    let mut files_free = gauge("node_filesystem_files_free", "Filesystem total free file nodes.");
    let mut readonly = gauge("node_filesystem_readonly", "Filesystem read-only status.");
    let mut seen = std::collections::HashSet::new();
    for mount in procfs::mounts().unwrap_or_default().iter().filter(|m| is_shown(m)) {
        // Not readable for this user, or gone since the list was read.
        let Ok(stat) = rustix::fs::statvfs(mount.fs_file.as_str()) else { continue };
        // A mount over another one has the same path; `statvfs` sees only the upper.
        if !seen.insert(mount.fs_file.clone()) {
            continue;
        }
        let labels = [
            ("device", mount.fs_spec.as_str()),
            ("fstype", &mount.fs_vfstype),
            ("mountpoint", &mount.fs_file),
        ];
        let block = stat.f_frsize as f64;
        size.add(&labels, stat.f_blocks as f64 * block);
        free.add(&labels, stat.f_bfree as f64 * block);
        avail.add(&labels, stat.f_bavail as f64 * block);
        files.add(&labels, stat.f_files as f64);
        files_free.add(&labels, stat.f_ffree as f64);
        let is_readonly = stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        readonly.add(&labels, f64::from(u8::from(is_readonly)));
    }
    for family in [size, free, avail, files, files_free, readonly].into_iter() {
        out.put(family);
    }
}
