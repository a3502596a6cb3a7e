//! Writing: into a file of our own, and into another when that is full.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{FULL, begin, header};

/// Writes lines into a file, and into another when that is full.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    full: u64,
    member: Option<GzEncoder<File>>,
}

impl Writer {
    /// Writes to `path`; what is there already becomes older, or is gone on with where there is room.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), full: FULL, member: None }
    }

    /// As [`Writer::new`], with files of another size, bytes.
    pub fn with_size(path: &Path, full: u64) -> Self {
        Self { full, ..Self::new(path) }
    }

    /// Where the file before this one is.
    pub fn older(path: &Path) -> PathBuf {
        let mut name = OsString::from(path);
        name.push(".1");
        PathBuf::from(name)
    }

    /// The next line has to begin a file: none is open, it has its size, or somebody moved it away.
    pub fn is_full(&self) -> bool {
        let Some(about) = self.member.as_ref().and_then(|member| member.get_ref().metadata().ok()) else {
            return true;
        };
        let there = fs::symlink_metadata(&self.path).ok();
        let same = |there: fs::Metadata| (there.dev(), there.ino()) == (about.dev(), about.ino());
        about.size() >= self.full || !there.is_some_and(same)
    }

    /// Writes a line; one that `begins` opens a file where none is open, or the open one is full.
    ///
    /// # Errors
    /// When the disk refuses; then nothing is open.
    pub fn write(&mut self, line: &[u8], begins: bool) -> io::Result<()> {
        let written = self.try_write(line, begins);
        if written.is_err() {
            self.member = None;
        }
        written
    }

    fn try_write(&mut self, line: &[u8], begins: bool) -> io::Result<()> {
        if begins && self.is_full() {
            self.close()?;
            self.member = Some(self.open()?);
        }
        let closed = || io::Error::other("no file is open: a line that begins one is to come first");
        self.member.as_mut().ok_or_else(closed)?.write_all(line)
    }

    /// Has everything reach the file.
    ///
    /// # Errors
    /// When the disk refuses; then nothing is open.
    pub fn flush(&mut self) -> io::Result<()> {
        let flushed = self.member.as_mut().map_or(Ok(()), GzEncoder::flush);
        if flushed.is_err() {
            self.member = None;
        }
        flushed
    }

    /// Ends the member that is being written.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn close(&mut self) -> io::Result<()> {
        self.member.take().map_or(Ok(()), |member| member.finish().map(drop))
    }

    /// Whether a recording can be written there, before anything else is done; nothing is changed.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if !fs::metadata(folder.unwrap_or_else(|| Path::new(".")))?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        vacant(path)?;
        vacant(&Self::older(path))
    }

    fn open(&self) -> io::Result<GzEncoder<File>> {
        let mut own = Own::of(open(&self.path, true)?)?.locked()?;
        if own.size >= self.full {
            let older = Self::older(&self.path);
            vacant(&older)?;
            fs::rename(&self.path, older)?;
            own = Own::of(open(&self.path, true)?)?.locked()?;
        }
        if own.torn {
            // Killed at its very first write: nothing could be found behind that.
            own.file.set_len(0)?;
        }
        // What guests are called and how much they use is their owners' business.
        own.file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(begin(own.file))
    }
}

/// Nothing is there, or a recording of our own.
fn vacant(path: &Path) -> io::Result<()> {
    match open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => Own::of(opened?).map(drop),
    }
}

/// Neither follows a link that somebody put there, nor waits for the other end of a pipe.
fn open(path: &Path, create: bool) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600).custom_flags(flags);
    if create {
        options.append(true).create(true);
    }
    options.open(path).or_else(|error| match Errno::from_io_error(&error) {
        // A link, a folder, and a pipe that nobody reads or a socket.
        Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => refused(NO_FILE),
        _ => Err(error),
    })
}

const NO_FILE: &str = "something that is no regular file is there: name another";

/// A file that is a recording, or empty, and nobody else's.
struct Own {
    file: File,
    size: u64,
    /// It holds a part of a header.
    torn: bool,
}

impl Own {
    fn of(mut file: File) -> io::Result<Self> {
        let about = file.metadata()?;
        if !about.is_file() || about.nlink() > 1 {
            return refused(NO_FILE);
        }
        if about.uid() != geteuid().as_raw() {
            return refused("a file of another user is there: name another");
        }
        let (header, mut begins) = (header(), Vec::new());
        let most = u64::try_from(header.len()).unwrap_or(u64::MAX);
        io::Read::by_ref(&mut file).take(most).read_to_end(&mut begins)?;
        if !header.starts_with(&begins) {
            return refused("another file is there: name a new one");
        }
        Ok(Self { file, size: about.size(), torn: !begins.is_empty() && begins.len() < header.len() })
    }

    /// Two never write one.
    fn locked(self) -> io::Result<Self> {
        match self.file.try_lock() {
            Ok(()) => Ok(self),
            Err(TryLockError::WouldBlock) => refused("another agent records into it: name another"),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn refused<T>(what: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
}
