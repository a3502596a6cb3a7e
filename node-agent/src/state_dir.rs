//! The state directory: one agent at a time, files replaced whole.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

use crate::failpoint;

/// An empty file that says that the directory can be written.
const TRIED: &str = "writable";

/// A locked state directory; the lock ends with the value.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// The folder itself: a lock file could not be made on a disk that became read-only.
    _lock: File,
}

impl StateDir {
    /// Creates and locks the directory.
    ///
    /// # Errors
    /// When it cannot be written, unless an agent has worked there before: what it took is to be given back, and that
    /// needs no disk. When another agent holds it. The message says what to do.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("state directory {shown} cannot be created: name another with --state-dir")
        })?;
        let lock = File::open(path).with_context(|| format!("state directory {shown} cannot be opened"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(|| {
            format!("another agent works with {shown}: stop it, or name another with --state-dir")
        })?;
        let dir = Self { path: path.to_owned(), _lock: lock };
        if let Err(error) = dir.replace(TRIED, b"") {
            if !dir.path.join(crate::journal::FILE).exists() {
                let what =
                    format!("state directory {shown} cannot be written: without it nothing could be undone");
                return Err(anyhow::Error::from(error).context(what));
            }
            tracing::error!(%error, "the state directory cannot be written; what was taken is given back all the same");
        }
        Ok(dir)
    }

    /// Replaces a file whole: after a crash either the old or the new content stands.
    ///
    /// # Errors
    /// When the disk is full or read-only; the old content stands.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        let fresh = self.path.join(format!(".{name}.new"));
        let written = write(&fresh, content).and_then(|()| fs::rename(&fresh, self.path.join(name)));
        failpoint::reach("file-replaced");
        if written.is_err() {
            // What could be written of it takes space that is short.
            drop(fs::remove_file(&fresh));
        }
        written.and_then(|()| File::open(&self.path)?.sync_all())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of it is, for people.
    pub(crate) fn shown(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// The content of a file; absent if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(crate) fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Moves a file that cannot be understood aside, so that nothing is lost; returns where it is now.
    pub(crate) fn set_aside(&self, name: &str) -> PathBuf {
        let aside = self.path.join(format!("{name}.corrupt"));
        if let Err(error) = fs::rename(self.path.join(name), &aside) {
            tracing::warn!(%error, file = name, "cannot set a corrupt file aside");
        }
        aside
    }
}

/// Why a disk refuses to write, and what to do, short enough for a condition.
pub(crate) fn refusal(error: &std::io::Error) -> (&'static str, &'static str) {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ("disk full", "free space there"),
        ErrorKind::ReadOnlyFilesystem => ("read-only", "remount it writable"),
        _ => ("refused", "see the agent's log"),
    }
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    let (first, rest) = content.split_at(content.len() / 2);
    file.write_all(first)?;
    failpoint::reach("file-half-written");
    file.write_all(rest)?;
    file.sync_all()
}
