//! What a policy asks for, from what people wrote and from the ConfigMaps that it names. Pure.

use overcommit_crds::node::{ResolvedClass, ResolvedPolicy};
use overcommit_crds::policy::{ClassSpec, NAME_HELP, NAME_MAX};
use overcommit_crds::program::Doubts;
use overcommit_crds::resolve::FieldError;
use overcommit_crds::{OvercommitPolicySpec, program, resolve};

use crate::maps::{Maps, NoText};

/// Reason of Accepted where the text of a program is not there.
pub(crate) const PROGRAM_MISSING: &str = "ProgramMissing";
/// Reason of Accepted where the text of a program cannot run.
pub(crate) const PROGRAM_REFUSED: &str = "ProgramRefused";

/// Whether a policy can work.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It can.
    Valid(Box<Checked>),
    /// It could, but for its program: what was good last stays.
    Stuck(Box<Stuck>),
    /// It cannot, and why; its priority, where that much can be read.
    Invalid { errors: String, priority: Option<i64> },
}

/// A policy that can work, with what is derived from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checked {
    /// As people wrote it, with the texts that its program has elsewhere.
    pub(crate) spec: OvercommitPolicySpec,
    /// Its classes, or the one for everything.
    pub(crate) classes: Vec<ClassSpec>,
    /// What nodes are given.
    pub(crate) resolved: ResolvedPolicy,
    /// Hash of `resolved`.
    pub(crate) revision: String,
    /// What it, or its program, probably does not mean.
    pub(crate) warnings: Vec<String>,
    /// Controls that its program sets and nobody acts on.
    pub(crate) unsupported: Vec<String>,
}

/// A policy whose program cannot run. Whom it selects and how it sorts guests is known nevertheless.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stuck {
    /// As people wrote it.
    pub(crate) spec: OvercommitPolicySpec,
    /// Its classes, or the one for everything.
    pub(crate) classes: Vec<ClassSpec>,
    /// The same as nodes would be given them.
    pub(crate) resolved_classes: Vec<ResolvedClass>,
    /// What is wrong with its program.
    pub(crate) why: Why,
}

/// What is wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nobody knows yet what a ConfigMap says.
    Unread,
    /// Text of it is not there.
    Missing(String),
    /// Its text cannot run.
    Refused(String),
}

/// Checks what people wrote.
pub(crate) fn judge(name: &str, written: &Result<OvercommitPolicySpec, String>, maps: &Maps) -> Verdict {
    let spec = match written {
        Ok(spec) => spec,
        Err(error) => return Verdict::Invalid { errors: error.clone(), priority: None },
    };
    let mut errors: Vec<String> = match resolve::check_fields(spec) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    // The schema refuses it too; this is for CRDs that are older than the operator.
    if name.len() > NAME_MAX {
        errors.push(NAME_HELP.to_owned());
    }
    if !errors.is_empty() {
        return Verdict::Invalid { errors: errors.join("; "), priority: Some(spec.priority) };
    }
    match whole(spec, maps) {
        Ok(checked) => Verdict::Valid(Box::new(checked)),
        Err(why) => Verdict::Stuck(Box::new(Stuck {
            classes: resolve::effective_classes(spec),
            resolved_classes: resolve::resolve(spec).classes,
            spec: spec.clone(),
            why,
        })),
    }
}

/// With the text of its program.
fn whole(spec: &OvercommitPolicySpec, maps: &Maps) -> Result<Checked, Why> {
    let spec = program::inline(spec, |reference| maps.text(reference)).map_err(|none| match none {
        NoText::Unread => Why::Unread,
        NoText::Because(why) => Why::Missing(why),
    })?;
    let mut warnings = resolve::doubts(&spec);
    let Doubts { unmeant, unsupported } =
        program::check(&spec).map_err(|errors| Why::Refused(refusal(&errors)))?;
    warnings.extend(unmeant);
    let resolved = resolve::resolve(&spec);
    // What is said above is all that a node would say; this is for what a node would say besides.
    resolve::validate(&resolved, "spec").map_err(|errors| Why::Refused(refusal(&errors)))?;
    let revision = resolve::revision(&resolved);
    let classes = resolve::effective_classes(&spec);
    Ok(Checked { classes, spec: spec.into_owned(), resolved, revision, warnings, unsupported })
}

