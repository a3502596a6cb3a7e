use super::*;
use crate::policy::{KsmMode, KsmSpec};
use crate::resolve;

fn slot(name: &str, text: &str) -> SlotSpec {
    SlotSpec { name: name.into(), program: Some(text.into()), config_map_key_ref: None }
}

fn elsewhere(name: &str, map: &str, key: &str) -> SlotSpec {
    let reference = ConfigMapKeyRef { name: map.into(), key: key.into() };
    SlotSpec { name: name.into(), program: None, config_map_key_ref: Some(reference) }
}

fn policy(slots: Vec<SlotSpec>, parameters: &[(&str, Number)]) -> OvercommitPolicySpec {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let engine = EngineSpec { adaptive: None, mom: Some(MomSpec { slots }) };
    OvercommitPolicySpec { engine, parameters, ..OvercommitPolicySpec::default() }
}

fn literal(text: &str) -> Number {
    Number::Literal(text.into())
}

/// All that is refused, in one line.
fn refusal(spec: &OvercommitPolicySpec) -> String {
    let errors = resolve::check(spec).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

const DEFINES: &str = "(defvar pressure 0.20)\n(defvar mode 1)";

#[test]
fn slots_run_in_the_order_of_their_names_and_parameters_among_them() {
    let slots = vec![slot("02-use", "(* pressure mode)"), slot("00-defines", DEFINES)];
    let spec = policy(slots, &[("pressure", literal("0.05")), ("mode", Number::Whole(-3))]);
    let resolved = resolve::resolve(&spec);
    let named: Vec<(&str, &str)> = resolved
        .engine
        .mom
        .iter()
        .flat_map(|mom| &mom.slots)
        .map(|slot| (slot.name.as_str(), slot.program.as_deref().unwrap()))
        .collect();
    let parameters = "(set mode -3)\n(set pressure 0.05)\n";
    assert_eq!(
        named,
        [("00-defines", DEFINES), ("01-parameters", parameters), ("02-use", "(* pressure mode)")]
    );
    let core = resolve::check(&spec).unwrap();
    let slots: Vec<String> = core.mom.unwrap().slots().iter().map(|slot| slot.name.to_string()).collect();
    assert_eq!(slots, ["00-defines", "01-parameters", "02-use"]);
    assert_eq!(resolve::validate(&resolved, "spec.resolved").unwrap().mom.unwrap().slots().len(), 3);
    let other = policy(vec![slot("00-defines", DEFINES), slot("02-use", "(* pressure 2)")], &[]);
    assert_ne!(resolve::revision(&resolved), resolve::revision(&resolve::resolve(&other)));
}

#[test]
fn a_program_with_errors_is_refused_by_slot_line_and_column() {
    for (text, told) in [
        ("(set pressur 1)", "spec.engine.mom: 02-use:1:6: undefined symbol pressur; did you mean pressure?"),
        ("\n  (foo 1)", "spec.engine.mom: 02-use:2:4: undefined function foo"),
        ("(+ 1", "spec.engine.mom: 02-use:1:1: "),
        ("\n\n@", "spec.engine.mom: 02-use:3:1: '@' means nothing here"),
    ] {
        let said = refusal(&policy(vec![slot("00-defines", DEFINES), slot("02-use", text)], &[]));
        assert!(said.starts_with(told), "{text}: {said}");
    }
    let many = "(foo 1)\n".repeat(9);
    assert!(
        refusal(&policy(vec![slot("a", &many)], &[]))
            .ends_with("and 6 more: overcommit-agent policy check lists them")
    );
}

#[test]
fn what_is_probably_not_meant_is_told_and_does_not_refuse() {
    let spec = policy(vec![slot("a", "(Host.Control \"ksm_runs\" 1)")], &[]);
    let Doubts { unmeant, unsupported } = check(&spec).unwrap();
    assert!(unmeant.len() == 1 && unmeant[0].starts_with("a:1:"), "{unmeant:?}");
    assert_eq!(unsupported, [""; 0]);
    assert!(resolve::check(&spec).is_ok());
    assert_eq!(check(&OvercommitPolicySpec::default()), Ok(Doubts::default()));
}

#[test]
fn each_control_that_nobody_acts_on_is_named_however_much_else_is_told() {
    let doubtful = "(Host.Control \"ksm_runs\" 1)\n";
    let quota = "(with Guests g {(g.Control \"vcpu_quota\" 1) (g.Control \"vcpu_quota\" 2)})";
    let merging = "(Host.Control \"ksm_run\" 2)(Host.Control \"ksm_merge_across_nodes\" 0)";
    for before in [5, 500] {
        let text = format!("{}{quota}\n{merging}", doubtful.repeat(before));
        let Doubts { unmeant, unsupported } = check(&policy(vec![slot("a", &text)], &[])).unwrap();
        let (line, next) = (before + 1, before + 2);
        assert_eq!(
            unsupported,
            [
                format!("vcpu_quota (a:{line}:28)"),
                format!("ksm_run 2 (a:{next}:25)"),
                format!("ksm_merge_across_nodes (a:{next}:41)"),
            ]
        );
        assert_eq!(unmeant.len(), 4, "three, and how many more: {unmeant:?}");
        assert!(unmeant.iter().all(|told| !told.contains("vcpu_quota")), "{unmeant:?}");
    }
}

#[test]
fn a_parameter_that_no_slot_before_defines_is_refused_by_name() {
    let with = |slots| policy(slots, &[("balloonEnabled", Number::Whole(1))]);
    let said = refusal(&with(vec![slot("02-use", "1")]));
    assert_eq!(
        said,
        "spec.parameters.balloonEnabled: no slot defines it: write (defvar balloonEnabled VALUE) in a slot before \
         01-parameters, such as 00-defines, or remove it"
    );
    let said = refusal(&with(vec![slot("02-use", "\n(defvar balloonEnabled 0)")]));
    assert!(said.contains("is defined at 02-use:2:1, behind 01-parameters: move (defvar"), "{said}");
    // One that only a function has while it runs is none.
    let said = refusal(&with(vec![slot("00-a", "(let ((balloonEnabled 1)) balloonEnabled)")]));
    assert!(said.contains("no slot defines it"), "{said}");
    assert!(resolve::check(&with(vec![slot("00-defines", "{(defvar balloonEnabled 0)}")])).is_ok());
}

#[test]
fn parameters_that_cannot_be_written_into_a_program_are_refused() {
    let of =
        |name: &str, value: Number| refusal(&policy(vec![slot("00-defines", DEFINES)], &[(name, value)]));
    for text in ["0,05", "1 2", "0.05)", "ten", "", " 1", "010", "1.", "-0x10", &"1".repeat(64)] {
        let said = of("mode", literal(text));
        assert!(
            said.contains("spec.parameters.mode: ") && said.contains("\"0.05\" or \"0x10\""),
            "{text}: {said}"
        );
    }
    for name in ["a.b", "0x", "", "a b", "-a", "(a)", &"a".repeat(64)] {
        let said = of(name, Number::Whole(1));
        assert!(said.contains("is no name of a variable"), "{name}: {said}");
    }
    for text in ["0.05", "0x10", "0o17", "-1", ".5", "2e3", "-2.5E-7"] {
        assert!(
            resolve::check(&policy(vec![slot("00-defines", DEFINES)], &[("mode", literal(text))])).is_ok(),
            "{text}"
        );
    }
    let twice =
        policy(vec![slot("00-defines", DEFINES), slot("01-parameters", "1")], &[("mode", Number::Whole(1))]);
    assert!(
        refusal(&twice)
            .starts_with("spec.engine.mom.slots[1].name: 01-parameters is what spec.parameters becomes")
    );
    let file = |parameters: &[(&str, Number)]| {
        policy(vec![slot("00-defines", DEFINES), slot("01-parameters.policy", "(set mode 2)")], parameters)
    };
    let said = refusal(&file(&[("mode", Number::Whole(1))]));
    assert!(
        said.starts_with("spec.engine.mom.slots[1].name: 01-parameters.policy is VDSM's file of what spec.parameters becomes"),
        "{said}"
    );
    assert!(resolve::check(&file(&[])).is_ok(), "without parameters it takes nobody's place");
    let mut adaptive = policy(vec![], &[("mode", Number::Whole(1))]);
    adaptive.engine = EngineSpec::default();
    assert_eq!(
        refusal(&adaptive),
        "spec.parameters: the adaptive engine reads none: remove them, or name the program that reads them in engine.mom"
    );
}

#[test]
fn slots_that_cannot_be_read_are_refused_by_what_was_written() {
    let of = |slots| refusal(&policy(slots, &[]));
    assert!(of(vec![]).contains("spec.engine.mom.slots: a program has one slot or more"));
    assert!(of(vec![slot("b", "1"), slot("a b", "1")]).starts_with("spec.engine.mom.slots[1].name: \"a b\""));
    assert!(
        of(vec![slot("b", "1"), slot("a", "1"), slot("b", "2")])
            .contains("slots[2].name: \"b\" stands twice")
    );
    for blank in ["", " ", "\t\r\n\u{a0}"] {
        assert!(
            of(vec![slot("a", blank)])
                .contains("slots[0].program: is empty or has nothing but blanks: write")
        );
    }
    assert!(resolve::check(&policy(vec![slot("a", "# for later"), slot("b", "1")], &[])).is_ok());
    let neither = SlotSpec { program: None, ..slot("a", "1") };
    let both = SlotSpec { program: Some("1".into()), ..elsewhere("a", "rules", "a") };
    for wrong in [neither, both] {
        assert!(of(vec![wrong]).starts_with("spec.engine.mom.slots[0]: give exactly one of program"));
    }
    assert!(of(vec![elsewhere("a", "Rules", "a/b")]).contains("configMapKeyRef.name: \"Rules\""));
    assert!(of(vec![elsewhere("a", "rules", "a/b")]).contains("configMapKeyRef.key: \"a/b\""));
    let many = (0..33).map(|n| slot(&format!("s{n}"), "1")).collect();
    assert!(of(many).contains("33 are too many: write at most 32"));
}

#[test]
fn parameters_take_one_of_the_slots() {
    let slots = |count: usize| {
        let others = (1..count).map(|n| slot(&format!("s{n}"), "1"));
        std::iter::once(slot("00-defines", DEFINES)).chain(others).collect::<Vec<_>>()
    };
    let mode = [("mode", Number::Whole(1))];
    assert!(resolve::check(&policy(slots(SLOTS_MAX), &[])).is_ok());
    assert!(resolve::check(&policy(slots(SLOTS_MAX - 1), &mode)).is_ok());
    let said = refusal(&policy(slots(SLOTS_MAX), &mode));
    assert_eq!(said, format!("spec.engine.mom.slots: {PARAMETERS_SLOT_HELP}"));
    assert!(PARAMETERS_SLOT_HELP.contains(&format!("one of the {SLOTS_MAX} slots")));
    assert!(PARAMETERS_SLOT_HELP.contains(&format!("at most {} beside", SLOTS_MAX - 1)));
}

#[test]
fn one_engine_is_named_and_merging_by_program_needs_one() {
    let mut both = policy(vec![slot("a", "1")], &[]);
    both.engine.adaptive = Some(crate::policy::AdaptiveSpec::default());
    assert!(refusal(&both).starts_with("spec.engine: name exactly one engine"));
    let ksm = KsmSpec { mode: KsmMode::Program, across_namespaces: false };
    let without = OvercommitPolicySpec { ksm, ..OvercommitPolicySpec::default() };
    assert!(refusal(&without).starts_with("spec.ksm: mode Program needs a program in engine.mom"));
    let with = OvercommitPolicySpec { ksm, ..policy(vec![slot("a", "(Host.Control \"ksm_run\" 1)")], &[]) };
    assert_eq!(resolve::check(&with).unwrap().ksm.mode, overcommit_core::policy::KsmMode::Program);
}

#[test]
fn what_is_too_long_for_a_nodes_object_is_refused_with_how_much() {
    let text = format!("1 #{}", "x".repeat(20_000));
    let said = refusal(&policy(vec![slot("a", &text), slot("b", &text)], &[]));
    assert!(said.contains("the slots have 40006 bytes together, 7238 too many: at most 32768 fit"), "{said}");
    let fits = format!("1 #{}", "x".repeat(PROGRAM_MAX - 3));
    assert!(resolve::check(&policy(vec![slot("a", &fits)], &[])).is_ok());
}

#[test]
fn references_are_followed_where_somebody_can_and_refused_where_nobody_does() {
    let spec = policy(vec![slot("00-defines", DEFINES), elsewhere("02-use", "rules", "use.policy")], &[]);
    assert!(resolve::check_fields(&spec).is_ok(), "what stands elsewhere is looked at when it is there");
    assert_eq!(
        refusal(&spec),
        "spec.engine.mom.slots[1].configMapKeyRef: there are no ConfigMaps here: write the text of the slot under program"
    );
    assert!(resolve::validate(&resolve::resolve(&spec), "spec.resolved").is_err());
    let found = inline(&spec, |reference| {
        assert_eq!((reference.name.as_str(), reference.key.as_str()), ("rules", "use.policy"));
        Ok::<_, ()>("(* pressure 2)".into())
    })
    .unwrap();
    assert!(resolve::check(&found).is_ok() && references(&found).count() == 0);
    assert_eq!(inline(&spec, |_| Err("gone")), Err("gone"));
}

#[test]
fn numbers_are_read_as_people_write_them() {
    let read = |text: &str| serde_json::from_str::<Number>(text).map_err(|error| error.to_string());
    assert_eq!(read("5"), Ok(Number::Whole(5)));
    assert_eq!(read("18446744073709551615"), Ok(literal("18446744073709551615")));
    assert_eq!(read("\"0x10\""), Ok(literal("0x10")));
    assert!(read("0.05").unwrap_err().contains("in quotes such as \"0.05\""));
    let text = serde_json::to_string(&[Number::Whole(5), literal("0.05")]).unwrap();
    assert_eq!(text, r#"[5,"0.05"]"#);
}
