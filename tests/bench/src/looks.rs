//! What is seen of guests and machine once a second, by files alone: nothing is asked that could keep an answer back while the
//! machine thrashes.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use overcommit_tests::guests::Guest;
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::merging::Merging;

use crate::outcome::{GuestMoment, GuestOutcome, HostMoment};

/// Between two looks.
const EACH: Duration = Duration::from_secs(1);
/// Words of a guest's kernel that has killed.
const KILLED: &str = "Killed process";

/// The looks so far.
pub(crate) struct Looks<'a> {
    guests: Vec<(&'a Guest, u32, GuestOutcome)>,
    merging: &'a Merging,
    host: Vec<HostMoment>,
    swapped: (u64, u64),
    count: u32,
}

/// All that was seen.
pub(crate) struct Seen {
    pub(crate) guests: Vec<GuestOutcome>,
    pub(crate) host: Vec<HostMoment>,
}

impl<'a> Looks<'a> {
    /// Before the work begins.
    pub(crate) fn begin(
        guests: &'a [Guest],
        pids: &[u32],
        merging: &'a Merging,
        works: impl Fn(u64) -> bool,
    ) -> Result<Self> {
        let outcome = |((guest, pid), number): ((&'a Guest, &u32), u64)| {
            let outcome = GuestOutcome {
                name: guest.name().to_owned(),
                works: works(number),
                refused: None,
                written: 0,
                kills: 0,
                gone: !machine::is_running(*pid),
                course: Vec::new(),
            };
            (guest, *pid, outcome)
        };
        let guests = guests.iter().zip(pids).zip(0..).map(outcome).collect();
        Ok(Self { guests, merging, host: Vec::new(), swapped: swapped()?, count: 0 })
    }

    /// Waits for the next second since `began`, and looks.
    pub(crate) fn look(&mut self, began: Instant) -> Result<()> {
        self.count += 1;
        thread::sleep((EACH * self.count).saturating_sub(began.elapsed()));
        for (guest, pid, outcome) in &mut self.guests {
            let console = guest.console();
            outcome.written = written(&console).unwrap_or(outcome.written);
            outcome.kills = u64::try_from(console.matches(KILLED).count())?;
            outcome.gone = !machine::is_running(*pid);
            let resident_mib = machine::resident_bytes(*pid).unwrap_or_default() / MIB;
            // After what was read, for a look may last: what it saw was done by then.
            let at = began.elapsed().as_secs_f64();
            outcome.course.push(GuestMoment { at, written: outcome.written, resident_mib });
        }
        let ((in_mib, out_mib), available_mib) = (swapped()?, machine::meminfo("MemAvailable")? / MIB);
        self.host.push(HostMoment {
            at: began.elapsed().as_secs_f64(),
            available_mib,
            swapped_in_mib: in_mib - self.swapped.0,
            swapped_out_mib: out_mib - self.swapped.1,
            merged_mib: u64::try_from(self.merging.saved_mib()?)?,
        });
        Ok(())
    }

    /// After the work. What was seen later than `until`, in s, does not count.
    pub(crate) fn end(self, until: f64) -> Seen {
        let mut seen = Seen {
            guests: self.guests.into_iter().map(|(_, _, outcome)| outcome).collect(),
            host: self.host,
        };
        seen.cut(until);
        seen
    }
}

impl Seen {
    fn cut(&mut self, until: f64) {
        for guest in &mut self.guests {
            guest.course.retain(|moment| moment.at <= until);
            guest.written = guest.course.last().map_or(0, |last| last.written);
        }
        self.host.retain(|moment| moment.at <= until);
    }
}

/// Pages that the load which began last has written, by its last whole line.
fn written(console: &str) -> Option<u64> {
    let (_, lines) = console.rsplit_once("LOAD begins")?;
    let whole = lines.get(..=lines.rfind('\n')?)?;
    let last = whole.lines().rev().find(|line| line.contains("LOAD t="))?;
    last.split_once("written=")?.1.trim().parse().ok()
}

/// MiB that the machine has swapped in and out since it was booted (`pswpin`, `pswpout` of `/proc/vmstat`, in pages).
fn swapped() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/vmstat").context("reading /proc/vmstat")?;
    let page = u64::try_from(rustix::param::page_size())?;
    let count = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("/proc/vmstat has no {name}"))?.parse::<u64>()? * page / MIB)
    };
    Ok((count("pswpin")?, count("pswpout")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controller;
    use crate::outcome::tests::outcome;

    #[test]
    fn what_was_written_after_the_relief_does_not_count() {
        let moment = |(at, written)| GuestMoment { at, written, resident_mib: 1 };
        let mut guest = outcome(Controller::None, 1, &[90]).guests.remove(0);
        guest.course = [(1.0, 10), (2.0, 20), (9.0, 90)].map(moment).to_vec();
        let host =
            |at| HostMoment { at, available_mib: 1, swapped_in_mib: 0, swapped_out_mib: 0, merged_mib: 0 };
        let mut seen = Seen { guests: vec![guest], host: vec![host(2.0), host(9.0)] };
        seen.cut(2.5);
        let left = (seen.guests[0].written, seen.guests[0].course.len(), seen.host.len());
        assert_eq!(left, (20, 2, 1));
        seen.cut(0.0);
        assert_eq!(seen.guests[0].written, 0);
    }

    #[test]
    fn the_last_whole_line_of_the_last_load_counts() {
        let console = "LOAD begins hold:9\nLOAD t=9s held=9MiB rate=0pages/s written=99\nLOAD begins memknobs:1:2:3\r\n\
                       LOAD t=1s held=1MiB rate=5pages/s written=5\r\nLOAD t=2s held=1MiB rate=5pages/s written=10\r\n\
                       LOAD t=3s held=1MiB rate=5pages/s wri";
        assert_eq!(written(console), Some(10));
        assert_eq!(written("LOAD begins hold:9\n"), None);
        assert_eq!(written(""), None);
    }
}
