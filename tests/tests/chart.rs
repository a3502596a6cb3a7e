//! The chart as rendered: what it grants, how its pods run, what it refuses. No cluster needed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use overcommit_tests::chart::{self, helm, rendered};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Every right that the chart grants: object, verbs, resource.
const RIGHTS: [&str; 13] = [
    "ClusterRole overcommit-agent: get list watch nodeovercommits.overcommit.dev",
    "ClusterRole overcommit-agent: patch nodeovercommits/status.overcommit.dev",
    "ClusterRole overcommit-operator: create delete list patch watch nodeovercommits.overcommit.dev",
    "ClusterRole overcommit-operator: list patch watch overcommitpolicies.overcommit.dev",
    "ClusterRole overcommit-operator: list watch namespaces",
    "ClusterRole overcommit-operator: list watch nodes",
    "ClusterRole overcommit-operator: list watch pods",
    "ClusterRole overcommit-operator: list watch virtualmachineinstances.kubevirt.io",
    "ClusterRole overcommit-operator: patch overcommitpolicies/status.overcommit.dev",
    "ClusterRole overcommit-release: delete list overcommitpolicies.overcommit.dev",
    "ClusterRole overcommit-release: list nodeovercommits.overcommit.dev",
    "Role default/overcommit-events: create patch events.events.k8s.io",
    "Role system/overcommit-operator: list watch configmaps",
];

/// Who has them.
const BINDINGS: [&str; 6] = [
    "ClusterRole overcommit-agent: system/overcommit-agent",
    "ClusterRole overcommit-operator: system/overcommit-operator",
    "ClusterRole overcommit-release: system/overcommit-release",
    "Role default/overcommit-events: system/overcommit-agent",
    "Role default/overcommit-events: system/overcommit-operator",
    "Role system/overcommit-operator: system/overcommit-operator",
];

/// Values at the far end of what the schema allows.
const EXTREME: &str = r#"
imagePullSecrets: [{name: a}, {name: b.c}]
crds: {install: false}
operator:
  image: {repository: "registry.example:5000/a/b", tag: ignored, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullPolicy: Always}
  log: warn,overcommit_operator=debug
  port: 65535
  releaseTimeout: 99999h
  resources: {requests: {}, limits: {}}
  priorityClassName: ""
  nodeSelector: {a.b/c: "true"}
  tolerations: [{operator: Exists}]
  affinity: {nodeAffinity: {}}
agent:
  image: {repository: a, tag: v1, pullPolicy: Never}
  port: 1024
  resources: {cpuRequest: "0.5", memoryRequest: 1Gi, memoryLimit: 2Gi}
  priorityClassName: ""
  nodeSelector: {pool: "1"}
  maxUnavailable: 100%
  terminationGracePeriodSeconds: 600
  seLinuxType: ""
release: {timeout: 1h}
"#;

fn render(args: &[&str]) -> Vec<Value> {
    rendered("overcommit", args).unwrap()
}

/// Rendered with the values of `EXTREME`.
fn render_extreme() -> Vec<Value> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), EXTREME).unwrap();
    rendered(
        "a-release-name-as-long-as-helm-permits-fifty-three-ch",
        &["--values", file.path().to_str().unwrap()],
    )
    .unwrap()
}

fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn rights(objects: &[Value]) -> Vec<String> {
    chart::rights(objects).unwrap()
}

fn bindings(objects: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for binding in objects.iter().filter(|o| text(&o["kind"]).ends_with("RoleBinding")) {
        let role = text(&binding["roleRef"]["name"]);
        let namespace = text(&binding["metadata"]["namespace"]);
        let place = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        for subject in list(&binding["subjects"]) {
            assert_eq!(subject["kind"], "ServiceAccount");
            let who = format!("{}/{}", text(&subject["namespace"]), text(&subject["name"]));
            lines.push(format!("{} {place}{role}: {who}", text(&binding["roleRef"]["kind"])));
        }
    }
    lines.sort();
    lines
}

#[test]
fn helms_linter_has_no_complaint() {
    let said = helm(&["lint", "--strict"]).unwrap();
    assert!(said.contains("0 chart(s) failed"), "{said}");
}

#[test]
fn the_chart_grants_exactly_these_rights_to_exactly_these_accounts() {
    let objects = render(&[]);
    assert_eq!(rights(&objects), RIGHTS);
    assert_eq!(bindings(&objects), BINDINGS);
}

