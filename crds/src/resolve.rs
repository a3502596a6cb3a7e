//! From wire to core: what a policy means, checked once at the boundary.
//!
//! The CRD's schema refuses the same input at `kubectl apply`; this is for files, for objects older than a rule, and
//! for whatever slips past an API server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use overcommit_core::policy as core;
use overcommit_core::roster::{self, Membership, OptOut, Roster};
use overcommit_core::sample::GuestName;
use overcommit_core::units::{Amount, Bytes, Permille};
use sha2::{Digest, Sha256};

use crate::node::{Exclusion, GuestEntry, KsmManager, NodeFacts, ResolvedClass, ResolvedPolicy};
use crate::policy::{
    AdaptiveSpec, CLASS_NAME_HELP, CLASSES_MAX, ClassSpec, DEAD_BAND_HELP, ENGINE_HELP, FloorSpec,
    INLINE_HELP, KSM_WITHOUT_PROGRAM, KsmMode, KsmSpec, LimitsSpec, Mode, MomSpec, OvercommitPolicySpec,
    ReserveSpec, SlotSpec,
};
use crate::program;

/// A field that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FieldError {
    /// Where, as kubectl writes it: `spec.classes[1].floor.bytes`.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl FieldError {
    /// At this path.
    pub(crate) fn at(path: &str, message: String) -> Self {
        Self { path: path.to_owned(), message }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A policy without classes has one for everything.
pub fn effective_classes(spec: &OvercommitPolicySpec) -> Vec<ClassSpec> {
    if spec.classes.is_empty() { vec![ClassSpec::default()] } else { spec.classes.clone() }
}

/// What a node is given of a policy.
pub fn resolve(spec: &OvercommitPolicySpec) -> ResolvedPolicy {
    let class =
        |c: ClassSpec| ResolvedClass { name: c.name, floor: c.floor, weight: c.weight, exclude: c.exclude };
    ResolvedPolicy {
        mode: spec.mode,
        interval: spec.interval.clone(),
        classes: effective_classes(spec).into_iter().map(class).collect(),
        engine: program::engine(spec),
        reserve: spec.reserve.clone(),
        limits: spec.limits.clone(),
        ksm: spec.ksm,
    }
}

/// Twelve hex digits that change when the resolved policy does.
pub fn revision(resolved: &ResolvedPolicy) -> String {
    // Field order is the struct's, so equal policies have equal text.
    let text = serde_json::to_vec(resolved).unwrap_or_default();
    Sha256::digest(&text).iter().take(6).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Checks everything of a policy that people wrote, selectors and programs included.
///
/// # Errors
/// Every field that cannot work.
pub fn check(spec: &OvercommitPolicySpec) -> Result<core::Policy, Vec<FieldError>> {
    check_fields(spec)?;
    program::check(spec)?;
    validate(&resolve(spec), "spec")
}

/// Checks everything but the text of a program, which may stand elsewhere.
///
/// # Errors
/// Every field that cannot work.
pub fn check_fields(spec: &OvercommitPolicySpec) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    if let Some(selector) = &spec.node_selector {
        check_selector(selector, "spec.nodeSelector", &mut errors);
    }
    for (index, class) in spec.classes.iter().enumerate() {
        for (field, selector) in
            [("namespaceSelector", &class.namespace_selector), ("selector", &class.selector)]
        {
            if let Some(selector) = selector {
                check_selector(selector, &format!("spec.classes[{index}].{field}"), &mut errors);
            }
        }
    }
    errors.extend(program::check_written(spec, "spec"));
    let mut check = Check { place: "spec", errors };
    check.fields(&resolve(spec));
    if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
}

fn check_selector(selector: &crate::selector::Selector, place: &str, errors: &mut Vec<FieldError>) {
    if let Err((below, message)) = selector.check() {
        errors.push(FieldError { path: format!("{place}.{below}"), message });
    }
}

/// The policy that the core runs; `place` is the path of `resolved` in its object.
///
/// # Errors
/// Every field that cannot work.
pub fn validate(resolved: &ResolvedPolicy, place: &str) -> Result<core::Policy, Vec<FieldError>> {
    let mut check = Check { place, errors: Vec::new() };
    let policy = check.fields(resolved);
    let mom = resolved.engine.mom.as_ref().and_then(|mom| check.program(mom));
    if check.errors.is_empty() { Ok(core::Policy { mom, ..policy }) } else { Err(check.errors) }
}

struct Check<'a> {
    place: &'a str,
    errors: Vec<FieldError>,
}

