//! What is seen of guests and machine once a second, by files alone: nothing is asked that could keep an answer back while the
//! machine thrashes.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use overcommit_tests::guests::{Guest, Load};
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::merging::Merging;
use overcommit_tests::waits::Waits;

use crate::outcome::{Answers, GuestMoment, GuestOutcome, HostMoment};

/// Between two looks.
const EACH: Duration = Duration::from_secs(1);
/// A service reports each second: it may be so long ago without being of any meaning.
const SILENT: Duration = Duration::from_secs(2);
/// Words of a guest's kernel that has killed.
const KILLED: &str = "Killed process";

/// The looks so far.
pub(crate) struct Looks<'a> {
    guests: Vec<Watched<'a>>,
    merging: &'a Merging,
    host: Vec<HostMoment>,
    swapped: (u64, u64),
    count: u32,
}

/// One guest so far.
struct Watched<'a> {
    guest: &'a Guest,
    pid: u32,
    outcome: GuestOutcome,
    /// Requests that come to it per second.
    per_second: u64,
    /// What it had done before this counted, and by each look.
    before: Progress,
    by: Vec<Progress>,
}

/// All that was seen.
pub(crate) struct Seen {
    pub(crate) guests: Vec<GuestOutcome>,
    pub(crate) host: Vec<HostMoment>,
}