#[test]
fn no_values_widen_the_rights() {
    let extreme = render_extreme();
    let rules = |objects: &[Value]| -> Vec<String> {
        let mut lines: Vec<String> =
            rights(objects).into_iter().map(|line| line.rsplit(": ").next().unwrap().to_owned()).collect();
        lines.sort();
        lines
    };
    assert_eq!(rules(&extreme), rules(&render(&[])));
    for right in rights(&extreme) {
        assert!(
            !["*", "secrets", "pods/", "proxy", "escalate", "bind", "impersonate"]
                .iter()
                .any(|w| right.contains(w)),
            "{right}"
        );
    }
}

#[test]
fn the_agents_pod_has_three_capabilities_one_folder_of_the_host_and_nothing_more() {
    for objects in [render(&[]), render_extreme()] {
        let pod = &one(&objects, "DaemonSet")["spec"]["template"]["spec"];
        assert_eq!(list(&pod["containers"]).len(), 1);
        assert!(
            pod.get("initContainers").is_none()
                && pod.get("hostNetwork").is_none()
                && pod.get("hostIPC").is_none()
        );
        assert_eq!(pod["hostPID"], true);
        let container = &pod["containers"][0];
        assert_eq!(
            container["securityContext"],
            json!({
                "privileged": false,
                "runAsUser": 0,
                "runAsGroup": 0,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"], "add": ["DAC_OVERRIDE", "IPC_LOCK", "SYS_PTRACE"] },
            })
        );
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(list(&pod["volumes"]).len(), 1);
        assert_eq!(pod["volumes"][0]["hostPath"]["path"], "/var/lib/overcommit");
        assert!(list(&container["volumeMounts"]).iter().all(|mount| mount.get("mountPropagation").is_none()));
    }
}

#[test]
fn the_agent_survives_the_pressure_that_it_relieves() {
    let objects = render(&[]);
    let set = &one(&objects, "DaemonSet")["spec"];
    let pod = &set["template"]["spec"];
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    let term = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        [0];
    assert_eq!(term["matchExpressions"], json!([{ "key": "kubevirt.io/schedulable", "operator": "Exists" }]));
    let resources = &pod["containers"][0]["resources"];
    // A message of a tenant's libvirt may take 32Mi: with a limit near the request two of them end the agent.
    assert_eq!(
        (&resources["requests"]["memory"], &resources["limits"]["memory"]),
        (&json!("96Mi"), &json!("1Gi"))
    );
    assert!(resources["limits"].get("cpu").is_none(), "a throttled loop relieves nobody");
    assert_eq!(set["updateStrategy"]["rollingUpdate"], json!({ "maxSurge": 0, "maxUnavailable": "10%" }));
}

#[test]
fn who_may_ask_for_metrics_is_everybody_or_those_who_are_named() {
    assert!(render(&[]).iter().all(|object| object["kind"] != "NetworkPolicy"));
    let from =
        r#"networkPolicy={"enabled":true,"from":[{"namespaceSelector":{"matchLabels":{"team":"watch"}}}]}"#;
    for (set, rules) in [("networkPolicy.enabled=true", 0), (from, 1)] {
        let objects = render(&["--set-json", set]);
        let policies: Vec<&Value> = objects.iter().filter(|o| o["kind"] == "NetworkPolicy").collect();
        let pods = ["DaemonSet", "Deployment"].map(|kind| &one(&objects, kind)["spec"]["template"]);
        assert_eq!(policies.len(), pods.len());
        for (policy, pod) in policies.into_iter().zip(pods) {
            let spec = &policy["spec"];
            assert_eq!(spec["podSelector"]["matchLabels"], pod["metadata"]["labels"]);
            assert_eq!(list(&spec["ingress"]).len(), rules);
            assert!(
                list(&spec["ingress"]).iter().all(|rule| rule["ports"][0]["port"]
                    == pod["spec"]["containers"][0]["ports"][0]["containerPort"])
            );
        }
    }
}

