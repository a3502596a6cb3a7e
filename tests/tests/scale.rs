//! What the programs of the cluster need where there are thousands of nodes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use std::fmt::Debug;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::StreamExt as _;
use kube::Api as Objects;
use kube::api::PostParams;
use overcommit_crds::NodeOvercommit;
use overcommit_crds::node::GuestEntry;
use overcommit_tests::api::Api;
use overcommit_tests::machine::sibling;
use overcommit_tests::wait::until_async;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Nodes of the cluster.
const NODES: usize = 2500;
/// Requests under way at once.
const AT_ONCE: usize = 16;

fn install(api: &Api) {
    let crds = Command::new(sibling("overcommit-operator").unwrap()).arg("crds").output().unwrap();
    api.apply(&String::from_utf8(crds.stdout).unwrap()).unwrap();
    api.wait_own_kinds().unwrap();
}

async fn create<T>(api: &Objects<T>, objects: impl Iterator<Item = T>)
where
    T: Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams::default();
    let make = |object: T| {
        let params = &params;
        async move { api.create(params, &object).await.map(drop) }
    };
    let answers: Vec<_> = futures::stream::iter(objects.map(make)).buffer_unordered(AT_ONCE).collect().await;
    answers.into_iter().collect::<Result<(), _>>().unwrap();
}

/// A node's object of about 8 KiB.
fn object(n: usize) -> NodeOvercommit {
    let resolved = overcommit_crds::resolve::resolve(&overcommit_crds::OvercommitPolicySpec::default());
    let guest = |g: usize| GuestEntry {
        namespace: format!("namespace-{g}"),
        name: format!("a-guest-with-a-name-of-some-length-{g}"),
        uid: format!("4cd1b2a0-0a39-4f5e-9d11-{g:012}"),
        pods: vec![format!("5cd1b2a0-0a39-4f5e-9d11-{g:012}")],
        class: Some("default".to_owned()),
        excluded: None,
        migrating: false,
    };
    let guests: Vec<GuestEntry> = (0..50).map(guest).collect();
    let object = json!({
        "apiVersion": "overcommit.dev/v1alpha1",
        "kind": "NodeOvercommit",
        "metadata": { "name": format!("node-{n:04}") },
        "spec": { "policy": "p", "revision": "r", "resolved": resolved, "guests": guests },
    });
    serde_json::from_value(object).unwrap()
}

/// The most anonymous memory, in MiB, that a process held while it ran.
fn watch(child: &mut Child) -> u64 {
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let anon = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0 kB");
        let kib: u64 = anon.trim().trim_end_matches(" kB").parse().unwrap();
        most = most.max(kib / 1024);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    most
}

#[tokio::test]
async fn the_release_job_stays_far_below_its_limit() {
    let api = Api::start().unwrap();
    install(&api);
    let objects: Objects<NodeOvercommit> = Objects::all(api.client().await.unwrap());
    let first =
        || async { objects.create(&PostParams::default(), &object(0)).await.map_err(|e| e.to_string()) };
    until_async(Duration::from_mins(1), "the schema at work", first).await.unwrap();
    create(&objects, (1..NODES).map(object)).await;

    let mut job = Command::new(sibling("overcommit-operator").unwrap())
        .args(["release", "--timeout", "20s"])
        .env("KUBECONFIG", api.kubeconfig_path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let most = watch(&mut job);
    let said = job.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr);
    // Nobody releases them here; that it saw each of them is the point.
    assert!(words.contains(&format!("and {} more", NODES - 20)), "{words}");
    println!("{most} MiB for {NODES} nodes");
    // The chart's limit is 64Mi, program and all.
    assert!(most < 20, "{most} MiB");
}
