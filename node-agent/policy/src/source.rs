//! The text of a program and the places in it: several files, joined by newlines as MOM joins its policies, so that what
//! begins in one may end in the next; places are told by file, line and column nevertheless.

use std::fmt;
use std::sync::Arc;

/// Most bytes that all files of a program have together. The policies that people have are of a few KiB, and an object in
/// Kubernetes holds 1.5 MiB.
pub const MAX_BYTES: usize = 1 << 20;

/// One file as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What places in it are told by: a path, or the name of a slot.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// A place for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// An offset into the joined text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(pub(crate) u32);

/// The joined text.
#[derive(Debug)]
pub(crate) struct Text {
    joined: String,
    files: Vec<File>,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// Where a file begins in it, and what it is called.
#[derive(Debug)]
struct File {
    start: usize,
    name: Arc<str>,
}

/// Why files are no text, and where.
#[derive(Debug)]
pub(crate) struct NoText {
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// People edit on Windows: its mark of UTF-8 at the beginning of a file is no part of the program.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Text {
    /// Joins files.
    pub(crate) fn join(sources: &[Source<'_>]) -> Result<Self, NoText> {
        let mut text =
            Self { joined: String::new(), files: Vec::with_capacity(sources.len()), lines: vec![0] };
        for (n, source) in sources.iter().enumerate() {
            if n > 0 {
                text.joined.push('\n');
                text.lines.push(text.joined.len());
            }
            text.files.push(File { start: text.joined.len(), name: Arc::from(source.name) });
            text.append(source)?;
        }
        Ok(text)
    }

    fn append(&mut self, source: &Source<'_>) -> Result<(), NoText> {
        let bytes = source.bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(source.bytes);
        let room = MAX_BYTES.saturating_sub(self.joined.len());
        let fitting = bytes.get(..room).unwrap_or(bytes);
        let (valid, broken) = match std::str::from_utf8(fitting) {
            Ok(valid) => (valid, false),
            Err(why) => {
                let valid = fitting.get(..why.valid_up_to()).and_then(|part| std::str::from_utf8(part).ok());
                // A character that the limit cuts in two is none that is broken.
                (valid.unwrap_or_default(), why.error_len().is_some() || bytes.len() <= room)
            }
        };
        let start = self.joined.len();
        self.lines.extend(valid.match_indices('\n').map(|(n, _)| start.saturating_add(n).saturating_add(1)));
        self.joined.push_str(valid);
        let end = self.end();
        if broken {
            return Err(NoText { place: self.place(end), message: "this is not UTF-8".to_owned() });
        }
        if bytes.len() > room {
            let message = format!("the program has more than {MAX_BYTES} bytes");
            return Err(NoText { place: self.place(end), message });
        }
        Ok(())
    }

    /// The whole text.
    pub(crate) fn as_str(&self) -> &str {
        &self.joined
    }

    /// Behind the last character.
    pub(crate) fn end(&self) -> At {
        At(u32::try_from(self.joined.len()).unwrap_or(u32::MAX))
    }

    /// Where that is.
    pub(crate) fn place(&self, at: At) -> Place {
        let offset = self.offset(at);
        let file = self.files.partition_point(|file| file.start <= offset).saturating_sub(1);
        let line = self.line(offset);
        let Some(File { start, name }) = self.files.get(file) else {
            return Place { file: Arc::from(""), line: 1, column: 1 };
        };
        Place {
            file: Arc::clone(name),
            line: line.saturating_sub(self.line(*start)).saturating_add(1),
            column: self.before(offset).chars().count().saturating_add(1),
        }
    }

    /// What it costs to say where that is, in steps of an evaluation: characters of its line are counted.
    pub(crate) fn effort(&self, at: At) -> u64 {
        u64::try_from(self.before(self.offset(at)).len() / 64).unwrap_or(u64::MAX)
    }

    fn offset(&self, at: At) -> usize {
        usize::try_from(at.0).unwrap_or(usize::MAX).min(self.joined.len())
    }

    /// Which line of the joined text that is in, from 0.
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// What is before it in its line.
    fn before(&self, offset: usize) -> &str {
        let start = self.lines.get(self.line(offset)).copied().unwrap_or(0);
        self.joined.get(start..offset).unwrap_or_default()
    }
}
