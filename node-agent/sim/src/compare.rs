//! The agent's loop beside others on the same scenario: how much of the way from nobody to one who knows everything each goes.

pub mod page;

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::scenario::Scenario;
use crate::score::NodeScore;
use crate::table::{harmless, time};
use crate::{GuestScore, Orders, Outcome, Rival, simulate, simulate_rival};

/// Less than this between nobody and the oracle is no way of which one could go a part.
const NO_WAY: Duration = Duration::from_secs(30);

/// One scenario under everybody's hands.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The scenario's name.
    pub scenario: String,
    /// The agent's loop first, then the others.
    pub runs: Vec<Run>,
}

/// What came of one.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Who drove.
    pub who: String,
    /// Time in which guests did not have what they need.
    pub suffering: Duration,
    /// The same of the guest that suffered longest.
    pub worst: Duration,
    /// How much of the suffering without anybody this spares, in percent of what the oracle spares: 100 is as good, negative is
    /// worse than nobody. Absent where there is no way to go.
    pub way: Option<i64>,
    /// The node's sums.
    pub node: NodeScore,
}

/// Runs one scenario under everybody's hands.
pub fn compare(name: &str, scenario: &Scenario, orders: &Orders) -> Comparison {
    let own = simulate(name, scenario, orders);
    let rivals = Rival::ALL.map(|rival| simulate_rival(name, scenario, rival));
    let mut runs: Vec<Run> = std::iter::once(&own).chain(&rivals).map(Run::of).collect();
    let find =
        |runs: &[Run], rival: Rival| runs.iter().find(|run| run.who == rival.name()).map(|run| run.suffering);
    if let Some((nothing, oracle)) = find(&runs, Rival::Nothing).zip(find(&runs, Rival::Oracle)) {
        for run in &mut runs {
            run.way = way(nothing, oracle, run.suffering);
        }
    }
    Comparison { scenario: name.to_owned(), runs }
}

/// Which part of the way from `nothing` to `oracle` somebody goes, in percent.
fn way(nothing: Duration, oracle: Duration, somebody: Duration) -> Option<i64> {
    let whole = nothing.checked_sub(oracle).filter(|whole| *whole >= NO_WAY)?;
    let percent =
        |part: Duration| i64::try_from(part.as_millis().saturating_mul(100) / whole.as_millis().max(1)).ok();
    match nothing.checked_sub(somebody) {
        Some(spared) => percent(spared),
        None => percent(somebody.saturating_sub(nothing)).map(i64::saturating_neg),
    }
}

impl Run {
    fn of(outcome: &Outcome) -> Self {
        Self {
            who: outcome.policy.clone(),
            suffering: outcome.node.suffering(),
            worst: outcome.guests.iter().map(GuestScore::suffering).max().unwrap_or_default(),
            way: None,
            node: outcome.node.clone(),
        }
    }
}

/// All comparisons as one table for people.
pub fn table(comparisons: &[Comparison]) -> String {
    let mut text = String::new();
    for comparison in comparisons {
        let _ = writeln!(
            text,
            "{}\n  {:<12} {:>6} {:>10} {:>10} {:>8} {:>8} {:>8} {:>9} {:>11} {:>9} {:>6}",
            comparison.scenario,
            "WHO",
            "WAY",
            "SUFFERING",
            "WORST",
            "KILLED",
            "EVICTED",
            "WITHIN",
            "STALLED",
            "RECLAIMED",
            "COMMANDS",
            "TURNS"
        );
        for run in &comparison.runs {
            let NodeScore { killed, evicted, killed_within, stalled, reclaimed, commands, turns, .. } =
                &run.node;
            let way = run.way.map_or_else(|| "-".to_owned(), |way| format!("{way} %"));
            let (suffering, worst, stalled) = (time(run.suffering), time(run.worst), time(*stalled));
            let reclaimed = reclaimed.to_string();
            let _ = writeln!(
                text,
                "  {:<12} {way:>6} {suffering:>10} {worst:>10} {killed:>8} {evicted:>8} {killed_within:>8} {stalled:>9} {reclaimed:>11} {commands:>9} {turns:>6}",
                run.who
            );
        }
        text.push('\n');
    }
    harmless(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_measured_from_nobody_to_the_oracle() {
        let minutes = Duration::from_mins;
        let of = |somebody| way(minutes(10), minutes(2), minutes(somebody));
        assert_eq!([2, 10, 6, 14, 1].map(of), [100, 0, 50, -50, 112].map(Some));
        assert_eq!(way(minutes(2), minutes(2), minutes(1)), None, "there is no way");
    }
}
