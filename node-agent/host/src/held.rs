//! Files that stay open and are read again from their beginning, and bounded reads of all others.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::files::more_files;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel refused.
    #[error("{path}: {source}{remedy}", path = path.display(), remedy = remedy(source))]
    Io {
        /// Which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Larger than anything a kernel writes there.
    #[error("{path}: larger than {cap} bytes", path = path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The cap in bytes.
        cap: usize,
    },
    /// A directory, FIFO, socket or device where a file should be.
    #[error("{path}: no regular file", path = path.display())]
    NoFile {
        /// Which name.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("{path}: not text", path = path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
    },
    /// Text in which an expected line or number is missing.
    #[error("{path}: no usable {what}", path = path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
}

impl ReadError {
    pub(crate) fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }
    pub(crate) fn missing(path: &Path, what: &'static str) -> Self {
        Self::Missing { path: path.to_owned(), what }
    }
    /// True if the file does not exist, or the process behind it no longer does (ESRCH on a procfs file).
    pub fn is_gone(&self) -> bool {
        const ESRCH: i32 = 3; // include/uapi/asm-generic/errno-base.h
        matches!(self, Self::Io { source, .. }
            if source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(ESRCH))
    }
    /// True if whoever asked may not know.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
    /// True if file descriptors or memory ran out: then the failure says nothing of the file.
    pub fn is_exhaustion(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if more_files(source).is_some() || source.kind() == io::ErrorKind::OutOfMemory)
    }
}

/// What to do about an error that says nothing of the file.
fn remedy(source: &io::Error) -> String {
    more_files(source).map_or_else(String::new, |remedy| format!("; {remedy}"))
}

/// What was read of something that may be gone; nothing if it cannot be looked at.
///
/// # Errors
/// When file descriptors or memory ran out: not to be seen now is not to be gone.
pub(crate) fn unless_gone<T>(result: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match result {
        Err(error) if error.is_exhaustion() => Err(error),
        result => Ok(result.ok()),
    }
}

/// Largest text accepted from a file of the kernel's that is read each tick; `/proc/vmstat` is about 5 KiB.
const HELD_CAP: usize = 256 << 10;

/// A file that is opened once and read again from its beginning each time; reopened once when a read fails, because
/// a remounted sysfs or a reloaded module leaves a dead handle behind.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl Held {
    /// The file at `path`; nothing is opened yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, buffer: Vec::new() }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its whole text now.
    pub(crate) fn read(&mut self) -> Result<&str, ReadError> {
        let was_open = self.file.is_some();
        if let Err(error) = self.refill() {
            self.file = None;
            if !was_open {
                return Err(error);
            }
            self.refill()?;
        }
        std::str::from_utf8(&self.buffer).map_err(|_| ReadError::NotText { path: self.path.clone() })
    }

    fn refill(&mut self) -> Result<(), ReadError> {
        let Self { path, file, buffer } = self;
        let file = match file {
            Some(file) => file,
            None => file.insert(File::open(&*path).map_err(|e| ReadError::io(path, e))?),
        };
        fill(buffer, path, |chunk, offset| file.read_at(chunk, offset))
    }
}

/// All that `read` gives from the beginning on; a signal in between is no end.
fn fill(
    buffer: &mut Vec<u8>,
    path: &Path,
    read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
) -> Result<(), ReadError> {
    buffer.clear();
    let mut chunk = [0_u8; 8 << 10];
    loop {
        let offset = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let count = match read(&mut chunk, offset) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(ReadError::io(path, e)),
        };
        buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if buffer.len() > HELD_CAP {
            return Err(ReadError::TooLarge { path: path.to_owned(), cap: HELD_CAP });
        }
    }
}

/// All bytes of an open file, at most `cap`. `path` is for the error only.
pub(crate) fn read_fd(fd: OwnedFd, path: &Path, cap: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    File::from(fd).take(limit).read_to_end(&mut bytes).map_err(|e| ReadError::io(path, e))?;
    if bytes.len() > cap {
        return Err(ReadError::TooLarge { path: path.to_owned(), cap });
    }
    Ok(bytes)
}

/// The text of a file, at most `cap` bytes.
pub(crate) fn read_text(path: &Path, cap: usize) -> Result<String, ReadError> {
    let file = File::open(path).map_err(|e| ReadError::io(path, e))?;
    let bytes = read_fd(file.into(), path, cap)?;
    String::from_utf8(bytes).map_err(|_| ReadError::NotText { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_shows_what_it_says_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "one").unwrap();
        let mut held = Held::new(path.clone());
        assert_eq!(held.read().unwrap(), "one");
        std::fs::write(&path, "two, and longer").unwrap();
        assert_eq!(held.read().unwrap(), "two, and longer");
    }

    #[test]
    fn a_missing_file_is_named_and_found_once_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late");
        let mut held = Held::new(path.clone());
        let error = held.read().unwrap_err();
        assert!(error.is_gone() && error.to_string().contains("late"), "{error}");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(held.read().unwrap(), "x");
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = Held::new("/dev/zero".into()).read().unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }), "{error}");
        let error = read_text(Path::new("/dev/zero"), 100).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { cap: 100, .. }), "{error}");
    }

    #[test]
    fn signals_between_two_reads_lose_nothing_and_repeat_nothing() {
        let (text, calls) = (b"one two three", std::cell::Cell::new(0_usize));
        let interrupted = |chunk: &mut [u8], offset: u64| {
            calls.set(calls.get() + 1);
            if calls.get() % 2 == 1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let rest = &text[usize::try_from(offset).unwrap()..];
            let count = rest.len().min(4);
            chunk[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        let mut buffer = b"of the last time".to_vec();
        fill(&mut buffer, Path::new("f"), interrupted).unwrap();
        assert_eq!(buffer, text);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read_text(&path, 10), Err(ReadError::NotText { .. })));
        assert!(matches!(Held::new(path).read(), Err(ReadError::NotText { .. })));
    }
}
