//! Where lines lie: gzip, so that `zcat` shows them, in two files of bounded size.
//!
//! Each process that writes begins a member of its own (RFC 1952, 2.2), and has the compressor put out what it holds each second
//! (`Z_SYNC_FLUSH`). After one that was killed the last member is torn, and a reader that goes by members alone would lose all that
//! comes later: each begins with the same header, by which the next is found.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io::Write;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

pub use read::{Faults, NotRead, Reader, read};
pub use write::Writer;

/// A file that has grown to this is full. Two of them are what a node's disk gives without being asked: hours of a full node.
const FULL: u64 = 64 << 20;
/// Stands in the header of each member, by which it is found.
const COMMENT: &str = "overcommit recording";

/// Begins a member.
fn begin<W: Write>(to: W) -> GzEncoder<W> {
    GzBuilder::new().comment(COMMENT).write(to, Compression::fast())
}

/// What each member begins with.
fn header() -> Vec<u8> {
    // A member without content, less its end: the empty block (2 bytes) and the sums (8).
    let empty = begin(Vec::new()).finish();
    let mut header = empty.unwrap_or_default();
    header.truncate(header.len().saturating_sub(10));
    header
}
