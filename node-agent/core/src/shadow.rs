//! The shadow balloon of Observe: guests are shown to the engine as if the plan had been followed, so the loop
//! converges and reports what it would reach instead of proposing the same step for ever.

use crate::dealings::Dealings;
use crate::sample::Sample;
use crate::units::Bytes;

/// `sample` as it would look if each guest held its shadow target, in the memory of the last one.
pub fn overlay<'a>(sample: &Sample, dealings: &Dealings, last: &'a mut Option<Sample>) -> &'a Sample {
    let shown = match last {
        Some(shown) => {
            let Sample { at, wall, host_age, host, guests, strangers } = sample;
            shown.guests.clone_from(guests);
            shown.strangers.clone_from(strangers);
            shown.host.clone_from(host);
            (shown.at, shown.wall, shown.host_age) = (*at, *wall, *host_age);
            shown
        }
        None => last.insert(sample.clone()),
    };
    for guest in &mut shown.guests {
        let target = dealings.of(&guest.id).and_then(|dealing| dealing.shadow);
        let Some((target, balloon)) = target.zip(guest.balloon.as_mut()) else { continue };
        let gone = balloon.actual.min(guest.config.full).minus(target);
        let kept = target.plus(guest.config.plugged).plus(guest.facts.overhead.unwrap_or_default());
        let freed = guest.facts.anon.map_or(Bytes::ZERO, |anon| anon.minus(kept));
        guest.facts.anon = guest.facts.anon.map(|anon| anon.minus(freed));
        shown.host.memory.anon = shown.host.memory.anon.minus(freed);
        // Programs look at that.
        shown.host.memory.free = shown.host.memory.free.plus(freed).min(shown.host.memory.total);
        guest.facts.resident = guest.facts.resident.map(|resident| resident.min(kept));
        balloon.actual = balloon.actual.min(target);
        for amount in [&mut balloon.available, &mut balloon.unused, &mut balloon.usable] {
            *amount = amount.map(|a| a.minus(gone));
        }
    }
    shown
}