#[test]
fn operator_and_release_job_run_as_nobody_with_nothing() {
    let objects = render(&[]);
    for kind in ["Deployment", "Job"] {
        let pod = &one(&objects, kind)["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{kind}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{kind}");
        assert!(pod.get("hostPID").is_none() && pod.get("volumes").is_none(), "{kind}");
        assert_eq!(
            pod["containers"][0]["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            })
        );
    }
    assert_eq!(one(&objects, "Deployment")["spec"]["replicas"], 1);
}

#[test]
fn memory_is_given_back_before_anything_is_removed() {
    let objects = render(&[]);
    let job = one(&objects, "Job");
    let mut hooks: Vec<(i64, &str)> = Vec::new();
    for object in &objects {
        let notes = &object["metadata"]["annotations"];
        if let Some(hook) = notes.get("helm.sh/hook") {
            assert_eq!(hook, "pre-delete");
            hooks.push((text(&notes["helm.sh/hook-weight"]).parse().unwrap(), text(&object["kind"])));
        }
    }
    hooks.sort_unstable();
    let expected = [(-10, "ClusterRole"), (-10, "ClusterRoleBinding"), (-10, "ServiceAccount"), (0, "Job")];
    assert_eq!(hooks, expected, "its rights first, then the Job");
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["args"], json!(["release", "--timeout=4m"]));
    // Both below the five minutes that helm waits unless told otherwise.
    assert_eq!(job["spec"]["activeDeadlineSeconds"], 240 + 60);
    let hour = render(&["--set", "release.timeout=1h"]);
    assert_eq!(one(&hour, "Job")["spec"]["activeDeadlineSeconds"], 3660);
    let none = render(&["--set", "release.enabled=false"]);
    assert!(none.iter().all(|object| object["metadata"]["annotations"].get("helm.sh/hook").is_none()));
}

#[test]
fn the_crds_are_the_generated_ones_and_stay_when_the_release_goes() {
    let generated = std::fs::read_to_string(chart::folder().join("../../crds/generated/crds.yaml")).unwrap();
    let mut generated: Vec<Value> = serde_saphyr::from_multiple(&generated).unwrap();
    generated.retain(|object| !object.is_null());
    let mut rendered: Vec<Value> =
        render(&[]).into_iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
    for crd in &mut rendered {
        let notes = crd["metadata"].as_object_mut().unwrap().remove("annotations").unwrap();
        assert_eq!(notes, json!({ "helm.sh/resource-policy": "keep" }));
    }
    let by_name = |crd: &Value| crd["metadata"]["name"].to_string();
    rendered.sort_by_key(by_name);
    generated.sort_by_key(by_name);
    assert_eq!(rendered.len(), 2);
    assert_eq!(rendered, generated);
    assert!(render_extreme().iter().all(|object| object["kind"] != "CustomResourceDefinition"));
}

#[test]
fn an_agent_is_tied_to_the_node_that_its_token_names() {
    let objects = render(&[]);
    let policy = &one(&objects, "ValidatingAdmissionPolicy")["spec"];
    assert_eq!(policy["failurePolicy"], "Fail");
    let condition = text(&policy["matchConditions"][0]["expression"]);
    assert!(condition.contains("'system:serviceaccount:system:overcommit-agent'"), "{condition}");
    let binding = &one(&objects, "ValidatingAdmissionPolicyBinding")["spec"];
    assert_eq!(binding["validationActions"], json!(["Deny"]));
    assert_eq!(binding["policyName"], one(&objects, "ValidatingAdmissionPolicy")["metadata"]["name"]);
}

#[test]
fn names_fit_and_differ_even_under_the_longest_release_name() {
    let mut seen = BTreeSet::new();
    for object in render_extreme() {
        let name = text(&object["metadata"]["name"]).to_owned();
        assert!(name.len() <= 63 && !name.contains("--") && !name.ends_with('-'), "{name}");
        assert!(seen.insert((object["kind"].to_string(), name)), "{object}");
        for (label, value) in object["metadata"]["labels"].as_object().unwrap() {
            assert!(text(value).len() <= 63, "{label}: {value}");
        }
    }
}

