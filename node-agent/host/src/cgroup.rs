//! Where a process is in the tree of cgroups: which pod, which service class, which levels belong to its guest.
//!
//! The kubelet names a pod's cgroup `…/kubepods/burstable/pod<uid>` (cgroupfs driver) or
//! `…/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with _>.slice` (systemd driver); Guaranteed
//! pods lack the middle part (`qos_container_manager_linux.go`, `pod_container_manager_linux.go` and
//! `cgroup_manager_linux.go` in `pkg/kubelet/cm`, Kubernetes 1.36). A node may prefix all of it (`cgroupRoot`).

use std::path::PathBuf;
use std::sync::Arc;

use overcommit_core::units::Bytes;
use procfs::{FromBufRead as _, ProcessCGroup, ProcessCGroups};

use crate::held::read_text;
use crate::text::counter;

/// Largest `memory.stat` accepted; about 2 KiB in reality.
const STAT_CAP: usize = 64 << 10;

/// Quality of service class of a pod, as the place of its cgroup tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Directly below `kubepods`.
    Guaranteed,
    /// Below `burstable`.
    Burstable,
    /// Below `besteffort`.
    BestEffort,
}

/// Which of the two interfaces the memory controller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// A hierarchy of its own.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The place of a process in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPlace {
    version: Version,
    components: Vec<String>,
    /// How many components lead to the pod or machine scope; 0 if the process has none of its own.
    own: usize,
    /// Leading `..` were cut off: the reader lives in a cgroup namespace and the front of the path is unknown.
    pub(crate) relative: bool,
    pod: Option<(Arc<str>, Qos)>,
}

impl CgroupPlace {
    /// The place that `/proc/PID/cgroup` tells (cgroups(7)); absent without a memory controller.
    pub fn parse(text: &str) -> Option<Self> {
        let ProcessCGroups(all) = ProcessCGroups::from_buf_read(text.as_bytes()).ok()?;
        let find = |which: fn(&ProcessCGroup) -> bool| all.iter().find(|c| which(c)).map(|c| &c.pathname);
        match find(|c| c.controllers.iter().any(|name| name == "memory")) {
            Some(path) => Some(Self::new(Version::V1, path)),
            None => find(|c| c.hierarchy == 0).map(|path| Self::new(Version::V2, path)),
        }
    }

    fn new(version: Version, path: &str) -> Self {
        let relative = path.starts_with("/..");
        let components: Vec<String> =
            path.split('/').filter(|c| !matches!(*c, "" | "." | "..")).map(String::from).collect();
        let pod = pod(&components, relative);
        let own = match &pod {
            Some((depth, ..)) => *depth,
            None => components.iter().position(|c| is_machine_scope(c)).map_or(0, |at| at.saturating_add(1)),
        };
        let pod = pod.map(|(_, uid, qos)| (uid, qos));
        Self { version, components, own, relative, pod }
    }

    /// UID of the pod; absent outside of pods. A static pod's is a hash.
    pub fn pod_uid(&self) -> Option<&Arc<str>> {
        self.pod.as_ref().map(|(uid, _)| uid)
    }

    /// The pod's class.
    pub fn qos(&self) -> Option<Qos> {
        self.pod.as_ref().map(|(_, qos)| *qos)
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The path's components from the top.
    pub(crate) fn components(&self) -> &[String] {
        &self.components
    }

    /// The levels that belong to the process's pod or machine scope, the outermost first, as depths. Empty if it
    /// shares its cgroup with others.
    pub(crate) fn own_levels(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, last) = if self.own == 0 { (1, 0) } else { (self.own, self.components.len()) };
        first..=last
    }
}

/// The first component that is a pod's cgroup, from the top: what a pod nests below its own cannot pass for one.
/// Depth, UID and class.
fn pod(components: &[String], relative: bool) -> Option<(usize, Arc<str>, Qos)> {
    for (at, component) in components.iter().enumerate() {
        let above = components.get(..at).unwrap_or_default();
        let found = match component.strip_suffix(".slice") {
            Some(slice) => systemd_pod(slice),
            None => cgroupfs_pod(component, above, relative),
        };
        if let Some((uid, qos)) = found {
            return Some((at.saturating_add(1), uid, qos));
        }
    }
    None
}

