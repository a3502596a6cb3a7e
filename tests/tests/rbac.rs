//! What the chart's own service accounts may and may not do, at a real API server with tokens as pods have them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use overcommit_crds::{NodeOvercommit, OvercommitPolicy};
use overcommit_tests::api::{Api, Identity};
use overcommit_tests::parts::command;
use overcommit_tests::wait::{until, until_async};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const NAMESPACE: &str = "overcommit-system";
const SOON: Duration = Duration::from_mins(2);
const OWN: &str = "own-node";
const OTHER: &str = "other-node";
/// Every verb that RBAC knows for objects.
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

/// The API server with the chart installed and an object for each of two nodes.
fn installed() -> &'static Api {
    static INSTALLED: OnceLock<&'static Api> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let api = Api::shared().unwrap();
        api.install_vmi_crd().unwrap();
        let chart = deploy().join("chart");
        let chart = chart.to_str().unwrap();
        api.helm(&["install", "overcommit", chart, "--namespace", NAMESPACE, "--create-namespace"]).unwrap();
        // The hook's account and role exist only while the chart is deleted.
        let hook = api
            .helm(&[
                "template",
                "overcommit",
                chart,
                "--namespace",
                NAMESPACE,
                "--show-only",
                "templates/release-hook.yaml",
            ])
            .unwrap();
        api.apply(
            hook.split("\n---")
                .filter(|text| !text.contains("kind: Job"))
                .collect::<Vec<_>>()
                .join("\n---")
                .as_str(),
        )
        .unwrap();
        api.wait_own_kinds().unwrap();
        for node in [OWN, OTHER] {
            until(SOON, "objects of nodes", || api.apply(&object(node).to_string())).unwrap();
        }
        api
    })
}

fn object(node: &str) -> Value {
    let resolved = overcommit_crds::resolve::resolve(&overcommit_crds::OvercommitPolicySpec::default());
    json!({
        "apiVersion": "overcommit.dev/v1alpha1",
        "kind": "NodeOvercommit",
        "metadata": { "name": node },
        "spec": { "policy": "p", "revision": "r", "resolved": resolved },
    })
}

fn agent(node: Option<&str>) -> Identity<'_> {
    Identity { namespace: NAMESPACE, name: "overcommit-agent", node }
}

const OPERATOR: Identity<'static> =
    Identity { namespace: NAMESPACE, name: "overcommit-operator", node: None };

async fn objects_as(who: Identity<'_>) -> kube::Api<NodeOvercommit> {
    kube::Api::all(installed().client_as_service_account(who).await.unwrap())
}

fn code_of<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("{other:?}"),
    }
}

/// What an account may do with a resource (`group/resource`, `group/resource/subresource`) in a namespace.
async fn verbs(client: &kube::Client, resource: &str, namespace: &str) -> Vec<&'static str> {
    let mut parts = resource.split('/').map(str::to_owned);
    let attributes = ResourceAttributes {
        group: parts.next(),
        resource: parts.next(),
        subresource: parts.next(),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    };
    let reviews: kube::Api<SelfSubjectAccessReview> = kube::Api::all(client.clone());
    let mut allowed = Vec::new();
    for verb in VERBS {
        let attributes = ResourceAttributes { verb: Some(verb.to_owned()), ..attributes.clone() };
        let spec =
            SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        if answer.status.unwrap().allowed {
            allowed.push(verb);
        }
    }
    allowed
}

/// Resources that nobody of ours has anything to do with.
const FORBIDDEN: [&str; 10] = [
    "/secrets",
    "/pods/exec",
    "/pods/eviction",
    "/nodes/proxy",
    "/nodes/status",
    "/serviceaccounts/token",
    "/events",
    "kubevirt.io/virtualmachines",
    "rbac.authorization.k8s.io/clusterroles",
    "admissionregistration.k8s.io/validatingadmissionpolicies",
];

