//! Policies whose programs lie in ConfigMaps: what is good is given out, what is not is told, and what was good stays.

use overcommit_tests::machine;
use overcommit_tests::wait::until;
use serde_json::{Value, json};

use crate::bench::{Bench, SOON, SYSTEM, install, service_account};

const DEFINES: &str = "(defvar share 0.20)\n";
const GOOD: &str = "(defvar half (/ share 2))\n";
const BROKEN: &str = "# mine\n(defvar half (/ shore 2))\n";

fn config_map(bench: &Bench, name: &str, balloon: &str) {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": SYSTEM},
        "data": {"00-defines.policy": DEFINES, "02-balloon.policy": balloon}});
    bench.api.apply(&body.to_string()).unwrap();
}

/// Two slots of a ConfigMap, with a parameter between them.
fn from(map: &str) -> Value {
    let slot =
        |name: &str| json!({"name": name, "configMapKeyRef": {"name": map, "key": format!("{name}.policy")}});
    json!({"parameters": {"share": "0.05"}, "engine": {"mom": {"slots": [slot("02-balloon"), slot("00-defines")]}}})
}

fn slots(bench: &Bench, node: &str) -> Value {
    let text = bench.api.field("", &format!("noc/{node}"), "{.spec.resolved.engine.mom.slots}").unwrap();
    serde_json::from_str(&text).unwrap_or_default()
}

fn spec(bench: &Bench, node: &str) -> String {
    bench.api.field("", &format!("noc/{node}"), "{.spec.revision} {.spec.resolved}").unwrap()
}

#[test]
fn a_program_that_breaks_stays_as_it_was_good_last_until_it_is_mended() {
    let mut bench = Bench::start(&[]);
    bench.node("a", &[]);
    config_map(&bench, "rules", GOOD);
    bench.policy("mom", &from("rules"));
    bench.expect_condition("mom", "Accepted", "status", |status| status == "True");
    bench.expect("noc/a", "{.spec.policy}", "mom");
    let slot = |name: &str, program: &str| json!({"name": name, "program": program});
    let parameters = slot("01-parameters", "(set share 0.05)\n");
    let expected = json!([slot("00-defines", DEFINES), parameters, slot("02-balloon", GOOD)]);
    assert_eq!(slots(&bench, "a"), expected);
    let good = spec(&bench, "a");
    let revision = bench.api.field("", "ocp/mom", "{.status.revision}").unwrap();

    // Nobody touches the policy.
    config_map(&bench, "rules", BROKEN);
    let told =
        bench.expect_condition("mom", "Accepted", "message", |message| message.contains("02-balloon:2:"));
    assert!(told.starts_with("02-balloon:2:17: undefined symbol shore; did you mean share?"), "{told}");
    assert!(told.ends_with("What was given before stays on 1 node"), "{told}");
    bench.expect_condition("mom", "Accepted", "reason", |reason| reason == "ProgramRefused");
    bench.expect_event("ProgramRefused", "02-balloon:2:17");

    // One that starts now knows what was good from the nodes alone; guests and nodes come nevertheless.
    bench.restart(&[]);
    bench.guest("web", "a", &json!({}), &json!({}));
    bench.expect("noc/a", "{.spec.guests[*].name}", "web");
    bench.node("b", &[]);
    bench.expect("noc/b", "{.spec.policy}", "mom");
    assert_eq!((spec(&bench, "a"), spec(&bench, "b")), (good.clone(), good.clone()));
    bench.expect("ocp/mom", "{.status.revision}", &revision);

    let mended = GOOD.replace('2', "4");
    config_map(&bench, "rules", &mended);
    bench.expect_condition("mom", "Accepted", "message", |message| message == "Holds on 2 nodes");
    for node in ["noc/a", "noc/b"] {
        bench.expect(node, "{.spec.resolved.engine.mom.slots[2].program}", &mended);
    }
    assert_ne!(spec(&bench, "a"), good);
    assert_ne!(bench.api.field("", "ocp/mom", "{.status.revision}").unwrap(), revision);
}