fn systemd_pod(slice: &str) -> Option<(Arc<str>, Qos)> {
    let (front, uid) = slice.rsplit_once("-pod")?;
    let front = front.get(front.find("kubepods")?..)?;
    let qos = match front {
        "kubepods" => Qos::Guaranteed,
        "kubepods-burstable" => Qos::Burstable,
        "kubepods-besteffort" => Qos::BestEffort,
        _ => return None,
    };
    Some((uid_text(&uid.replace('_', "-"))?, qos))
}

fn cgroupfs_pod(component: &str, above: &[String], relative: bool) -> Option<(Arc<str>, Qos)> {
    let uid = uid_text(component.strip_prefix("pod")?)?;
    let below = |name: &str| above.last().is_some_and(|c| c == name);
    if !relative && !above.iter().any(|c| c == "kubepods") {
        return None;
    }
    let qos = if below("burstable") || (relative && above.is_empty()) {
        Qos::Burstable // a sibling seen from a cgroup namespace: only the class that KubeVirt's pods usually have
    } else if below("besteffort") {
        Qos::BestEffort
    } else if below("kubepods") {
        Qos::Guaranteed
    } else {
        return None;
    };
    Some((uid, qos))
}

fn uid_text(text: &str) -> Option<Arc<str>> {
    let shape = matches!(text.len(), 32..=36) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    shape.then(|| Arc::from(text))
}

/// libvirt's scope of one machine: `machine-qemu\x2d1\x2dNAME.scope` with systemd, `qemu-1-NAME.libvirt-qemu`
/// without (`virCgroupNewMachine`, src/util/vircgroup.c).
fn is_machine_scope(component: &str) -> bool {
    let name = component.strip_suffix(".scope").is_some_and(|n| n.starts_with("machine-qemu"));
    name || component.strip_suffix(".libvirt-qemu").is_some_and(|n| n.contains("qemu"))
}

/// What a cgroup and all below it hold of the host's `AnonPages` and `Shmem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holds {
    /// Anonymous memory.
    pub(crate) anon: Bytes,
    /// Memory of memfds, shared memory and tmpfs, mapped or not; absent where the kernel does not tell.
    pub(crate) shmem: Option<Bytes>,
}

impl Holds {
    /// Both together; `shmem` where the kernel tells none of its own.
    pub(crate) fn all(self, shmem: Bytes) -> Bytes {
        self.anon.plus(self.shmem.unwrap_or(shmem))
    }
}

/// What the cgroup holds now.
pub(crate) fn holds(dir: &std::path::Path, version: Version) -> Option<Holds> {
    parse_stat(&read_text(&dir.join("memory.stat"), STAT_CAP).ok()?, version)
}

/// What a `memory.stat` tells of it.
pub(crate) fn parse_stat(text: &str, version: Version) -> Option<Holds> {
    // v1 sums up the tree under names of its own: NR_ANON_MAPPED and NR_SHMEM (memcg1_stats in mm/memcontrol-v1.c).
    let (anon, shmem) = match version {
        Version::V1 => ("total_rss", "total_shmem"),
        Version::V2 => ("anon", "shmem"),
    };
    let bytes = |name| counter(text, name).map(Bytes::new);
    Some(Holds { anon: bytes(anon)?, shmem: bytes(shmem) })
}

/// The limits on the levels `dirs`, each absent where there is none.
pub(crate) fn limits(dirs: &[PathBuf], version: Version) -> Vec<Option<Bytes>> {
    let name = match version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    dirs.iter().map(|dir| one_limit(&read_text(&dir.join(name), STAT_CAP).ok()?)).collect()
}

/// The most that everything in a pod can hold, by the `limits` on its levels: the pod's own, and that of the container in
/// which its guest runs, beside what the other containers hold now. Deeper levels are the tenant's, who may raise their
/// limits. Absent when there is none. `pod` is what the pod holds, `container` reads it of the container.
pub(crate) fn bound(
    limits: &[Option<Bytes>],
    pod: Option<Holds>,
    container: impl FnOnce() -> Option<Holds>,
) -> Option<Bytes> {
    let of_container = limits.get(1).copied().flatten().zip(pod).and_then(|(limit, pod)| {
        let others = pod.all(Bytes::ZERO).minus(container()?.all(Bytes::ZERO));
        Some(limit.plus(others))
    });
    limits.first().copied().flatten().into_iter().chain(of_container).min()
}

