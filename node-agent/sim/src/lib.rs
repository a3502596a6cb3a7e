//! A node and its guests as a model, run by the decisions of the agent: a week in a minute; and a recorded node, run by them once
//! more.
//!
//! `scenario` is what people write, `plant` what happens, `clockwork` when the loop decides (the decisions are
//! `overcommit-core`'s own), `score` and `chart` what came of it, `table` and `picture` what is told, `sweep` what each parameter of a policy trades. `replay` has
//! the decisions of a recording in the place of plant and clockwork.
//!
//! *Architecture invariant:* the same scenario, policy and seed give the same result, bit by bit. Nothing here reads a clock or
//! decides about memory of a node; the model's constants stand where they are used, each with its source.

pub mod chance;
mod chart;
mod clockwork;
pub mod compare;
mod course;
pub mod files;
mod moment;
mod orders;
mod picture;
mod plant;
pub mod replay;
mod rivals;
pub mod scenario;
mod score;
pub mod sweep;
mod table;

use std::time::Duration;

use overcommit_record::Tape;
use serde::Serialize;

pub use chart::{GuestSeries, NodeSeries, Series};
pub use orders::Orders;
pub use picture::{picture, trade};
pub use rivals::Rival;
pub use score::{GuestScore, NodeScore, by_name};
pub use table::{harmless, table};

use chart::Chart;
use clockwork::Clockwork;
use plant::Plant;
use rivals::Driver;
use scenario::Scenario;
use score::Score;

/// What came of a scenario under a policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The scenario's name, or the recording's.
    pub scenario: String,
    /// What it shows.
    pub shows: String,
    /// The policy's name.
    pub policy: String,
    /// Where chance began; absent of a recording, which shows neither who was ended nor what guests' kernels killed.
    pub seed: Option<u64>,
    /// How long it lasted.
    pub lasted: Duration,
    /// The node.
    pub node: NodeScore,
    /// Its guests, in the order of the scenario; of a recording, of their identities.
    pub guests: Vec<GuestScore>,
    /// What happened over time.
    pub series: Series,
}

/// Who drives the balloons: the agent's loop, or another.
enum Hand<'a> {
    Loop(Box<Clockwork<'a>>),
    Rival(Driver),
}

/// Runs a scenario from its beginning to its end.
pub fn simulate(name: &str, scenario: &Scenario, orders: &Orders) -> Outcome {
    simulate_onto(None, name, scenario, orders)
}

/// Runs it with another than the agent's loop.
pub fn simulate_rival(name: &str, scenario: &Scenario, rival: Rival) -> Outcome {
    let hand = |_: &Plant| Hand::Rival(Driver::new(rival, scenario));
    run(name, rival.name(), scenario, hand)
}

/// As [`simulate`], and records as an agent does.
pub fn simulate_onto(
    tape: Option<Box<dyn Tape + Send>>,
    name: &str,
    scenario: &Scenario,
    orders: &Orders,
) -> Outcome {
    let hand = |plant: &Plant| Hand::Loop(Box::new(Clockwork::new(orders, plant, tape)));
    run(name, &orders.name, scenario, hand)
}

fn run<'a>(name: &str, policy: &str, scenario: &Scenario, hand: impl FnOnce(&Plant) -> Hand<'a>) -> Outcome {
    let mut plant = Plant::new(scenario);
    let mut hand = hand(&plant);
    let mut score = Score::new(plant.names());
    let (step, lasts) = (scenario.step.0, scenario.lasts.0);
    let mut chart = Chart::new(lasts, step, plant.guests.len());
    let mut ledger = None;
    while plant.time() < lasts {
        let ended = plant.pass(step);
        score.passed(plant.moments(), step, ended);
        score.merged(plant.host.merging(), step);
        if plant.host.stalled {
            score.stalled(step);
        }
        if ended.is_some() {
            chart.ended(plant.time());
        }
        match &mut hand {
            Hand::Loop(clockwork) => {
                if let Some(decision) = clockwork.work(&mut plant) {
                    let find = |id: &_| plant.place(id).map(|place| (place, plant.need(place)));
                    score.decided(&decision, find, |_, _| true);
                    ledger = Some(decision.ledger);
                    clockwork.reuse(decision);
                }
            }
            Hand::Rival(driver) => {
                let commands = driver.work(&mut plant);
                score.commanded(commands, |id| plant.place(id).map(|place| (place, plant.need(place))));
            }
        }
        chart.passed(plant.time(), step, plant.moments(), ledger.as_ref());
    }
    let lasted = plant.time();
    let (node, guests) = score.sum_up();
    Outcome {
        scenario: name.to_owned(),
        shows: scenario.shows.clone(),
        policy: policy.to_owned(),
        seed: Some(scenario.seed),
        lasted,
        node,
        guests,
        series: chart.series(),
    }
}
