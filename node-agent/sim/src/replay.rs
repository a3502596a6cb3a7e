//! A recorded node: every decision is made again, and told as a simulated one is.
//!
//! What a guest needed nobody recorded: its own words stand for it, and distress is what the loop took for it.

mod pass;
mod telling;

use jiff::{SignedDuration, Timestamp};
use overcommit_core::sample::GuestName;
use overcommit_record::{Line, Player};

use crate::{Orders, Outcome};
use pass::{Pass, Seen};
use telling::{Survey, Telling};

/// What came of a recording.
#[derive(Debug)]
pub struct Replayed {
    /// As of a scenario.
    pub outcome: Outcome,
    /// Decisions that were made again.
    pub decisions: u64,
    /// Those that differ: from the recorded ones, or where another policy was asked for, its own from those.
    pub differing: u64,
    /// The first of them, for people.
    pub differences: Vec<String>,
    /// What is missing or cannot be played, for people.
    pub remarks: Vec<String>,
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum NotReplayed {
    /// There is nothing in it.
    #[error("there is no decision in it that this build can make again{}", remarked(.remarks))]
    Empty {
        /// Why, as far as it is known.
        remarks: Vec<String>,
    },
    /// A policy that does not fit.
    #[error(
        "guest {guest} was in class {class:?}, which policy {policy} lacks: a recording has no labels to choose another by, so \
         name the classes as the recorded policy does"
    )]
    NoClass {
        /// Who.
        guest: GuestName,
        /// Its class.
        class: String,
        /// The policy's name.
        policy: String,
    },
}

/// Plays a recording; `lines` calls its argument with each line, from the first, as often as it is called itself.
///
/// # Errors
/// When nothing can be told of it.
pub fn replay(
    name: &str,
    instead: Option<&Orders>,
    mut lines: impl FnMut(&mut dyn FnMut(Line<'static>)),
) -> Result<Replayed, NotReplayed> {
    let (mut survey, mut remarks) = (Survey::default(), Vec::new());
    Pass::of(Player::default()).run(&mut lines, |seen| match seen {
        Seen::Decided { made, now, .. } => survey.see(made, now),
        Seen::Remark(remark) => remarks.push(remark),
        Seen::Began | Seen::Strayed => {}
    });
    let Some(begun) = survey.begun else { return Err(NotReplayed::Empty { remarks }) };
    let (mut telling, mut refused) = (Telling::new(&survey), None);
    let player = instead.map_or_else(Player::default, |orders| Player::instead(orders.policy().clone()));
    Pass::of(player).run(&mut lines, |seen| match seen {
        Seen::Decided { made, now, player } => {
            refused = refused.take().or_else(|| unfit(player, instead?));
            telling.decided(made, now);
        }
        Seen::Began => telling.pause(),
        Seen::Strayed => telling.strayed(),
        Seen::Remark(_) => {}
    });
    if let Some(refused) = refused {
        return Err(refused);
    }
    let policy = instead.map_or_else(|| "as recorded".to_owned(), |orders| orders.name.clone());
    let begun = SignedDuration::try_from(begun).ok().and_then(|begun| Timestamp::from_duration(begun).ok());
    let shows = begun.map_or_else(String::new, |begun| format!("recorded from {begun:.0} on"));
    Ok(telling.sum_up(name, shows, policy, remarks))
}

/// A guest whose class the policy does not know.
fn unfit(player: &Player, orders: &Orders) -> Option<NotReplayed> {
    let unknown = |class: &&str| orders.policy().class(class).is_none();
    player.roster()?.members().find_map(|(guest, member)| {
        let class = member.class.as_deref().filter(unknown)?.to_owned();
        Some(NotReplayed::NoClass { guest: guest.clone(), class, policy: orders.name.clone() })
    })
}

fn remarked(remarks: &[String]) -> String {
    remarks.iter().fold(String::new(), |text, remark| text + "; " + remark)
}
