//! A tenant's processes that look like a launcher and its guest. Real processes, in a cgroup that bears a pod's name.

use std::path::Path;

use overcommit_tests::pod::Pod;
use serde_json::{Value, json};

use crate::bench::Bench;

const POD: &str = "4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";
const UUID: &str = "5a9f9c3e-1111-2222-3333-444444444444";
/// Of a container that requested a hundredth of the node's memory.
const SCORE: &str = "990";

/// Claims to be another's guest, of 100 TiB.
fn tenant(dir: &Path) -> Pod {
    let mut pod = Pod::new(POD).unwrap();
    let claims = ["-name", "guest=shop_victim", "-m", "104857600M", "-uuid", UUID];
    pod.run(dir, "virt-launcher", &[], SCORE).unwrap();
    pod.run(dir, "qemu-system-x86", &claims, SCORE).unwrap();
    pod
}

#[test]
fn a_pod_that_nobody_listed_costs_what_it_requested_and_bears_no_name() {
    let bench = Bench::running();
    let _tenant = tenant(&bench.dir);
    // Its launcher is found first; what it claims comes with what pretends to be a QEMU.
    let claims = |report: &Value| report["unlisted"]["charge"].as_u64().is_some_and(|charge| charge > 0);
    let report =
        bench.wait_report("the unlisted pod", |report| report["unlisted"]["pods"] == 1 && claims(report));
    let total = report["ledger"]["total"].as_u64().unwrap();
    let charge = report["unlisted"]["charge"].as_u64().unwrap();
    assert!(charge <= total / 100, "{charge} of {total}");
    assert_eq!((&report["guests"], &report["ledger"]["promised"]), (&json!([]), &json!(0)));
    assert_eq!(report["troubles"], json!([]), "it was not even tried to be reached");
    let metrics = bench.get("/metrics").unwrap().1;
    assert!(metrics.contains("overcommit_unlisted_pods 1\n") && !metrics.contains("victim"), "{metrics}");

    bench.order_for("two", &json!([{"namespace": "shop", "name": "own", "uid": "u", "pods": [POD]}]));
    let own = |report: &Value| {
        let (guest, others) = (&report["guests"][0], &report["unlisted"]["pods"]);
        guest["name"]["name"] == "own" && others == &json!(0)
    };
    let report = bench.wait_report("the guest, and nobody else", own);
    assert!(report["guests"][0]["charge"].as_u64().unwrap() >= total, "a listed guest may touch all it has");
    assert!(!report.to_string().contains("victim"), "{report}");
}
