//! A pod's cgroup with processes in it, without a Kubernetes: by these the agent tells whose a process is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::{Launch, Process};
use crate::session::Session;
use crate::wait::until;

/// What a process of a pod does at once, on a busy machine.
const SOON: Duration = Duration::from_mins(2);

/// A Burstable pod. Its cgroup goes with it, once all that ran there has ended.
#[derive(Debug)]
pub struct Pod {
    processes: Vec<Process>,
    cgroup: PathBuf,
}

impl Pod {
    /// An empty one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(uid: &str) -> Result<Self> {
        let cgroup = memory_cgroup()?.join("kubepods/burstable").join(format!("pod{uid}"));
        fs::create_dir_all(&cgroup).with_context(|| format!("creating {}", cgroup.display()))?;
        Ok(Self { processes: Vec::new(), cgroup })
    }

    /// Runs a program of this name, its script in `dir`, which enters the pod, has this `oom_score_adj`, and waits.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&mut self, dir: &Path, name: &str, arguments: &[&str], score: &str) -> Result<()> {
        let script = dir.join(name);
        let enter = format!(
            "#!/bin/sh\necho $$ > \"$POD\"/cgroup.procs; echo {score} > /proc/$$/oom_score_adj; read -r line\n"
        );
        fs::write(&script, enter)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let launch = Launch::new(name, &script).args(arguments.iter().copied());
        let launch = launch.env("POD", &self.cgroup).piped_stdin();
        let process = Session::shared()?.spawn(launch)?;
        // Before, it is somebody else's process, or one of a pod that requested something else.
        let told = format!("/proc/{}/oom_score_adj", process.pid());
        process
            .ready(SOON, "its score", || fs::read_to_string(&told).is_ok_and(|told| told.trim() == score))?;
        self.processes.push(process);
        Ok(())
    }

    /// Takes a process in, with this `oom_score_adj`; what it starts from now on is in the pod as well.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_in(&self, pid: u32, score: &str) -> Result<()> {
        fs::write(self.cgroup.join("cgroup.procs"), pid.to_string()).context("entering the pod")?;
        fs::write(format!("/proc/{pid}/oom_score_adj"), score).context("setting its score")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.processes.clear();
        let levels: Vec<&Path> = self.cgroup.ancestors().take(3).collect();
        // What a process held goes with a delay. Another pod may be beside it.
        let gone = || {
            for level in &levels {
                let _ = fs::remove_dir(level);
            }
            !self.cgroup.exists()
        };
        drop(until(SOON, "the end of the pod's cgroup", gone));
    }
}

/// Where this very process's memory is counted.
fn memory_cgroup() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let of = |controller: &str| {
        text.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(controller).map(str::to_owned))
    };
    let v1 = of("memory:").map(|path| format!("/sys/fs/cgroup/memory{path}"));
    let place = v1.or_else(|| of(":").map(|path| format!("/sys/fs/cgroup{path}")));
    place.map(PathBuf::from).context("no memory cgroup in /proc/self/cgroup")
}
