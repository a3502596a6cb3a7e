//! Where lines lie: gzip, so that `zcat` shows them, in two files of bounded size.
//!
//! Each process that writes begins a member of its own (RFC 1952, 2.2), and has the compressor put out what it holds each second
//! (`Z_SYNC_FLUSH`). After one that was killed the last member is torn, and a reader that goes by members alone would lose all that
//! comes later: each begins with the same header, by which the next is found.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::line::Line;

/// A file that has grown to this is full. Two of them are what a node's disk gives without being asked: hours of a full node.
const FULL: u64 = 64 << 20;
/// No recording is larger, whatever was written after it was full.
const LARGEST: u64 = 4 * FULL;
/// What one line may hold: a hundred times the reading of a full node.
const LONGEST: u64 = 64 << 20;
/// Stands in the header of each member, by which it is found.
const COMMENT: &str = "overcommit recording";

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
        for path in [path, &Self::older(path)] {
            match open(path, false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => drop(Own::of(opened?)?),
            }
        }
        Ok(())
    }

    fn open(&self) -> io::Result<GzEncoder<File>> {
        let mut own = Own::of(open(&self.path, true)?)?.locked()?;
        if own.size >= self.full {
            let older = Self::older(&self.path);
            match open(&older, false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => drop(Own::of(opened?)?),
            }
            fs::rename(&self.path, older)?;
            own = Own::of(open(&self.path, true)?)?.locked()?;
        }
        if own.torn {
            // Killed at its very first write: nothing could be found behind that.
            own.file.set_len(0)?;
        }
        // What guests are called and how much they use is their owners' business.
        own.file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(GzBuilder::new().comment(COMMENT).write(own.file, Compression::fast()))
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

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// Too large.
    #[error("it is larger than any recording")]
    TooLarge,
    /// Something else.
    #[error("it is no recording: name a file that `overcommit-agent run --record FILE` wrote")]
    NoRecording,
}

/// A recording in memory.
#[derive(Debug)]
pub struct Reader {
    bytes: Vec<u8>,
    faults: Cell<Faults>,
}

/// What of a recording cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How often it ends in the middle: whoever wrote it was killed, or still writes, or the disk was full.
    pub torn: u64,
    /// How many parts are not what was written, and so end early.
    pub damaged: u64,
    /// How many lines this build does not understand.
    pub unknown: u64,
}

/// Reads a recording into memory.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read(path: &Path) -> Result<Reader, NotRead> {
    let about = fs::metadata(path)?;
    // A pipe would be waited for without end.
    if !about.is_file() {
        return Err(NotRead::NoRecording);
    }
    if about.size() > LARGEST {
        return Err(NotRead::TooLarge);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    if !bytes.starts_with(&header()) {
        return Err(NotRead::NoRecording);
    }
    Ok(Reader { bytes, faults: Cell::default() })
}

impl Reader {
    /// Calls `each` with every line in turn.
    pub fn lines(&self, mut each: impl FnMut(Line<'static>)) {
        let (header, mut rest) = (header(), self.bytes.as_slice());
        let mut faults = Faults::default();
        while !rest.is_empty() {
            let next = rest.get(1..).and_then(|behind| find(behind, &header));
            let end = next.map_or(rest.len(), |at| at.saturating_add(1));
            let (member, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            rest = behind;
            let mut unknown = 0_u64;
            let ended = whole_lines(member, |line| match serde_json::from_slice(line) {
                Ok(line) => each(line),
                Err(_) => unknown = unknown.saturating_add(1),
            });
            // Lines of a damaged part are nobody's.
            match ended {
                Ended::Whole => faults.unknown = faults.unknown.saturating_add(unknown),
                Ended::Torn if unknown == 0 => faults.torn = faults.torn.saturating_add(1),
                Ended::Torn | Ended::Damaged => faults.damaged = faults.damaged.saturating_add(1),
            }
        }
        self.faults.set(faults);
    }

    /// What could not be read in the last reading.
    pub fn faults(&self) -> Faults {
        self.faults.get()
    }
}

/// How a member ends.
enum Ended {
    Whole,
    Torn,
    Damaged,
}

/// Calls `each` with every line of a member. What was whole has been told by its end.
fn whole_lines(member: &[u8], mut each: impl FnMut(&[u8])) -> Ended {
    let mut text = BufReader::new(GzDecoder::new(member));
    let mut line = Vec::new();
    loop {
        line.clear();
        match text.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => return Ended::Whole,
            Ok(_) if line.ends_with(b"\n") => each(&line),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Ended::Damaged,
            Ok(_) | Err(_) => return Ended::Torn,
        }
    }
}

/// What each member begins with.
fn header() -> Vec<u8> {
    // A member without content, less its end: the empty block (2 bytes) and the sums (8).
    let empty = GzBuilder::new().comment(COMMENT).write(Vec::new(), Compression::fast()).finish();
    let mut header = empty.unwrap_or_default();
    header.truncate(header.len().saturating_sub(10));
    header
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0_usize;
    loop {
        let rest = bytes.get(from..)?;
        let at = rest.iter().position(|byte| *byte == first)?;
        if rest.get(at..)?.starts_with(what) {
            return from.checked_add(at);
        }
        from = from.checked_add(at)?.checked_add(1)?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use overcommit_core::growth::Growth;
    use overcommit_core::step::State;
    use std::borrow::Cow;

    use super::*;
    use crate::line::{Begin, FORMAT};
    use crate::recorder::Before;

    fn begin(seconds: u64) -> Vec<u8> {
        let begin = Begin {
            format: FORMAT,
            version: Cow::Borrowed("test"),
            wall: Duration::from_secs(seconds),
            before: Before::Start,
            state: Cow::Owned(State::default()),
        };
        line(&Line::Begin(begin))
    }

    fn line(line: &Line<'_>) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(line).unwrap();
        bytes.push(b'\n');
        bytes
    }

    fn other() -> Vec<u8> {
        line(&Line::Recall(Cow::Owned(Growth::default())))
    }

    /// The seconds of each beginning, and 0 for every other line.
    fn told(path: &Path) -> (Vec<u64>, u64) {
        let (reader, mut seen) = (read(path).unwrap(), Vec::new());
        reader.lines(|line| seen.push(if let Line::Begin(begin) = line { begin.wall.as_secs() } else { 0 }));
        let faults = reader.faults();
        assert_eq!((faults.unknown, faults.damaged), (0, 0));
        (seen, faults.torn)
    }

    #[test]
    fn what_a_killed_process_wrote_is_read_up_to_its_end_and_what_comes_later_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        for seconds in [1, 2] {
            let mut writer = Writer::new(&path);
            writer.write(&begin(seconds), true).unwrap();
            writer.write(&other(), false).unwrap();
            writer.flush().unwrap();
            // Half a line of the next, as a kill leaves it: nothing is closed.
            writer.write(other().get(..5).unwrap(), false).unwrap();
            writer.flush().unwrap();
            let torn = fs::read(&path).unwrap();
            drop(writer);
            fs::write(&path, torn).unwrap();
        }
        let mut writer = Writer::new(&path);
        writer.write(&begin(3), true).unwrap();
        writer.close().unwrap();
        assert_eq!(told(&path), (vec![1, 0, 2, 0, 3], 2));
    }

    #[test]
    fn what_is_damaged_is_told_apart_from_what_ends_in_the_middle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut writer = Writer::new(&path);
        writer.write(&begin(1), true).unwrap();
        (0..2000).for_each(|seconds| writer.write(&begin(seconds), false).unwrap());
        writer.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(&path, &bytes).unwrap();
        let reader = read(&path).unwrap();
        let mut lines = 0;
        reader.lines(|_| lines += 1);
        assert_eq!(reader.faults(), Faults { damaged: 1, ..Faults::default() }, "{lines}");
    }

