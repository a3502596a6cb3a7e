//! From a guest's distress to the balloon command that helps it.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use overcommit_tests::agent::{Turn, Turns};
use overcommit_tests::guests::{Guest, Load};
use overcommit_tests::wait;

use crate::guests::Bench;
use crate::spread::Spread;

/// Squeezed guests that are brought into distress, one after the other.
const TRIALS: usize = 8;
/// Usable memory below this part of the guest's is distress (`overcommit-core`, model/words.rs, `DISTRESS_USABLE_PERCENT`).
const LINE_PERCENT: u64 = 5;
const HELPED_BY: Duration = Duration::from_secs(30);
/// Seconds after which nothing is given any more for a load that was killed.
const MOURNED: f64 = 5.0;
/// Error of the moment at which distress begins.
const LOOKED: Duration = Duration::from_millis(20);

/// Squeezes all guests, then lets one after the other use more than it has left.
pub(crate) fn measure(bench: &Bench) -> Result<String> {
    let agent = bench.agent()?;
    bench.squeeze(&agent)?;
    let mut turns = agent.turns();
    let trials = bench.guests.iter().take(TRIALS).map(|guest| {
        trial(guest, &mut turns).with_context(|| {
            let told = agent.ask(&["status"]).map(|told| told.stdout).unwrap_or_default();
            format!("console:\n{}\nagent:\n{}", guest.console(), String::from_utf8_lossy(&told))
        })
    });
    let trials = trials.collect::<Result<Vec<_>>>()?;
    for guest in bench.guests.iter().take(TRIALS) {
        guest.begin(&Load::IDLE)?;
    }
    bench.end(&agent)?;
    let mut text = String::from(
        "## From a guest's distress to the command\n\nA squeezed guest fills memory as fast as it can until its usable \
         memory is below the distress line, 5 % of what it has. The guest's own statistics, which come at whole \
         seconds, are part of the time. The agent may help before the line is crossed: giving begins while a quarter \
         is still usable, or what a guest grows by would soon leave it nothing.\n\n| trials | from the load's start to distress, s | from the load's start to the command, s | from distress to the command, s | killed by the guest's kernel |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    let spread = |of: fn(&Trial) -> Option<f64>| Spread::of(trials.iter().filter_map(of));
    let (distress, command) = (spread(|t| Some(t.distress)), spread(|t| t.command));
    let between = spread(|t| t.command.map(|command| (command - t.distress).max(0.0)));
    let killed = trials.iter().filter(|t| t.killed).count();
    writeln!(text, "| {} | {distress:.2} | {command:.2} | {between:.2} | {killed} |", trials.len())?;
    text.push_str(
        "\nBefore a guest's growth counted, and its filling was seen from outside, three of eight were killed, and the command came \
         0.00 / 0.21 / 1.06 s after the distress.\n",
    );
    Ok(text)
}

/// One trial, in seconds from the load's start.
struct Trial {
    distress: f64,
    /// Absent when the load was killed and so wanted nothing any more.
    command: Option<f64>,
    killed: bool,
}

fn trial(guest: &Guest, turns: &mut Turns) -> Result<Trial> {
    let stats = guest.memory_stats()?;
    let (usable, all) = stats.usable_kib.zip(stats.available_kib).context("no statistics")?;
    // Well below the line, and still above where the guest's kernel kills.
    let left = all * LINE_PERCENT / 100 * 8 / 10;
    let mib = usable.saturating_sub(left) >> 10;
    turns.fresh()?;
    let begun = Timestamp::now();
    guest.begin(&Load::Hold { mib })?;
    let since = |at: Timestamp| at.duration_since(begun).as_secs_f64();
    let (mut distress, mut command, mut killed) = (None, None, false);
    wait::until_paced(
        HELPED_BY,
        LOOKED,
        format!("{} to be helped after filling {mib} MiB", guest.name()),
        || {
            let seen = turns.fresh()?;
            command = command.or_else(|| seen.iter().find_map(|turn| given(turn, guest.name())));
            let console = guest.console();
            killed = console.contains("LOAD killed");
            let over = killed || console.contains(&format!("held={mib}MiB"));
            distress = distress.or_else(|| over.then(Timestamp::now));
            match (distress, command) {
                (Some(distress), Some(_)) => {
                    Ok(Trial { distress: since(distress), command: command.map(since), killed })
                }
                (Some(distress), None) if killed && since(Timestamp::now()) > since(distress) + MOURNED => {
                    Ok(Trial { distress: since(distress), command: None, killed })
                }
                _ => bail!("distress {distress:?}, helped {command:?}"),
            }
        },
    )
}

/// When a turn gave this guest more.
fn given(turn: &Turn, guest: &str) -> Option<Timestamp> {
    let gave = |action: &&overcommit_tests::agent::Action| action.guest == guest && action.to > action.from;
    turn.actions.iter().find(gave).map(|action| action.at)
}
