//! The chart on a real node: installed, at work with the rights and limits that it gives itself, upgraded, gone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use overcommit_tests::node::{Cluster, ClusterSpec};
use overcommit_tests::product_images::{AGENT_ARCHIVE, OPERATOR_ARCHIVE, PRODUCT_IMAGES};
use overcommit_tests::wait::until;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAMESPACE: &str = "overcommit-system";
const SOON: Duration = Duration::from_mins(3);

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

fn helm(cluster: &Cluster, verb: &str, more: &[&str]) -> anyhow::Result<String> {
    let chart = deploy().join("chart");
    let images = [
        "--set=operator.image.repository=localhost/overcommit-operator,operator.image.tag=dev,operator.image.pullPolicy=Never",
        "--set=agent.image.repository=localhost/overcommit-agent,agent.image.tag=dev,agent.image.pullPolicy=Never",
    ];
    let mut args = vec![verb, "overcommit", chart.to_str().unwrap(), "--namespace", NAMESPACE];
    args.extend(images.iter().chain(more));
    cluster.helm(&args)
}

fn logs(cluster: &Cluster, of: &str) -> String {
    cluster
        .kubectl(&["logs", of, "--namespace", NAMESPACE, "--all-pods=true", "--tail=40"])
        .unwrap_or_else(|e| e.to_string())
}

fn told(cluster: &Cluster, what: &anyhow::Error) -> String {
    let pods = cluster.kubectl(&["describe", "pods", "--namespace", NAMESPACE]).unwrap_or_default();
    let events =
        pods.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
    let (operator, agent) =
        (logs(cluster, "deployment/overcommit-operator"), logs(cluster, "daemonset/overcommit-agent"));
    format!("{what:#}\n{events}\noperator:\n{operator}\nagent:\n{agent}")
}

fn rolled_out(cluster: &Cluster) {
    for of in ["deployment/overcommit-operator", "daemonset/overcommit-agent"] {
        cluster
            .kubectl(&["rollout", "status", of, "--namespace", NAMESPACE, "--timeout=300s"])
            .unwrap_or_else(|error| panic!("{}", told(cluster, &error)));
    }
}

/// Uninstalls, and looks at what is left.
fn uninstalled(cluster: &Cluster) {
    cluster
        .helm(&["uninstall", "overcommit", "--namespace", NAMESPACE, "--wait", "--timeout=6m"])
        .unwrap_or_else(|error| panic!("{}", told(cluster, &error)));
    let left = |kind: &str| cluster.kubectl(&["get", kind, "--all-namespaces", "--output=name"]).unwrap();
    assert_eq!(left("ocp,noc"), "", "policies are released, not orphaned");
    for kind in [
        "clusterroles",
        "clusterrolebindings",
        "roles",
        "rolebindings",
        "validatingadmissionpolicies",
        "jobs",
    ] {
        assert!(!left(kind).contains("overcommit"), "{kind}: {}", left(kind));
    }
    assert!(left("crds").contains("overcommitpolicies.overcommit.dev"), "CRDs stay");
}

#[test]
fn the_chart_is_installed_works_is_upgraded_and_goes_without_a_trace_of_its_doing() {
    let cluster = Cluster::start(&ClusterSpec { nodes: 1, kubevirt: None }).unwrap();
    for archive in [OPERATOR_ARCHIVE, AGENT_ARCHIVE] {
        cluster.import_image(&PRODUCT_IMAGES.file(archive).unwrap()).unwrap();
    }
    // As virt-handler leaves it when it stops.
    cluster.kubectl(&["label", "node", "node1", "kubevirt.io/schedulable=false"]).unwrap();

    // Ready before any policy is there, or nobody could wait for an installation.
    helm(&cluster, "install", &["--create-namespace", "--wait", "--timeout=6m"])
        .unwrap_or_else(|error| panic!("{}", told(&cluster, &error)));
    cluster
        .kubectl(&["apply", "--filename", deploy().join("samples/observe.yaml").to_str().unwrap()])
        .unwrap();
    rolled_out(&cluster);
    let reported = |revision: &str| {
        cluster
            .wait_field("", "noc/node1", "{.status.observedRevision}", SOON, |seen| seen == revision)
            .unwrap_or_else(|error| panic!("{}", told(&cluster, &error)));
    };
    until(SOON, "an object for the node", || cluster.field("", "noc/node1", "{.spec.revision}")).unwrap();
    let revision = cluster.field("", "noc/node1", "{.spec.revision}").unwrap();
    reported(&revision);
    for of in ["deployment/overcommit-operator", "daemonset/overcommit-agent"] {
        let log = logs(&cluster, of).to_lowercase();
        assert!(
            !log.contains("forbidden") && !log.contains("permission denied"),
            "{of} lacks a right:\n{log}"
        );
    }
    let status =
        ["exec", "daemonset/overcommit-agent", "--namespace", NAMESPACE, "--", "overcommit-agent", "status"];
    let said = cluster.kubectl(&status).unwrap();
    assert!(!said.is_empty());

    let pod = || {
        cluster.kubectl(&[
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/component=agent",
            "-n",
            NAMESPACE,
            "-o",
            "name",
        ])
    };
    let before = pod().unwrap();
    helm(&cluster, "upgrade", &["--set=agent.log=debug"]).unwrap();
    rolled_out(&cluster);
    assert_ne!(before, pod().unwrap(), "the agent was replaced");
    reported(&revision);

    uninstalled(&cluster);
    cluster.stop().unwrap();
}