impl<'a> Looks<'a> {
    /// Before the work counts, in which each guest does what `load` says.
    pub(crate) fn begin(
        guests: &'a [Guest],
        pids: &[u32],
        merging: &'a Merging,
        warm: bool,
        load: impl Fn(u64) -> Load,
    ) -> Result<Self> {
        let watched = |((guest, pid), number): ((&'a Guest, &u32), u64)| {
            let load = load(number);
            let before = warm.then(|| Progress::on(&guest.console())).flatten();
            Watched {
                guest,
                pid: *pid,
                outcome: GuestOutcome {
                    name: guest.name().to_owned(),
                    works: load.works(),
                    refused: None,
                    done: 0,
                    waits: None,
                    unanswered: 0,
                    kills: 0,
                    gone: !machine::is_running(*pid),
                    course: Vec::new(),
                },
                per_second: load.per_second().unwrap_or_default(),
                before: before.unwrap_or_default(),
                by: Vec::new(),
            }
        };
        let guests = guests.iter().zip(pids).zip(0..).map(watched).collect();
        Ok(Self { guests, merging, host: Vec::new(), swapped: swapped()?, count: 0 })
    }

    /// Waits for the next second since `began`, and looks.
    pub(crate) fn look(&mut self, began: Instant) -> Result<()> {
        self.count += 1;
        thread::sleep((EACH * self.count).saturating_sub(began.elapsed()));
        for watched in &mut self.guests {
            watched.look(began)?;
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

    /// After the work. What was seen later than `until`, in s, does not count; requests come to the end of the `window`.
    pub(crate) fn end(self, until: f64, window: Duration) -> Seen {
        let mut host = self.host;
        host.retain(|moment| moment.at <= until);
        let guests = self.guests.into_iter().map(|watched| watched.end(until, window)).collect();
        Seen { guests, host }
    }
}

impl Watched<'_> {
    fn look(&mut self, began: Instant) -> Result<()> {
        let console = self.guest.console();
        let progress = Progress::on(&console);
        let progress = progress.unwrap_or_else(|| self.by.last().unwrap_or(&self.before).clone());
        self.outcome.kills = u64::try_from(console.matches(KILLED).count())?;
        self.outcome.gone = !machine::is_running(self.pid);
        let resident_mib = machine::resident_bytes(self.pid).unwrap_or_default() / MIB;
        // After what was read, for a look may last: what it saw was done by then.
        let at = began.elapsed().as_secs_f64();
        let done = progress.done.saturating_sub(self.before.done);
        self.outcome.course.push(GuestMoment { at, done, resident_mib });
        self.by.push(progress);
        Ok(())
    }

    fn end(self, until: f64, window: Duration) -> GuestOutcome {
        result(self.outcome, &self.before, &self.by, self.per_second, until, window)
    }
}

/// What of all that was seen of a guest counts: what was seen `by` each look of its course, until then.
fn result(
    mut guest: GuestOutcome,
    before: &Progress,
    by: &[Progress],
    per_second: u64,
    until: f64,
    window: Duration,
) -> GuestOutcome {
    guest.course.retain(|moment| moment.at <= until);
    guest.done = guest.course.last().map_or(0, |last| last.done);
    if per_second > 0 {
        let seen: Vec<_> = by.iter().zip(&guest.course).collect();
        let last = seen.last().map_or(before, |(last, _)| last);
        // When it was heard of last: whoever came to it after that was not answered, as far as anybody knows.
        let heard = seen.iter().find(|(progress, _)| progress.second == last.second);
        let heard = heard.filter(|_| last.second != before.second).map_or(0.0, |(_, moment)| moment.at);
        let silent = Duration::try_from_secs_f64(window.as_secs_f64() - heard).unwrap_or_default();
        guest.unanswered = last.waiting + per_second * silent.saturating_sub(SILENT).as_secs();
        guest.waits = Some(Answers(last.waits.clone().since(&before.waits)));
    }
    guest
}

/// What a load had got done by its last whole line.
#[derive(Clone, Debug, Default, PartialEq)]
struct Progress {
    /// Since it began, by its own clock.
    second: u64,
    /// Pages written, or requests answered.
    done: u64,
    /// Requests that have come and are not answered yet.
    waiting: u64,
    /// How long those waited that were answered.
    waits: Waits,
}

impl Progress {
    /// Of the load that began last; absent before its first line.
    fn on(console: &str) -> Option<Self> {
        let (_, lines) = console.rsplit_once("LOAD begins")?;
        let whole = lines.get(..=lines.rfind('\n')?)?;
        let line = whole.lines().rev().find_map(|line| line.split_once("LOAD t=").map(|(_, words)| words))?;
        let word = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        Some(Self {
            second: line.split_once('s')?.0.parse().ok()?,
            done: word("written=").or_else(|| word("answered="))?.parse().ok()?,
            waiting: word("waiting=").and_then(|count| count.parse().ok()).unwrap_or_default(),
            waits: word("waits=").and_then(|waits| waits.parse().ok()).unwrap_or_default(),
        })
    }
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

    /// A guest of which was seen at each of these seconds what its console said then.
    fn watched(per_second: u64, before: &Progress, by: &[(f64, Progress)]) -> GuestOutcome {
        let course = by.iter().map(|(at, seen)| GuestMoment { at: *at, done: seen.done, resident_mib: 1 });
        let seen: Vec<_> = by.iter().map(|(_, seen)| seen.clone()).collect();
        let mut guest = outcome(Controller::None, 1, &[0]).guests.remove(0);
        guest.course = course.collect();
        result(guest, before, &seen, per_second, 2.5, Duration::from_secs(10))
    }

    fn at(second: u64, done: u64, words: &str) -> Progress {
        Progress { second, done, waiting: 3, waits: words.parse().unwrap() }
    }

    #[test]
    fn what_was_done_after_the_relief_does_not_count() {
        let by = [(1.0, at(1, 10, "")), (2.0, at(2, 20, "")), (9.0, at(9, 90, ""))];
        let guest = watched(0, &Progress::default(), &by);
        assert_eq!((guest.done, guest.course.len(), guest.unanswered, guest.waits), (20, 2, 0, None));
        assert_eq!(watched(0, &Progress::default(), &[]).done, 0);
    }

    #[test]
    fn whoever_came_to_a_silent_service_was_not_answered() {
        let before = at(30, 0, "4:100");
        // Not heard of since the first second, of ten; two may be silent.
        let by = [(1.0, at(31, 16, "4:110,9:6")), (2.0, at(31, 16, "4:110,9:6")), (9.0, at(39, 90, "4:190"))];
        let guest = watched(16, &before, &by);
        assert_eq!(
            (guest.unanswered, String::from(guest.waits.unwrap())),
            (3 + 7 * 16, "4:10,9:6".to_owned())
        );
        let never = watched(16, &before, &[]);
        assert_eq!((never.unanswered, String::from(never.waits.unwrap())), (3 + 8 * 16, String::new()));
    }

    #[test]
    fn the_last_whole_line_of_the_last_load_counts() {
        let console = "LOAD begins hold:9\nLOAD t=9s held=9MiB rate=0pages/s written=99\nLOAD begins memknobs:1:2:3\r\n\
                       LOAD t=1s held=1MiB rate=5pages/s written=5\r\nLOAD t=2s held=1MiB rate=5pages/s written=10\r\n\
                       LOAD t=3s held=1MiB rate=5pages/s wri";
        assert_eq!(Progress::on(console), Some(Progress { second: 2, done: 10, ..Progress::default() }));
        assert_eq!(Progress::on("LOAD begins hold:9\n"), None);
        assert_eq!(Progress::on(""), None);
        let service =
            "LOAD begins cloudy:1:2:3:4\nLOAD t=7s held=2MiB answered=21 waiting=3 waits=5:20,9:1\r\n";
        assert_eq!(Progress::on(service), Some(at(7, 21, "5:20,9:1")));
    }
}
