//! The API tier works: tests of the product stand elsewhere.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api as Objects;
use kube::api::PostParams;
use overcommit_tests::api::{Api, Identity};
use std::time::Duration;

#[tokio::test]
async fn the_api_server_answers_its_administrator() {
    let api = Api::shared().unwrap();
    let version = api.client().await.unwrap().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, overcommit_tests::parts::KUBERNETES_VERSION);
}

#[tokio::test]
async fn the_token_of_a_pods_service_account_carries_the_name_of_its_node() {
    let api = Api::shared().unwrap();
    let who = Identity { namespace: "claims", name: "agent", node: Some("node-a") };
    let client = api.client_as_service_account(who).await.unwrap();
    let reviews: Objects<SelfSubjectReview> = Objects::all(client);
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let user = review.status.unwrap().user_info.unwrap();
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:claims:agent"));
    let claims = user.extra.unwrap();
    assert_eq!(claims["authentication.kubernetes.io/node-name"], ["node-a"]);
}

#[tokio::test]
async fn a_service_account_may_do_nothing_that_no_role_grants() {
    let api = Api::shared().unwrap();
    let who = Identity { namespace: "powerless", name: "nobody", node: None };
    let client = api.client_as_service_account(who).await.unwrap();
    let maps: Objects<ConfigMap> = Objects::namespaced(client, "powerless");
    let refused = maps.list(&kube::api::ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
}

#[test]
fn a_vmi_can_be_stored_without_kubevirt() {
    let api = Api::shared().unwrap();
    api.install_vmi_crd().unwrap();
    api.apply(
        r#"{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"a","namespace":"default"},
            "spec":{"domain":{"memory":{"guest":"256Mi"}}},"status":{"nodeName":"node-a","phase":"Running"}}"#,
    )
    .unwrap();
    assert_eq!(api.field("default", "vmi/a", "{.status.nodeName}").unwrap(), "node-a");
}

#[test]
fn helm_installs_a_chart_and_removes_it() {
    let api = Api::shared().unwrap();
    let chart = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(chart.path().join(name), text).unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    write("Chart.yaml", "apiVersion: v2\nname: tiny\nversion: 0.1.0\n");
    write("templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tiny}\ndata: {a: b}\n");
    let path = chart.path().to_str().unwrap();
    api.helm(&["install", "tiny", path, "--namespace", "charts", "--create-namespace"]).unwrap();
    assert_eq!(api.field("charts", "configmap/tiny", "{.data.a}").unwrap(), "b");
    api.helm(&["uninstall", "tiny", "--namespace", "charts"]).unwrap();
    assert!(api.field("charts", "configmap/tiny", "{.data.a}").is_err());
}

#[test]
fn controllers_collect_what_its_owner_left_behind() {
    let api = Api::shared().unwrap();
    api.kubectl(&["create", "configmap", "owner"]).unwrap();
    let uid = api.field("default", "configmap/owner", "{.metadata.uid}").unwrap();
    api.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"owned","namespace":"default",
            "ownerReferences":[{{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":"{uid}"}}]}}}}"#
    ))
    .unwrap();
    api.kubectl(&["delete", "configmap", "owner"]).unwrap();
    api.kubectl(&["wait", "configmap/owned", "--for=delete", "--timeout=120s"]).unwrap();
}

#[test]
fn the_api_server_can_be_stopped_frozen_and_brought_back() {
    let api = Api::start().unwrap();
    api.kubectl(&["create", "configmap", "kept"]).unwrap();
    api.stop_apiserver();
    let refused = api.kubectl(&["get", "configmap", "kept"]).unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
    api.start_apiserver().unwrap();
    api.kubectl(&["get", "configmap", "kept"]).unwrap();

    api.pause_apiserver().unwrap();
    let mute = api.kubectl(&["get", "configmap", "kept", "--request-timeout=1s"]).unwrap_err().to_string();
    // In whatever phase it was overtaken: of the connection, the question, or the answer.
    assert!(mute.to_lowercase().contains("timeout") || mute.contains("deadline"), "{mute}");
    api.resume_apiserver().unwrap();
    overcommit_tests::wait::until(Duration::from_mins(2), "an answer", || {
        api.kubectl(&["get", "configmap", "kept"])
    })
    .unwrap();
}
