//! Units as types, so that KiB of libvirt and pages of the kernel cannot meet by accident.
//!
//! Arithmetic saturates and is named: a ledger that wraps would promise memory that does not exist.

use std::fmt;
use std::iter::Sum;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// No memory at all.
    pub const ZERO: Self = Self(0);
    /// More than any host has; stands for "unlimited" only inside a minimum.
    pub const MAX: Self = Self(u64::MAX);

    /// `n` bytes.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }
    /// `n` KiB; libvirt's unit for every balloon call and statistic (`virDomainMemoryStatTags`, libvirt-domain.h).
    pub const fn from_kib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 10))
    }
    /// `n` MiB.
    pub const fn from_mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }
    /// `n` GiB.
    pub const fn from_gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }
    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
    /// Whole KiB, rounded down.
    pub const fn to_kib_floor(self) -> u64 {
        self.0 >> 10
    }
    /// Whole MiB, rounded down.
    pub const fn to_mib_floor(self) -> u64 {
        self.0 >> 20
    }
    /// Sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
    /// Difference, 0 where `other` is larger.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
    /// `self × num / den` without overflow, rounded down; `self` where `den` is 0.
    #[must_use]
    pub fn scaled(self, num: u64, den: u64) -> Self {
        // What is real fits, and is divided many times as fast.
        if let Some(product) = self.0.checked_mul(num) {
            return Self(product.checked_div(den).unwrap_or(self.0));
        }
        let wide = u128::from(self.0).saturating_mul(u128::from(num));
        match wide.checked_div(u128::from(den)) {
            Some(n) => Self(u64::try_from(n).unwrap_or(u64::MAX)),
            None => self,
        }
    }
    /// The share `part` of this amount, rounded down.
    #[must_use]
    pub fn share(self, part: Permille) -> Self {
        self.scaled(u64::from(part.get()), 1000)
    }
    /// Rounded down to a multiple of 4 KiB, the balloon's page
    /// (`VIRTIO_BALLOON_PFN_SHIFT`, `include/uapi/linux/virtio_balloon.h`).
    #[must_use]
    pub const fn to_balloon_page_floor(self) -> Self {
        Self(self.0 & !0xfff)
    }
    /// Rounded up to a multiple of 4 KiB; above the last one it stays what it is.
    #[must_use]
    pub const fn to_balloon_page_ceil(self) -> Self {
        match self.0.checked_next_multiple_of(0x1000) {
            Some(multiple) => Self(multiple),
            None => self,
        }
    }
    /// True for zero bytes.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Bytes {
    /// Binary units with one decimal from MiB on: `512.0 MiB`, `3.5 GiB`, `12 KiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |shift: u32| {
            let t = u128::from(self.0).saturating_mul(10) >> shift;
            (t / 10, t % 10)
        };
        match self.0 {
            n if n >= 1 << 30 => {
                let (whole, tenth) = tenths(30);
                write!(f, "{whole}.{tenth} GiB")
            }
            n if n >= 1 << 20 => {
                let (whole, tenth) = tenths(20);
                write!(f, "{whole}.{tenth} MiB")
            }
            n => write!(f, "{} KiB", n >> 10),
        }
    }
}

/// A part of a whole in thousandths; 25 is 2.5 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permille(u32);

impl Permille {
    /// `n` thousandths.
    pub const fn new(n: u32) -> Self {
        Self(n)
    }
    /// `n` percent.
    pub const fn from_percent(n: u32) -> Self {
        Self(n.saturating_mul(10))
    }
    /// The number of thousandths.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole} %"),
            (whole, tenth) => write!(f, "{whole}.{tenth} %"),
        }
    }
}

/// Bytes, or a part of something that the context names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// An absolute amount.
    Bytes(Bytes),
    /// A part of the whole that the field names.
    Part(Permille),
}

impl Amount {
    /// The amount in bytes, with `whole` as 100 %.
    pub fn of(self, whole: Bytes) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Part(part) => whole.share(part),
        }
    }
}

/// A point in time on a clock that never goes back (`CLOCK_BOOTTIME` on a node, virtual in a simulation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The time `since_origin` after the clock's origin.
    pub const fn new(since_origin: Duration) -> Self {
        Self(since_origin)
    }
    /// Time since the clock's origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }
    /// Time from `earlier` to this, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
    /// This point plus `d`.
    #[must_use]
    pub const fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_never_wrap() {
        assert_eq!(Bytes::new(1).minus(Bytes::new(2)), Bytes::ZERO);
        assert_eq!(Bytes::MAX.plus(Bytes::new(1)), Bytes::MAX);
        assert_eq!(Bytes::MAX.scaled(3, 2), Bytes::MAX);
        assert_eq!(Bytes::new(7).scaled(1, 0), Bytes::new(7));
    }

    #[test]
    fn rounding_up_never_makes_less() {
        let ceil = |bytes: u64| Bytes::new(bytes).to_balloon_page_ceil().get();
        assert_eq!([ceil(0), ceil(1), ceil(4096), ceil(4097)], [0, 4096, 4096, 8192]);
        assert_eq!([ceil(u64::MAX), ceil(u64::MAX - 4095)], [u64::MAX, u64::MAX - 4095]);
    }

    #[test]
    fn bytes_are_shown_in_binary_units() {
        assert_eq!(Bytes::from_mib(512).to_string(), "512.0 MiB");
        assert_eq!(Bytes::from_mib(3584).to_string(), "3.5 GiB");
        assert_eq!(Bytes::from_kib(12).to_string(), "12 KiB");
        assert_eq!(Permille::new(25).to_string(), "2.5 %");
    }
}
