//! Agents that were told to fail (`--fail-at`): to die, and to stop where something is to be done meanwhile.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{Agent, HostMemory};
use crate::wait;

impl Agent {
    /// Starts an agent as [`Agent::start_with`] does that is to die of SIGKILL by itself, before or after its first report, and
    /// waits for that.
    ///
    /// # Errors
    /// When it does not within `limit`, or ends in another way.
    pub fn start_to_die(
        limit: Duration,
        uri: &str,
        policy: &str,
        state_dir: &Path,
        host: &HostMemory,
        further: &[&str],
    ) -> Result<()> {
        let agent = Self::spawn(&Self::program()?, (uri, policy), state_dir, Some(host), further)?;
        let ended = agent.process.wait(limit)?;
        ensure!(ended.signal() == Some(Signal::KILL.as_raw()), "{ended}: {}", agent.process.log_tail());
        Ok(())
    }

    /// Waits until its loop has stopped by itself (SIGSTOP), does something meanwhile, and lets it go on.
    ///
    /// # Errors
    /// When it does not stop in time, or what is done fails.
    pub fn while_stopped(&self, limit: Duration, what: impl FnOnce() -> Result<()>) -> Result<()> {
        wait::until(limit, "the loop to stop", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.loop_pid()?))?;
            // After the name, which may be anything, its state (proc_pid_stat(5)).
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('T'));
            ensure!(state == Some(true), "{stat}");
            Ok(())
        })
        .with_context(|| self.process.log_tail())?;
        let done = what();
        self.signal_loop(Signal::CONT)?;
        done
    }
}
