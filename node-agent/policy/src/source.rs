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
    /// Where each file begins, and its name.
    files: Vec<(usize, Arc<str>)>,
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
        let mut text = Self { joined: String::new(), files: Vec::with_capacity(sources.len()) };
        for (n, source) in sources.iter().enumerate() {
            if n > 0 {
                text.joined.push('\n');
            }
            text.files.push((text.joined.len(), Arc::from(source.name)));
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

    /// Where that is. It counts the lines before it: places are told rarely.
    pub(crate) fn place(&self, at: At) -> Place {
        let offset = usize::try_from(at.0).unwrap_or(usize::MAX).min(self.joined.len());
        let file = self.files.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let (start, name) =
            self.files.get(file).map_or((0, Arc::from("")), |(start, name)| (*start, Arc::clone(name)));
        let before = self.joined.get(start..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
        Place {
            file: name,
            line: before.matches('\n').count().saturating_add(1),
            column: before.get(line_start..).unwrap_or_default().chars().count().saturating_add(1),
        }
    }
}
