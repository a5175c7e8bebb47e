//! The memory and cores of the machine, or of the container in which the process runs, and the size
//! of disks.

use std::path::Path;

/// The memory that is assumed if the system does not report it: servers run on no smaller machine.
const ASSUMED: u64 = 2 << 30;

/// The number of cores that the process may use; 1 if the system does not report it.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The bytes of memory that the process may use: those of the machine, or of its control group if
/// that has less.
pub(crate) fn memory() -> u64 {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_memory(Path::new("/sys/fs/cgroup"), &groups);
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    machine.into_iter().chain(group).min().unwrap_or(ASSUMED)
}

/// The size of the file system that `directory` is in, bytes; `None` if the system does not report
/// it.
pub(crate) fn disk_bytes(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    found.f_blocks.checked_mul(found.f_frsize).filter(|bytes| *bytes > 0)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit of the process' control group and its ancestors, for cgroup versions 1 and 2.
/// `groups` is the text of `/proc/self/cgroup`.
fn group_memory(root: &Path, groups: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        // Lines are hierarchy:controllers:path; version 2 has no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the path may be that of the host while only the root of the hierarchy is
        // mounted, so all ancestors are tried.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let limit = std::fs::read_to_string(root.join(group).join(file)).ok();
            // Without a limit the file contains `max`, or a number larger than all memory.
            least = least.into_iter().chain(limit.and_then(|limit| limit.trim().parse().ok())).min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_much_there_is() {
        assert_eq!(total("MemTotal:       24589012 kB\nMemFree: 1 kB\n"), Some(24_589_012 * 1024));
        assert_eq!((total("MemFree: 1 kB"), total("MemTotal: lots kB")), (None, None));
        assert!(memory() > 64 << 20);
        assert!(disk_bytes(&std::env::temp_dir()).unwrap() > 0);
        assert_eq!(disk_bytes(Path::new("/nonexistent")), None);
    }

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let of = |groups: &str| group_memory(root.path(), groups);
        assert_eq!(of("0::/system.slice/perennial.service"), None);
        write("system.slice/memory.max", "3000\n");
        write("system.slice/perennial.service/memory.max", "max\n");
        assert_eq!(of("0::/system.slice/perennial.service\n"), Some(3000));
        write("memory.max", "2000\n");
        assert_eq!(of("0::/../elsewhere"), Some(2000), "a container sees its own root");
        write("memory/docker/memory.limit_in_bytes", "1000\n");
        assert_eq!(of("12:cpu,cpuacct:/docker\n5:memory:/docker\n"), Some(1000));
    }
}
