//! The valve: opens when a squeezed machine stops making progress, so that a livelock is a result and never a hang.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

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
    text.lines().find(|line| line.starts_with(word)).map(str::to_owned)
}
