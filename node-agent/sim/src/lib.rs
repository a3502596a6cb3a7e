//! A node and its guests as a model, run by the decisions of the agent: a week in a minute.
//!
//! `scenario` is what people write, `plant` what happens, `clockwork` when the loop decides (the decisions are
//! `overcommit-core`'s own), `score` and `record` what came of it, `table` and `picture` what is told.
//!
//! *Architecture invariant:* the same scenario, policy and seed give the same result, bit by bit. Nothing here reads a clock or
//! decides about memory of a node; the model's constants stand where they are used, each with its source.

mod clockwork;
mod course;
mod orders;
mod picture;
mod plant;
mod record;
pub mod scenario;
mod score;
mod table;

use std::time::Duration;

use serde::Serialize;

pub use orders::Orders;
pub use picture::picture;
pub use record::{GuestSeries, NodeSeries, Series};
pub use score::{GuestScore, NodeScore, by_name};
pub use table::table;

use clockwork::Clockwork;
use plant::Plant;
use record::Record;
use scenario::Scenario;
use score::Score;

/// What came of a scenario under a policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// What it shows.
    pub shows: String,
    /// The policy's name.
    pub policy: String,
    /// Where chance began.
    pub seed: u64,
    /// How long it lasted.
    pub lasted: Duration,
    /// The node.
    pub node: NodeScore,
    /// Its guests, in the order of the scenario.
    pub guests: Vec<GuestScore>,
    /// What happened over time.
    pub series: Series,
}

/// Runs a scenario from its beginning to its end.
pub fn simulate(name: &str, scenario: &Scenario, orders: &Orders) -> Outcome {
    let mut plant = Plant::new(scenario);
    let mut clockwork = Clockwork::new(orders, &plant);
    let mut score = Score::new(&plant);
    let (step, lasts) = (scenario.step.0, scenario.lasts.0);
    let mut record = Record::new(lasts, step, &plant);
    let mut ledger = None;
    while plant.time() < lasts {
        let ended = plant.pass(step);
        score.passed(&plant, step, ended);
        if let Some(decision) = clockwork.work(&mut plant) {
            score.decided(&plant, &decision);
            ledger = Some(decision.ledger);
        }
        record.passed(&plant, ledger.as_ref(), step, ended.is_some());
    }
    let lasted = plant.time();
    let (node, guests) = score.sum_up();
    Outcome {
        scenario: name.to_owned(),
        shows: scenario.shows.clone(),
        policy: orders.name.clone(),
        seed: scenario.seed,
        lasted,
        node,
        guests,
        series: record.series(),
    }
}
