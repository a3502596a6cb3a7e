//! Where lines lie: gzip, so that `zcat` shows them, in two files of bounded size.
//!
//! Each process that writes begins a member of its own (RFC 1952, 2.2), and has the compressor put out what it holds each second
//! (`Z_SYNC_FLUSH`). After one that was killed the last member is torn, and a reader that goes by members alone would lose all that
//! comes later: each begins with the same header, by which the next is found.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use crate::line::Line;

/// A file that has grown to this is full. Two of them are what a node's disk gives without being asked: hours of a full node.
const FULL: u64 = 64 << 20;
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

    /// The next line has to begin a file.
    pub fn is_full(&self) -> bool {
        let size = self.member.as_ref().map(|member| member.get_ref().metadata().map_or(0, |m| m.size()));
        size.is_none_or(|size| size >= self.full)
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

    /// Whether a recording can be written there, before anything else is done.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(path: &Path) -> io::Result<()> {
        there(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = fs::metadata(folder.unwrap_or_else(|| Path::new(".")))?;
        if folder.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    fn open(&self) -> io::Result<GzEncoder<File>> {
        if there(&self.path)?.is_some_and(|size| size >= self.full) {
            fs::rename(&self.path, Self::older(&self.path))?;
        }
        // What guests are called and how much they use is their owners' business.
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        Ok(GzBuilder::new().comment(COMMENT).write(file, Compression::fast()))
    }
}

/// The size of the recording that is there, if any is; what is there and is none is left alone.
fn there(path: &Path) -> io::Result<Option<u64>> {
    let other = |what| Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    // A link may lead to anything.
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    if !about.is_file() {
        return other("something that is no regular file is there: name another");
    }
    let (header, mut begins) = (header(), Vec::new());
    let most = u64::try_from(header.len()).unwrap_or(u64::MAX);
    File::open(path)?.take(most).read_to_end(&mut begins)?;
    // One that was killed at its first write left a part.
    if header.starts_with(&begins) {
        Ok(Some(about.size()))
    } else {
        other("another file is there: name a new one")
    }
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// Something else.
    #[error("it is no recording: name a file that `overcommit-agent run --record FILE` wrote")]
    NoRecording,
}

/// A recording in memory.
#[derive(Debug)]
pub struct Reader {
    bytes: Vec<u8>,
    faults: Cell<(u64, u64)>,
}

/// Reads a recording into memory.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read(path: &Path) -> Result<Reader, NotRead> {
    // A pipe would be waited for without end.
    if !fs::metadata(path)?.is_file() {
        return Err(NotRead::NoRecording);
    }
    let bytes = fs::read(path)?;
    if !bytes.starts_with(&header()) {
        return Err(NotRead::NoRecording);
    }
    Ok(Reader { bytes, faults: Cell::default() })
}

impl Reader {
    /// Calls `each` with every line in turn.
    pub fn lines(&self, mut each: impl FnMut(Line<'static>)) {
        let (header, mut rest) = (header(), self.bytes.as_slice());
        let (mut torn, mut unread) = (0_u64, 0_u64);
        while !rest.is_empty() {
            let next = rest.get(1..).and_then(|behind| find(behind, &header));
            let end = next.map_or(rest.len(), |at| at.saturating_add(1));
            let (member, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            rest = behind;
            let whole = whole_lines(member, |line| match serde_json::from_slice(line) {
                Ok(line) => each(line),
                Err(_) => unread = unread.saturating_add(1),
            });
            torn = torn.saturating_add(u64::from(!whole));
        }
        self.faults.set((torn, unread));
    }

    /// Of the last reading: how often it ends in the middle, for a process that wrote it was killed, and how many lines this build
    /// cannot understand.
    pub fn faults(&self) -> (u64, u64) {
        self.faults.get()
    }
}

/// Calls `each` with every line of a member; false if it ends in the middle. What was whole has been told by then.
fn whole_lines(member: &[u8], mut each: impl FnMut(&[u8])) -> bool {
    let mut text = BufReader::new(GzDecoder::new(member));
    let mut line = Vec::new();
    loop {
        line.clear();
        match text.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => return true,
            Ok(_) if line.ends_with(b"\n") => each(&line),
            Ok(_) | Err(_) => return false,
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
        let (torn, unread) = reader.faults();
        assert_eq!(unread, 0);
        (seen, torn)
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
            std::mem::forget(writer);
        }
        let mut writer = Writer::new(&path);
        writer.write(&begin(3), true).unwrap();
        writer.close().unwrap();
        assert_eq!(told(&path), (vec![1, 0, 2, 0, 3], 2));
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
        for path in [policy.as_path(), &link, dir.path()] {
            assert_eq!(Writer::check(path).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{path:?}");
            Writer::new(path).write(&begin(1), true).unwrap_err();
        }
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
