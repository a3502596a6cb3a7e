//! What agents have recorded, decided once more.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use overcommit_core::sample::Sample;
use overcommit_record::{Made, Played, Player};
use overcommit_sim::replay::{Replayed, replay};

/// Decides all again that agents have recorded into this file: each decision has to come out the same, bit by bit.
///
/// # Errors
/// When one comes out differently, or next to none was recorded.
pub fn expect_replayed(recording: &Path) -> Result<()> {
    let read = overcommit_record::read(recording)?;
    let replayed = replay("recording", None, |each| read.lines(each))?;
    let Replayed { decisions, differing, differences, remarks, .. } = replayed;
    ensure!(differing == 0, "{differing} of {decisions} decisions differ: {differences:?}; {remarks:?}");
    // Its file alone is as it was; what a killed agent had not written is not in it.
    let faults = read.faults();
    ensure!(
        faults.unknown == 0 && faults.damaged == 0 && decisions > 10,
        "{faults:?}, {decisions} decisions"
    );
    Ok(())
}

/// How many statistics of a guest were seen from the first reading of which `from` holds to the first decision from there on of which
/// `until` does, those of both among them.
///
/// # Errors
/// When there are no such two, or the recording cannot be played.
pub fn statistics_between(
    recording: &Path,
    guest: &str,
    from: impl Fn(&Sample) -> bool,
    until: impl Fn(&Made) -> bool,
) -> Result<usize> {
    let read = overcommit_record::read(recording)?;
    let (mut player, mut stamps) = (Player::default(), BTreeSet::new());
    let (mut begun, mut ended, mut trouble) = (false, false, None);
    read.lines(|line| match player.play(line) {
        Ok(Played::Decided(made)) if !ended => {
            begun |= from(&made.sample);
            if begun {
                let words = made.sample.guests.iter().filter(|seen| seen.name.to_string() == guest);
                stamps.extend(words.filter_map(|seen| seen.balloon?.last_update));
                ended = until(&made);
            }
        }
        Ok(_) => {}
        Err(error) => trouble = Some(error),
    });
    trouble.map_or(Ok(()), Err)?;
    ensure!(begun && ended, "begun: {begun}, ended: {ended}, {} statistics", stamps.len());
    Ok(stamps.len())
}
