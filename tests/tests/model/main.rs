//! How near the simulator's model is to real guests: the same scenario on both, with the same decisions, and the two courses
//! compared within bounds that `docs/simulator.md` names.
//!
//! The real agent records. What it saw first of its guests (sizes, what they use, what their emulators need) is what the
//! scenario of the model is written from, and when the test changed something; all else is the model's own.
#![cfg(test)]

mod likeness;
mod stage;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use overcommit_tests::guests::{Balloon, GuestSpec, Load};

use likeness::Likeness;
use stage::{PERIOD, STEP, Stage, simulated};

const MIB: u64 = 512;
/// The same, for comparisons.
const SIZE: f64 = 512.0;
/// What a guest uses before it becomes idle, in MiB.
const USED: u64 = 330;
/// What a guest comes to need, in MiB, and by how much a second.
const GROWS: (u64, u64) = (220, 5);
/// A balloon's course is compared for so long after what moved it.
const WATCHED: Duration = Duration::from_secs(15);

/// One after the other: two of them beside each other would wait for the same processors, which the model does not know.
static ALONE: Mutex<()> = Mutex::new(());

const LEFT_OUT: &str = "  classes:
  - {name: out, selector: {matchLabels: {name: neighbour}}, exclude: true}
  - {name: rest}
";

#[test]
fn an_idle_guest_is_squeezed_and_relieved_in_the_model_as_it_is_in_life() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let used = Load::Touched { mib: USED };
    let silent = Balloon::Present { free_page_reporting: false, stats_period_s: PERIOD };
    let idle = GuestSpec::new("idles", MIB).balloon(silent).load(used);
    let neighbour = GuestSpec::new("neighbour", 256).stats_period_s(PERIOD);
    let mut stage = Stage::set(&[idle, neighbour], 160, LEFT_OUT)?;
    stage.wait_rest()?;
    let gone = stage.now();
    stage.remove("neighbour")?;
    stage.wait_rest()?;
    let (real, policy) = stage.end("squeezed-then-relieved")?;
    let gone = real.when(gone);

    let scenario = simulated(&real, gone + WATCHED, |name| match name {
        "idles" => format!("freePageReporting: false, {}", demand("")),
        _ => format!("{}, events: [{{at: {}ms, what: Stops}}]", demand(""), (gone + STEP).as_millis()),
    })?;
    let mut likeness = Likeness::new(real, stage::run(&scenario, &policy)?);
    likeness.squeeze("idles", gone)?;
    likeness.at_rest("idles", gone)?;
    likeness.relief("idles", gone)?;
    likeness.verdict()
}

#[test]
fn a_squeezed_guest_that_grows_is_helped_in_the_model_as_it_is_in_life() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let guests = ["works", "idles"].map(|name| GuestSpec::new(name, MIB).stats_period_s(PERIOD));
    let stage = Stage::set(&guests, 300, "")?;
    stage.wait_rest()?;
    let grows = stage.now();
    stage.begin("works", &Load::Busy { mib: GROWS.0, ramp_mib_per_s: GROWS.1 })?;
    let lasts = Duration::from_secs(GROWS.0 / GROWS.1);
    stage.wait_passed(lasts)?;
    stage.wait_rest()?;
    let (real, policy) = stage.end("squeezed-and-grows")?;
    let grows = real.when(grows);

    let scenario = simulated(&real, grows + lasts + WATCHED, |name| match name {
        "works" => demand(&format!(
            ", {{at: {}ms, is: NEED+{}, over: {}s}}",
            (grows + STEP).as_millis(),
            GROWS.0,
            lasts.as_secs()
        )),
        _ => demand(""),
    })?;
    let mut likeness = Likeness::new(real, stage::run(&scenario, &policy)?);
    for name in ["works", "idles"] {
        likeness.squeeze(name, grows)?;
        likeness.at_rest(name, grows)?;
    }
    likeness.help("works", grows)?;
    for name in ["works", "idles"] {
        likeness.way(name, (grows, grows), lasts + WATCHED)?;
        likeness.at_rest(name, grows + lasts + WATCHED)?;
    }
    likeness.verdict()
}

/// What a guest's programs hold: what booting and former loads made its process hold, at first, then what they need, and what
/// comes after that.
fn demand(then: &str) -> String {
    format!("demand: {{begins: HELD, points: [{{at: {}ms, is: NEED}}{then}]}}", 2 * STEP.as_millis())
}
