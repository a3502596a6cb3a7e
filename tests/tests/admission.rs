//! What the API server takes and refuses of our objects, and what its refusals teach: each names the field and what to
//! write instead, so that whoever wrote the manifest needs no manual.
#![cfg(test)]
#![allow(clippy::needless_pass_by_value, reason = "tables read better without a borrow on each value")]

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use overcommit_tests::api::Api;
use overcommit_tests::wait::until;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_mins(2);

/// The API server with the CRDs as they are committed.
fn installed() -> &'static Api {
    static INSTALLED: OnceLock<&'static Api> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let api = Api::shared().unwrap();
        api.apply(&overcommit_crds::crd::yaml().unwrap()).unwrap();
        api.wait_own_kinds().unwrap();
        api
    })
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Creates it without storing it, with the strict field validation that kubectl asks for.
async fn offer(client: &kube::Client, resource: &str, object: &Value) -> Result<(), String> {
    let path = format!("/apis/overcommit.dev/v1alpha1/{resource}?dryRun=All&fieldValidation=Strict");
    let request = http::Request::post(path)
        .header("Content-Type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// What the specs of a table were answered; what does not fit is listed at once.
async fn wrong(resource: &str, kind: &str, table: &[(Value, &[&str])]) -> Vec<String> {
    let client = installed().client().await.unwrap();
    let mut wrong = Vec::new();
    for (spec, expected) in table {
        match (offer(&client, resource, &object(kind, "trial", spec)).await, expected.is_empty()) {
            (Ok(()), true) => {}
            (Ok(()), false) => wrong.push(format!("{spec} is accepted")),
            (Err(said), _) if !expected.is_empty() && expected.iter().all(|part| said.contains(part)) => {}
            (Err(said), _) => wrong.push(format!("{spec} is refused: {said}")),
        }
    }
    wrong
}

async fn assert_policies(table: &[(Value, &[&str])]) {
    let wrong = wrong("overcommitpolicies", "OvercommitPolicy", table).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn class(fields: Value) -> Value {
    let mut class = json!({"name": "gold"});
    class.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"classes": [class]})
}

fn selecting(selector: Value) -> Value {
    json!({"nodeSelector": selector})
}

fn requiring(key: &str, operator: &str, values: Value) -> Value {
    selecting(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
}

const SIZE: &str = "write bytes such as 512Mi";
const PERCENT: &str = "a percentage from 0% to 100% such as 5%";
const PERIOD: &str = "write a duration from 1s to 5m in one unit, such as 5s or 90s";
const KEY: &str = "write the name of a label, such as tier or example.com/tier";
const VALUE: &str = "with a letter or digit at both ends, such as gold";
const ENGINE: &str = "name exactly one engine: write engine: {adaptive: {}}";

fn slots(slots: Value) -> Value {
    json!({"engine": {"mom": {"slots": slots}}})
}

/// So many slots.
fn many(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({"name": format!("s{n}"), "program": "1"})).collect()
}

/// A program that reads these parameters.
fn parameters(parameters: Value) -> Value {
    json!({"parameters": parameters, "engine": {"mom": {"slots": [{"name": "a", "program": "1"}]}}})
}

#[tokio::test]
async fn what_people_may_write_is_accepted() {
    let accepted = [
        json!({}),
        json!({"mode": "Enforce"}),
        json!({"classes": []}),
        json!({"engine": {"adaptive": {}}}),
        json!({"engine": {"adaptive": {"headroomPercent": 15, "turnSeconds": 1800}}}),
        json!({"interval": "1s"}),
        json!({"interval": "1500ms"}),
        json!({"interval": "5m"}),
        json!({"priority": -1_000_000}),
        json!({"priority": 1_000_000}),
        json!({"reserve": {"minimum": "0"}}),
        json!({"reserve": {"minimum": "1.5Gi", "growthPercentile": 100}}),
        json!({"reserve": {"minimum": "100%"}}),
        json!({"limits": {"takePerGuest": "2.5%", "takePerNode": "1073741824", "deadBand": "0%"}}),
        json!({"limits": {"takePerGuest": "0%", "takePerNode": "0"}}),
        json!({"limits": {"takePerGuest": "0"}}),
        json!({"limits": {"takePerGuest": "2.5%", "deadBand": "2.5%"}}),
        json!({"limits": {"takePerGuest": "1Gi", "deadBand": "1024Mi"}}),
        json!({"limits": {"takePerGuest": "64Mi", "deadBand": "100%"}}),
        class(json!({"floor": {"percent": 0}})),
        class(json!({"floor": {"percent": 100, "bytes": "2Gi", "belowRequest": true}})),
        class(json!({"floor": {"bytes": null}})),
        class(json!({"weight": 1})),
        class(json!({"weight": 10_000, "exclude": true})),
        class(json!({"namespaceSelector": {}, "selector": {"matchLabels": {"example.com/tier": ""}}})),
        requiring("tier", "NotIn", json!(["gold", "silver"])),
        requiring("tier", "Exists", json!([])),
        slots(
            json!([{"name": "02-balloon", "program": "(set a 1)"}, {"name": "b", "configMapKeyRef": {"name": "a.b", "key": "02_b.policy"}}]),
        ),
        slots(json!(
            (0..32)
                .map(|n| json!({"name": format!("s{n}"), "program": "x".repeat(1024)}))
                .collect::<Vec<_>>()
        )),
        parameters(json!({"balloonEnabled": 1, "a-b_c": -5, "share": "0.05", "mask": "0x1F", "most": "2e3"})),
        json!({"parameters": {"a": 1}, "engine": {"mom": {"slots": many(31)}}}),
        parameters(json!((0..64).map(|n| (format!("p{n}"), json!(n))).collect::<serde_json::Map<_, _>>())),
        json!({"ksm": {"mode": "Program"}, "engine": {"mom": {"slots": [{"name": "a", "program": "1"}]}}}),
    ];
    assert_policies(&accepted.map(|spec| (spec, &[][..]))).await;
}

#[tokio::test]
async fn fields_that_cannot_work_are_refused_by_path_with_what_to_write() {
    assert_policies(&[
        (json!({"mod": "Enforce"}), &["unknown field \"spec.mod\""]),
        (class(json!({"florr": {}})), &["unknown field \"spec.classes[0].florr\""]),
        (json!({"mode": "Force"}), &["spec.mode", "\"Observe\", \"Enforce\""]),
        (json!({"interval": "0s"}), &["spec.interval", PERIOD]),
        (json!({"interval": "9h"}), &["spec.interval", PERIOD]),
        (json!({"interval": "6m"}), &["spec.interval", PERIOD]),
        (json!({"interval": "5"}), &["spec.interval", PERIOD]),
        (json!({"interval": 5}), &["spec.interval", "must be of type string"]),
        (json!({"priority": 1_000_001}), &["spec.priority", "less than or equal to 1000000"]),
        (json!({"priority": -1_000_001}), &["spec.priority", "greater than or equal to -1000000"]),
        (json!({"priority": "high"}), &["spec.priority", "must be of type integer"]),
        (json!({"engine": {}}), &["spec.engine", ENGINE]),
        (json!({"engine": {"adaptive": null}}), &["spec.engine", ENGINE]),
        (json!({"engine": {"adaptive": {}, "mum": {}}}), &["unknown field \"spec.engine.mum\""]),
        (
            json!({"engine": {"adaptive": {"headroomPercent": 14}}}),
            &["headroomPercent", "greater than or equal to 15"],
        ),
        (
            json!({"engine": {"adaptive": {"turnSeconds": 1801}}}),
            &["turnSeconds", "less than or equal to 1800"],
        ),
        (json!({"engine": {"adaptive": {"gain": 2}}}), &["unknown field \"spec.engine.adaptive.gain\""]),
    ])
    .await;
}

#[tokio::test]
async fn programs_that_cannot_work_are_refused_as_far_as_a_schema_can_tell() {
    let text = json!({"name": "a", "program": "1"});
    let at = |field: &str| format!("spec.engine.mom.slots[0]{field}");
    let (name, program, map, key) =
        (at(".name"), at(".program"), at(".configMapKeyRef.name"), at(".configMapKeyRef.key"));
    let elsewhere =
        |name: &str, key: &str| slots(json!([{"name": "a", "configMapKeyRef": {"name": name, "key": key}}]));
    let source = "give exactly one of program (its text) and configMapKeyRef";
    let both = json!({"name": "a", "program": "1", "configMapKeyRef": {"name": "a", "key": "b"}});
    let long = json!({"name": "a", "program": "x".repeat(20_000)});
    let longer = json!({"name": "b", "program": "x".repeat(20_000)});
    let crowded = json!({"parameters": {"a": 1}, "engine": {"mom": {"slots": many(32)}}});
    assert_policies(&[
        (json!({"engine": {"adaptive": {}, "mom": {"slots": [text]}}}), &["spec.engine", ENGINE]),
        (json!({"engine": {"mom": {}}}), &["spec.engine.mom.slots", "Required"]),
        (slots(json!([])), &["spec.engine.mom.slots", "at least 1 items"]),
        (slots(json!(many(33))), &["spec.engine.mom.slots", "at most 32 items"]),
        (crowded, &["spec.engine.mom.slots", "write at most 31 beside them"]),
        (slots(json!([text, text])), &["spec.engine.mom.slots[1]", "Duplicate value"]),
        (slots(json!([{"name": "a"}])), &["spec.engine.mom.slots[0]", source]),
        (slots(json!([both])), &["spec.engine.mom.slots[0]", source]),
        (slots(json!([{"name": "a b", "program": "1"}])), &[&name, "such as 02-balloon"]),
        (slots(json!([{"name": "n".repeat(64), "program": "1"}])), &[&name, "may not be more than 63"]),
        (slots(json!([{"name": "a", "program": ""}])), &[&program, "at least 1 chars"]),
        (
            slots(json!([{"name": "a", "program": " \n"}])),
            &[&program, "nothing but blanks: write the slot's text"],
        ),
        (slots(json!([long, longer])), &["spec.engine.mom.slots", "no more than 32768 characters fit"]),
        (elsewhere("My rules", "b"), &[&map, "lower-case letters"]),
        (elsewhere("a", "b/c"), &[&key, "such as 02-balloon.policy"]),
        (json!({"parameters": {"a": 1}}), &["spec.parameters", "the adaptive engine reads none"]),
        (parameters(json!({"a": 0.05})), &["spec.parameters.a", "integer"]),
        (parameters(json!({"a": "ten"})), &["spec.parameters.a"]),
        (parameters(json!({"a": "1)"})), &["spec.parameters.a"]),
        (parameters(json!({"a.b": 1})), &["spec.parameters", "the name of a variable"]),
        (json!({"ksm": {"mode": "Program"}}), &["spec.ksm", "needs a program in engine.mom"]),
    ])
    .await;
}

#[test]
fn an_engine_can_be_named_where_none_was_and_taken_back() {
    let api = installed();
    let apply = |spec: Value| {
        let text = object("OvercommitPolicy", "engines", &spec).to_string();
        api.with_input(&["apply", "--filename=-"], &text).unwrap()
    };
    apply(json!({"mode": "Observe"}));
    apply(slots(json!([{"name": "a", "program": "1"}])));
    assert_eq!(api.field("", "ocp/engines", "{.spec.engine.mom.slots[0].name}").unwrap(), "a");
    apply(json!({"mode": "Observe"}));
    assert_eq!(api.field("", "ocp/engines", "{.spec.engine}").unwrap(), "");
    api.kubectl(&["delete", "ocp", "engines"]).unwrap();
}

#[tokio::test]
async fn amounts_that_cannot_work_are_refused_with_units_that_can() {
    assert_policies(&[
        (json!({"reserve": {"minimum": "101%"}}), &["spec.reserve.minimum", PERCENT]),
        (json!({"reserve": {"minimum": "5 GB"}}), &["spec.reserve.minimum", SIZE]),
        (json!({"reserve": {"minimum": 5}}), &["spec.reserve.minimum", "must be of type string"]),
        (
            json!({"reserve": {"growthPercentile": 49}}),
            &["spec.reserve.growthPercentile", "than or equal to 50"],
        ),
        (
            json!({"reserve": {"growthPercentile": 101}}),
            &["spec.reserve.growthPercentile", "than or equal to 100"],
        ),
        (json!({"limits": {"takePerGuest": "10MB"}}), &["spec.limits.takePerGuest", SIZE, PERCENT]),
        (json!({"limits": {"takePerNode": "-1Gi"}}), &["spec.limits.takePerNode", SIZE, PERCENT]),
        (json!({"limits": {"deadBand": "100.1%"}}), &["spec.limits.deadBand", SIZE, PERCENT]),
        (json!({"limits": {"deadBand": ""}}), &["spec.limits.deadBand", SIZE, PERCENT]),
        (json!({"limits": {"deadBand": "10.1%"}}), &["spec.limits.deadBand", "a larger takePerGuest"]),
        (
            json!({"limits": {"takePerGuest": "0.5Gi", "deadBand": "513Mi"}}),
            &["spec.limits.deadBand", "a larger takePerGuest"],
        ),
        (
            class(json!({"floor": {"percent": 120}})),
            &["spec.classes[0].floor.percent", "than or equal to 100"],
        ),
        (class(json!({"floor": {"percent": -1}})), &["spec.classes[0].floor.percent", "than or equal to 0"]),
        (class(json!({"floor": {"percent": "25%"}})), &["spec.classes[0].floor.percent", "type integer"]),
        (class(json!({"floor": {"bytes": "25%"}})), &["spec.classes[0].floor.bytes", SIZE]),
        (class(json!({"floor": {"bytes": "half"}})), &["spec.classes[0].floor.bytes", SIZE]),
        (class(json!({"floor": "2Gi"})), &["spec.classes[0].floor", "must be of type object"]),
        (
            class(json!({"floor": {"belowRequest": "yes"}})),
            &["spec.classes[0].floor.belowRequest", "type boolean"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn classes_that_cannot_work_are_refused() {
    let long = "g".repeat(64);
    let many: Vec<Value> = (0..33).map(|n| json!({"name": format!("class-{n}")})).collect();
    assert_policies(&[
        (json!({"classes": [{}]}), &["spec.classes[0].name", "Required"]),
        (class(json!({"name": ""})), &["spec.classes[0].name", "at least 1 chars"]),
        (
            class(json!({"name": "Gold guests"})),
            &["spec.classes[0].name", "write lower-case letters", "such as gold"],
        ),
        (class(json!({"name": long})), &["spec.classes[0].name", "may not be more than 63"]),
        (
            json!({"classes": [{"name": "a"}, {"name": "a"}]}),
            &["spec.classes[1]", "Duplicate value", "\"name\":\"a\""],
        ),
        (json!({"classes": many}), &["spec.classes", "must have at most 32 items"]),
        (class(json!({"weight": 0})), &["spec.classes[0].weight", "than or equal to 1"]),
        (class(json!({"weight": 10_001})), &["spec.classes[0].weight", "than or equal to 10000"]),
    ])
    .await;
}

#[tokio::test]
async fn selectors_that_can_match_nothing_are_refused() {
    let far = format!("{}/tier", "a".repeat(254));
    let at = |field: &str| format!("spec.nodeSelector.matchExpressions[0]{field}");
    let (operator, key, values, first) = (at(".operator"), at(".key"), at(".values"), at(".values[0]"));
    assert_policies(&[
        (
            requiring("tier", "Is", json!(["gold"])),
            &[&operator, "\"In\", \"NotIn\", \"Exists\", \"DoesNotExist\""],
        ),
        (
            requiring("tier", "In", json!([])),
            &[&values, "need at least one entry in values, such as values: [gold]"],
        ),
        (requiring("tier", "NotIn", json!([])), &[&values, "need at least one entry in values"]),
        (requiring("tier", "Exists", json!(["gold"])), &[&values, "take no values: remove them"]),
        (requiring("tier", "In", json!(["a", "a"])), &["values[1]", "Duplicate value"]),
        (requiring("tier", "In", json!(["-gold"])), &[&first, VALUE]),
        (requiring("tier", "In", json!(["g".repeat(64)])), &[&first, "may not be more than 63"]),
        (requiring("the tier", "Exists", json!([])), &[&key, KEY]),
        (requiring("", "Exists", json!([])), &[&key, "at least 1 chars"]),
        (requiring(&far, "Exists", json!([])), &[&key, KEY]),
        (selecting(json!({"matchLabels": {"a b": "x"}})), &["spec.nodeSelector.matchLabels", KEY]),
        (selecting(json!({"matchLabels": {"tier": "a b"}})), &["spec.nodeSelector.matchLabels[tier]", VALUE]),
        (
            selecting(json!({"matchLabels": {"tier": true}})),
            &["spec.nodeSelector.matchLabels.tier", "type string"],
        ),
        (selecting(json!({"tier": "gold"})), &["unknown field \"spec.nodeSelector.tier\""]),
        (
            class(json!({"namespaceSelector": {"matchExpressions": [{"key": "k", "operator": "In"}]}})),
            &["spec.classes[0].namespaceSelector.matchExpressions[0].values", "at least one entry"],
        ),
        (
            class(json!({"selector": {"matchLabels": {"/tier": "x"}}})),
            &["spec.classes[0].selector.matchLabels", KEY],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_policys_name_fits_a_label() {
    let client = installed().client().await.unwrap();
    let named = |length: usize| object("OvercommitPolicy", &"p".repeat(length), &json!({}));
    offer(&client, "overcommitpolicies", &named(63)).await.unwrap();
    let said = offer(&client, "overcommitpolicies", &named(64)).await.unwrap_err();
    assert!(said.contains("at most 63 characters") && said.contains("value of a label"), "{said}");
}

/// The spec that a node of a policy with default values has.
fn node_spec() -> Value {
    let resolved = overcommit_crds::resolve::resolve(&overcommit_crds::OvercommitPolicySpec::default());
    json!({"policy": "gold", "revision": "0123456789ab", "resolved": resolved})
}

fn edited(path: &str, value: Value) -> Value {
    let mut spec = node_spec();
    let (parent, field) = path.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[field] = value;
    spec
}

#[tokio::test]
async fn what_an_agent_could_not_obey_is_refused_in_its_orders_too() {
    let elsewhere = json!({"mom": {"slots": [{"name": "a", "configMapKeyRef": {"name": "b", "key": "c"}}]}});
    let table: [(Value, &[&str]); 15] = [
        (edited("/resolved/engine", json!({"mom": {"slots": [{"name": "a", "program": "1"}]}})), &[]),
        (edited("/resolved/engine", elsewhere), &["spec.resolved.engine", "stands under program"]),
        (edited("/resolved/ksm", json!({"mode": "Program"})), &["spec.resolved.ksm", "needs a program"]),
        (node_spec(), &[]),
        (edited("/release", json!(true)), &[]),
        (edited("/paused", json!("yes")), &["spec.paused", "type boolean"]),
        (edited("/pause", json!(true)), &["unknown field \"spec.pause\""]),
        (edited("/resolved/mode", json!("Off")), &["spec.resolved.mode", "\"Observe\", \"Enforce\""]),
        (edited("/resolved/interval", json!("9h")), &["spec.resolved.interval", PERIOD]),
        (edited("/resolved/engine", json!({})), &["spec.resolved.engine", ENGINE]),
        (edited("/resolved/reserve/minimum", json!("200%")), &["spec.resolved.reserve.minimum", PERCENT]),
        (edited("/resolved/limits/deadBand", json!("1MB")), &["spec.resolved.limits.deadBand", SIZE]),
        (
            edited("/resolved/classes/0/weight", json!(0)),
            &["spec.resolved.classes[0].weight", "or equal to 1"],
        ),
        (
            edited("/resolved/classes/0/floor/percent", json!(101)),
            &["spec.resolved.classes[0].floor.percent", "than or equal to 100"],
        ),
        (
            edited("/guests", json!([{"namespace": "n", "name": "g", "uid": "u", "excluded": "Mine"}])),
            &["spec.guests[0].excluded", "\"Annotation\", \"Class\", \"NoClass\""],
        ),
    ];
    let wrong = wrong("nodeovercommits", "NodeOvercommit", &table).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn kubectl_shows_a_refusal_and_explains_the_fields() {
    let api = installed();
    let bad = object("OvercommitPolicy", "trial", &json!({"interval": "9h", "mod": "Enforce"}));
    let said = api.with_input(&["apply", "--filename=-"], &bad.to_string()).unwrap_err().to_string();
    assert!(said.contains("unknown field \"spec.mod\""), "{said}");
    let bad = object("OvercommitPolicy", "trial", &json!({"interval": "9h"}));
    let said = api.with_input(&["apply", "--filename=-"], &bad.to_string()).unwrap_err().to_string();
    assert!(said.contains("spec.interval: Invalid value") && said.contains(PERIOD), "{said}");
    // What it explains from is published a moment after the kind is served.
    let explain = || api.kubectl(&["explain", "ocp.spec", "--recursive"]);
    let tree = until(SOON, "the fields", explain).unwrap();
    for field in [
        "mode",
        "matchExpressions",
        "belowRequest",
        "growthPercentile",
        "deadBand",
        "configMapKeyRef",
        "parameters",
    ] {
        assert!(tree.contains(field), "{field} is not in\n{tree}");
    }
    let words = api.kubectl(&["explain", "ocp.spec.classes.floor.belowRequest"]).unwrap();
    assert!(words.contains("say true only"), "{words}");
}

#[test]
fn all_samples_are_accepted() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples");
    let files = std::fs::read_dir(&samples).unwrap().map(|entry| entry.unwrap().path());
    let count = files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).count();
    let samples = format!("--filename={}", samples.display());
    let said = installed().kubectl(&["apply", "--dry-run=server", "--validate=strict", &samples]).unwrap();
    assert_eq!(said.lines().count(), count, "{said}");
    assert!(count > 0);
}
