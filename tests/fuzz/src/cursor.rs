//! Numbers out of bytes: those that hurt are as easy to reach as ordinary ones.

use overcommit_core::units::Bytes;

/// Numbers at which arithmetic goes wrong.
const ABSURD: [u64; 12] = [
    0,
    1,
    4095,
    4097,
    1 << 32,
    1 << 52,
    (1 << 52) + 1,
    u64::MAX >> 10,
    1 << 63,
    (1 << 63) - 1,
    u64::MAX - 1,
    u64::MAX,
];

/// The unit of a balloon's statistics.
pub(crate) const KIB: u64 = 1 << 10;

/// Reads from the front; zeros once everything was read.
#[derive(Debug)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// One of the absurd ones, any, or an ordinary amount of up to 1 GiB in units of `unit` bytes.
    pub(crate) fn number(&mut self, unit: u64) -> u64 {
        match self.byte() {
            n if usize::from(n) < ABSURD.len() => ABSURD[usize::from(n)],
            n if n < 32 => {
                let bytes: [u8; 8] = std::array::from_fn(|_| self.byte());
                u64::from_le_bytes(bytes)
            }
            n => ((u64::from(n) << 22) | (u64::from(self.byte()) << 14)) / unit,
        }
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        Bytes::new(self.number(1))
    }

    /// Absent one time in eight.
    pub(crate) fn optional<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.byte().is_multiple_of(8)).then(|| some(self))
    }
}
