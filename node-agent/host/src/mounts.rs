//! Where the memory controller's trees are mounted, and the directories of a place in them.

use std::path::{Path, PathBuf};

use procfs::process::MountInfo;

use crate::cgroup::{CgroupPlace, Version};
use crate::held::read_text;
use crate::root::Root;

/// Largest mountinfo accepted; a node with many pods has a few thousand mounts.
const MOUNTINFO_CAP: usize = 4 << 20;

/// One mounted tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Which part of the tree is mounted.
    pub(crate) root: String,
    /// Where, as this process reaches it.
    pub(crate) point: PathBuf,
}

/// The mounted trees. In a pod the agent's own mounts show only its own cgroup; the node's are then reached
/// through the root directory of process 1 (host PID namespace and `SYS_PTRACE`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupMounts {
    pub(crate) v1: Option<Mount>,
    pub(crate) v2: Option<Mount>,
}

impl CgroupMounts {
    /// The trees that are reachable below `root`.
    pub(crate) fn detect(root: &Root) -> Self {
        let of = |process: &str, base: PathBuf| {
            let text = read_text(&root.join("proc").join(process).join("mountinfo"), MOUNTINFO_CAP).ok()?;
            let mounts = Self::parse(&text, &base);
            let reachable = [&mounts.v1, &mounts.v2].into_iter().flatten().any(|m| m.point.is_dir());
            reachable.then_some(mounts)
        };
        of("1", root.join("proc/1/root")).or_else(|| of("self", root.join(""))).unwrap_or_default()
    }

    /// The first of each kind in `mountinfo`; a line that is none is passed over.
    pub(crate) fn parse(text: &str, base: &Path) -> Self {
        let mut mounts = Self::default();
        for line in text.lines().filter_map(|line| MountInfo::from_line(line).ok()) {
            let point = || base.join(line.mount_point.strip_prefix("/").unwrap_or(&line.mount_point));
            let mount = || Mount { root: line.root.clone(), point: point() };
            if line.fs_type == "cgroup2" && mounts.v2.is_none() {
                mounts.v2 = Some(mount());
            } else if line.fs_type == "cgroup"
                && mounts.v1.is_none()
                && line.super_options.contains_key("memory")
            {
                mounts.v1 = Some(mount());
            }
        }
        mounts
    }

    /// The directories of the levels that are the process's own, the outermost first; empty if it has none or they
    /// cannot be reached.
    pub(crate) fn own_directories(&self, place: &CgroupPlace) -> Vec<PathBuf> {
        let mount = match place.version() {
            Version::V1 => self.v1.as_ref(),
            Version::V2 => self.v2.as_ref(),
        };
        mount.map(|mount| mount.own_directories(place)).unwrap_or_default()
    }
}

impl Mount {
    fn own_directories(&self, place: &CgroupPlace) -> Vec<PathBuf> {
        let shown: Vec<&str> = self.root.split('/').filter(|c| !c.is_empty() && *c != "..").collect();
        let starts_here =
            place.components().iter().map(String::as_str).take(shown.len()).eq(shown.iter().copied());
        let candidates = if place.relative {
            fronts(place).into_iter().map(|front| (self.point.join(front), 0)).collect()
        } else if starts_here {
            vec![(self.point.clone(), shown.len())]
        } else {
            Vec::new()
        };
        let path = |(top, skip): &(PathBuf, usize), depth: usize| {
            let below = place.components().iter().take(depth).skip(*skip);
            top.join(below.collect::<PathBuf>())
        };
        let outermost = place.own_levels().next().unwrap_or(0);
        match candidates.into_iter().find(|c| path(c, outermost).is_dir()) {
            Some(found) => place.own_levels().map(|depth| path(&found, depth)).collect(),
            None => Vec::new(),
        }
    }
}

/// What may stand in front of a path that a cgroup namespace cut off: nothing, the kubelet's own levels, or the
/// slices that systemd derives from the name.
fn fronts(place: &CgroupPlace) -> Vec<String> {
    let slices = place.components().first().map(|c| slice_parents(c)).unwrap_or_default();
    vec![String::new(), slices, "kubepods".into(), "kubepods/burstable".into(), "kubepods/besteffort".into()]
}

/// systemd nests slices by the dashes of their names: `a-b-c.slice` lies in `a.slice/a-b.slice`
/// (systemd.slice(5)).
fn slice_parents(slice: &str) -> String {
    let Some(name) = slice.strip_suffix(".slice") else { return String::new() };
    let dashes = name.match_indices('-').filter_map(|(at, _)| name.get(..at));
    dashes.flat_map(|parent| [parent, ".slice/"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";

    fn tree(mountinfo: &str, dirs: &[&str]) -> (tempfile::TempDir, CgroupMounts) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        std::fs::write(dir.path().join("proc/self/mountinfo"), mountinfo).unwrap();
        std::fs::create_dir_all(dir.path().join("sys/fs/cgroup/memory")).unwrap();
        for name in dirs {
            std::fs::create_dir_all(dir.path().join("sys/fs/cgroup").join(name)).unwrap();
        }
        let mounts = CgroupMounts::detect(&Root::new(dir.path()));
        (dir, mounts)
    }

    fn directories(dir: &tempfile::TempDir, mounts: &CgroupMounts, cgroup: &str) -> Vec<String> {
        let place = CgroupPlace::parse(cgroup).unwrap();
        let top = dir.path().join("sys/fs/cgroup");
        let shown = |p: PathBuf| p.strip_prefix(&top).unwrap().display().to_string();
        mounts.own_directories(&place).into_iter().map(shown).collect()
    }

    #[test]
    fn the_memory_controller_of_the_old_interface_is_found_by_its_option() {
        let pod = format!("memory/kv1/kubepods/burstable/pod{UID}");
        let (dir, mounts) = tree(
            "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n",
            &[&format!("{pod}/abc")],
        );
        let found =
            directories(&dir, &mounts, &format!("4:memory:/kv1/kubepods/burstable/pod{UID}/abc\n0::/\n"));
        assert_eq!(found, [pod.clone(), format!("{pod}/abc")]);
    }

    #[test]
    fn paths_cut_off_by_a_cgroup_namespace_are_completed() {
        let name = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        let full = format!("kubepods.slice/kubepods-burstable.slice/{name}");
        let (dir, mounts) =
            tree("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", &[&format!("{full}/c.scope")]);
        let found = directories(&dir, &mounts, &format!("0::/../../{name}/c.scope\n"));
        assert_eq!(found, [full.clone(), format!("{full}/c.scope")]);
    }

    #[test]
    fn a_mount_of_a_part_shows_what_lies_below_it() {
        let pod = format!("kubepods/burstable/pod{UID}");
        let (dir, mounts) =
            tree("41 31 0:38 /kv1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", &[&format!("{pod}/abc")]);
        assert_eq!(
            directories(&dir, &mounts, &format!("0::/kv1/{pod}/abc\n")),
            [pod.clone(), format!("{pod}/abc")]
        );
        assert!(directories(&dir, &mounts, &format!("0::/other/{pod}/abc\n")).is_empty());
    }

    #[test]
    fn what_is_not_mounted_cannot_be_reached() {
        for text in ["", "garbage\n", "41 31 0:38 / /elsewhere rw - cgroup2 cgroup2 rw\n"] {
            let (dir, mounts) = tree(text, &[]);
            assert!(directories(&dir, &mounts, &format!("0::/kubepods/pod{UID}/c\n")).is_empty());
        }
    }
}