    #[test]
    fn one_that_was_killed_within_its_header_leaves_room_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        fs::write(&path, &header()[..5]).unwrap();
        let mut writer = Writer::new(&path);
        writer.write(&begin(7), true).unwrap();
        writer.close().unwrap();
        assert_eq!(told(&path), (vec![7], 0));
    }

    #[test]
    fn a_file_that_somebody_moves_away_is_begun_anew_and_two_never_write_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut writer = Writer::new(&path);
        writer.write(&begin(1), true).unwrap();
        assert!(!writer.is_full());
        let error = Writer::new(&path).write(&begin(2), true).unwrap_err();
        assert!(error.to_string().contains("another agent records"), "{error}");
        fs::rename(&path, dir.path().join("away")).unwrap();
        assert!(writer.is_full());
        writer.write(&begin(3), true).unwrap();
        writer.close().unwrap();
        assert_eq!((told(&path).0, told(&dir.path().join("away")).0), (vec![3], vec![1]));
    }

    #[test]
    fn a_full_file_becomes_the_older_one_and_the_one_before_that_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut writer = Writer::with_size(&path, 1);
        assert!(writer.is_full(), "nothing is open");
        for seconds in [1, 2, 3] {
            writer.write(&begin(seconds), true).unwrap();
            writer.write(&other(), false).unwrap();
            writer.flush().unwrap();
            assert!(writer.is_full());
        }
        writer.close().unwrap();
        assert_eq!(told(&path).0, [3, 0]);
        assert_eq!(told(&Writer::older(&path)).0, [2, 0]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_there_and_no_recording_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.yaml");
        fs::write(&policy, "spec: {}").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("anything"), &link).unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let linked = dir.path().join("linked");
        fs::write(&linked, "").unwrap();
        fs::hard_link(&linked, dir.path().join("other")).unwrap();
        // The older file is theirs.
        let taken = dir.path().join("taken");
        fs::write(Writer::older(&taken), "precious").unwrap();
        for path in [policy.as_path(), &link, dir.path(), &pipe, &linked, &taken] {
            assert_eq!(Writer::check(path).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{path:?}");
        }
        for path in [policy.as_path(), &link, dir.path(), &pipe, &linked] {
            Writer::new(path).write(&begin(1), true).unwrap_err();
        }
        let mut writer = Writer::with_size(&taken, 0);
        writer.write(&begin(1), true).unwrap_err();
        assert_eq!(fs::read_to_string(Writer::older(&taken)).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&policy).unwrap(), "spec: {}");
        assert_eq!(Writer::check(&dir.path().join("no/where")).unwrap_err().kind(), io::ErrorKind::NotFound);
        Writer::check(&dir.path().join("new")).unwrap();
    }

    #[test]
    fn a_file_that_is_no_recording_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        fs::write(&path, "apiVersion: overcommit.dev/v1alpha1").unwrap();
        assert!(matches!(read(&path), Err(NotRead::NoRecording)));
        assert!(matches!(read(dir.path()), Err(NotRead::NoRecording)));
        assert!(matches!(read(&dir.path().join("none")), Err(NotRead::Disk(_))));
    }
}
