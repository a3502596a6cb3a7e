//! A running guest, seen and steered from the host.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::stats::MemoryStats;
use super::virsh::Virsh;
use crate::hugepages::HugePages;
use crate::load::Load;
use crate::machine;
use crate::process::log_tail;
use crate::wait::until;

/// Boot takes about 6 s of one core; several boot at once, and others use the machine too.
const BOOTING: Duration = Duration::from_mins(6);

/// The guest answers an order within a fraction of a second, unless it thrashes.
const ANSWER: Duration = Duration::from_mins(2);

/// A guest. Dropping it ends it and forgets it.
#[derive(Debug)]
pub struct Guest {
    name: String,
    dir: PathBuf,
    virsh: Virsh,
    pid_dir: PathBuf,
    destroyed: bool,
    // Given back after the guest that used them has ended.
    hugepages: Option<HugePages>,
}

impl Guest {
    pub(super) fn new(
        name: String,
        dir: PathBuf,
        virsh: Virsh,
        pid_dir: PathBuf,
        hugepages: Option<HugePages>,
    ) -> Self {
        Self { name, dir, virsh, pid_dir, destroyed: false, hugepages }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All that it wrote to its serial console.
    pub fn console(&self) -> String {
        fs::read(self.dir.join("console"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Nothing in it was killed.
    ///
    /// # Errors
    /// When something was, with its console.
    pub fn expect_unhurt(&self) -> Result<()> {
        let console = self.console();
        let hurt = ["LOAD killed", "Out of memory", "Kernel panic"].iter().any(|w| console.contains(w));
        if hurt {
            bail!("{} was hurt:\n{console}", self.name);
        }
        Ok(())
    }

    /// Waits until the load program runs and takes orders.
    pub fn wait_booted(&self) -> Result<()> {
        self.wait_console(BOOTING, "LOAD listens")
    }

    /// Waits until these words stand on the console.
    pub fn wait_console(&self, limit: Duration, words: &str) -> Result<()> {
        let look = || match self.qemu_pid() {
            _ if self.console().contains(words) => Ok(Ok(())),
            Ok(pid) if machine::is_running(pid) => Err("other words"),
            _ => Ok(Err(anyhow!("its QEMU is gone"))),
        };
        let seen = until(limit, format!("`{words}` on the console of {}", self.name), look).flatten();
        seen.with_context(|| log_tail(&self.dir.join("console")))
    }

    /// How often its kernel has come up.
    pub fn boots(&self) -> usize {
        self.console().matches("LOAD up").count()
    }

    /// Balloon statistics.
    pub fn memory_stats(&self) -> Result<MemoryStats> {
        MemoryStats::parse(&self.virsh.call(&["dommemstat", &self.name])?)
    }

    /// Process id of its QEMU.
    pub fn qemu_pid(&self) -> Result<u32> {
        let path = self.pid_dir.join(format!("{}.pid", self.name));
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{}: {text}", path.display()))
    }

    /// Resident size of its QEMU in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        machine::resident_bytes(self.qemu_pid()?)
    }

    /// Sets the balloon's target.
    pub fn set_balloon_mib(&self, mib: u64) -> Result<()> {
        self.virsh.call(&["setmem", &self.name, &format!("{mib}M"), "--live"]).map(drop)
    }

    /// Asks its virtio-mem device to have this much; its kernel does the rest, if it has the driver.
    pub fn plug_mib(&self, mib: u64) -> Result<()> {
        let size = format!("{mib}MiB");
        self.virsh.call(&["update-memory-device", &self.name, "--requested-size", &size, "--live"]).map(drop)
    }

    /// Sets the period of its statistics; 0 ends them.
    pub fn set_stats_period_s(&self, seconds: u32) -> Result<()> {
        self.virsh.call(&["dommemstat", &self.name, "--period", &seconds.to_string(), "--live"]).map(drop)
    }

    /// The period of its statistics as libvirt knows it; `None` where there are none.
    pub fn stats_period_s(&self) -> Result<Option<u32>> {
        let xml = self.virsh.call(&["dumpxml", &self.name])?;
        let text = xml
            .split_once("<stats period='")
            .and_then(|(_, rest)| rest.split_once('\''))
            .map(|(value, _)| value);
        text.map(|value| value.parse().with_context(|| format!("period {value}"))).transpose()
    }

    /// Replaces its load.
    pub fn begin(&self, load: &Load) -> Result<()> {
        self.order(&format!("load {load}")).map(drop)
    }

    /// What its load says of itself.
    pub fn load_status(&self) -> Result<String> {
        self.order("status")
    }

    /// Sends a line to the load program and returns its answer.
    pub fn order(&self, line: &str) -> Result<String> {
        let answer = self.ask(line).with_context(|| format!("ordering `{line}` of {}", self.name))?;
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => bail!("{} refused `{line}`: {answer}", self.name),
        }
    }

    fn ask(&self, line: &str) -> Result<String> {
        let mut port =
            UnixStream::connect(self.dir.join("port")).context("connecting to its command port")?;
        port.set_read_timeout(Some(ANSWER))?;
        port.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(port).read_line(&mut answer).context("waiting for its answer")?;
        Ok(answer.trim().to_owned())
    }

    /// Resets it as a button would: its kernel starts anew, its QEMU and balloon target stay.
    pub fn reset(&self) -> Result<()> {
        self.virsh.call(&["reset", &self.name]).map(drop)
    }

    /// Pauses it.
    pub fn suspend(&self) -> Result<()> {
        self.virsh.call(&["suspend", &self.name]).map(drop)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.virsh.call(&["resume", &self.name]).map(drop)
    }

    /// Writes all of it to a file, and ends it.
    pub fn save(&self, file: &Path) -> Result<()> {
        self.virsh.call(&["save", &self.name, &file.to_string_lossy()]).map(drop)
    }

    /// Has it go on from there, in a process of its own.
    pub fn restore(&self, file: &Path) -> Result<()> {
        self.virsh.call(&["restore", &file.to_string_lossy()]).map(drop)
    }

    /// libvirt's word for its state, such as `running`.
    pub fn state(&self) -> Result<String> {
        Ok(self.virsh.call(&["domstate", &self.name])?.trim().to_owned())
    }

    /// Ends it and forgets it.
    pub fn destroy(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.destroyed, true) {
            return Ok(());
        }
        // Already off (a guest that a test ended) is fine; what counts is that it is forgotten.
        let off = self.virsh.call(&["destroy", &self.name]);
        let forgotten = self.virsh.call(&["undefine", &self.name]).or(off);
        self.hugepages.take().map_or(Ok(()), HugePages::release)?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))?;
        forgotten.map(drop)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("test bed: ending guest {}: {error:#}", self.name);
        }
    }
}
