//! Doors to the parsers for `tests/fuzz`, which throws at them what a tenant's libvirt and a guest's driver might say. No
//! part of the interface.

use overcommit_core::sample::{Balloon, GuestConfig};
use virt::domain::MemoryStat;

use crate::{balloon, definition, domain, relay};

/// A domain's definition: what it says of the guest, and the period of its statistics.
///
/// # Errors
/// Why it is not understood, as people read it.
pub fn definition(xml: &str) -> Result<(GuestConfig, Option<u32>), String> {
    definition::parse(xml).map(|d| (d.config, d.period)).map_err(|error| error.to_string())
}

/// Statistics of a balloon as pairs of tag and value.
pub fn balloon(stats: &[(u32, u64)], period: Option<u32>) -> Option<Balloon> {
    let stats: Vec<MemoryStat> = stats.iter().map(|(tag, val)| MemoryStat { tag: *tag, val: *val }).collect();
    balloon::from_stats(&stats, period)
}

/// Text of a daemon as people are shown it.
pub fn text(text: &str) -> String {
    domain::clean(text)
}

/// What a daemon sends, in these pieces: how many of them pass.
pub fn relayed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    relay::passing(pieces)
}
