//! The shadow balloon of Observe: guests are shown to the engine as if the plan had been followed, so the loop
//! converges and reports what it would reach instead of proposing the same step for ever.

use std::collections::BTreeMap;

use crate::sample::{GuestId, Sample};
use crate::units::Bytes;

/// `sample` as it would look if each guest held its shadow target.
pub fn overlay(sample: &Sample, targets: &BTreeMap<GuestId, Bytes>) -> Sample {
    let mut shown = sample.clone();
    for guest in &mut shown.guests {
        let (Some(target), Some(balloon)) = (targets.get(&guest.id), guest.balloon.as_mut()) else {
            continue;
        };
        let gone = balloon.actual.minus(*target);
        balloon.actual = balloon.actual.min(*target);
        for amount in [&mut balloon.available, &mut balloon.unused, &mut balloon.usable] {
            *amount = amount.map(|a| a.minus(gone));
        }
    }
    shown
}
