//! How many files a process that runs may have open.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// The limit of a process's open files (`RLIMIT_NOFILE`), changed while it runs. Dropping it puts back what was there.
#[derive(Debug)]
pub struct OpenFiles {
    process: Pid,
    found: Rlimit,
}

impl OpenFiles {
    /// Of this process.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> Result<Self> {
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let words = text.lines().find_map(|line| line.strip_prefix("Max open files"));
        let mut words =
            words.context("no limit of open files")?.split_whitespace().map(|word| word.parse().ok());
        let (current, maximum) = (words.next().flatten(), words.next().flatten());
        Ok(Self { process, found: Rlimit { current, maximum } })
    }

    /// Lets it open no further one; true if that was so already, also with what it closed since the last call.
    ///
    /// # Errors
    /// When it has ended, or the limit cannot be changed.
    pub fn allow_no_more(&self) -> Result<bool> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.process.as_raw_nonzero()))?;
        let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let numbers: BTreeSet<u64> = numbers.collect();
        // A file gets the smallest number that is free, and none from the limit on.
        let free = numbers.iter().zip(0..).find(|(open, number)| *open != number).map(|(_, number)| number);
        let free = free.unwrap_or(u64::try_from(numbers.len())?);
        let limit = Rlimit { current: Some(free), ..self.found };
        let before = prlimit(Some(self.process), Resource::Nofile, limit)?;
        Ok(before.current == Some(free))
    }

    /// Lets it have as many as before.
    ///
    /// # Errors
    /// When it has ended.
    pub fn allow_as_before(&self) -> Result<()> {
        prlimit(Some(self.process), Resource::Nofile, self.found)?;
        Ok(())
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        // Nothing to put back where the process has ended.
        let _ = self.allow_as_before();
    }
}
