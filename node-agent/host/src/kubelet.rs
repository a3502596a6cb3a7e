//! The kubelet's process, and files as it sees them.
//!
//! Every pod can name a process `kubelet`. Believed is only one that runs as root outside of all pods: whoever starts
//! such a process owns the node already.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use crate::held::{ReadError, read_fd};
use crate::proc::{self, Proc};
use crate::root::Root;

/// The kubelet's process: of those that are believed the oldest.
pub(crate) fn find(root: &Root) -> Option<Proc> {
    let pids = proc::pids(root).ok()?;
    let named = pids.into_iter().filter(|pid| proc::name(root, *pid).is_ok_and(|name| name == "kubelet"));
    let processes = named.filter_map(|pid| Proc::open(root, pid).ok());
    processes.filter(believed).min_by_key(|p| p.incarnation().start_ticks)
}

fn believed(process: &Proc) -> bool {
    let place = process.place().ok().flatten();
    let outside = place.is_some_and(|place| place.pod_uid().is_none());
    outside && process.text("status").is_ok_and(|status| is_root(&status))
}

/// True if the real, effective, saved and file system user IDs are all 0 (`proc_pid_status(5)`). They are told in the
/// reader's user namespace: root of a namespace of its own is nobody here.
pub(crate) fn is_root(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.is_some_and(|ids| {
        ids.split_ascii_whitespace().count() == 4 && ids.split_ascii_whitespace().all(|id| id == "0")
    })
}

/// Opens a directory as the process sees it.
pub(crate) fn open_dir(process: &Proc, path: &Path) -> Result<OwnedFd, ReadError> {
    open(process, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The text of a regular file of at most `cap` bytes, as the process sees it. Whatever else bears the name is not
/// waited for: opening a FIFO without a writer would never return.
pub(crate) fn read(process: &Proc, path: &Path, cap: usize) -> Result<String, ReadError> {
    let file = open(process, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let mode = fstat(&file).map_err(|e| ReadError::io(path, e))?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Err(ReadError::NoFile { path: path.to_owned() });
    }
    let bytes = read_fd(file, path, cap)?;
    String::from_utf8(bytes).map_err(|_| ReadError::NotText { path: path.to_owned() })
}

/// Opens `path` from the process's own root or working directory, links resolved within.
fn open(process: &Proc, path: &Path, flags: OFlags) -> Result<OwnedFd, ReadError> {
    let start = if path.is_absolute() { "root" } else { "cwd" };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fail = |e: rustix::io::Errno| ReadError::io(path, e);
    let start = openat(process.dir().0, start, directory, Mode::empty()).map_err(fail)?;
    openat2(&start, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::tests::add_process;

    const POD: &str = "pod4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";

    /// Adds a process called kubelet.
    fn add(dir: &Path, pid: u32, cgroup: &str, uids: &str) {
        add_process(dir, pid, "kubelet", &format!("0::{cgroup}\n"), &["kubelet"]);
        std::fs::write(dir.join(format!("proc/{pid}/status")), format!("Name:\tkubelet\nUid:\t{uids}\n"))
            .unwrap();
    }

    fn found(dir: &tempfile::TempDir) -> Option<u32> {
        find(&Root::new(dir.path())).map(|process| process.incarnation().pid)
    }

    #[test]
    fn a_pods_process_of_that_name_is_not_believed_however_old() {
        let dir = tempfile::tempdir().unwrap();
        for (pid, cgroup) in [
            (1, format!("/kubepods/besteffort/{POD}/abc")),
            (2, format!("/kubepods.slice/kubepods-{}.slice/c.scope", POD.replace('-', "_"))),
            (3, format!("/kubepods/burstable/{POD}/abc/system.slice/kubelet.service")),
            (4, format!("/../{POD}/abc")),
        ] {
            add(dir.path(), pid, &cgroup, "0\t0\t0\t0");
        }
        assert_eq!(found(&dir), None);
        add(dir.path(), 900, "/system.slice/kubelet.service", "0\t0\t0\t0");
        assert_eq!(found(&dir), Some(900));
    }

    #[test]
    fn only_root_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        for (pid, uids) in [(1, "1000\t1000\t1000\t1000"), (2, "1000\t0\t0\t0"), (3, "0"), (4, "")] {
            add(dir.path(), pid, "/user.slice", uids);
        }
        assert_eq!(found(&dir), None);
        add(dir.path(), 9, "/system.slice/kubelet.service", "0\t0\t0\t0");
        add(dir.path(), 8, "/system.slice/kubelet.service", "0\t0\t0\t0");
        assert_eq!(found(&dir), Some(8), "the oldest, for the other may be a client of that name");
    }
}
