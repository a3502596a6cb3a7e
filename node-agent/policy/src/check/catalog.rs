//! What a policy can ask and tell: the fields of MOM's collectors with their units, properties, and controls.

use super::nearest::nearest;
use super::units::Unit;

/// Who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Host,
    Guest,
    Both,
}

impl Whose {
    /// Whether that includes the other.
    pub(super) fn includes(self, other: Self) -> bool {
        self == Self::Both || other == Self::Both || self == other
    }
}

/// A field, who has it, and what it counts.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) whose: Whose,
    pub(super) unit: Unit,
}

const fn field(name: &'static str, whose: Whose, unit: Unit) -> Field {
    Field { name, whose, unit }
}

/// All fields of MOM 0.6's collectors, and one of ours. What the host has in another unit than guests stands here twice.
pub(super) const FIELDS: &[Field] = &[
    field("mem_available", Whose::Both, Unit::KiB),
    field("mem_unused", Whose::Both, Unit::KiB),
    field("mem_free", Whose::Both, Unit::KiB),
    field("anon_pages", Whose::Host, Unit::KiB),
    field("swap_total", Whose::Both, Unit::KiB),
    field("swap_usage", Whose::Both, Unit::KiB),
    field("swap_in", Whose::Host, Unit::Pages),
    field("swap_out", Whose::Host, Unit::Pages),
    field("swap_in", Whose::Guest, Unit::KiB),
    field("swap_out", Whose::Guest, Unit::KiB),
    field("major_fault", Whose::Guest, Unit::Counter),
    field("minor_fault", Whose::Guest, Unit::Counter),
    field("host_major_faults", Whose::Guest, Unit::Counter),
    field("host_minor_faults", Whose::Guest, Unit::Counter),
    field("rss", Whose::Guest, Unit::Pages),
    field("balloon_cur", Whose::Guest, Unit::KiB),
    field("balloon_max", Whose::Guest, Unit::KiB),
    field("balloon_min", Whose::Guest, Unit::KiB),
    field("vcpu_quota", Whose::Guest, Unit::Microseconds),
    field("vcpu_period", Whose::Guest, Unit::Microseconds),
    field("vcpu_user_limit", Whose::Guest, Unit::Percent),
    field("vcpu_count", Whose::Guest, Unit::Plain),
    field("io_tune", Whose::Guest, Unit::Plain),
    field("io_tune_current", Whose::Guest, Unit::Plain),
    field("ksm_run", Whose::Host, Unit::Plain),
    field("ksm_pages_to_scan", Whose::Host, Unit::Pages),
    field("ksm_sleep_millisecs", Whose::Host, Unit::Milliseconds),
    field("ksm_merge_across_nodes", Whose::Host, Unit::Plain),
    field("ksm_pages_shared", Whose::Host, Unit::Pages),
    field("ksm_pages_sharing", Whose::Host, Unit::Pages),
    field("ksm_pages_unshared", Whose::Host, Unit::Pages),
    field("ksm_pages_volatile", Whose::Host, Unit::Pages),
    field("ksm_full_scans", Whose::Host, Unit::Plain),
    field("ksm_shareable", Whose::Host, Unit::KiB),
    field("ksmd_cpu_usage", Whose::Host, Unit::Percent),
    field("cpu_count", Whose::Host, Unit::Plain),
    field("time_year", Whose::Host, Unit::Plain),
    field("time_month", Whose::Host, Unit::Plain),
    field("time_day", Whose::Host, Unit::Plain),
    field("time_hour", Whose::Host, Unit::Plain),
    field("time_minute", Whose::Host, Unit::Plain),
    field("time_second", Whose::Host, Unit::Plain),
    field("time_microsecond", Whose::Host, Unit::Plain),
];

/// What MOM's objects in `io_tune` have, one for each disk (`mom/Collectors/GuestIoTune.py`); here there is none.
pub(super) const OF_DISKS: [&str; 18] = [
    "name",
    "path",
    "guaranteed",
    "maximum",
    "current",
    "ioTune",
    "total_bytes_sec",
    "read_bytes_sec",
    "write_bytes_sec",
    "total_iops_sec",
    "read_iops_sec",
    "write_iops_sec",
    "setTotalBytesSec",
    "setReadBytesSec",
    "setWriteBytesSec",
    "setTotalIopsSec",
    "setReadIopsSec",
    "setWriteIopsSec",
];

/// Fields of that name: one, or the host's and the guests'.
pub(super) fn fields_named(name: &str) -> impl Iterator<Item = &'static Field> + Clone {
    FIELDS.iter().filter(move |field| field.name == name)
}

/// The field or control that is called so, or about so.
pub(super) fn word(text: &str) -> Option<&'static str> {
    let names = || CONTROLS.iter().map(|control| control.name).chain(FIELDS.iter().map(|field| field.name));
    names().find(|name| *name == text).or_else(|| nearest(text, names()))
}

/// What is counted over a time on which the collectors do not agree.
pub(super) fn is_sum(field: &Field) -> bool {
    field.unit == Unit::Counter || matches!(field.name, "swap_in" | "swap_out")
}

/// Properties, and who has them.
pub(super) const PROPERTIES: &[(&str, Whose)] =
    &[("uuid", Whose::Guest), ("name", Whose::Both), ("pid", Whose::Guest), ("interval", Whose::Host)];

/// What becomes of a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The guard judges it.
    Works,
    /// Nobody acts on it, for this reason.
    Unsupported(&'static str),
}

/// A control, whose it is, what it counts, and what becomes of it.
pub(super) struct Control {
    pub(super) name: &'static str,
    pub(super) whose: Whose,
    pub(super) unit: Unit,
    pub(super) effect: Effect,
}

/// All controls of MOM 0.6's controllers.
pub(super) const CONTROLS: &[Control] = &[
    works("balloon_target", Whose::Guest, Unit::KiB),
    works("ksm_run", Whose::Host, Unit::Plain),
    works("ksm_pages_to_scan", Whose::Host, Unit::Pages),
    works("ksm_sleep_millisecs", Whose::Host, Unit::Milliseconds),
    unsupported("ksm_merge_across_nodes", Whose::Host, Unit::Plain, UNMERGED_FIRST),
    unsupported("vcpu_quota", Whose::Guest, Unit::Microseconds, NOT_IN_KUBEVIRT),
    unsupported("vcpu_period", Whose::Guest, Unit::Microseconds, NOT_IN_KUBEVIRT),
    unsupported("io_tune", Whose::Guest, Unit::Plain, NOT_IN_KUBEVIRT),
];

const NOT_IN_KUBEVIRT: &str = "not supported under KubeVirt: nobody acts on it";
/// The kernel refuses it while `pages_shared` is not 0 (Documentation/admin-guide/mm/ksm.rst).
const UNMERGED_FIRST: &str = "not applied: everything would have to be unmerged first, which may be more than the node has; set it \
    where the node boots, in /sys/kernel/mm/ksm/merge_across_nodes, before anything is merged";

/// The control that is taken for something else with a value of 2 (MOM's and the kernel's `run`: unmerge), the value that counts
/// as unsupported with it, and what becomes of that.
pub(super) const UNMERGE: (&str, &str, &str) =
    ("ksm_run", "ksm_run 2", "taken as 0: what is unmerged at once may be more than the node has; write 0");

const fn works(name: &'static str, whose: Whose, unit: Unit) -> Control {
    Control { name, whose, unit, effect: Effect::Works }
}

const fn unsupported(name: &'static str, whose: Whose, unit: Unit, why: &'static str) -> Control {
    Control { name, whose, unit, effect: Effect::Unsupported(why) }
}
