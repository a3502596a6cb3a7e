//! What the agent claims for itself before anything else: its memory, for on a thrashing node its own pages must not be
//! what it waits for, and file descriptors.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Unicode's tables, 30 MiB: libxml2 is linked to them, and nothing here asks for them. They are locked as they are.
const UNREAD: &str = "libicudata";

/// Why the loop may wait for its own pages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Evictable {
    /// Nothing is locked.
    #[error("memory is not locked (grant IPC_LOCK): {0}")]
    Unlocked(#[from] Errno),
    /// Code is locked, and yet the page cache's.
    #[error("code is locked, but where the kernel breaks up large pages of files it can be dropped: {0}")]
    Cached(io::Error),
}

/// Raises the limit of open files as far as it may be. A guest costs about ten (its process, its socket, libvirt's
/// three, the relay's two, three more while it is squeezed), so that 110 of them pass the usual 1,024, which is there for the sake of
/// select(2) alone (systemd.exec(5)); nothing here calls it.
pub(crate) fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "no more than {:?} files can be open", limit.current);
    }
}

/// Reads in and locks what is mapped now, code and libraries above all, and locks what will be touched later. Called
/// before threads start: stacks and heaps that are reserved later stay untouched until they are used.
///
/// # Errors
/// Without `IPC_LOCK` and without a `RLIMIT_MEMLOCK` that is large enough; the loop works all the same.
pub(crate) fn lock() -> Result<(), Errno> {
    mlockall(MlockAllFlags::CURRENT)?;
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}

/// [`lock`], and code and constants become the process's own memory.
///
/// A lock does not hold pages of files where the page cache has large ones (ext4 since Linux 6.16, XFS since 5.18): what
/// is not mapped as a whole is not locked (`mlock_pte_range` in `mm/mlock.c`), and what compaction breaks up to move it, be
/// it for a guest's huge page, is unmapped whatever locks it, to be dropped unless it is touched before
/// (`unmap_folio` in `mm/huge_memory.c`). Memory that belongs to no file stays.
///
/// # Errors
/// As [`lock`], and where the kernel lets nobody write to a process's own code (`proc_mem.force_override`).
pub(crate) fn claim() -> Result<(), Evictable> {
    lock()?;
    own_code().map_err(Evictable::Cached)
}

/// Writes to each page of code what it holds, so that the kernel gives the process a page of its own for it.
fn own_code() -> io::Result<()> {
    let process = Process::myself().map_err(io::Error::other)?;
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    let maps = process.maps().map_err(io::Error::other)?;
    maps.iter().filter(|map| is_code(map)).try_for_each(|map| own(&memory, map))
}

/// Code and constants of the program and its libraries: of a file, private, and not written to.
fn is_code(map: &MemoryMap) -> bool {
    let MMapPath::Path(path) = &map.pathname else { return false };
    let ours = map.perms.contains(MMPermissions::READ | MMPermissions::PRIVATE);
    ours && !map.perms.contains(MMPermissions::WRITE) && !path.to_string_lossy().contains(UNREAD)
}

fn own(memory: &File, map: &MemoryMap) -> io::Result<()> {
    let ((mut page, end), mut byte) = (map.address, [0]);
    while page < end {
        memory.read_exact_at(&mut byte, page)?;
        memory.write_all_at(&byte, page)?;
        page += procfs::page_size();
    }
    Ok(())
}

/// Says what became of it.
pub(crate) fn tell(claimed: Result<(), Evictable>) {
    match claimed {
        Ok(()) => tracing::debug!("memory is locked"),
        Err(why) => tracing::warn!("{why}; under pressure the loop may wait for its own pages"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_hard_limit_allows() {
        let hard = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(512), maximum: hard }).unwrap();
        allow_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }
}
