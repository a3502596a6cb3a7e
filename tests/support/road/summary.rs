//! The numbers that end the road.

use std::fmt;
use std::time::Duration;

use super::{BalloonCommand, GUESTS, SIZE_MIB, Upgrade};

/// What was seen on the way.
#[derive(Clone, Debug)]
pub struct Summary {
    /// From the start of `kubectl apply` of Enforce to the first balloon command.
    pub first_command: Duration,
    /// From there until what was promised was within the budget.
    pub within_budget: Duration,
    /// Every balloon command.
    pub commands: Vec<BalloonCommand>,
    /// What the worker and the idle guest held when memory had moved, in MiB.
    pub moved: (u64, u64),
    /// What the idle guest held while the agent was replaced.
    pub upgrade: Upgrade,
    /// What all guests together lacked before the policy went, in MiB, and how long giving it back took.
    pub given_back: (u64, Duration),
    /// Why the valve opened, if it did.
    pub valve: Option<String>,
}

impl Summary {
    /// What was taken from a guest and what was given to it, in MiB, over all commands.
    pub fn taken_and_given(&self, name: &str) -> (f64, f64) {
        let of = self.commands.iter().filter(|c| c.guest.rsplit('/').next() == Some(name));
        of.fold((0.0, 0.0), |(taken, given), c| (taken + c.taken().max(0.0), given + (-c.taken()).max(0.0)))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |d: Duration| format!("{:.1} s", d.as_secs_f64());
        let (worker, idle) = self.moved;
        let (back, took) = self.given_back;
        writeln!(
            f,
            "  kubectl apply (Enforce) to the first balloon command  {}",
            seconds(self.first_command)
        )?;
        writeln!(
            f,
            "  kubectl apply (Enforce) to promises within budget     {}",
            seconds(self.within_budget)
        )?;
        for name in GUESTS {
            let (taken, given) = self.taken_and_given(name);
            writeln!(
                f,
                "  {name:<10} of {SIZE_MIB} MiB: taken {taken:.0} MiB in all, given {given:.0} MiB in all"
            )?;
        }
        writeln!(f, "  when memory had moved: worker {worker} MiB, idle {idle} MiB")?;
        let Upgrade { before, meanwhile, spare } = &self.upgrade;
        writeln!(
            f,
            "  upgrade of the agent: idle held {before} MiB before, {} to {} MiB meanwhile ({spare} MiB were spare)",
            meanwhile.start(),
            meanwhile.end()
        )?;
        writeln!(f, "  given back at the end: {back} MiB in {}", seconds(took))?;
        write!(f, "  valve: {}", self.valve.as_deref().unwrap_or("never opened"))
    }
}
