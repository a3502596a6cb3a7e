//! What one run of the test bed owns: a temp folder, a cgroup, a guardian, and the thread that starts processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};

use crate::guardian::{Guardian, Pending};
use crate::machine;
use crate::process::{Launch, Process, Spawner};
use crate::undo::Undo;

/// One run of the test bed. Fields are dropped in order: processes die before their folder goes.
#[derive(Debug)]
pub struct Session {
    spawner: Spawner,
    cgroup: PathBuf,
    dir: PathBuf,
    names: AtomicU32,
    guardian: Guardian,
    _kill: Pending,
    _remove: Pending,
}

impl Session {
    /// The session that all tests of this process share. It ends with the process, by the guardian's hand.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Session, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start().map_err(|e| format!("{e:#}")));
        shared.as_ref().map_err(|e| anyhow!("the test bed did not start: {e}"))
    }

    /// Starts a session of its own, which ends when it is dropped.
    pub fn start() -> Result<Self> {
        // Sessions of one process, and processes whose id was used before, must not meet.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let born = machine::start_time(pid).context("the own process has no start time")?;
        let name = format!("overcommit-{pid}-{born}-{}", COUNT.fetch_add(1, Ordering::Relaxed));

        let guardian = Guardian::start()?;
        // Short, because unix sockets below it may have names of 107 bytes at most.
        let dir = std::env::temp_dir().join(&name);
        let remove = guardian.undo_later(Undo::Remove(dir.clone()))?;
        fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let cgroup = machine::cgroup2_root()?.join(&name);
        let kill = guardian.undo_later(Undo::KillCgroup(cgroup.clone()))?;
        fs::create_dir(&cgroup)
            .with_context(|| format!("creating {} (the test bed needs root)", cgroup.display()))?;
        Ok(Self {
            spawner: Spawner::start()?,
            cgroup,
            dir,
            names: AtomicU32::new(0),
            guardian,
            _kill: kill,
            _remove: remove,
        })
    }

    /// The temp folder, deleted at the end.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A name for a part of this session that nothing else in it has: `stem-N`.
    pub fn fresh_name(&self, stem: &str) -> String {
        format!("{stem}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a new folder `stem-N` in the temp folder.
    pub fn fresh_dir(&self, stem: &str) -> Result<PathBuf> {
        let dir = self.dir.join(self.fresh_name(stem));
        fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(dir)
    }

    /// Has something undone when the returned value is dropped or this process ends. Call it before doing the thing.
    pub fn undo_later(&self, undo: Undo) -> Result<Pending> {
        self.guardian.undo_later(undo)
    }

    /// Writes a file of sysfs or procfs, and what stood in it again at the end.
    pub fn write_for_now(&self, path: impl Into<PathBuf>, value: &str) -> Result<Pending> {
        let path = path.into();
        let pending = self.undo_later(Undo::restore(&path)?)?;
        fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))?;
        Ok(pending)
    }

    /// Starts a process that dies with this session, with all its descendants.
    pub fn spawn(&self, launch: Launch) -> Result<Process> {
        let name = self.fresh_name(launch.name());
        let cgroup = self.cgroup.join(&name);
        let kill = self.undo_later(Undo::KillCgroup(cgroup.clone()))?;
        fs::create_dir(&cgroup).with_context(|| format!("creating {}", cgroup.display()))?;
        launch.spawn(&self.spawner, cgroup, self.dir.join(format!("{name}.log")), kill)
    }

    /// Process id of the guardian.
    pub fn guardian_pid(&self) -> u32 {
        self.guardian.pid()
    }
}
