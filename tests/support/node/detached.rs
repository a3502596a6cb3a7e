//! A cluster that a process of its own holds, so that it outlives the command that started it: `testbed up` and
//! `testbed down`, and the demo that leaves its cluster behind.

use super::{Cluster, ClusterSpec, NodeFacts};
use crate::api::Access;
use crate::machine;
use crate::parts::{CONTAINERD, HELM, KUBERNETES, cache_root};
use crate::wait::until;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The program that holds the cluster, next to the tests' own.
const PROGRAM: &str = "testbed";
/// Longer than any start takes, with all parts to be built.
const UP: Duration = Duration::from_hours(1);
/// Pods, namespaces and cgroups go in seconds.
const DOWN: Duration = Duration::from_mins(5);

/// A detached cluster, as its holder wrote it down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detached {
    /// The holder's process id.
    pub pid: u32,
    /// The holder's start time: ids are used again.
    start_time: u64,
    /// Administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The nodes.
    pub nodes: Vec<NodeFacts>,
}

impl Detached {
    /// The detached cluster that runs, if any.
    pub fn find() -> Result<Option<Self>> {
        Self::read(&state_path()?)
    }

    /// The cluster that is described in this file, if it runs.
    pub fn read(state: &Path) -> Result<Option<Self>> {
        let Ok(text) = fs::read(state) else { return Ok(None) };
        let found: Self = serde_json::from_slice(&text).context("the detached cluster's state")?;
        Ok(found.is_running().then_some(found))
    }

    /// Starts a detached cluster and returns when it is up.
    ///
    /// # Errors
    /// One runs already, or it does not start: with the end of its log.
    pub fn up(spec: &ClusterSpec) -> Result<Self> {
        if let Some(running) = Self::find()? {
            bail!("a cluster runs already (process {}): `testbed down` ends it", running.pid);
        }
        // Here, where progress is seen.
        crate::parts::ensure_all(super::PARTS)?;
        let progress = spec.progress();
        let log = folder()?.join("holder.log");
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        for file in [state_path()?, step_path(&state_path()?)] {
            let _ = fs::remove_file(file);
        }
        let mut holder = Command::new(machine::sibling(PROGRAM)?);
        holder.arg("hold").arg(state_path()?).arg(serde_json::to_string(spec)?);
        // A group of its own: Ctrl-C is for the command, not for the cluster.
        holder
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut child = holder.spawn().context("starting the cluster's holder")?;
        let step = step_path(&state_path()?);
        let state = until(UP, "the cluster", || {
            let entered = fs::read_to_string(&step).ok().and_then(|text| text.parse().ok());
            progress.enter(entered.unwrap_or_default());
            match (child.try_wait(), Self::find()) {
                (Ok(Some(status)), _) => Ok(Err(anyhow::anyhow!("the cluster's holder ended with {status}"))),
                (_, Ok(Some(state))) => Ok(Ok(state)),
                (_, other) => Err(format!("{other:?}")),
            }
        })?;
        state.with_context(|| crate::process::log_tail(&log))
    }

    /// Holds a cluster until asked to end (SIGTERM or Ctrl-C), and says in the file `path` how to reach it: the
    /// holder's own work.
    pub fn hold(path: &Path, spec: &ClusterSpec) -> Result<()> {
        crate::parts::ensure_all(super::PARTS)?;
        // Who waits for this shows it; a step that cannot be told is no reason to stop.
        let tell = |step: usize| drop(fs::write(step_path(path), step.to_string()));
        let cluster = Cluster::start_telling(spec, &tell)?;
        let pid = std::process::id();
        let state = Self {
            pid,
            start_time: machine::start_time(pid).context("the own start time")?,
            kubeconfig: cluster.kubeconfig_path().to_owned(),
            nodes: cluster.nodes().to_vec(),
        };
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(&state)?).with_context(|| new.display().to_string())?;
        fs::rename(&new, path).with_context(|| path.display().to_string())?;
        wait_for_end()?;
        for file in [path.to_owned(), step_path(path)] {
            let _ = fs::remove_file(file);
        }
        cluster.stop()
    }

    /// Ends it and waits until nothing is left.
    pub fn down(&self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM).context("ending the cluster's holder")?;
        until(DOWN, "the end of the cluster", || !self.is_running())?;
        let folder = self.session_dir()?;
        until(DOWN, "the end of its folder", || !folder.exists())
    }

    /// Temp folder of the holder's session.
    pub fn session_dir(&self) -> Result<&Path> {
        self.kubeconfig.parent().and_then(Path::parent).context("odd kubeconfig path")
    }

    /// The cluster, to be used like one of this process; dropping it does not end it.
    pub fn attach(&self) -> Result<Cluster> {
        let dir = self.kubeconfig.parent().context("odd kubeconfig path")?;
        Ok(Cluster { access: Access::new(&self.kubeconfig, dir)?, nodes: self.nodes.clone(), owned: None })
    }

    /// Shell lines with which to use it.
    pub fn how_to_use(&self) -> Result<String> {
        let folders = [KUBERNETES.folder()?, HELM.folder()?, CONTAINERD.folder()?];
        let path: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let mut lines = vec![
            format!("export KUBECONFIG={}", self.kubeconfig.display()),
            format!("export PATH={}:$PATH", path.join(":")),
        ];
        for node in &self.nodes {
            lines.push(format!(
                "# a shell on {}: nsenter --target {} --mount --pid --net",
                node.name, node.init_pid
            ));
        }
        Ok(lines.join("\n"))
    }

    fn is_running(&self) -> bool {
        machine::start_time(self.pid) == Some(self.start_time) && machine::is_running(self.pid)
    }
}

fn wait_for_end() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            done = tokio::signal::ctrl_c() => done?,
        }
        Ok(())
    })
}

fn folder() -> Result<PathBuf> {
    let folder = cache_root()?.join("detached");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Where the holder writes which step of its start it takes.
fn step_path(state: &Path) -> PathBuf {
    state.with_extension("step")
}

fn state_path() -> Result<PathBuf> {
    Ok(folder()?.join("cluster.json"))
}