#[test]
fn the_command_that_explains_a_guest_finds_the_agents_pod() {
    let notes = helm(&["install", "overcommit", "--dry-run=client", "--namespace", "overcommit"]).unwrap();
    let read = |path: &str| std::fs::read_to_string(chart::folder().join(path)).unwrap();
    let objects = render(&[]);
    let labels = &one(&objects, "DaemonSet")["spec"]["template"]["metadata"]["labels"];
    for text in [notes, read("README.md"), read("../../README.md")] {
        let selector = text.split("get pod -l ").nth(1).and_then(|rest| rest.split_whitespace().next());
        for label in selector.unwrap().split(',') {
            let (key, value) = label.split_once('=').unwrap();
            assert_eq!(labels[key], value, "{text}");
        }
        assert!(text.contains("kubectl -n overcommit exec"), "{text}");
        assert!(text.contains("-- overcommit-agent explain"), "{text}");
    }
}

#[test]
fn a_digest_wins_over_a_tag() {
    let objects = render_extreme();
    let image = |kind: &str| {
        text(&one(&objects, kind)["spec"]["template"]["spec"]["containers"][0]["image"]).to_owned()
    };
    assert!(
        image("Deployment").starts_with("registry.example:5000/a/b@sha256:0123"),
        "{}",
        image("Deployment")
    );
    assert_eq!(image("Deployment"), image("Job"));
    assert_eq!(image("DaemonSet"), "a:v1");
}

