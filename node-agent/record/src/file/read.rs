//! Reading: all that was written whole, on both sides of what is torn or damaged.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use flate2::read::GzDecoder;

use super::{FULL, header};
use crate::line::Line;

/// No recording is larger, whatever was written after it was full.
const LARGEST: u64 = 4 * FULL;
/// What one line may hold: a hundred times the reading of a full node.
const LONGEST: u64 = 64 << 20;

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
            let ended = whole_lines(member, |line| match Line::read(line) {
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