/// How much more of a cgroup's memory may be swapped out by the limits on the levels `dirs`; absent when none has one. v1
/// limits memory and swap together.
pub(crate) fn swappable(dirs: &[PathBuf], version: Version) -> Option<Bytes> {
    let (limit, used) = match version {
        Version::V1 => ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes"),
        Version::V2 => ("memory.swap.max", "memory.swap.current"),
    };
    let number = |dir: &PathBuf, name: &str| one_limit(&read_text(&dir.join(name), STAT_CAP).ok()?);
    dirs.iter().filter_map(|dir| Some(number(dir, limit)?.minus(number(dir, used).unwrap_or_default()))).min()
}

/// How much swap a cgroup occupies: also that of pages which are back in memory and unchanged. v1 counts memory and swap together.
pub(crate) fn swapped(dir: &std::path::Path, version: Version) -> Option<Bytes> {
    let current = || one_limit(&read_text(&dir.join("memory.swap.current"), STAT_CAP).ok()?);
    (version == Version::V2).then(current).flatten()
}

/// v2 writes `max`, v1 a number near 2^63 (`PAGE_COUNTER_MAX`, `include/linux/page_counter.h`) for no limit.
pub(crate) fn one_limit(text: &str) -> Option<Bytes> {
    const UNLIMITED: u64 = 1 << 62;
    text.trim().parse().ok().filter(|limit| *limit < UNLIMITED).map(Bytes::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";

    fn place(path: &str) -> CgroupPlace {
        CgroupPlace::parse(&format!("0::{path}\n")).unwrap()
    }

    #[test]
    fn pods_are_found_under_both_drivers_and_both_versions() {
        let systemd = UID.replace('-', "_");
        for (path, qos) in [
            (format!("/kubepods/burstable/pod{UID}/abc"), Qos::Burstable),
            (format!("/kv1/kubepods/burstable/pod{UID}/abc/nested"), Qos::Burstable),
            (format!("/kubepods/pod{UID}/abc"), Qos::Guaranteed),
            (format!("/kubepods/besteffort/pod{UID}/abc"), Qos::BestEffort),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice/c.scope"
                ),
                Qos::Burstable,
            ),
            (format!("/kubepods.slice/kubepods-pod{systemd}.slice/cri-containerd-1.scope"), Qos::Guaranteed),
            (
                format!("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{systemd}.slice/c"),
                Qos::Guaranteed,
            ),
            (format!("/../kubepods-besteffort-pod{systemd}.slice/c.scope"), Qos::BestEffort),
        ] {
            let place = place(&path);
            assert_eq!(place.pod_uid().map(AsRef::as_ref), Some(UID), "{path}");
            assert_eq!(place.qos(), Some(qos), "{path}");
        }
        let v1 = format!("12:pids:/x\n4:memory:/kv1/kubepods/burstable/pod{UID}/abc\n0::/\n");
        let place = CgroupPlace::parse(&v1).unwrap();
        assert_eq!((place.version(), place.pod_uid().map(AsRef::as_ref)), (Version::V1, Some(UID)));
    }

    #[test]
    fn what_a_pod_nests_cannot_pass_for_another_pod() {
        let other = UID.replace('4', "5");
        let place = place(&format!("/kubepods/burstable/pod{UID}/abc/kubepods/burstable/pod{other}"));
        assert_eq!(place.pod_uid().map(AsRef::as_ref), Some(UID));
    }

    #[test]
    fn other_places_are_no_pods() {
        for path in [
            "/",
            "/system.slice/x.service",
            "/kubepods/burstable",
            "/kubepods/podx/y",
            &format!("/user/pod{UID}"),
            "/kubepods/burstable/pod../../x",
        ] {
            assert_eq!(place(path).pod_uid(), None, "{path}");
        }
        for text in ["", "garbage", "4:memory"] {
            assert_eq!(CgroupPlace::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_levels_of_a_pod_and_of_a_machine_are_its_own() {
        let levels = |path: &str| place(path).own_levels().collect::<Vec<_>>();
        assert_eq!(levels(&format!("/kubepods/burstable/pod{UID}/abc")), [3, 4]);
        assert_eq!(levels("/machine.slice/machine-qemu\\x2d1\\x2dx.scope/libvirt/emulator"), [2, 3, 4]);
        assert_eq!(levels("/machine/qemu-1-x.libvirt-qemu"), [2]);
        assert_eq!(levels("/system.slice/libvirtd.service"), [] as [usize; 0]);
    }

    #[test]
    fn limits_are_the_lowest_that_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let level = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("memory.max"), text).unwrap();
            std::fs::write(path.join("memory.limit_in_bytes"), text).unwrap();
            path
        };
        let open = level("open", "max\n");
        let v1_open = level("v1", "9223372036854771712\n");
        let small = level("small", "1000\n");
        let large = level("large", "2000\n");
        let limit = |dirs: &[PathBuf], version| limits(dirs, version).into_iter().flatten().min();
        assert_eq!(limit(&[open.clone(), large, small], Version::V2), Some(Bytes::new(1000)));
        assert_eq!(limit(&[open], Version::V2), None);
        assert_eq!(limit(&[v1_open], Version::V1), None);
        assert_eq!(limit(&[dir.path().join("gone")], Version::V2), None);
    }

    #[test]
    fn a_pod_is_bound_by_its_limit_and_by_its_containers_beside_what_the_others_hold() {
        let dir = tempfile::tempdir().unwrap();
        let level = |name: &str, max: &str, anon: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("memory.max"), max).unwrap();
            std::fs::write(path.join("memory.stat"), format!("anon {anon}\nshmem 5\n")).unwrap();
            path
        };
        let (open, tight) = (level("open", "max", "300"), level("tight", "350", "300"));
        let (container, free) = (level("container", "100", "80"), level("free", "max", "80"));
        let inner = level("inner", "10", "1");
        let of = |dirs: &[&PathBuf]| {
            let dirs: Vec<PathBuf> = dirs.iter().map(|d| (*d).clone()).collect();
            let holds_of = |level: usize| holds(dirs.get(level)?, Version::V2);
            bound(&limits(&dirs, Version::V2), holds_of(0), || holds_of(1)).map(Bytes::get)
        };
        assert_eq!(of(&[&open, &container, &inner]), Some(100 + 220));
        assert_eq!(of(&[&tight, &free, &inner]), Some(350), "what its tenant nests binds nobody");
        assert_eq!(of(&[&tight, &container]), Some(320));
        assert_eq!((of(&[&open, &free]), of(&[])), (None, None));
    }

    #[test]
    fn what_may_be_swapped_is_the_least_that_a_level_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let level = |name: &str, max: &str, current: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("memory.swap.max"), max).unwrap();
            std::fs::write(path.join("memory.swap.current"), current).unwrap();
            path
        };
        let (pod, container) = (level("pod", "max\n", "5000\n"), level("container", "8000\n", "5000\n"));
        let none = level("none", "0\n", "0\n");
        assert_eq!(swappable(&[pod.clone(), container.clone()], Version::V2), Some(Bytes::new(3000)));
        assert_eq!(swappable(&[pod.clone(), container, none], Version::V2), Some(Bytes::ZERO));
        assert_eq!(swappable(std::slice::from_ref(&pod), Version::V2), None);
        assert_eq!(swapped(&pod, Version::V2), Some(Bytes::new(5000)));
        assert_eq!((swapped(&pod, Version::V1), swapped(dir.path(), Version::V2)), (None, None));
    }

    #[test]
    fn anonymous_and_shared_memory_are_read_from_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let stat = "rss 1\nanon 2\nshmem 20\ntotal_rss 3\ntotal_shmem 30\n";
        std::fs::write(dir.path().join("memory.stat"), stat).unwrap();
        let holds_of = |version| holds(dir.path(), version);
        let want = |anon, shmem| Some(Holds { anon: Bytes::new(anon), shmem: Some(Bytes::new(shmem)) });
        assert_eq!((holds_of(Version::V1), holds_of(Version::V2)), (want(3, 30), want(2, 20)));
        std::fs::write(dir.path().join("memory.stat"), "anon 2\n").unwrap();
        assert_eq!(holds_of(Version::V2), Some(Holds { anon: Bytes::new(2), shmem: None }));
        assert_eq!(holds(&dir.path().join("gone"), Version::V2), None);
    }
}
