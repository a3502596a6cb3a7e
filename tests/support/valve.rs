//! The valve: opens when a squeezed machine stops making progress, so that a livelock is a result and never a hang.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::hugepages::NR_HUGEPAGES;
use crate::machine;
use crate::process::{Launch, Process};
use crate::session::Session;

/// Name of the valve's program, next to the tests' own.
const PROGRAM: &str = "testbed-valve";

/// Above everything ordinary, below the kernel's own real-time threads (99).
const PRIORITY: u8 = 50;

/// How long it may take to arm, and to end once it is let go; a moment, even on a busy machine.
const READY: Duration = Duration::from_mins(1);

/// When to open, and what opening is.
#[derive(Debug, Clone)]
pub struct ValveOrder {
    /// Open after so long without progress.
    pub stall: Duration,
    /// Open so long after the start in any case.
    pub deadline: Duration,
    /// File to write for relief.
    pub relief: PathBuf,
    /// What to write there.
    pub value: String,
}

impl ValveOrder {
    /// Gives all reserved huge pages back after a stall of 8 s, or at the deadline.
    pub fn huge_pages(deadline: Duration) -> Self {
        Self { stall: Duration::from_secs(8), deadline, relief: NR_HUGEPAGES.into(), value: "0".into() }
    }
}

/// Why a valve opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The machine made no progress.
    Livelock,
    /// It had been shut for as long as it may.
    Deadline,
    /// Whoever started it let it go.
    Starter,
    /// It has not opened: its process is gone, and nobody guards the machine.
    Gone,
}

/// A valve that opened, or is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// Why.
    pub cause: Cause,
    /// When, on the clock of [`now`]; before relief. When it was found out, of a valve that is gone.
    pub at: Duration,
    /// The same in the valve's words.
    pub told: String,
}

impl Opening {
    /// From a line of the report.
    fn parse(line: &str) -> Option<Self> {
        let (_, words) = line.strip_prefix("opened after ")?.split_once(": ")?;
        let causes = [
            ("the machine makes no progress", Cause::Livelock),
            ("deadline", Cause::Deadline),
            ("its starter is gone", Cause::Starter),
        ];
        let (_, cause) = causes.into_iter().find(|(word, _)| words.starts_with(word))?;
        let (told, at) = line.rsplit_once("; at ")?;
        let (seconds, nanos) = at.split_once('.')?;
        let at = Duration::new(seconds.parse().ok()?, nanos.parse().ok()?);
        Some(Self { cause, at, told: told.to_owned() })
    }
}

/// The time on the clock by which valves tell when they opened (`CLOCK_MONOTONIC`).
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// A live valve. It also opens when the process that started it is gone.
#[derive(Debug)]
pub struct Valve {
    process: Process,
    report: PathBuf,
    stdin: Option<std::process::ChildStdin>,
}

impl Valve {
    /// Starts it and waits until it is armed: memory locked, files open, real-time priority.
    pub fn start(session: &Session, order: &ValveOrder) -> Result<Self> {
        machine::require("chrt", "util-linux")?;
        let report = session.fresh_dir("valve")?.join("report");
        let launch = Launch::new("valve", machine::sibling(PROGRAM)?).outlives_session_thread().piped_stdin();
        let launch = launch.real_time(PRIORITY);
        let seconds = [order.stall, order.deadline].map(|d| d.as_secs_f64().to_string());
        let launch = launch.args(seconds).arg(&report).arg(&order.relief).arg(&order.value);
        let mut process = session.spawn(launch)?;
        // Its standard input stays open as long as this value and this process live; its end opens the valve.
        let stdin = process.stdin();
        process.ready(READY, "its being armed", || line_of(&report, "armed"))?;
        Ok(Self { process, report, stdin })
    }

    /// Why it opened, if it has.
    pub fn opened(&self) -> Option<String> {
        line_of(&self.report, "opened")
    }

    /// Whether, when and why it opened, or that it is gone.
    pub fn opening(&self) -> Option<Opening> {
        // Asked before the report is read: an ended one has written it.
        let ended = self.process.ended();
        let opened = line_of(&self.report, "opened").and_then(|line| Opening::parse(&line));
        opened.or_else(|| match ended {
            Ok(None) => None,
            Ok(Some(status)) => {
                Some(Opening { cause: Cause::Gone, at: now(), told: format!("ended with {status}") })
            }
            Err(error) => Some(Opening { cause: Cause::Gone, at: now(), told: format!("{error:#}") }),
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Fails when it is gone or has opened.
    pub fn check(&self) -> Result<()> {
        if let Some(why) = self.opened() {
            bail!("the valve has {why}");
        }
        match self.process.ended()? {
            Some(status) => bail!("the valve ended with {status}; {}", self.process.log_tail()),
            None => Ok(()),
        }
    }

    /// Opens it now, by hand, and says why it had opened.
    pub fn open_now(mut self) -> Result<String> {
        drop(self.stdin.take());
        self.process.wait(READY)?;
        self.opened().context("the valve ended and did not open")
    }
}

fn line_of(report: &Path, word: &str) -> Option<String> {
    let text = fs::read_to_string(report).ok()?;
    let whole = text.get(..=text.rfind('\n')?)?;
    whole.lines().find(|line| line.starts_with(word)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_why_and_when_on_a_clock_that_others_have() {
        let line = "opened after 12.3 s: the machine makes no progress; relief: Ok(()); at 4711.000000250";
        let opening = Opening::parse(line).unwrap();
        assert_eq!((opening.cause, opening.at), (Cause::Livelock, Duration::new(4711, 250)));
        assert_eq!(opening.told, line.rsplit_once("; at").unwrap().0);
        let cause = |why: &str| {
            Opening::parse(&format!("opened after 1.0 s: {why}; at 1.000000000")).map(|o| o.cause)
        };
        assert_eq!(cause("deadline"), Some(Cause::Deadline));
        assert_eq!(cause("its starter is gone"), Some(Cause::Starter));
        assert_eq!(cause("something else"), None);
    }
}
