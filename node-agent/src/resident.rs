//! What the agent claims for itself before anything else: its memory, for on a thrashing node its own pages must not be
//! what it waits for, and file descriptors.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use procfs::process::{MMPermissions, MMapPath, MemoryMap};
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Unicode's tables, 30 MiB: libxml2 is linked to them, and nothing here asks for them.
const UNREAD: &str = "libicudata";
/// What the keeper needs beside its program: the C library and its loader.
const KEEPERS: [&str; 2] = ["libc.so", "ld-linux"];

/// Whose memory it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Process {
    /// Talks to libvirt, and decides.
    Loop,
    /// Starts and ends a loop, and no more.
    Keeper,
}

/// What a start opens before it has seen a guest, with room to spare.
const FILES_AT_START: usize = 64;

/// Why a process may wait for its own pages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Evictable {
    /// Nothing is locked.
    #[error("memory is not locked (grant IPC_LOCK): {0}")]
    Unlocked(#[from] Errno),
    /// Code is the page cache's.
    #[error("memory is locked, but code can be dropped: {0}")]
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

/// Sees, by opening as many, that there is room for the files that a start needs: what is linked here fails inside where it gets
/// none for its signals.
///
/// # Errors
/// When there is none, and what to do about it.
pub(crate) fn room_for_files() -> anyhow::Result<()> {
    allow_open_files();
    let mut opened = Vec::with_capacity(FILES_AT_START);
    while opened.len() < FILES_AT_START {
        match File::open("/dev/null") {
            Ok(file) => opened.push(file),
            Err(error) => match overcommit_host::more_files(&error) {
                Some(remedy) => anyhow::bail!(
                    "only {} further files can be opened ({error}); a start needs {FILES_AT_START}, and each guest about ten: \
                     {remedy}",
                    opened.len()
                ),
                // Somebody's matter who needs that file.
                None => break,
            },
        }
    }
    Ok(())
}

/// Locks memory as it is touched, and makes code, constants and data that come from files the process's own. Called before
/// threads start: what another wrote meanwhile would be written over.
///
/// A lock alone does not hold pages of files where the page cache has large ones (ext4 since Linux 6.16, XFS since 5.18):
/// what is not mapped as a whole is not locked (`mlock_pte_range` in `mm/mlock.c`), and what compaction breaks up to move
/// it, be it for a guest's huge page, is unmapped whatever locks it, to be dropped unless it is touched before
/// (`unmap_folio` in `mm/huge_memory.c`). Memory that belongs to no file stays.
///
/// # Errors
/// Without `IPC_LOCK` and without a `RLIMIT_MEMLOCK` that is large enough, and where the kernel lets nobody write to a
/// process's own code (`proc_mem.force_override`); the process works all the same.
pub(crate) fn claim(process: Process) -> Result<(), Evictable> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    own_files(process).map_err(Evictable::Cached)
}

/// Writes to each page what it holds, so that the kernel gives the process a page of its own for it.
fn own_files(process: Process) -> io::Result<()> {
    let this = procfs::process::Process::myself().map_err(io::Error::other)?;
    let (maps, program) = (this.maps().map_err(io::Error::other)?, this.exe().map_err(io::Error::other)?);
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    maps.iter().filter(|map| needs(process, &program, map)).try_for_each(|map| own(&memory, map))
}

/// Whether it is of a file that the process works with.
fn needs(process: Process, program: &Path, map: &MemoryMap) -> bool {
    let MMapPath::Path(path) = &map.pathname else { return false };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let works_with = match process {
        Process::Loop => !name.starts_with(UNREAD),
        Process::Keeper => path == program || KEEPERS.iter().any(|library| name.starts_with(library)),
    };
    works_with && map.perms.contains(MMPermissions::READ | MMPermissions::PRIVATE)
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
