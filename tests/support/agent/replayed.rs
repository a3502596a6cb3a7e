//! What agents have recorded, decided once more.

use std::path::Path;

use anyhow::{Result, ensure};
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
