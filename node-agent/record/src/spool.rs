//! A tape that writes where it stands: for whoever may wait for the disk, as a simulation may.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::file::Writer;
use crate::recorder::{Before, Tape};

/// Writes each line at once. Its clones are the same tape.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    writer: Writer,
    failed: Option<io::Error>,
    began: bool,
}

impl Spool {
    /// Writes to `path` as [`Writer::new`] does.
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(Kept { writer: Writer::new(path), failed: None, began: false })))
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// What failed first, while it was written or now.
    pub fn close(&self) -> io::Result<()> {
        let mut kept = self.kept();
        let closed = kept.writer.close();
        kept.failed.take().map_or(closed, Err)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tape for Spool {
    fn wants_beginning(&mut self) -> Option<Before> {
        let mut kept = self.kept();
        if kept.failed.is_some() || !kept.writer.is_full() {
            return None;
        }
        Some(if std::mem::replace(&mut kept.began, true) { Before::Line } else { Before::Start })
    }

    fn take(&mut self, line: Vec<u8>, begins: bool) {
        let mut kept = self.kept();
        if kept.failed.is_none() {
            kept.failed = kept.writer.write(&line, begins).err();
        }
    }

    fn wall(&self) -> Duration {
        // Virtual time has a wall clock of its own, in each reading.
        Duration::ZERO
    }
}