impl Check<'_> {
    fn refuse(&mut self, field: &str, message: String) {
        self.errors.push(FieldError { path: format!("{}.{field}", self.place), message });
    }

    /// All but the program.
    fn fields(&mut self, resolved: &ResolvedPolicy) -> core::Policy {
        if resolved.engine.adaptive.is_some() == resolved.engine.mom.is_some() {
            self.refuse("engine", ENGINE_HELP.to_owned());
        }
        if resolved.ksm.mode == KsmMode::Program && resolved.engine.mom.is_none() {
            self.refuse("ksm", KSM_WITHOUT_PROGRAM.to_owned());
        }
        let adaptive = resolved.engine.adaptive.as_ref().map(|adaptive| self.adaptive(adaptive));
        core::Policy {
            mode: match resolved.mode {
                Mode::Observe => core::Mode::Observe,
                Mode::Enforce => core::Mode::Enforce,
            },
            interval: self.take("interval", resolved.interval.parse()).unwrap_or_default(),
            classes: self.classes(&resolved.classes),
            reserve: self.reserve(&resolved.reserve),
            limits: self.limits(&resolved.limits),
            ksm: merging(resolved.ksm),
            adaptive: adaptive.unwrap_or_default(),
            mom: None,
        }
    }

    fn program(&mut self, mom: &MomSpec) -> Option<core::Mom> {
        program::check_slots(mom, self.place, &mut self.errors);
        let slot = |slot: &SlotSpec| {
            let text = slot.program.clone()?;
            Some(core::Slot { name: slot.name.as_str().into(), text })
        };
        let Some(slots) = mom.slots.iter().map(slot).collect::<Option<Vec<_>>>() else {
            self.refuse("engine.mom.slots", INLINE_HELP.to_owned());
            return None;
        };
        core::Mom::new(slots).map_err(|trouble| self.refuse("engine.mom", trouble.to_string())).ok()
    }

    fn take<T>(&mut self, field: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|message| self.refuse(field, message)).ok()
    }

    fn ranged(&mut self, field: &str, value: i64, range: std::ops::RangeInclusive<u32>) -> u32 {
        u32::try_from(value).ok().filter(|n| range.contains(n)).unwrap_or_else(|| {
            self.refuse(field, format!("{value} is outside {} to {}", range.start(), range.end()));
            *range.start()
        })
    }

    fn classes(&mut self, classes: &[ResolvedClass]) -> Vec<core::Class> {
        if classes.len() > CLASSES_MAX {
            self.refuse("classes", format!("{} are too many: write at most {CLASSES_MAX}", classes.len()));
        }
        let mut seen = Vec::with_capacity(CLASSES_MAX);
        for (index, class) in classes.iter().take(CLASSES_MAX).enumerate() {
            let at = |field: &str| format!("classes[{index}].{field}");
            if !is_class_name(&class.name) {
                self.refuse(
                    &at("name"),
                    format!("{:?} is no name of a class: {CLASS_NAME_HELP}", class.name),
                );
            }
            if seen.iter().any(|known: &core::Class| *known.name == *class.name) {
                self.refuse(&at("name"), format!("{:?} stands twice: class names are unique", class.name));
            }
            let floor = self.floor(&at("floor"), &class.floor);
            let weight = self.ranged(&at("weight"), class.weight, 1..=10_000);
            seen.push(core::Class {
                name: Arc::from(class.name.as_str()),
                floor,
                weight,
                exclude: class.exclude,
            });
        }
        seen
    }

    fn floor(&mut self, place: &str, floor: &FloorSpec) -> core::Floor {
        let percent = self.ranged(&format!("{place}.percent"), floor.percent, 0..=100);
        let bytes = floor.bytes.as_ref().and_then(|b| self.take(&format!("{place}.bytes"), b.parse()));
        core::Floor {
            part: Permille::from_percent(percent),
            bytes: bytes.unwrap_or(Bytes::ZERO),
            below_request: floor.below_request,
        }
    }

    fn reserve(&mut self, reserve: &ReserveSpec) -> core::Reserve {
        let percentile = self.ranged("reserve.growthPercentile", reserve.growth_percentile, 50..=100);
        core::Reserve {
            minimum: self.amount("reserve.minimum", &reserve.minimum),
            growth_quantile: Permille::from_percent(percentile),
        }
    }

    fn limits(&mut self, limits: &LimitsSpec) -> core::Limits {
        let read = core::Limits {
            take_per_guest: self.amount("limits.takePerGuest", &limits.take_per_guest),
            take_per_node: self.amount("limits.takePerNode", &limits.take_per_node),
            dead_band: self.amount("limits.deadBand", &limits.dead_band),
        };
        if !is_nothing(read.take_per_guest) && is_more(read.dead_band, read.take_per_guest) {
            let (dead, take) = (&limits.dead_band.0, &limits.take_per_guest.0);
            self.refuse(
                "limits.deadBand",
                format!("{dead} is more than takePerGuest, {take}: {DEAD_BAND_HELP}"),
            );
        }
        read
    }

    fn adaptive(&mut self, adaptive: &AdaptiveSpec) -> core::Adaptive {
        let headroom = self.ranged("engine.adaptive.headroomPercent", adaptive.headroom_percent, 15..=50);
        let turn = self.ranged("engine.adaptive.turnSeconds", adaptive.turn_seconds, 30..=1800);
        core::Adaptive { headroom: Permille::from_percent(headroom), turn: Duration::from_secs(turn.into()) }
    }

    fn amount(&mut self, field: &str, text: &crate::quantity::SizeOrPercent) -> Amount {
        self.take(field, text.parse()).unwrap_or(Amount::Bytes(Bytes::ZERO))
    }
}

