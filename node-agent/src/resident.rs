//! Keeps the agent in memory: on a thrashing node its own pages must not be what it waits for.

use rustix::mm::{MlockAllFlags, mlockall};

/// Reads in and locks what is mapped now, code and libraries above all, and locks what will be touched later. Called
/// before threads start: stacks and heaps that are reserved later stay untouched until they are used.
///
/// Needs `IPC_LOCK` or a `RLIMIT_MEMLOCK` that is large enough; without it the loop works, and says what it lacks.
pub(crate) fn lock() {
    let locked = mlockall(MlockAllFlags::CURRENT)
        .and_then(|()| mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT));
    match locked {
        Ok(()) => tracing::info!("memory is locked"),
        Err(error) => tracing::warn!(
            %error,
            "memory is not locked: under pressure the loop may wait for its own pages (grant IPC_LOCK)"
        ),
    }
}