#[test]
fn a_config_map_or_a_key_that_is_missing_is_named_and_what_was_given_stays() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.policy("mom", &from("rules"));
    let missing = format!("there is no ConfigMap rules in the operator's namespace {SYSTEM}");
    bench.expect_condition("mom", "Accepted", "message", |message| message.starts_with(&missing));
    bench.expect_event("ProgramMissing", "there is no ConfigMap rules");
    assert!(!bench.exists("noc/a"), "nothing was ever good");

    config_map(&bench, "rules", GOOD);
    bench.expect("noc/a", "{.spec.policy}", "mom");
    let good = spec(&bench, "a");
    let remove = [
        "patch",
        "configmap",
        "rules",
        "--namespace",
        SYSTEM,
        "--type=json",
        r#"--patch=[{"op": "remove", "path": "/data/02-balloon.policy"}]"#,
    ];
    bench.api.kubectl(&remove).unwrap();
    bench.expect_condition("mom", "Accepted", "message", |message| {
        message.contains("has no key 02-balloon.policy")
    });
    bench.api.kubectl(&["delete", "configmap", "rules", "--namespace", SYSTEM]).unwrap();
    bench.expect_condition("mom", "Accepted", "message", |message| message.starts_with(&missing));
    assert_eq!(spec(&bench, "a"), good);
}

#[test]
fn without_the_right_to_read_config_maps_others_go_on_and_the_right_is_named() {
    let mut bench = Bench::without_operator();
    bench.node("a", &["pool=x"]);
    bench.node("b", &[]);
    config_map(&bench, "rules", GOOD);
    bench.api.kubectl(&["delete", "rolebinding", "overcommit-operator", "--namespace", SYSTEM]).unwrap();
    let account = format!("system:serviceaccount:{SYSTEM}:overcommit-operator");
    let denied = ["auth", "can-i", "list", "configmaps", "--namespace", SYSTEM, "--as", &account];
    let look = || match bench.api.kubectl_command(&denied).output() {
        Ok(output) if String::from_utf8_lossy(&output.stdout).starts_with("no") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    until(SOON, "the right to be gone", look).unwrap();
    let mut spec = from("rules");
    spec["nodeSelector"] = json!({"matchLabels": {"pool": "x"}});
    spec["priority"] = json!(5);
    bench.policy("mom", &spec);
    bench.policy("rest", &json!({}));
    let access = service_account(&bench.api, "overcommit-operator");
    bench.start_unready(&access);
    bench.expect_condition("mom", "Degraded", "message", |message| {
        message.contains("may not list and watch configmaps")
    });
    bench.expect("noc/b", "{.spec.policy}", "rest");
    // Nothing was ever good, so the next policy has its node.
    bench.expect("noc/a", "{.spec.policy}", "rest");
    assert_eq!(bench.operator().get("/readyz"), (503, "waiting for configmaps\n".to_owned()));
    install(&bench.api);
    let object = "noc/a";
    bench
        .api
        .wait_field("", object, "{.spec.policy}", crate::waits::faults::AFTER_TROUBLE, |policy| {
            policy == "mom"
        })
        .unwrap();
}

/// What stands in the documentation between this and the next fence.
fn documented<'a>(text: &'a str, from: &str) -> &'a str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once("```")).unwrap().0
}

#[test]
fn a_policy_directory_is_brought_along_as_the_documentation_says() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    let repository = machine::sources().join("..");
    let text = std::fs::read_to_string(repository.join("docs/mom.md")).unwrap();
    let shipped = repository.join("deploy/samples/mom/vdsm");
    let command = documented(&text, "$ kubectl -n overcommit create").split_once(" | ").unwrap().0;
    let command = command.replace("/etc/vdsm/mom.d", shipped.to_str().unwrap());
    let mut args = vec!["--namespace", SYSTEM, "create"];
    args.extend(command.split_whitespace());
    bench.api.apply(&bench.api.kubectl(&args).unwrap().replace("creationTimestamp: null", "")).unwrap();
    // What else is there is nobody's business.
    config_map(&bench, "unrelated", GOOD);

    bench.api.apply(documented(&text, "```yaml\n")).unwrap();
    // What of oVirt's set nobody acts on here is told with it.
    let told =
        "Holds on 1 node. Nobody acts on ksm_run 2 (03-ksm:34:27), ksm_merge_across_nodes (03-ksm:36:41)";
    bench.expect_condition("from-ovirt", "Accepted", "message", |message| message == told);
    let slots = "{.spec.resolved.engine.mom.slots[*].name}";
    bench.expect("noc/a", slots, "00-defines 01-parameters 02-balloon 03-ksm");
    let known = bench.operator().metric("overcommit_operator_objects{kind=\"configmaps\"}");
    assert!((known - 1.0).abs() < 0.5, "{known}");
}