/// True if it is nothing of whatever the whole is.
fn is_nothing(amount: Amount) -> bool {
    match amount {
        Amount::Bytes(bytes) => bytes.is_zero(),
        Amount::Part(part) => part.get() == 0,
    }
}

/// True if `a` is more than `b` whatever the whole is.
fn is_more(a: Amount, b: Amount) -> bool {
    match (a, b) {
        (Amount::Bytes(a), Amount::Bytes(b)) => a > b,
        (Amount::Part(a), Amount::Part(b)) => a > b,
        (Amount::Bytes(_), Amount::Part(_)) | (Amount::Part(_), Amount::Bytes(_)) => false,
    }
}

/// What can work and is probably not meant, each with its field; what a program does not mean, [`program::check`] tells.
pub fn doubts(spec: &OvercommitPolicySpec) -> Vec<String> {
    let takes = [("takePerGuest", &spec.limits.take_per_guest), ("takePerNode", &spec.limits.take_per_node)];
    let none = takes.into_iter().filter(|(_, amount)| amount.parse().is_ok_and(is_nothing));
    none.map(|(field, amount)| {
        format!("spec.limits.{field} is {}, so nothing is ever taken: write more, or mode: Observe", amount.0)
    })
    .collect()
}

fn merging(ksm: KsmSpec) -> core::Ksm {
    let mode = match ksm.mode {
        KsmMode::Off => core::KsmMode::Off,
        KsmMode::Auto => core::KsmMode::Auto,
        KsmMode::Program => core::KsmMode::Program,
    };
    core::Ksm { mode, across_namespaces: ksm.across_namespaces }
}

/// As the schema has it: at most 63 lower-case letters, digits and dashes, no dash at the ends.
fn is_class_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The roster that the core looks guests up in, with what else is known of their node.
pub fn roster(guests: &[GuestEntry], facts: NodeFacts) -> Roster {
    let listed = Roster::by_pod(guests.iter().flat_map(|guest| {
        let name = GuestName::namespaced(guest.namespace.as_str(), guest.name.as_str());
        let membership = Membership {
            class: guest.class.as_deref().map(Arc::from),
            opt_out: guest.excluded.map(opt_out),
            migrating: guest.migrating,
        };
        guest.pods.iter().map(move |pod| (Arc::from(pod.as_str()), name.clone(), membership.clone()))
    }));
    listed.with_ksm_manager(facts.ksm_manager.map(ksm_manager))
}

/// Who manages merging, in the core's words.
fn ksm_manager(manager: KsmManager) -> roster::KsmManager {
    match manager {
        KsmManager::KubeVirt => roster::KsmManager::KubeVirt,
    }
}

/// The same exclusion in the core's words.
pub fn opt_out(excluded: Exclusion) -> OptOut {
    match excluded {
        Exclusion::Annotation => OptOut::Annotation,
        Exclusion::Class => OptOut::Class,
        Exclusion::NoClass => OptOut::NoClass,
    }
}

#[cfg(test)]
mod tests;