#[test]
fn an_agent_records_where_it_keeps_its_state_and_only_where_that_is_wanted() {
    let recorded = |args: &[&str]| {
        let objects = render(args);
        let container = &one(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
        let told = list(&container["args"]).iter().map(text).find(|arg| arg.starts_with("--record"));
        told.map(str::to_owned)
    };
    assert_eq!(recorded(&[]), None);
    let wanted = recorded(&["--set", "agent.record=true"]);
    assert_eq!(wanted.as_deref(), Some("--record=/var/lib/overcommit/recording"));
}

#[test]
fn values_that_cannot_work_are_refused_by_name() {
    let table = [
        ("operater.port=1", "operater"),
        ("agent.privileged=true", "privileged"),
        ("agent.port=80", "/agent/port"),
        ("agent.port=many", "/agent/port"),
        ("agent.maxUnavailable=0", "/agent/maxUnavailable"),
        ("agent.maxUnavailable=101%", "/agent/maxUnavailable"),
        ("agent.resources.memoryLimit=64", "/agent/resources/memoryLimit"),
        ("networkPolicy.from=all", "/networkPolicy/from"),
        ("agent.resources.limits.cpu=1", "limits"),
        ("agent.image.pullPolicy=Sometimes", "/agent/image/pullPolicy"),
        ("agent.image.digest=sha256:12", "/agent/image/digest"),
        ("agent.terminationGracePeriodSeconds=0", "/agent/terminationGracePeriodSeconds"),
        ("agent.seLinuxType=a b", "/agent/seLinuxType"),
        ("operator.replicas=2", "replicas"),
        ("operator.releaseTimeout=10", "/operator/releaseTimeout"),
        ("release.timeout=1.5m", "/release/timeout"),
        ("release.timeout=0s", "/release/timeout"),
        ("crds.install=perhaps", "/crds/install"),
        ("agent.resources.memoryLimit=null", "memoryLimit"),
        (
            "operator.tolerations[0].operator=Foo",
            "/operator/tolerations/0/operator': value must be one of 'Exists'",
        ),
        ("operator.tolerations[0].effect=Never", "/operator/tolerations/0/effect"),
        ("operator.tolerations[0].keys=a", "keys"),
        ("operator.tolerations[0].value=1", "/operator/tolerations/0/value"),
    ];
    for (set, named) in table {
        let refused = rendered("overcommit", &["--set", set]).expect_err(set).to_string();
        assert!(refused.contains(named) && refused.contains("schema"), "{set}: {refused}");
    }
}

#[test]
fn values_that_cannot_work_together_are_refused_with_what_to_write_instead() {
    let table = [
        ("agent.resources.memoryRequest=2Gi", "agent.resources.memoryRequest is 2Gi", "write 1Gi or less"),
        (
            "agent.resources.memoryRequest=1074M",
            "agent.resources.memoryLimit, which is 1Gi",
            "or a higher limit",
        ),
        (
            "operator.resources.limits.memory=1M",
            "operator.resources.requests.memory is 64Mi",
            "write 1M or less",
        ),
        (
            "operator.resources.limits.cpu=0.01",
            "operator.resources.requests.cpu is 20m",
            "write 0.01 or less",
        ),
        (
            "operator.tolerations[0].operator=Exists,operator.tolerations[0].value=x",
            "operator.tolerations[0]: operator Exists takes no value",
            "write operator: Equal",
        ),
        (
            "operator.tolerations[0].value=x",
            "operator.tolerations[0]: operator Equal needs a key",
            "operator: Exists",
        ),
        (
            "operator.tolerations[0].operator=Exists,operator.tolerations[0].tolerationSeconds=3",
            "operator.tolerations[0]: tolerationSeconds",
            "write that, or leave",
        ),
    ];
    for (set, named, instead) in table {
        let refused = rendered("overcommit", &["--set", set]).expect_err(set).to_string();
        assert!(refused.contains(named) && refused.contains(instead), "{set}: {refused}");
    }
    for set in [
        "agent.resources.memoryRequest=1Gi",
        "agent.resources.memoryRequest=1073M",
        "operator.resources.requests.cpu=70m,operator.resources.limits.cpu=0.07",
        "operator.resources.limits=null",
        "operator.tolerations[0].key=a,operator.tolerations[0].value=b",
        "operator.tolerations[0].operator=Exists,operator.tolerations[0].value=",
    ] {
        render(&["--set", set]);
    }
}

#[test]
fn an_old_kubernetes_is_refused() {
    let refused = rendered("overcommit", &["--kube-version", "1.32.9"]).unwrap_err().to_string();
    assert!(refused.contains(">=1.33"), "{refused}");
    render(&["--kube-version", "1.33.0-eks-1"]);
}

#[test]
fn every_sample_is_a_policy_that_can_work() {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(chart::folder().join("../samples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let policy = overcommit_crds::file::read(&std::fs::read(&path).unwrap())
                .unwrap_or_else(|error| panic!("{} {error}", path.display()));
            assert!(names.insert(policy.metadata.name.unwrap()), "{}: its name is taken", path.display());
        }
    }
    assert_eq!(names.len(), 8);
}

#[test]
fn the_sample_in_moms_language_holds_the_rules_that_are_shipped() {
    let folder = chart::folder().join("../samples");
    let policy = overcommit_crds::file::read(&std::fs::read(folder.join("mom.yaml")).unwrap()).unwrap();
    for slot in policy.spec.engine.mom.unwrap().slots {
        let shipped = std::fs::read_to_string(folder.join(format!("mom/vdsm/{}.policy", slot.name))).unwrap();
        assert_eq!(slot.program.as_deref(), Some(shipped.as_str()), "{}", slot.name);
    }
}

#[test]
fn a_policy_that_has_equal_pages_merged_needs_no_other_chart() {
    let sample = std::fs::read(chart::folder().join("../samples/merging.yaml")).unwrap();
    let policy = overcommit_crds::resolve::resolve(&overcommit_crds::file::read(&sample).unwrap().spec);
    assert_eq!(policy.ksm.mode, overcommit_crds::policy::KsmMode::Auto);
    assert!(!policy.ksm.across_namespaces);
    for objects in [render(&[]), render_extreme()] {
        let pod = &one(&objects, "DaemonSet")["spec"]["template"]["spec"];
        // The knobs are reached by the root of the node's process 1, for a container's own sysfs is read only: that takes the
        // node's processes, the right to look into them, and root's files; no mount.
        let security = &pod["containers"][0]["securityContext"];
        assert_eq!((&pod["hostPID"], &security["runAsUser"]), (&json!(true), &json!(0)));
        assert!(list(&security["capabilities"]["add"]).contains(&json!("SYS_PTRACE")));
        let mounts = list(&pod["containers"][0]["volumeMounts"]);
        assert!(mounts.iter().all(|mount| !text(&mount["mountPath"]).starts_with("/sys")), "{mounts:?}");
    }
}

#[test]
fn the_sample_with_the_defaults_written_out_says_what_the_defaults_are() {
    let read = |name: &str| {
        overcommit_crds::file::read(&std::fs::read(chart::folder().join("../samples").join(name)).unwrap())
            .unwrap()
    };
    let mut written = overcommit_crds::resolve::resolve(&read("enforce.yaml").spec);
    written.mode = overcommit_crds::policy::Mode::Observe;
    assert_eq!(written, overcommit_crds::resolve::resolve(&read("observe.yaml").spec));
}