/// In one line. Places in a program need no path: the slot says where it is.
fn refusal(errors: &[FieldError]) -> String {
    let words = |error: &FieldError| {
        if error.path == "spec.engine.mom" { error.message.clone() } else { error.to_string() }
    };
    errors.iter().map(words).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use overcommit_crds::policy::{MomSpec, Number, SlotSpec};
    use overcommit_crds::quantity::SizeOrPercent;

    use super::*;
    use crate::fixture::{map, program_from};

    fn why(maps: &Maps) -> Why {
        match judge("mom", &Ok(program_from("rules", "balloon")), maps) {
            Verdict::Stuck(stuck) => stuck.why,
            other => panic!("{other:?}"),
        }
    }

    fn maps(text: &str) -> Maps {
        let mut maps = Maps::of("system");
        maps.take("rules", Some(map(&[("balloon", text)])));
        maps
    }

    #[test]
    fn a_name_that_is_no_label_value_is_refused() {
        let verdict = judge(&"p".repeat(64), &Ok(OvercommitPolicySpec::default()), &Maps::default());
        assert!(matches!(verdict, Verdict::Invalid { errors, .. } if errors.contains("metadata.name")));
    }

    #[test]
    fn a_program_that_nobody_has_read_yet_is_neither_good_nor_bad() {
        assert_eq!(why(&Maps::of("system")), Why::Unread);
    }

    #[test]
    fn a_program_with_errors_is_told_by_slot_line_and_column() {
        assert_eq!(why(&maps("\n (foo)")), Why::Refused("50-main:2:3: undefined function foo".into()));
    }

    /// The CRD's schema refuses it too; this is for CRDs that are older than the operator.
    #[test]
    fn a_program_that_leaves_no_slot_for_its_parameters_is_refused_with_what_to_do() {
        let slot = |n: usize| SlotSpec {
            name: format!("s{n}"),
            program: Some("1".into()),
            config_map_key_ref: None,
        };
        let mut spec = program_from("rules", "balloon");
        spec.engine.mom = Some(MomSpec { slots: (0..32).map(slot).collect() });
        spec.parameters.insert("share".to_owned(), Number::Whole(1));
        let verdict = judge("mom", &Ok(spec), &Maps::default());
        let Verdict::Stuck(stuck) = verdict else { panic!("{verdict:?}") };
        assert!(
            matches!(&stuck.why, Why::Refused(why) if why.contains("at most 31 beside them")),
            "{stuck:?}"
        );
    }

    #[test]
    fn a_policy_that_takes_nothing_is_accepted_and_told_so() {
        let mut spec = OvercommitPolicySpec::default();
        spec.limits.take_per_guest = SizeOrPercent("0%".to_owned());
        let verdict = judge("none", &Ok(spec), &Maps::default());
        let Verdict::Valid(checked) = verdict else { panic!("{verdict:?}") };
        assert!(checked.warnings[0].starts_with("spec.limits.takePerGuest is 0%"), "{:?}", checked.warnings);
    }

    #[test]
    fn all_that_nobody_acts_on_is_told_beside_what_is_probably_not_meant() {
        let quota = "(with Guests g (g.Control \"vcpu_quota\" 1))(Host.Control \"ksm_merge_across_nodes\" 1)";
        let maps = maps(&format!("{}{quota}", "(Host.Control \"ksm_runs\" 1)\n".repeat(5)));
        let verdict = judge("mom", &Ok(program_from("rules", "balloon")), &maps);
        let Verdict::Valid(checked) = verdict else { panic!("{verdict:?}") };
        assert_eq!(
            checked.unsupported,
            ["vcpu_quota (50-main:6:27)", "ksm_merge_across_nodes (50-main:6:57)"]
        );
        assert_eq!(checked.warnings.len(), 4, "{:?}", checked.warnings);
    }

    #[test]
    fn a_program_that_can_run_is_what_nodes_are_given_with_what_it_may_not_mean() {
        let maps = maps("(Host.Control \"ksm_runs\" 1)");
        let verdict = judge("mom", &Ok(program_from("rules", "balloon")), &maps);
        let Verdict::Valid(checked) = verdict else { panic!("{verdict:?}") };
        let slots = checked.resolved.engine.mom.unwrap().slots;
        assert!(slots[0].program.is_some() && slots[0].config_map_key_ref.is_none());
        assert!(checked.warnings.len() == 1 && checked.warnings[0].starts_with("50-main:1:"));
    }
}
