//! What the agent claims for itself before anything else: its memory, for on a thrashing node its own pages must not be
//! what it waits for, and file descriptors.

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// Says what became of it.
pub(crate) fn tell(locked: Result<(), Errno>) {
    match locked {
        Ok(()) => tracing::debug!("memory is locked"),
        Err(error) => tracing::warn!(
            %error,
            "memory is not locked: under pressure the loop may wait for its own pages (grant IPC_LOCK)"
        ),
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
