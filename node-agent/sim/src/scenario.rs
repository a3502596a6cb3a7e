//! A scenario as people write it: a host, its guests, and what they do over time. What a field means stands in
//! `docs/simulator.md`.

mod check;
mod read;
mod words;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

pub use read::{Bad, MAX_BYTES, read};
pub use words::{Part, Size, Span};

/// One course of one node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scenario {
    /// What it shows, in one sentence.
    pub shows: String,
    /// Where chance begins.
    #[serde(default)]
    pub seed: u64,
    /// How long it lasts.
    pub lasts: Span,
    /// How much time passes at once.
    #[serde(default = "defaults::step")]
    pub step: Span,
    /// The host.
    pub host: Host,
    /// Its guests, in groups that are alike.
    pub guests: Vec<Group>,
}

/// The host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Host {
    /// All its memory.
    pub memory: Size,
    /// Its swap; none unless said.
    #[serde(default)]
    pub swap: Size,
    /// What its swap takes or gives in a second.
    #[serde(default = "defaults::host_swap_speed")]
    pub swap_speed: Size,
    /// Huge page pools.
    #[serde(default)]
    pub huge_pages: Size,
    /// What its kernel keeps.
    #[serde(default = "defaults::kernel")]
    pub kernel: Size,
    /// Memory of everything that is no guest.
    #[serde(default)]
    pub other: Course,
    /// The kubelet's eviction line; 0 where there is no kubelet.
    #[serde(default = "defaults::eviction")]
    pub eviction: Size,
}

/// Guests that are alike but for chance.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Group {
    /// Name; of several guests each gets a number behind it.
    pub name: String,
    /// How many.
    #[serde(default = "defaults::one")]
    pub count: u32,
    /// Full size of each.
    pub size: Size,
    /// Namespace, which has its name as its label `kubernetes.io/metadata.name`.
    #[serde(default = "defaults::namespace")]
    pub namespace: String,
    /// Labels by which a policy's classes select it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What its pod requests.
    #[serde(default)]
    pub request: Size,
    /// What its pod may hold at most.
    pub limit: Option<Size>,
    /// What QEMU and the rest of the pod use beside the guest's memory.
    #[serde(default = "defaults::overhead")]
    pub overhead: Size,
    /// What its programs need.
    pub demand: Course,
    /// Which part of that holds the same as in all others of its group.
    #[serde(default = "defaults::none")]
    pub equal: Part,
    /// What its files would fill of the page cache.
    #[serde(default)]
    pub files: Course,
    /// Which part of them is read again and again.
    #[serde(default = "defaults::hot")]
    pub hot: Part,
    /// Swap of its own; none unless said.
    #[serde(default)]
    pub swap: Size,
    /// What that swap takes or gives in a second.
    #[serde(default = "defaults::guest_swap_speed")]
    pub swap_speed: Size,
    /// What its disks give in a second.
    #[serde(default = "defaults::disk_speed")]
    pub disk_speed: Size,
    /// What its balloon takes in a second while memory is free.
    #[serde(default = "defaults::balloon_speed")]
    pub balloon_speed: Size,
    /// It tells the host which of its pages are free.
    #[serde(default = "defaults::yes")]
    pub free_page_reporting: bool,
    /// Period of its statistics unless somebody sets another.
    #[serde(default = "defaults::statistics")]
    pub statistics: Span,
    /// When it starts.
    #[serde(default)]
    pub starts: Span,
    /// It does not boot then: it is migrated to this node, live, and that takes so long.
    pub arrives: Option<Span>,
    /// How long after it was killed it is back; it stays away unless said.
    pub returns: Option<Span>,
    /// How it treats its balloon.
    #[serde(default)]
    pub temper: Temper,
    /// What happens to it.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// How a guest treats its balloon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Temper {
    /// As it is told.
    #[default]
    Obeys,
    /// It has no driver that follows.
    Deaf,
    /// It follows, and takes everything back after half a minute.
    Deflates,
    /// It says that it follows, and keeps the memory.
    Pretends,
    /// It follows, and says that it suffers as soon as anything is taken.
    Hoards,
}

/// Something that happens to a guest.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub at: Span,
    /// What.
    pub what: Happening,
    /// For how long; [`Happening::Reboots`] lasts as long as a boot.
    #[serde(default)]
    pub lasts: Span,
}

