//! Where the memory controller's trees are mounted, and the directories of a place in them.

use std::path::{Path, PathBuf};

use crate::cgroup::{CgroupPlace, Version};
use crate::held::read_text;
use crate::root::Root;

/// Largest mountinfo accepted; a node with many pods has a few thousand mounts.
const MOUNTINFO_CAP: usize = 4 << 20;

/// One mounted tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Which part of the tree is mounted.
    root: String,
    /// Where, as this process reaches it.
    point: PathBuf,
}

/// The mounted trees. In a pod the agent's own mounts show only its own cgroup; the node's are then reached
/// through the root directory of process 1 (host PID namespace and `SYS_PTRACE`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupMounts {
    v1: Option<Mount>,
    v2: Option<Mount>,
}

impl CgroupMounts {
    /// The trees that are reachable below `root`.
    pub(crate) fn detect(root: &Root) -> Self {
        let of = |process: &str, base: PathBuf| {
            let text = read_text(&root.join("proc").join(process).join("mountinfo"), MOUNTINFO_CAP).ok()?;
            let mounts = Self::parse(&text, &base);
            [&mounts.v1, &mounts.v2].into_iter().flatten().any(|m| m.point.is_dir()).then_some(mounts)
        };
        of("1", root.join("proc/1/root")).or_else(|| of("self", root.join(""))).unwrap_or_default()
    }

    /// `mountinfo` (proc_pid_mountinfo(5)): fields 4 and 5 are root and mount point; after ` - ` come type, source
    /// and the options of the file system, where v1 lists its controllers.
    fn parse(text: &str, base: &Path) -> Self {
        let mut mounts = Self::default();
        for line in text.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let mut front = front.split(' ').skip(3);
            let (Some(root), Some(point)) = (front.next(), front.next()) else { continue };
            let mut back = back.split(' ');
            let (kind, options) = (back.next().unwrap_or(""), back.nth(1).unwrap_or(""));
            let mount =
                || Mount { root: root.to_owned(), point: base.join(point.trim_start_matches('/')) };
            if kind == "cgroup2" && mounts.v2.is_none() {
                mounts.v2 = Some(mount());
            } else if kind == "cgroup" && mounts.v1.is_none() && options.split(',').any(|o| o == "memory") {
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
        let Some(top) = mount.and_then(|mount| mount.top_of(place)) else { return Vec::new() };
        let path = |depth| top.join(place.components().iter().take(depth).collect::<PathBuf>());
        place.own_levels().map(path).collect()
    }
}

impl Mount {
    /// The directory below which the place's components are found.
    fn top_of(&self, place: &CgroupPlace) -> Option<PathBuf> {
        let exists = |top: &PathBuf| {
            let first = place.own_levels().next().unwrap_or(0);
            top.join(place.components().iter().take(first).collect::<PathBuf>()).is_dir()
        };
        if !place.relative {
            return self.absolute_top(place).filter(exists);
        }
        let fronts = ["".to_owned(), "kubepods".into(), "kubepods/burstable".into(), "kubepods/besteffort".into()];
        let slices = place.components().first().map(|c| slice_parents(c)).unwrap_or_default();
        fronts.into_iter().chain([slices]).map(|front| self.point.join(front)).find(exists)
    }

    /// A mount of a part of the tree shows only what lies below that part.
    fn absolute_top(&self, place: &CgroupPlace) -> Option<PathBuf> {
        let shown: Vec<&str> = self.root.split('/').filter(|c| !c.is_empty()).collect();
        if shown.is_empty() {
            return Some(self.point.clone());
        }
        let inside = place.components().iter().map(String::as_str).take(shown.len()).eq(shown.iter().copied());
        // `..` once per shown component would need the parents mounted: only a place at or below the shown part
        // can be reached, and then the mount point stands for all of them.
        let first = place.own_levels().next()?;
        (inside && shown.len() < first).then(|| {
            let ups: PathBuf = shown.iter().map(|_| "..").collect();
            self.point.join(ups)
        })
    }
}

/// systemd nests slices by the dashes of their names: `a-b-c.slice` lies in `a.slice/a-b.slice`
/// (systemd.slice(5)).
fn slice_parents(slice: &str) -> String {
    let Some(name) = slice.strip_suffix(".slice") else { return String::new() };
    let dashes = name.match_indices('-').filter_map(|(at, _)| name.get(..at));
    dashes.map(|parent| format!("{parent}.slice/")).collect()
}