async fn assert_rights(who: Identity<'_>, allowed: &[(&str, &str, &[&str])]) {
    let client = installed().client_as_service_account(who).await.unwrap();
    for (resource, namespace, expected) in allowed {
        // The authorizer learns of new roles by a watch.
        until_async(SOON, format!("rights of {} on {resource} in {namespace:?}", who.name), || async {
            let seen = verbs(&client, resource, namespace).await;
            if seen == *expected { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await
        .unwrap();
    }
    for resource in FORBIDDEN {
        for namespace in ["", NAMESPACE, "default"] {
            let seen = verbs(&client, resource, namespace).await;
            assert!(seen.is_empty(), "{} may {seen:?} {resource} in {namespace:?}", who.name);
        }
    }
}

#[tokio::test]
async fn the_agent_may_read_node_objects_report_and_tell_events() {
    assert_rights(
        agent(Some(OWN)),
        &[
            ("overcommit.dev/nodeovercommits", "", &["get", "list", "watch"]),
            ("overcommit.dev/nodeovercommits/status", "", &["patch"]),
            ("overcommit.dev/overcommitpolicies", "", &[]),
            ("events.k8s.io/events", "default", &["create", "patch"]),
            ("events.k8s.io/events", NAMESPACE, &[]),
            ("/nodes", "", &[]),
            ("/pods", "", &[]),
            ("/pods", NAMESPACE, &[]),
            ("/namespaces", "", &[]),
            ("/configmaps", "", &[]),
            ("/configmaps", NAMESPACE, &[]),
            ("/configmaps", "default", &[]),
            ("kubevirt.io/virtualmachineinstances", "", &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_operator_may_read_what_selects_and_write_what_it_owns() {
    assert_rights(
        OPERATOR,
        &[
            ("overcommit.dev/nodeovercommits", "", &["list", "watch", "create", "patch", "delete"]),
            ("overcommit.dev/nodeovercommits/status", "", &[]),
            ("overcommit.dev/overcommitpolicies", "", &["list", "watch", "patch"]),
            ("overcommit.dev/overcommitpolicies/status", "", &["patch"]),
            ("events.k8s.io/events", "default", &["create", "patch"]),
            ("/nodes", "", &["list", "watch"]),
            ("/pods", "", &["list", "watch"]),
            ("/namespaces", "", &["list", "watch"]),
            // Programs of policies, in its own namespace alone.
            ("/configmaps", NAMESPACE, &["list", "watch"]),
            ("/configmaps", "", &[]),
            ("/configmaps", "default", &[]),
            ("kubevirt.io/virtualmachineinstances", "", &["list", "watch"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_release_job_may_delete_policies_and_look_on() {
    assert_rights(
        Identity { namespace: NAMESPACE, name: "overcommit-release", node: None },
        &[
            ("overcommit.dev/overcommitpolicies", "", &["list", "delete"]),
            ("overcommit.dev/nodeovercommits", "", &["list"]),
            ("events.k8s.io/events", "default", &[]),
            ("/nodes", "", &[]),
            ("/pods", "", &[]),
            ("/configmaps", "", &[]),
            ("/configmaps", NAMESPACE, &[]),
            ("/configmaps", "default", &[]),
            ("kubevirt.io/virtualmachineinstances", "", &[]),
        ],
    )
    .await;
}

fn report(words: &str) -> Value {
    json!({
        "apiVersion": "overcommit.dev/v1alpha1",
        "kind": "NodeOvercommit",
        "status": { "agentVersion": words },
    })
}

/// Writes a status as an agent does: by server-side apply.
async fn write_status(
    api: &kube::Api<NodeOvercommit>,
    node: &str,
    words: &str,
) -> kube::Result<NodeOvercommit> {
    let params = PatchParams::apply(overcommit_crds::names::AGENT_MANAGER).force();
    api.patch_status(node, &params, &Patch::Apply(report(words))).await
}

/// The admission policy is compiled some moments after it is stored; until then everything passes that a role grants, and
/// nothing before the role is known.
async fn admission_works() {
    let stranger = objects_as(agent(Some(OTHER))).await;
    until_async(SOON, "the admission policy at work", || async {
        match write_status(&stranger, OWN, "probe").await {
            Err(kube::Error::Api(said)) if said.message.contains("its own node only") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_agent_writes_the_status_of_its_own_node_only() {
    let api = objects_as(agent(Some(OWN))).await;
    admission_works().await;
    let written = write_status(&api, OWN, "mine").await.unwrap();
    assert_eq!(written.status.unwrap().agent_version.as_deref(), Some("mine"));

    let (code, message) = code_of(write_status(&api, OTHER, "not mine").await);
    assert_eq!(code, 403, "{message}");
    assert!(message.contains(OWN) && message.contains(OTHER), "{message}");

    let merge = Patch::Merge(json!({ "status": { "agentVersion": "not mine" } }));
    assert_eq!(code_of(api.patch_status(OTHER, &PatchParams::default(), &merge).await).0, 403);
}

#[tokio::test]
async fn a_token_that_names_no_node_writes_no_status() {
    let api = objects_as(agent(None)).await;
    admission_works().await;
    let (code, message) = code_of(write_status(&api, OWN, "from anywhere").await);
    assert_eq!(code, 403, "{message}");
    assert!(message.contains("its own node only"), "{message}");
}

/// An event about an object of this kind and name.
fn event(name: &str, kind: &str, about: &str) -> Event {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default" },
        "regarding": { "apiVersion": "overcommit.dev/v1alpha1", "kind": kind, "name": about },
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Undone", "action": "Undo",
        "reportingController": "overcommit.dev/agent", "reportingInstance": OWN, "note": "a take was undone",
    }))
    .unwrap()
}

#[tokio::test]
async fn an_agent_tells_events_about_its_own_node_only_and_changes_nobody_elses() {
    admission_works().await;
    let post = PostParams::default();
    let events = |client| kube::Api::<Event>::namespaced(client, "default");
    let own = events(installed().client_as_service_account(agent(Some(OWN))).await.unwrap());
    own.create(&post, &event("own", "NodeOvercommit", OWN)).await.unwrap();
    // All that can change of an event: how often.
    let often = json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z" } });
    let again = Patch::Merge(often);
    own.patch("own", &PatchParams::default(), &again).await.unwrap();

    for (name, kind, about) in
        [("other", "NodeOvercommit", OTHER), ("node", "Node", OWN), ("pod", "Pod", "some-pod")]
    {
        let (code, message) = code_of(own.create(&post, &event(name, kind, about)).await);
        assert_eq!(code, 403, "{name}: {message}");
        assert!(message.contains("its own node only"), "{message}");
        let admin = events(installed().client().await.unwrap());
        admin.create(&post, &event(name, kind, about)).await.unwrap();
        let (code, message) = code_of(own.patch(name, &PatchParams::default(), &again).await);
        assert_eq!(code, 403, "{name}: {message}");
    }
}

#[tokio::test]
async fn an_agent_cannot_change_its_own_orders() {
    let api = objects_as(agent(Some(OWN))).await;
    let merge = Patch::Merge(json!({ "spec": { "release": true } }));
    assert_eq!(code_of(api.patch(OWN, &PatchParams::default(), &merge).await).0, 403);
    // Nor by the way of its status, which takes no spec.
    admission_works().await;
    let both = Patch::Merge(json!({ "spec": { "release": true }, "status": { "agentVersion": "sly" } }));
    assert!(!api.patch_status(OWN, &PatchParams::default(), &both).await.unwrap().spec.release);
}

#[tokio::test]
async fn nobody_but_agents_is_bound_by_the_admission_policy() {
    admission_works().await;
    let admin: kube::Api<NodeOvercommit> = kube::Api::all(installed().client().await.unwrap());
    write_status(&admin, OTHER, "admin").await.unwrap();
}

#[tokio::test]
async fn the_operator_applies_objects_and_finalizers_as_it_does_in_life() {
    let api = installed();
    let client = api.client_as_service_account(OPERATOR).await.unwrap();
    let params = PatchParams::apply(overcommit_crds::names::OPERATOR_MANAGER).force();
    let objects: kube::Api<NodeOvercommit> = kube::Api::all(client.clone());
    objects.patch("made-by-operator", &params, &Patch::Apply(object("made-by-operator"))).await.unwrap();
    objects.delete("made-by-operator", &kube::api::DeleteParams::default()).await.unwrap();

    api.apply(&std::fs::read_to_string(deploy().join("samples/observe.yaml")).unwrap()).unwrap();
    let policies: kube::Api<OvercommitPolicy> = kube::Api::all(client);
    for finalizers in [json!([overcommit_crds::names::RELEASE_FINALIZER]), json!([])] {
        let merge = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
        policies.patch("observe", &PatchParams::default(), &merge).await.unwrap();
    }
    let status = json!({
        "apiVersion": "overcommit.dev/v1alpha1",
        "kind": "OvercommitPolicy",
        "status": { "observedGeneration": 1 },
    });
    policies.patch_status("observe", &params, &Patch::Apply(status)).await.unwrap();
    assert_eq!(code_of(policies.delete("observe", &kube::api::DeleteParams::default()).await).0, 403);
}

#[test]
fn an_upgrade_brings_the_crds_along_and_an_uninstall_keeps_them() {
    let api = Api::start().unwrap();
    let chart = deploy().join("chart");
    let chart = chart.to_str().unwrap();
    let old = tempfile::tempdir().unwrap();
    command::output(Command::new("cp").arg("-r").arg(chart).arg(old.path())).unwrap();
    let old = old.path().join("chart");
    let crds = std::fs::read_to_string(old.join("files/crds.yaml")).unwrap();
    let older = crds.replace("    - ocp\n", "    - oldpolicy\n");
    assert_ne!(crds, older);
    std::fs::write(old.join("files/crds.yaml"), older).unwrap();
    let (crd, short_names) = ("crd/overcommitpolicies.overcommit.dev", "{.spec.names.shortNames[0]}");

    let place = ["--namespace", NAMESPACE, "--create-namespace"];
    api.helm(&[&["install", "overcommit", old.to_str().unwrap()], &place[..]].concat()).unwrap();
    assert_eq!(api.field("", crd, short_names).unwrap(), "oldpolicy");
    api.helm(&["upgrade", "overcommit", chart, "--namespace", NAMESPACE]).unwrap();
    assert_eq!(api.field("", crd, short_names).unwrap(), "ocp");

    // Without nodes no hook can run.
    api.helm(&["uninstall", "overcommit", "--namespace", NAMESPACE, "--no-hooks"]).unwrap();
    assert_eq!(api.field("", crd, short_names).unwrap(), "ocp");
    assert!(api.field(NAMESPACE, "daemonset/overcommit-agent", "{.metadata.name}").is_err());
    // Kept CRDs do not stand in the way of the next install.
    api.helm(&["install", "overcommit", chart, "--namespace", NAMESPACE]).unwrap();
}
