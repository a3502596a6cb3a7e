//! Which node gets what: selection, guests, overlap, and what is reported of it.

use serde_json::{Value, json};

use crate::bench::Bench;

#[test]
fn every_selected_node_gets_the_policy_with_its_guests() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.node("b", &[]);
    bench.api.ensure_node("plain", &["kubevirt.io/schedulable-"]).unwrap();
    bench.guest("web", "a", &json!({"tier": "gold"}), &json!({}));
    bench.guest("out", "a", &json!({}), &json!({"overcommit.dev/exclude": "true"}));
    bench.guest("moves", "b", &json!({"kubevirt.io/migrationTargetNodeName": "a"}), &json!({}));
    bench.policy(
        "gold",
        &json!({"mode": "Enforce", "classes": [{"name": "gold", "selector": {"matchLabels": {"tier": "gold"}}}, {"name": "rest"}]}),
    );
    bench.expect("noc/a", "{.spec.guests[*].name}", "out web");
    bench.expect("noc/b", "{.spec.guests[0].migrating}", "true");
    assert!(!bench.exists("noc/plain"));
    let guests = bench.guests("a");
    assert_eq!((&guests[0]["excluded"], &guests[0]["class"]), (&json!("Annotation"), &json!("rest")));
    assert_eq!((&guests[1]["excluded"], &guests[1]["class"]), (&Value::Null, &json!("gold")));
    bench.expect(
        "noc/a",
        "{.metadata.ownerReferences[0].kind}/{.metadata.labels.overcommit\\.dev/policy}",
        "Node/gold",
    );
    bench.expect("noc/a", "{.spec.resolved.mode}", "Enforce");

    bench.api.kubectl(&["delete", "vmi", "web", "--namespace=shop"]).unwrap();
    bench.expect("noc/a", "{.spec.guests[*].name}", "out");
    bench.api.kubectl(&["annotate", "node", "a", "overcommit.dev/paused=true"]).unwrap();
    bench.expect("noc/a", "{.spec.paused}", "true");
    bench.api.kubectl(&["annotate", "namespace", "shop", "overcommit.dev/exclude=true"]).unwrap();
    bench.expect("noc/b", "{.spec.guests[0].excluded}", "Annotation");
    bench.api.kubectl(&["annotate", "namespace", "shop", "overcommit.dev/exclude-"]).unwrap();
    bench.expect_event("Accepted", "gold");
    bench.expect_event("NodeTaken", "Policy gold holds");
}

#[test]
fn a_guest_is_listed_with_its_launcher_pods_while_they_live() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.guest("web", "a", &json!({}), &json!({}));
    bench.policy("gold", &json!({}));
    bench.expect("noc/a", "{.spec.guests[0].name}/{.spec.guests[0].pods[*]}", "web/");
    let source = bench.launcher("web-source", "web", "virt-launcher");
    bench.launcher("web-disk", "web", "hotplug-disk");
    bench.expect("noc/a", "{.spec.guests[0].pods[*]}", &source);
    let target = bench.launcher("web-target", "web", "virt-launcher");
    let mut both = [source.as_str(), target.as_str()];
    both.sort_unstable();
    bench.expect("noc/a", "{.spec.guests[0].pods[*]}", &both.join(" "));
    // What a migration leaves behind: the pod stays as long as its guest.
    let ended = r#"{"status":{"phase":"Succeeded"}}"#;
    let patch = ["patch", "pod", "web-source", "--namespace=shop", "--subresource=status", "--patch", ended];
    bench.api.kubectl(&patch).unwrap();
    bench.expect("noc/a", "{.spec.guests[0].pods[*]}", &target);
    bench.api.kubectl(&["delete", "pod", "web-target", "--namespace=shop", "--force"]).unwrap();
    bench.expect("noc/a", "{.spec.guests[0].name}/{.spec.guests[0].pods[*]}", "web/");
}

#[test]
fn the_status_follows_what_the_agents_report() {
    let bench = Bench::start(&[]);
    bench.node("a", &[]);
    bench.node("b", &[]);
    bench.policy("gold", &json!({}));
    bench.expect(
        "ocp/gold",
        "{.status.nodes.selected}/{.status.nodes.updated}/{.status.nodes.ready}",
        "2/0/0",
    );
    bench.agent_says("a", "Ready", true, "");
    bench.expect("ocp/gold", "{.status.nodes.updated}/{.status.nodes.ready}", "1/1");
    let message = bench.expect_condition("gold", "Ready", "message", |m| m.contains("1 of 2"));
    assert!(message.contains("b: its agent has not reported"), "{message}");
    bench.agent_says("b", "Ready", true, "");
    bench.expect_condition("gold", "Ready", "reason", |r| r == "Observing");
    bench.expect_condition("gold", "Progressing", "status", |s| s == "False");
    bench.expect("ocp/gold", "{.status.memory.reclaimed}", "1024Mi");
    bench.policy("gold", &json!({"mode": "Enforce"}));
    bench.expect("ocp/gold", "{.status.observedGeneration}/{.status.nodes.updated}", "2/0");
    bench.expect_condition("gold", "Progressing", "reason", |r| r == "RollingOut");
}

#[test]
fn priority_decides_where_policies_overlap_and_the_loser_says_so() {
    let bench = Bench::start(&[]);
    bench.node("a", &["pool=x"]);
    bench.node("b", &["pool=y"]);
    bench.policy("wide", &json!({}));
    bench.expect("noc/a", "{.spec.policy}", "wide");
    bench.policy("narrow", &json!({"priority": 5, "nodeSelector": {"matchLabels": {"pool": "x"}}}));
    bench.expect("noc/a", "{.spec.policy}", "narrow");
    bench.expect_condition("wide", "Accepted", "message", |m| m.contains("1 of 2"));
    bench.api.kubectl(&["label", "node", "b", "--overwrite", "pool=x"]).unwrap();
    bench.expect("noc/b", "{.spec.policy}", "narrow");
    bench.expect_condition("wide", "Accepted", "reason", |r| r == "Overridden");
    bench.expect_condition("wide", "Accepted", "message", |m| m.contains("narrow holds 2"));
    bench.expect_event("Overridden", "wide");
    bench.policy("wide", &json!({"priority": 6}));
    bench.expect("noc/b", "{.spec.policy}", "wide");
    // Its nodes have a next policy: nobody has to give anything back.
    bench.delete_policy("wide");
    bench.expect_gone("ocp/wide");
    bench.expect("noc/b", "{.spec.policy}/{.spec.release}", "narrow/false");
}