/// What may happen to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Happening {
    /// Its kernel starts anew in the same process.
    Reboots,
    /// It does nothing at all.
    Freezes,
    /// Its statistics stop.
    FallsSilent,
    /// It is migrated to another node, live.
    Migrates,
    /// It ends.
    Stops,
}

/// An amount of memory over time: `300Mi`, or fields.
#[derive(Clone, Debug, Default)]
pub struct Course(pub Curve);

/// The fields of a [`Course`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Curve {
    /// What it is until the first point; while it repeats, the last point holds instead.
    #[serde(default)]
    pub begins: Size,
    /// What it becomes, and when.
    #[serde(default)]
    pub points: Vec<Point>,
    /// After which time it begins anew.
    pub repeats: Option<Span>,
    /// Each guest of a group is up to this much ahead of the others, by chance.
    #[serde(default)]
    pub apart: Span,
    /// What comes on top now and then, by chance.
    pub bursts: Option<Bursts>,
}

/// One point of a course.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Point {
    /// When it begins to change.
    pub at: Span,
    /// What it becomes.
    pub is: Size,
    /// How long that takes.
    #[serde(default)]
    pub over: Span,
}

/// What comes on top now and then.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Bursts {
    /// How much.
    pub adds: Size,
    /// How long each lasts.
    pub lasts: Span,
    /// From one to the next, on average.
    pub every: Span,
}

impl<'de> Deserialize<'de> for Course {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Course;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an amount such as 300Mi, or fields such as begins and points")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Course, E> {
                let begins = Size::try_from(text.to_owned()).map_err(E::custom)?;
                Ok(Course(Curve { begins, ..Curve::default() }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Course, A::Error> {
                Curve::deserialize(MapAccessDeserializer::new(map)).map(Course)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What holds where a scenario says nothing. Speeds and sizes that were measured are from real guests under emulation
/// (QEMU 7.2 and 10, TCG, two cores).
mod defaults {
    use std::time::Duration;

    use overcommit_core::units::{Bytes, Permille};

    use super::{Part, Size, Span};

    /// Balloon statistics come at whole seconds.
    pub(super) fn step() -> Span {
        Span(Duration::from_secs(1))
    }
    /// Between 29 and 40 MiB/s went to a host's swap file while eight guests overran it (6.8 and 9.3 GiB in 240 s).
    pub(super) fn host_swap_speed() -> Size {
        Size(Bytes::from_mib(40))
    }
    /// Slab, page tables and stacks of an idle node with a kubelet.
    pub(super) fn kernel() -> Size {
        Size(Bytes::from_mib(256))
    }
    /// `memory.available<100Mi` (`DefaultEvictionHard`, `pkg/kubelet/apis/config/v1beta1/defaults_linux.go`).
    pub(super) fn eviction() -> Size {
        Size(Bytes::from_mib(100))
    }
    pub(super) fn one() -> u32 {
        1
    }
    pub(super) fn namespace() -> String {
        "default".to_owned()
    }
    /// QEMU's own 90 MiB, launcher 60, virtqemud 38 (KubeVirt 1.7).
    pub(super) fn overhead() -> Size {
        Size(Bytes::from_mib(188))
    }
    pub(super) fn none() -> Part {
        Part(Permille::new(0))
    }
    /// Half of it: reads by chance would make it all, copies and logs nothing.
    pub(super) fn hot() -> Part {
        Part(Permille::from_percent(50))
    }
    /// Eight guests that thrashed moved 23.9 GiB to their swap disks within 150 s: 20 MiB/s each.
    pub(super) fn guest_swap_speed() -> Size {
        Size(Bytes::from_mib(20))
    }
    /// What a network of 1 Gbit/s carries, where volumes come from elsewhere.
    pub(super) fn disk_speed() -> Size {
        Size(Bytes::from_mib(100))
    }
    /// A VMI of 1 GiB gave 324 MiB within the second in which it was told to.
    pub(super) fn balloon_speed() -> Size {
        Size(Bytes::from_mib(324))
    }
    pub(super) fn yes() -> bool {
        true
    }
    /// `memBalloonStatsPeriod` (kubevirt/kubevirt pkg/virt-config/configuration.go).
    pub(super) fn statistics() -> Span {
        Span(Duration::from_secs(10))
    }
}
