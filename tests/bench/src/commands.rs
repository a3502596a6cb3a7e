//! What a controller told the guests' balloons, by what it says of that itself.

use std::str::FromStr as _;

use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use overcommit_tests::agent::Agent;
use overcommit_tests::machine::MIB;
use serde::{Deserialize, Serialize};

/// How MOM's log tells of one (`Controllers/Balloon.py`): sizes in KiB.
const BALLOONING: &str = "Ballooning guest:";

/// One target that a guest was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// In s from the beginning of the work; below 0 while the controller got to know the guests.
    pub(crate) at: f64,
    pub(crate) guest: String,
    pub(crate) from_mib: u64,
    pub(crate) to_mib: u64,
}

impl Told {
    /// Memory is taken.
    pub(crate) fn takes(&self) -> bool {
        self.to_mib < self.from_mib
    }
}

/// What the agent did; what failed is none of it.
pub(crate) fn of_agent(agent: &Agent, began: Timestamp) -> Result<Vec<Told>> {
    let actions = agent.turns().fresh()?.into_iter().flat_map(|turn| turn.actions);
    let done = actions.filter(|action| action.failed.is_none());
    let told = done.map(|action| Told {
        at: since(began, action.at),
        guest: action.guest,
        from_mib: action.from / MIB,
        to_mib: action.to / MIB,
    });
    Ok(told.collect())
}

/// The same of MOM, by its log.
pub(crate) fn of_mom(log: &str, began: Timestamp) -> Vec<Told> {
    log.lines().filter_map(|line| mom_told(line, began)).collect()
}

/// `2026-11-28 18:20:01,123 - mom.Controllers.Balloon - INFO - Ballooning guest:g0 from 524288 to 471859`, in the machine's own time.
fn mom_told(line: &str, began: Timestamp) -> Option<Told> {
    let (time, rest) = line.split_once(" - ")?;
    let (guest, sizes) = rest.split_once(BALLOONING)?.1.split_once(" from ")?;
    let (from, to) = sizes.split_once(" to ")?;
    let mib = |kib: &str| kib.trim().parse::<u64>().ok().map(|kib| kib / 1024);
    let time = DateTime::from_str(&time.replace(',', ".")).ok()?;
    let at = since(began, TimeZone::system().to_ambiguous_zoned(time).compatible().ok()?.timestamp());
    Some(Told { at, guest: guest.to_owned(), from_mib: mib(from)?, to_mib: mib(to)? })
}

fn since(began: Timestamp, at: Timestamp) -> f64 {
    at.duration_since(began).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moms_log_tells_when_whom_and_how_much() {
        let zone = TimeZone::system();
        let local = "2026-11-28T18:20:01.5".parse::<DateTime>().unwrap();
        let began = zone.to_ambiguous_zoned(local).compatible().unwrap().timestamp();
        let log = "2026-11-28 18:20:00,250 - mom.PolicyEngine - INFO - Policy Engine starting\n\
                   2026-11-28 18:20:00,250 - mom.Controllers.Balloon - INFO - Ballooning guest:g0 from 524288 to 471859\n\
                   2026-11-28 18:20:03,500 - mom.Controllers.Balloon - INFO - Ballooning guest:g 1 from 471859 to 524288\n\
                   2026-11-28 18:20:04,0 - mom.Controllers.Balloon - INFO - Ballooning guest:g0 from";
        let told = of_mom(log, began);
        let told: Vec<_> =
            told.iter().map(|told| (told.at, told.guest.as_str(), told.from_mib, told.takes())).collect();
        assert_eq!(told, [(-1.25, "g0", 512, true), (2.0, "g 1", 460, false)]);
    }
}
