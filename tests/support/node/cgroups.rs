//! A node's own cgroup root. Kubelets that share one delete each other's pods.

use crate::guardian::Pending;
use crate::session::Session;
use crate::undo::Undo;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// Where the machine mounts its hierarchies (cgroup v1, one folder each; on v2 the one hierarchy itself).
const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroups of one node, in every hierarchy; removed when dropped, which must be after the node's processes end.
#[derive(Debug)]
pub(super) struct NodeCgroups {
    name: String,
    pending: Vec<Pending>,
}

impl NodeCgroups {
    /// Makes them.
    pub(super) fn create(name: &str) -> Result<Self> {
        let session = Session::shared()?;
        let mut made = Self { name: name.to_owned(), pending: Vec::new() };
        for hierarchy in hierarchies()? {
            let dir = hierarchy.join(name);
            let unified = dir.parent().is_some_and(|parent| parent.join("cgroup.controllers").exists());
            // The unified hierarchy can kill, and is asked first: undoing goes backwards.
            let undo = if unified { Undo::KillCgroup(dir.clone()) } else { Undo::RemoveCgroup(dir.clone()) };
            made.pending.push(session.undo_later(undo)?);
            fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                // A new cpuset of cgroup v1 is empty and would let nothing run.
                let from = hierarchy.join(file);
                if dir.join(file).exists() && from.exists() {
                    fs::write(dir.join(file), fs::read(&from)?).with_context(|| dir.display().to_string())?;
                }
            }
        }
        Ok(made)
    }

    /// Name of the node's cgroup in each hierarchy, as the kubelet's `cgroupRoot`.
    pub(super) fn root(&self) -> String {
        format!("/{}", self.name)
    }

    /// Removes them now.
    pub(super) fn remove(mut self) -> Result<()> {
        while let Some(pending) = self.pending.pop() {
            pending.undo()?;
        }
        Ok(())
    }
}

impl Drop for NodeCgroups {
    fn drop(&mut self) {
        while let Some(pending) = self.pending.pop() {
            drop(pending);
        }
    }
}

/// The mounted hierarchies, the unified one last.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mount = PathBuf::from(MOUNT);
    if mount.join("cgroup.controllers").exists() {
        return Ok(vec![mount]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&mount).context(MOUNT)? {
        let path = entry?.path();
        // cpu,cpuacct and the like are also reachable by links.
        if path.is_dir() && !path.is_symlink() && path.join("cgroup.procs").exists() {
            found.push(path);
        }
    }
    found.sort_by_key(|path| (path.join("cgroup.controllers").exists(), path.clone()));
    Ok(found)
}
